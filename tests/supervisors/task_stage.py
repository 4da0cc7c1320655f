"""What the tests of task supervisors share: a system in virtual time, and a look at what is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar, cast

import pytest

from understudy import (
    Actor,
    ActorRef,
    ActorSystem,
    Event,
    Future,
    Message,
    TaskSupervisor,
    TaskSupervisorRef,
    handles,
)
from understudy.messages.errors import AskTimeout
from understudy.testing import SimulatedDispatcher

E = TypeVar("E", bound=Event)


class Do(Message[Any]):
    """Call a function with the actor; the reply is what it returns."""

    act: Any


class Clerk(Actor):
    """Does what it is told, and so gives the tests a handler to call from."""

    @handles
    def do(self, message: Do) -> Any:
        return message.act(self)


class AsyncClerk(Actor):
    """As ``Clerk``, with coroutine functions."""

    @handles
    async def do(self, message: Do) -> Any:
        return await message.act(self)


class Office:
    """A system with a task supervisor in it, in virtual time.

    Attributes:
        tasks: the reference of the task supervisor.
        log: what the work has put down.
        events: everything the system told of itself.
    """

    def __init__(self, seed: int = 5, **fields: Any) -> None:
        self.simulation = SimulatedDispatcher(seed)
        self.system = ActorSystem("office", dispatcher=self.simulation, intensity=1_000, period=3_600.0)
        self.events: list[Event] = []
        self.system.events.subscribe(Event, self.events.append)
        self.tasks = supervise(self.system, **fields)
        self.log: list[str] = []

    def clerk(self, **options: Any) -> ActorRef[Clerk]:
        ref: ActorRef[Clerk] = self.system.spawn(Clerk, name="clerk", **options)
        return ref

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        self.simulation.run_until_idle()

    @property
    def now(self) -> float:
        return self.simulation.clock()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def running(self) -> int:
        """How many tasks there are."""
        return self.tasks.count_children().active

    def hold(self, name: str, seconds: float | None = None) -> Callable[..., str]:
        """A function that is busy for some (virtual) seconds, or for ever, and puts down how it ended."""

        def held(*_: Any) -> str:
            self.log.append(f"{name} begins")
            try:
                pause(seconds)
            except BaseException as error:
                self.log.append(f"{name} gets {type(error).__name__}")
                raise
            self.log.append(f"{name} is done")
            return name

        return held

    def hold_async(self, name: str, seconds: float | None = None) -> Callable[..., Coroutine[Any, Any, str]]:
        """As ``hold``, a coroutine function."""

        async def held(*_: Any) -> str:
            self.log.append(f"{name} begins")
            try:
                await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
            except BaseException as error:
                self.log.append(f"{name} gets {type(error).__name__}")
                raise
            self.log.append(f"{name} is done")
            return name

        return held

    def close(self) -> None:
        """Stop the system; nothing may be left over, and before that no task."""
        if self.tasks.is_alive() and self.system.running:
            self.settle()
            assert self.tasks.count_children() == (0, 0, 0, 0), "a task is left over"
        self.system.stop()
        assert list(self.system.runtime.directory._cells) == []
        assert self.simulation.stuck == []


def supervise(system: ActorSystem, **fields: Any) -> TaskSupervisorRef:
    """Start a task supervisor of the name ``tasks``."""
    return system.spawn(TaskSupervisor(**{"name": "tasks", **fields}))


def tasks_of(actor: Actor) -> TaskSupervisorRef:
    """The task supervisor, as an actor finds it."""
    return cast("TaskSupervisorRef", actor.lookup("tasks"))


def pause(seconds: float | None) -> None:
    """Be busy for some virtual seconds; None: for ever."""
    with suppress(AskTimeout):
        Future[None]().get(timeout=seconds)


def spin() -> None:
    """Run for ever, at Python's pace; only an interruption ends it.

    Call it where something is to be cleaned up, rather than loop there: CPython 3.13.0 leaves the jump at the end
    of a loop out of the ``try`` around it, so that an exception that lands on it passes the ``finally`` by.
    """
    while True:
        pass


def fail(*_: Any) -> Any:
    """Work that goes wrong."""
    raise ValueError("no ink")


async def fail_async(*_: Any) -> Any:
    """Work that goes wrong after a while."""
    await asyncio.sleep(0)
    raise ValueError("no ink")


@pytest.fixture(name="office")
def new_office() -> Iterator[Office]:
    """An office of a test's own."""
    office = Office()
    yield office
    office.close()

"""A whole system on virtual time, one step after another, every choice drawn from a seed."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from ..actors import execution
from ..actors.actor import Actor
from ..actors.cell import Cell
from ..actors.request import Request
from ..actors.running import run
from ..actors.timers import check_seconds
from .baton import Baton, Step
from .faults import FaultPlan
from .loop_dispatcher import SimulatedLoopDispatcher
from .striking import Striker
from .waiter import Waiter

__all__ = ["SimulatedDispatcher", "Step"]

T = TypeVar("T")

MAX_STEPS = 1_000_000


class SimulatedDispatcher:
    """Runs a system deterministically: ``ActorSystem("shop", dispatcher=SimulatedDispatcher(7))``.

    One message is handled at a time, whichever of the ready actors the seed chooses. Time is virtual: it
    stands still while anything is left to be done, and then jumps to the next timer or deadline, so an hour
    passes in no time. The same seed gives the same run, step by step; another one gives another order.

    Everything runs while the test waits: in a blocking ``ask``, in ``run_until_idle`` and the like. Handlers
    may block in asks, sleep on the simulated event loop, be killed; what they do outside of the runtime
    (``time.sleep``, threads of their own) stays real. A dispatcher belongs to one system, which stops it.

    Args:
        seed: what every choice, identifier and random number of the system follows from.
        faults: what shall go wrong; see ``FaultPlan``.
        max_steps: how many steps one wait of a test may take before ``Endless`` is raised.

    Attributes:
        trace: the steps so far: when (virtual seconds), what, the actor's path, the message's type. Compare
            two runs by it.
        random: the system's random numbers.
    """

    assists: ClassVar[bool] = False  # every message is a step that the seed chooses
    ends_inline: bool = True  # as in the pool
    drives_waiters: ClassVar[bool] = True

    def __init__(self, seed: int = 0, *, faults: FaultPlan | None = None, max_steps: int = MAX_STEPS) -> None:
        self.seed = seed
        self.max_steps = max_steps
        self.random = random.Random(f"{seed}/system")
        self._ids = random.Random(f"{seed}/ids")  # apart: whether somebody looks at an error changes nothing
        self._baton = Baton(seed, self._perform, _waits_for)
        self.trace: list[Step] = self._baton.trace
        self.timers = self._baton.timers
        self._paths: dict[execution.Party, str] = {}
        self._striker = None if faults is None else Striker(faults, self._baton, random.Random(f"{seed}/faults"))
        self.loop_dispatcher = SimulatedLoopDispatcher(self)
        self.dispatcher = self

    # --- what a test does with it ----------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self._baton.steps

    @property
    def stuck(self) -> list[str]:
        """The paths of the actors whose handlers wait in their middle now."""
        return [waiter.who for waiter in self._baton.parked]

    def clock(self) -> float:
        """Seconds of virtual time, from 0."""
        return self._baton.now

    def run_until_idle(self, max_steps: int | None = None) -> None:
        """Do everything that can be done without time passing.

        Raises:
            Endless: it was not over within ``max_steps``.
        """
        self._wait(Waiter(deadline=self._baton.now), max_steps)

    def advance(self, seconds: float, max_steps: int | None = None) -> None:
        """Let ``seconds`` pass, doing everything that is due in them, then as ``run_until_idle``.

        Raises:
            SpecInvalid: ``config.timer.invalid``: it is no number of seconds, 0 or more.
            Endless: it was not over within ``max_steps``.
        """
        check_seconds(seconds, repeated=False)
        self._wait(Waiter(deadline=self._baton.now + seconds), max_steps)

    def run_until(self, condition: Callable[[], bool], timeout: float = 60.0, max_steps: int | None = None) -> None:
        """Run until ``condition()`` is true, letting time pass as needed.

        Args:
            condition: called before every step.
            timeout: virtual seconds.
            max_steps: how many steps it may take.

        Raises:
            AssertionError: it was not true within ``timeout``.
            Endless: it was not true within ``max_steps``.
        """
        if not self.comes_true(condition, timeout, max_steps):
            raise AssertionError(f"not within {timeout} s of virtual time; the last steps:\n{self.tail()}")

    def comes_true(self, condition: Callable[[], bool], timeout: float, max_steps: int | None = None) -> bool:
        """As ``run_until``, but returns whether it was true in time."""
        return self._wait(Waiter(condition=condition, deadline=self._baton.now + timeout), max_steps)

    def run(self, work: Coroutine[Any, Any, T], max_steps: int | None = None) -> T:
        """Run a coroutine on the simulated event loop, and return its result: ``asyncio.run`` in virtual time."""
        task = self.loop_dispatcher.start(work)
        self._wait(Waiter(condition=task.done), max_steps)
        result: T = task.result()
        return result

    def tail(self, count: int = 30) -> str:
        """The last steps of the trace as text."""
        return self._baton.tail(count)

    # --- what the runtime asks of it -------------------------------------------------------------------

    def new_urn(self) -> str:
        """A uuid4 urn drawn from the seed."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4).urn

    def new_id(self) -> str:
        """A uuid4 that follows from the seed, for a message."""
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))

    def run_soon(self, job: Callable[[], None]) -> None:
        """Let ``job`` be a step of its own, once it is chosen."""
        self._baton.add(job)

    def ready(self, cell: Cell) -> None:
        """Run ``cell``, once it is chosen."""
        self._baton.add(cell)

    def call(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the calling thread, as the actor."""
        previous = execution.current.set(cell)
        cell.runner = threading.get_ident()
        actor = cell.actor
        try:
            value = function()
            if isinstance(value, Coroutine):
                value.close()
                raise TypeError("a coroutine function as on_start, on_stop or on_failure needs dispatcher = 'asyncio'")
            return value
        finally:
            if cell.actor is actor:
                cell.runner = 0
            execution.current.reset(previous)

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait for ``latch``, at most ``timeout`` virtual seconds, while everything else runs."""
        here = execution.current.get()
        unlimited = timeout is None or timeout >= threading.TIMEOUT_MAX
        deadline = None if unlimited else self._baton.now + max(timeout or 0.0, 0.0)
        waiter = Waiter(latch=latch, deadline=deadline, about=here)
        waiter.who = "" if here is None else here.path
        waiter.last_step = self._baton.steps + self.max_steps
        return self._baton.wait(waiter)

    def interrupt(self, cell: Cell, actor: Actor, thread_id: int) -> None:
        """Nothing to be forced: a handler that does not return is parked, and whoever kills it wakes it."""

    def release(self, cell: Cell) -> None:
        """``cell`` has closed."""
        self._paths.pop(cell, None)

    def stop(self, timeout: float = 5.0) -> None:
        """End it: handlers that still wait get ``ActorKilled``, and nothing runs any more.

        Args:
            timeout: not needed here; nothing takes real time.

        Raises:
            Endless: a handler goes on waiting whatever it gets.
        """
        if not self._baton.inside and self.loop_dispatcher.loop.cancel_all():
            self._wait(Waiter(deadline=self._baton.now), None)
        self.loop_dispatcher.loop.close()
        self._baton.stop()

    # --- steps -----------------------------------------------------------------------------------------

    def admits(self, cell: Cell) -> bool:
        """Note what ``cell`` is about to handle, and let a fault strike it. Returns whether it is to be run."""
        baton = self._baton
        item = cell.control[0] if cell.control else cell.queue[0] if cell.queue else None
        message = item.message if type(item) is Request else item
        baton.trace.append((baton.now, "run", self._path(cell), type(message).__name__))
        if self._striker is None or item is None or cell.control:
            return True
        return self._striker.admits(cell, self._path(cell), item)

    def report(self, error: BaseException) -> None:
        """Let an error that nobody caught reach whoever drives the simulation."""
        self._baton.report(error)

    def _perform(self, job: Any) -> None:
        execution.host.dispatcher = self
        try:
            if job is self.loop_dispatcher.loop:
                job.step()
            elif type(job) is not Cell:
                self._baton.trace.append((self._baton.now, "job", "", ""))
                job()
            elif job.dispatcher is not self:
                self.loop_dispatcher.launch(job)
            elif self.admits(job):
                run(job, 1)
        except BaseException:
            execution.current.set(None)
            raise

    def _path(self, cell: execution.Party) -> str:
        path = self._paths.get(cell)
        if path is None:
            path = self._paths[cell] = cell.path
        return path

    def _wait(self, waiter: Waiter, max_steps: int | None) -> bool:
        if self._baton.inside:
            raise RuntimeError("the simulation is driven by the test, not by what runs in it")
        waiter.last_step = self.steps + (max_steps or self.max_steps)
        return self._baton.wait(waiter)


def _waits_for(cell: execution.Party | None) -> str:
    """What the report of a deadlock says a parked handler waits for."""
    targets = [each.path for each in cell.waiting_on] if cell is not None else []
    return ", ".join(targets) or "something that nobody in the simulation does"

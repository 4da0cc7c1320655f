"""What a system's actors run on: dispatchers, clock, timers, events, ids. One set per system.

All nondeterminism enters through here (architecture, "Seams for testing"): which ready actor runs next,
the clock, new ids and random numbers.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..messages.errors import ForkedSystem
from .directory import Directory
from .dispatch.pool import PoolDispatcher
from .dispatch.thread import ThreadDispatcher
from .embedded import Embedded
from .events import EventStream
from .forking import in_forks, renewed_in_forks
from .ids import new_uuid
from .timers import ThreadTimers, Timer, TimerService

if TYPE_CHECKING:
    import asyncio

    from .actor import Actor
    from .background import BackgroundTask
    from .cell import Cell
    from .connection import Part
    from .dispatch.background import Background
    from .dispatch.base import Dispatcher, LoopDispatcher

__all__ = ["Runtime", "Simulation", "default_runtime", "forked"]


class Simulation(Protocol):
    """A dispatcher that brings its own time, timers and chance, such as ``SimulatedDispatcher``."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Runs pooled and threaded actors."""
        ...

    @property
    def loop_dispatcher(self) -> LoopDispatcher:
        """Runs actors with ``async def`` handlers."""
        ...

    @property
    def timers(self) -> TimerService:
        """Timers in virtual time."""
        ...

    @property
    def random(self) -> random.Random:
        """Random numbers drawn from the seed."""
        ...

    def clock(self) -> float:
        """Seconds of virtual time."""
        ...

    def new_urn(self) -> str:
        """A uuid4 urn drawn from the seed."""
        ...

    def new_id(self) -> str:
        """A uuid4 for a message that failed, drawn from the seed."""
        ...

    def run_soon(self, job: Callable[[], None]) -> None:
        """Let ``job``, a function in the background, be a step of its own; it may wait in its middle."""
        ...


class Runtime:
    """The ground that actors stand on. A system has one; actors started pykka's way share a process-wide one."""

    def __init__(self, name: str, *, simulation: Simulation | None = None, pool_size: int | None = None) -> None:
        self.name = name
        self.pid = os.getpid()
        self.events = EventStream()
        self.numbers = itertools.count(1)
        self.directory = Directory(name)
        self.embedded = Embedded()
        self.simulation = simulation
        self.unowned: dict[BackgroundTask[Any], None] = {}
        """Work in the background that belongs to no actor."""
        self.cancelled_work: dict[BackgroundTask[Any], None] = {}
        """Work in the background that was told to end and has not yet."""
        self.quieting: list[Callable[[], None]] = []
        """What takes new work by itself, and how each is told to take no more: SIGTSTP does, until the system stops."""
        self.supervise: Callable[[Cell, Sequence[Part]], Cell] | None = None
        """Starts the parts of a service actor under a supervisor; None where there are no supervisors."""
        self._background: Background | None = None
        self._dispatchers: dict[str, Dispatcher]
        if simulation is not None:
            self.clock = simulation.clock
            self.timers: TimerService = simulation.timers
            self.random = simulation.random
            self.new_urn = simulation.new_urn
            self.new_id = simulation.new_id
            self._dispatchers = {
                "pool": simulation.dispatcher,
                "thread": simulation.dispatcher,
                "asyncio": simulation.loop_dispatcher,
            }
        else:
            self.clock = time.monotonic
            self.timers = ThreadTimers(time.monotonic, name)
            self.random = random.Random()
            self.new_urn = _new_urn
            self.new_id = new_uuid
            self._dispatchers = {
                "pool": PoolDispatcher(name, pool_size),
                "thread": ThreadDispatcher(name),
            }
        _runtimes.add(self)

    def dispatcher_for(self, actor_class: type[Actor]) -> Dispatcher:
        """The dispatcher that runs actors of this class."""
        dispatcher = self._dispatchers.get(actor_class.dispatcher)
        return self._make_loop() if dispatcher is None else dispatcher

    def _make_loop(self) -> Dispatcher:
        """The event loop's dispatcher, made (and asyncio imported) with the first actor that needs it."""
        from .dispatch.aio import AsyncioDispatcher

        with _making:
            return self._dispatchers.setdefault("asyncio", AsyncioDispatcher(self.name))

    @property
    def background(self) -> Background:
        """What runs work in the background, made (and asyncio imported) when it is first needed."""
        return self._background or self._make_background()

    def _make_background(self) -> Background:
        from .dispatch.background import SimulatedBackground, ThreadBackground

        with _making:
            if self._background is None and self.simulation is not None:
                self._background = SimulatedBackground(self.simulation)
            elif self._background is None:
                self._background = ThreadBackground(self.name, self._actors_loop)
            return self._background

    def _actors_loop(self) -> asyncio.AbstractEventLoop:
        return cast("LoopDispatcher", self._dispatchers.get("asyncio") or self._make_loop()).loop

    def after(self, seconds: float, action: Callable[[], None], interval: float | None = None) -> Timer:
        """Call ``action`` in ``seconds``, and then every ``interval`` seconds if that is given."""
        return self.timers.add(Timer(self.clock() + seconds, action, interval))

    def stop(self, timeout: float) -> None:
        """Let threads end; those of abandoned handlers and work cannot be waited for, which is reported."""
        for task in tuple(self.unowned):
            task.cancel()
        if self._background is not None:
            self._background.stop(timeout)  # before the timers: one may have to interrupt what does not end
        self.timers.stop()
        for dispatcher in set(self._dispatchers.values()):
            dispatcher.stop(timeout)
        for task in tuple(self.cancelled_work):
            task.give_up()
        self.embedded.close()
        _runtimes.discard(self)

    def refuse_if_forked(self, verb: str | None = None, target: str | None = None) -> None:
        """Raise ``ForkedSystem`` in a process that was forked after this runtime had started.

        Args:
            verb: what was asked of ``target``, if it is not the caller that notes it.
            target: a path; by default the system itself.
        """
        if self.in_fork:
            raise self.forked_error(verb, target)

    @property
    def in_fork(self) -> bool:
        """Whether this process was forked after the runtime had started."""
        return self.pid != os.getpid()

    def forked_error(self, verb: str | None = None, target: str | None = None) -> ForkedSystem:
        """What is raised there."""
        return ForkedSystem(
            f"the system {self.name!r} was started in process {self.pid}; this is its fork {os.getpid()}, in "
            "which none of its threads run: start a system of its own after the fork",
            target=(target or self.name) if verb else None,
            verb=verb,
        )


def _new_urn() -> str:
    return f"urn:uuid:{new_uuid()}"


class _Forked:
    """Whether this process was forked while runtimes were alive; senders check it at the price of a look."""

    happened = False


forked = _Forked()
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
_default: list[Runtime] = []
_default_lock = renewed_in_forks(threading.Lock())
_making = renewed_in_forks(threading.Lock())


def default_runtime() -> Runtime:
    """The runtime of actors that were started pykka's way, ``Account.start()``; a fork gets one of its own."""
    with _default_lock:
        if not _default or _default[0].pid != os.getpid():
            _default[:] = [Runtime("actors")]
        return _default[0]


def _note_fork() -> None:
    if _runtimes:
        forked.happened = True


in_forks(_note_fork)

"""What a system's actors run on: dispatchers, clock, timers, events, ids. One set per system.

All nondeterminism enters through here (architecture, "Seams for testing"): which ready actor runs next,
the clock, new ids and random numbers.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..messages.errors import ForkedSystem, UnknownActor
from .dispatch.aio import AsyncioDispatcher
from .dispatch.pool import PoolDispatcher
from .dispatch.thread import ThreadDispatcher
from .events import EventStream
from .timers import ThreadTimers, Timer, TimerService

if TYPE_CHECKING:
    from .actor import Actor
    from .cell import Cell
    from .dispatch.base import Dispatcher
    from .ref import ActorRef

__all__ = ["Runtime", "Simulation", "default_runtime", "forked"]


class Simulation(Protocol):
    """A dispatcher that brings its own time, timers and chance, such as ``SimulatedDispatcher``."""

    dispatcher: Dispatcher
    timers: TimerService
    random: random.Random

    def clock(self) -> float:
        """Seconds of virtual time."""

    def new_urn(self) -> str:
        """A uuid4 urn drawn from the seed."""


class Runtime:
    """The ground that actors stand on. A system has one; actors started pykka's way share a process-wide one."""

    def __init__(self, name: str, *, simulation: Simulation | None = None, pool_size: int | None = None) -> None:
        self.name = name
        self.pid = os.getpid()
        self.events = EventStream()
        self.lookup: Callable[[str], ActorRef[Any]] | None = None
        self.simulation = simulation
        self._forget: Callable[[Cell], None] | None = None
        self._dispatchers: dict[str, Dispatcher]
        if simulation is not None:
            self.clock = simulation.clock
            self.timers: TimerService = simulation.timers
            self.random = simulation.random
            self.new_urn = simulation.new_urn
            self._dispatchers = dict.fromkeys(("pool", "thread", "asyncio"), simulation.dispatcher)
        else:
            self.clock = time.monotonic
            self.timers = ThreadTimers(time.monotonic, name)
            self.random = random.Random()
            self.new_urn = _new_urn
            self._dispatchers = {
                "pool": PoolDispatcher(name, pool_size),
                "thread": ThreadDispatcher(name),
                "asyncio": AsyncioDispatcher(name),
            }
        _runtimes.add(self)

    def dispatcher_for(self, actor_class: type[Actor]) -> Dispatcher:
        """The dispatcher that runs actors of this class."""
        return self._dispatchers[actor_class.dispatcher]

    def after(self, seconds: float, action: Callable[[], None], interval: float | None = None) -> Timer:
        """Call ``action`` in ``seconds``, and then every ``interval`` seconds if that is given."""
        return self.timers.add(Timer(self.clock() + seconds, action, interval))

    def resolve(self, path: str) -> ActorRef[Any]:
        """The reference of the actor at ``path``; raises ``UnknownActor``."""
        if self.lookup is None:
            raise UnknownActor(
                f"{path!r} cannot be looked up: this actor was started by start(), outside of a system",
                target=path,
            )
        return self.lookup(path)

    def when_closed(self, forget: Callable[[Cell], None]) -> None:
        """Have ``forget`` called with every cell that closes."""
        self._forget = forget

    def forget(self, cell: Cell) -> None:
        """A cell has closed: free its name."""
        if self._forget is not None:
            self._forget(cell)

    def stop(self, timeout: float) -> None:
        """Let threads end; those of abandoned handlers cannot be waited for."""
        self.timers.stop()
        for dispatcher in set(self._dispatchers.values()):
            dispatcher.stop(timeout)
        _runtimes.discard(self)

    def refuse_if_forked(self) -> None:
        """Raise ``ForkedSystem`` in a process that was forked after this runtime had started."""
        if self.pid != os.getpid():
            raise ForkedSystem(
                f"the system {self.name!r} was started in process {self.pid}; this is its fork {os.getpid()}, in "
                "which none of its threads run: start a system of its own after the fork"
            )


def _new_urn() -> str:
    return uuid.uuid4().urn


class _Forked:
    """Whether this process was forked while runtimes were alive; senders check it at the price of a look."""

    happened = False


forked = _Forked()
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
_default: Runtime | None = None
_default_lock = threading.Lock()


def default_runtime() -> Runtime:
    """The runtime of actors that were started pykka's way, ``Account.start()``; a fork gets one of its own."""
    global _default
    with _default_lock:
        if _default is None or _default.pid != os.getpid():
            _default = Runtime("actors")
        return _default


def _after_fork_in_child() -> None:
    global _default_lock
    _default_lock = threading.Lock()
    if _runtimes:
        forked.happened = True


os.register_at_fork(after_in_child=_after_fork_in_child)

"""Where work runs that is no actor's turn: functions on threads of their own, coroutines on the event loop.

The runtime has one (``runtime.background``); a simulation brings what takes its place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from .workers import WorkerThreads

if TYPE_CHECKING:
    from ..runtime import Simulation

__all__ = ["Background", "SimulatedBackground", "ThreadBackground"]


class Background(Protocol):
    """Runs work outside of actors."""

    drives_waiters: ClassVar[bool]
    """Whether a thread of no dispatcher that waits for work here must wait through ``block``."""

    interrupts: ClassVar[bool]
    """Whether functions run on threads in which an exception may be raised."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that coroutines run on."""
        ...

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job``, which may wait and must not raise, soon.

        Raises:
            SystemStopped: nothing is run any more.
            DispatcherExhausted: there is no thread for it.
        """

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait for ``latch`` (seconds). False: time ran out."""
        ...

    def discount(self) -> None:
        """Count on one of the threads no longer: its job was told to end and does not."""

    def count(self) -> None:
        """It came back: count on it again."""

    def stop(self, timeout: float) -> None:
        """Let threads end, waiting for them at most ``timeout`` seconds."""


class ThreadBackground(WorkerThreads):
    """Functions on worker threads, coroutines on the loop of the async actors.

    Args:
        name: begins the names of the threads.
        loop: gives the event loop of the async actors, which it shares; called when it is first needed.
    """

    interrupts: ClassVar[bool] = True

    def __init__(self, name: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        super().__init__(name)
        self._loop = loop

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that coroutines run on; its thread starts with the first use."""
        return self._loop()


class SimulatedBackground:
    """Functions as steps of a simulation, coroutines on its loop."""

    drives_waiters: ClassVar[bool] = True
    interrupts: ClassVar[bool] = False

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The simulation's loop, on which time is virtual."""
        return self._simulation.loop_dispatcher.loop

    def submit(self, job: Callable[[], None]) -> None:
        """Let ``job`` be a step of its own."""
        self._simulation.run_soon(job)

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Let other steps run until ``latch`` is free or ``timeout`` virtual seconds have passed."""
        return self._simulation.dispatcher.block(latch, timeout)

    def discount(self) -> None:
        """Nothing runs at the same time here."""

    def count(self) -> None:
        """As ``discount``."""

    def stop(self, timeout: float) -> None:
        """The simulation ends its own threads."""

"""What a dispatcher is: who runs ready actors, and where."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import asyncio

    from ..actor import Actor
    from ..cell import Cell

__all__ = ["Dispatcher", "LoopDispatcher"]


class Dispatcher(Protocol):
    """Runs actors that have something to do; one message at a time per actor, whoever runs it."""

    assists: ClassVar[bool]
    """Whether an asking thread may run this dispatcher's idle actors itself (assisted ask)."""

    @property
    def ends_inline(self) -> bool:
        """Whether a thread that asks an idle actor to end may end it itself, if it has no ``on_stop``."""
        ...

    drives_waiters: ClassVar[bool]
    """Whether a thread of no dispatcher that waits for an actor here must wait through ``block``."""

    def ready(self, cell: Cell) -> None:
        """Run ``cell`` soon. The caller has claimed the cell; the dispatcher runs it exclusively."""

    def call(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run ``function``, which may return an awaitable, where ``cell``'s handlers run, and return its result.

        Used for ``on_start``, ``on_stop`` and ``on_failure``; the caller has claimed the cell and waits.
        """

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait for ``latch`` (seconds) on a thread of this dispatcher, compensated. False: time ran out."""
        ...

    def interrupt(self, cell: Cell, actor: Actor, thread_id: int) -> None:
        """Make the handler of ``actor``, just fenced in ``cell``, stop; give its thread up and replace it.

        Called under the lock that decides the ends of incarnations: it must be quick and call nothing back.
        """

    def release(self, cell: Cell) -> None:
        """``cell`` has closed: free what was kept for it alone."""

    def stop(self, timeout: float) -> None:
        """Let idle threads end, waiting for them at most ``timeout`` seconds."""


class LoopDispatcher(Dispatcher, Protocol):
    """Runs actors on an event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop; coroutines of others may run on it too."""
        ...

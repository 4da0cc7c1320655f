"""A thread per actor: for handlers that block in I/O, and for libraries that are bound to one thread."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from .. import execution, killing
from ..reasons import ActorKilled
from ..running import run

if TYPE_CHECKING:
    from ..actor import Actor
    from ..cell import Cell

__all__ = ["ThreadDispatcher"]

_numbers = itertools.count()


class _Carrier:
    """The thread of one incarnation's place. ``latch`` is released to let it run once."""

    __slots__ = ("calls", "ended", "latch", "ready", "thread")

    def __init__(self) -> None:
        self.latch = threading.Semaphore(0)
        self.ready = False
        self.ended = False
        self.calls: list[_Call] = []
        self.thread: threading.Thread | None = None


class _Call:
    """A function to be run on the actor's thread, and what came of it."""

    __slots__ = ("actor", "done", "error", "function", "value")

    def __init__(self, actor: Actor, function: Callable[[], Any]) -> None:
        self.actor = actor
        self.function = function
        self.done = threading.Lock()
        self.done.acquire()
        self.value: Any = None
        self.error: BaseException | None = None


class ThreadDispatcher:
    """Runs each actor on a thread of its own.

    Args:
        name: begins the names of threads of supervised actors.
    """

    assists: ClassVar[bool] = False
    ends_inline: bool = False
    drives_waiters: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._carriers: dict[Cell, _Carrier] = {}

    def ready(self, cell: Cell) -> None:
        """Let the actor's thread run it."""
        carrier = self._carrier(cell)
        carrier.ready = True
        carrier.latch.release()

    def call(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the actor's thread; on the calling one if that is it."""
        carrier = self._carrier(cell)
        if carrier.thread is threading.current_thread():
            return _as_actor(cell, cell.actor, function)
        call = _Call(cell.actor, function)
        carrier.calls.append(call)
        carrier.latch.release()
        execution.wait(call.done, None, None)
        if call.error is not None:
            raise call.error
        return call.value

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait; nobody else needs this thread."""
        if timeout is None:
            return latch.acquire()
        return latch.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def interrupt(self, cell: Cell, actor: Actor, thread_id: int) -> None:
        """Raise ``ActorKilled`` in the thread; the next incarnation gets a new one."""
        killing.strike(thread_id, actor)
        carrier = self._carriers.pop(cell, None)
        if carrier is not None:
            carrier.ended = True
            carrier.latch.release()

    def release(self, cell: Cell) -> None:
        """Let the actor's thread end."""
        carrier = self._carriers.pop(cell, None)
        if carrier is not None:
            carrier.ended = True
            carrier.latch.release()

    def stop(self, timeout: float) -> None:
        """Wait for the threads, which end as their actors close."""
        deadline = time.monotonic() + timeout
        for carrier in list(self._carriers.values()):
            carrier.ended = True
            carrier.latch.release()
            if carrier.thread is not None and carrier.thread is not threading.current_thread():
                carrier.thread.join(max(0.0, deadline - time.monotonic()))

    def _carrier(self, cell: Cell) -> _Carrier:
        carrier = self._carriers.get(cell)
        if carrier is None:
            carrier = self._carriers[cell] = _Carrier()
            daemon = cell.parent is not None or cell.actor_class.use_daemon_thread
            carrier.thread = threading.Thread(
                target=self._work,
                args=(cell, carrier),
                name=f"{cell.actor_class.__name__}-{next(_numbers)}",
                daemon=daemon,
            )
            carrier.thread.start()
        return carrier

    def _work(self, cell: Cell, carrier: _Carrier) -> None:
        execution.host.dispatcher = self
        while True:
            carrier.latch.acquire()
            while carrier.calls:
                call = carrier.calls.pop(0)
                try:
                    call.value = _as_actor(cell, call.actor, call.function)
                except BaseException as error:
                    call.error = error
                execution.free(call.done)
            if carrier.ended:
                killing.forget_pending(threading.get_ident())
                return
            if carrier.ready:
                carrier.ready = False
                try:
                    run(cell)
                except BaseException as error:
                    execution.current.set(None)
                    if not carrier.ended:
                        threading.excepthook(
                            threading.ExceptHookArgs((type(error), error, error.__traceback__, carrier.thread))
                        )


def _as_actor(cell: Cell, actor: Actor, function: Callable[[], Any]) -> Any:
    if cell.actor is not actor:
        raise ActorKilled  # ended before this thread came to it
    previous = execution.current.set(cell)
    cell.runner = threading.get_ident()
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

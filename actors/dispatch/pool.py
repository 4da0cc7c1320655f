"""The pool: any number of actors on a few threads.

Three rules keep a few threads enough:

- *A worker that waits is compensated.* ``block`` lets the pool start a spare before its worker sleeps, so asks
  between pooled actors cannot starve it, however deep or wide they go.
- *A worker that is stuck is noticed.* A lookout looks every few milliseconds while there is work: if nothing
  was taken up since the last look, though the interpreter was free, it adds a worker.
- *Waking is throttled.* A worker that makes another actor ready takes it up itself next; waking a second
  thread for it would cost more than it saves under the GIL.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar

from ...messages.errors import DispatcherExhausted
from .. import execution, killing
from ..running import run

if TYPE_CHECKING:
    from ..actor import Actor
    from ..cell import Cell

__all__ = ["PoolDispatcher"]

MAX_THREADS = 10_000
KEEP_ALIVE = 5.0
"""Seconds that a spare worker waits for work before it ends."""

LOOK_EVERY = 0.005
"""Seconds between two looks at a busy pool."""

BUSY = 0.5
"""How much of the time between two looks the process computes if the interpreter may have been taken all along."""

BUSY_LOOKS = 10
"""How many busy looks in a row without anything taken up mean that the workers are stuck."""

STUCK_SPARES = 64
"""How many workers the lookout may add for handlers that block without saying so."""


class _Worker:
    """A thread of the pool; ``latch`` is released to wake it."""

    __slots__ = ("abandoned", "latch", "thread")

    def __init__(self) -> None:
        self.latch = threading.Lock()
        self.latch.acquire()
        self.abandoned = False
        self.thread: threading.Thread | None = None


class PoolDispatcher:
    """See the module's description.

    Args:
        name: begins the names of its threads.
        size: how many workers run at once; by default one per core, at least 2, at most 4.
    """

    assists: ClassVar[bool] = True
    ends_inline: bool = True
    drives_waiters: ClassVar[bool] = False

    def __init__(self, name: str, size: int | None = None) -> None:
        self._name = name
        self._size = size or max(2, min(4, os.cpu_count() or 1))
        self._ready: deque[Cell] = deque()
        self._idle: list[_Worker] = []
        self._workers: dict[int, _Worker] = {}
        self._blocked = 0
        self._lost = 0
        self._taken = 0
        self._change = threading.Lock()
        self._started = 0
        self._stopping = False
        self._lookout: threading.Thread | None = None
        self._lookout_wake = threading.Event()

    def ready(self, cell: Cell) -> None:
        """Run ``cell`` soon."""
        self._ready.append(cell)
        if execution.host.dispatcher is self and len(self._ready) <= 1:
            return  # this worker takes it up when it is done; if that takes long, the lookout steps in
        if self._idle or len(self._workers) - self._blocked - self._lost < self._size:
            try:
                self._wake_one()
            except DispatcherExhausted:
                if not self._workers:
                    raise  # else one of those that wait comes back, or may not wait in the first place

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
        """Wait on a worker of this pool; meanwhile the pool may run a spare."""
        with self._change:
            self._blocked += 1
        try:
            if self._ready:
                self._wake_one()  # if it cannot, the wait fails: one that nobody ends would be worse
            if timeout is None:
                return latch.acquire()
            return latch.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        finally:
            with self._change:
                self._blocked -= 1
            if not self._lookout_wake.is_set():
                self._lookout_wake.set()  # this worker runs again: it may get stuck

    def interrupt(self, cell: Cell, actor: Actor, thread_id: int) -> None:
        """Raise ``ActorKilled`` in the thread, and count on it no longer until it comes back."""
        killing.strike(thread_id, actor)
        worker = self._workers.get(thread_id)
        if worker is not None and not worker.abandoned:
            worker.abandoned = True
            self._lost += 1
            self._lookout_wake.set()

    def release(self, cell: Cell) -> None:
        """Nothing is kept for one actor alone."""

    def stop(self, timeout: float) -> None:
        """Let the workers end once nothing is ready; those that are stuck are left behind as daemons."""
        self._stopping = True
        self._lookout_wake.set()
        with self._change:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.latch.release()
        deadline = time.monotonic() + timeout
        for worker in list(self._workers.values()):
            thread = worker.thread
            if thread is not None and thread is not threading.current_thread() and not worker.abandoned:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._lookout is not None:
            self._lookout.join(max(0.0, deadline - time.monotonic()))

    @property
    def threads(self) -> int:
        """How many workers there are now."""
        return len(self._workers)

    def _wake_one(self) -> None:
        with self._change:
            if self._idle:
                self._idle.pop().latch.release()
                return
            if self._stopping or len(self._workers) - self._blocked - self._lost >= self._size:
                return
        self._start_worker()

    def _start_worker(self) -> None:
        if len(self._workers) >= MAX_THREADS:
            raise DispatcherExhausted(
                f"{len(self._workers)} threads of {self._name!r} wait in asks: handlers wait for each other in far "
                "too long chains; let them tell, or await in async handlers"
            )
        worker = _Worker()
        self._started += 1
        worker.thread = threading.Thread(
            target=self._work, args=(worker,), name=f"{self._name}-pool-{self._started}", daemon=True
        )
        try:
            worker.thread.start()
        except RuntimeError as error:
            raise DispatcherExhausted(f"the operating system gives {self._name!r} no more threads") from error
        if self._lookout is None:
            with self._change:
                if self._lookout is None:
                    self._lookout = threading.Thread(target=self._look_out, name=f"{self._name}-lookout", daemon=True)
                    self._lookout.start()
        self._lookout_wake.set()

    def _work(self, worker: _Worker) -> None:
        ready = self._ready
        execution.host.dispatcher = self
        thread_id = threading.get_ident()
        self._workers[thread_id] = worker
        try:
            while True:
                try:
                    cell = ready.popleft()
                except IndexError:
                    if not self._park(worker):
                        return
                    if not self._lookout_wake.is_set():
                        self._lookout_wake.set()  # there is work again: somebody may get stuck in it
                    continue
                self._taken += 1
                try:
                    Context().run(run, cell)  # what one actor sets there is not the next one's
                except BaseException as error:
                    execution.current.set(None)
                    if not worker.abandoned:
                        threading.excepthook(
                            threading.ExceptHookArgs((type(error), error, error.__traceback__, worker.thread))
                        )
                if worker.abandoned:
                    return
        finally:
            killing.forget_pending(thread_id)
            with self._change:
                self._workers.pop(thread_id, None)
                if worker.abandoned:
                    self._lost -= 1

    def _park(self, worker: _Worker) -> bool:
        """Wait for work; returns False when the worker should end."""
        with self._change:
            if self._stopping:
                return False
            self._idle.append(worker)
        if self._ready:  # it came between the look and the list
            with self._change:
                if worker in self._idle:
                    self._idle.remove(worker)
                    return True
            worker.latch.acquire()
            return True
        if worker.latch.acquire(timeout=KEEP_ALIVE):
            return True
        with self._change:
            if worker not in self._idle:
                pass  # just woken
            elif len(self._workers) - self._blocked - self._lost > self._size:
                self._idle.remove(worker)
                return False
            else:
                self._idle.remove(worker)
                return True
        worker.latch.acquire()
        return True

    def _look_out(self) -> None:
        """Add a worker when ready actors are not taken up: the workers are busy with long handlers, or stuck."""
        progress = Progress()
        while not self._stopping:
            if not self._ready and len(self._idle) >= len(self._workers) - self._blocked - self._lost:
                self._lookout_wake.clear()
                if not self._ready and not self._stopping:
                    self._lookout_wake.wait(1.0)
            before, computed = time.perf_counter(), time.process_time()
            time.sleep(LOOK_EVERY)
            took, computed = time.perf_counter() - before, time.process_time() - computed
            waiting, busy = bool(self._ready), was_busy(took, computed)
            if progress.is_missing(waiting=waiting, taken=self._taken, busy=busy):
                with self._change:
                    idle = self._idle.pop() if self._idle else None
                if idle is not None:
                    idle.latch.release()
                elif len(self._workers) - self._blocked - self._lost < self._size + STUCK_SPARES:
                    with suppress(DispatcherExhausted):  # then those that there are must do
                        self._start_worker()


def was_busy(took: float, computed: float) -> bool:
    """Whether the interpreter may have been taken during a look that took so long (seconds).

    Args:
        took: by the clock; late means that the lookout itself had to wait for its turn.
        computed: by all threads of the process. The lookout can be lucky, and get its turn in time where the workers do
            not; but then the one that had it before computed.
    """
    return took > LOOK_EVERY + sys.getswitchinterval() / 2 or computed > took * BUSY


class Progress:
    """Tells workers that are stuck from workers that only wait for their turn at the interpreter.

    A look that came in time while the process hardly computed found the interpreter free: whoever could run was
    running, so workers that took nothing up are stuck. Otherwise a sender in a loop or a collection of garbage may
    have kept them waiting. Only if it comes to that again and again, and they never get on, are they stuck.
    """

    __slots__ = ("_busy_looks", "_seen")

    def __init__(self) -> None:
        self._seen = -1
        self._busy_looks = 0

    def is_missing(self, *, waiting: bool, taken: int, busy: bool) -> bool:
        """Whether a worker is to be added.

        Args:
            waiting: whether any actor waits for a worker.
            taken: how many were taken up so far.
            busy: whether the interpreter was taken since the last look, or may have been.
        """
        if not waiting or taken != self._seen:
            self._seen = taken
            self._busy_looks = 0
            return False
        if busy and self._busy_looks + 1 < BUSY_LOOKS:
            self._busy_looks += 1
            return False
        self._busy_looks = 0
        return True

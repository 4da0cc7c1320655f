"""Threads for work in the background: apart from the pool, so that a job which blocks keeps no actor waiting."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from ...messages.errors import DispatcherExhausted, SystemStopped
from .. import execution

__all__ = ["WorkerThreads"]

LIMIT = 64
"""How many jobs run at once; the next ones wait in the order they came."""

MAX_THREADS = 10_000
"""How many threads there may be, those included that wait for actors or channels and those that were given up."""

KEEP_ALIVE = 5.0
"""Seconds that a thread waits for work before it ends."""


class WorkerThreads:
    """Runs jobs on threads that are started when needed and end when idle.

    Two kinds of threads are not counted against the limit: one that waits for an actor or a channel, since what
    it waits for may be a job that has yet to run; and one that was given up, since it may never come back.

    Args:
        name: begins the names of the threads.
        limit: how many jobs run at once.
    """

    drives_waiters: ClassVar[bool] = False

    def __init__(self, name: str, limit: int = LIMIT) -> None:
        self._name = name
        self._limit = limit
        self._jobs: deque[Callable[[], None]] = deque()
        self._change = threading.Condition(threading.Lock())
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._uncounted = 0
        self._started = 0
        self._stopping = False

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job`` on one of the threads; what it raises goes to ``threading.excepthook``.

        Raises:
            SystemStopped: the threads were stopped.
            DispatcherExhausted: there is no thread, and the operating system gives none.
        """
        with self._change:
            if self._stopping:
                raise SystemStopped(f"{self._name!r} has stopped: it runs nothing in the background any more")
            self._jobs.append(job)
            try:
                self._provide()
            except RuntimeError as error:
                if not self._threads:
                    self._jobs.remove(job)
                    raise DispatcherExhausted(
                        f"the operating system gives {self._name!r} no thread for work in the background"
                    ) from error

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait for ``latch`` (seconds) on one of the threads; meanwhile another may run. False: time ran out."""
        self.discount()
        try:
            if timeout is None:
                return latch.acquire()
            return latch.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        finally:
            self.count()

    def discount(self) -> None:
        """Count on one of the threads no longer: it waits, or its job does not end though it was told to."""
        with self._change:
            self._uncounted += 1
            if self._jobs:
                with suppress(RuntimeError):  # then the jobs wait for the threads that there are
                    self._provide()

    def count(self) -> None:
        """Count on it again."""
        with self._change:
            self._uncounted -= 1

    def stop(self, timeout: float) -> None:
        """Let the threads end once nothing waits, and wait for them at most ``timeout`` seconds."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
            threads = tuple(self._threads)
        deadline = time.monotonic() + timeout
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def threads(self) -> int:
        """How many threads there are now."""
        return len(self._threads)

    def _provide(self) -> None:
        """Wake or start a thread for the job that was put last, if it may run; the lock is held."""
        if self._idle >= len(self._jobs):
            self._change.notify()
        elif len(self._threads) - self._uncounted < self._limit and len(self._threads) < MAX_THREADS:
            self._started += 1
            thread = threading.Thread(target=self._work, name=f"{self._name}-background-{self._started}", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._threads.discard(thread)
                raise

    def _work(self) -> None:
        execution.host.dispatcher = self
        try:
            while True:
                job = self._next()
                if job is None:
                    return
                try:
                    job()
                except BaseException as error:
                    info = (type(error), error, error.__traceback__, threading.current_thread())
                    threading.excepthook(threading.ExceptHookArgs(info))
                del job  # what it refers to must not live on while this thread waits
        finally:
            with self._change:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], None] | None:
        """The job that waits longest; None when this thread should end."""
        with self._change:
            while not self._jobs:
                if self._stopping:
                    return None
                self._idle += 1
                woken = self._change.wait(KEEP_ALIVE)
                self._idle -= 1
                if not woken and not self._jobs:
                    self._threads.discard(threading.current_thread())
                    return None
            return self._jobs.popleft()

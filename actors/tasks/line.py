"""Waiting among the parts of a processor: for news, and for something to do.

Both wait through the runtime, so that whoever waits can be cancelled, and a simulation goes on meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from .. import execution

__all__ = ["Bell", "WorkLine"]

T = TypeVar("T")


class Bell:
    """Threads wait until something has become true; whoever has changed something rings.

    Args:
        clock: seconds, monotonic.

    Attributes:
        lock: held while what the conditions are about is changed or looked at.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self._clock = clock
        self._waiting: list[threading.Lock] = []

    def ring(self) -> None:
        """Something has changed. The lock is held."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for latch in waiting:
                execution.free(latch)

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``condition()`` is true, which is called with the lock held; False: time (seconds) ran out."""
        until = self._clock() + timeout
        while True:
            with self.lock:
                if condition():
                    return True
                left = until - self._clock()
                if left <= 0:
                    return False
                latch = threading.Lock()
                latch.acquire()
                self._waiting.append(latch)
            try:
                execution.wait(latch, left, None)
            finally:
                with self.lock:
                    if latch in self._waiting:
                        self._waiting.remove(latch)


class WorkLine(Generic[T]):
    """What is to be done, and the threads that do it.

    Of those that wait, one is woken; it wakes the next one if it leaves something. So when the work is short, few
    threads do all of it, without a switch for each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._idle: list[threading.Lock] = []

    def put_all(self, items: Iterable[T]) -> None:
        """Put items at the end."""
        with self._lock:
            self._items.extend(items)
            self._wake_one()

    def take(self) -> T:
        """The first item; waits for one."""
        while True:
            with self._lock:
                if self._items:
                    item = self._items.popleft()
                    self._wake_one()
                    return item
                latch = threading.Lock()
                latch.acquire()
                self._idle.append(latch)
            try:
                execution.wait(latch, None, None)
            except BaseException:  # it was told to end: what it was woken for is somebody else's
                with self._lock:
                    if latch in self._idle:
                        self._idle.remove(latch)
                    else:
                        self._wake_one()
                raise

    def _wake_one(self) -> None:
        if self._items and self._idle:
            execution.free(self._idle.pop())

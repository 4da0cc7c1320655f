"""The threads that simulations run on: borrowed for a stretch of work, by one simulation after another.

Starting a thread costs more than a small simulation does, and a test may run thousands of those. A thread that
nobody borrows for a second ends.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
from collections.abc import Callable

__all__ = ["Driver", "borrow", "give_back", "is_idle"]

KEEP_ALIVE = 1.0
"""Seconds that a thread waits to be borrowed again."""

Work = Callable[["Driver"], None]


class Driver:
    """A thread that does ``work`` whenever its ``gate`` is released."""

    __slots__ = ("gate", "thread", "work")

    def __init__(self, work: Work) -> None:
        self.work: Work | None = work
        self.gate = threading.Lock()
        self.gate.acquire()
        self.thread = threading.Thread(target=self._live, name=f"simulation-driver-{next(_numbers)}", daemon=True)

    def _live(self) -> None:
        while True:
            work, self.work = self.work, None
            assert work is not None
            # A context of its own each time: what one piece of work sets there must not reach another.
            contextvars.Context().run(work, self)
            del work
            while not self.gate.acquire(timeout=KEEP_ALIVE):
                with _lock:
                    if self in _idle:
                        _idle.remove(self)
                        return


_numbers = itertools.count(1)
_idle: list[Driver] = []
_lock = threading.Lock()


def borrow(work: Work) -> None:
    """Have a thread call ``work``, which gives the thread back when it has nothing left to do."""
    with _lock:
        driver = _idle.pop() if _idle else None
    if driver is None:
        Driver(work).thread.start()
    else:
        driver.work = work
        driver.gate.release()


def give_back(driver: Driver) -> None:
    """``driver`` may be borrowed again: its work returns in a moment, and touches nothing shared until then."""
    with _lock:
        _idle.append(driver)


def is_idle(thread: threading.Thread) -> bool:
    """Whether ``thread`` is one that waits to be borrowed, and so is nobody's leak."""
    with _lock:
        return any(driver.thread is thread for driver in _idle)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603  # the parent's may be held by a thread that does not exist here
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

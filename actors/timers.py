"""Messages that come later: a clock, a heap of due times, one thread for all."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
from collections.abc import Callable
from typing import Protocol

from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of

__all__ = ["ThreadTimers", "Timer", "TimerService", "check_seconds"]

logger = logging.getLogger("understudy.actors")

SWEEP_FROM = 1_024
"""How many timers there must be before cancelled ones are looked for."""

LAST_ACTION = 1.0
"""Seconds that a stop waits for the action that is under way."""


class Timer:
    """Something that will happen; ``cancel`` takes it back.

    Attributes:
        due: when it happens next, in seconds of the clock it was made for.
        interval: seconds between repetitions; None if it happens once.
    """

    __slots__ = ("_done", "action", "due", "interval")

    def __init__(self, due: float, action: Callable[[], None], interval: float | None = None) -> None:
        self.due = due
        self.action: Callable[[], None] | None = action
        self.interval = interval
        self._done: Callable[[Timer], None] | None = None

    @property
    def active(self) -> bool:
        """Whether it is still to happen (again)."""
        return self.action is not None

    def cancel(self) -> None:
        """It shall not happen (again); harmless if it has."""
        self.action = None

    def fire(self) -> bool:
        """Let it happen. Returns whether it is to happen again; then ``due`` has moved on."""
        action = self.action
        if action is None:
            return False
        if self.interval is None:
            self.action = None
        else:
            self.due += self.interval
        try:
            action()
        except BaseException:  # the thread of all timers outlives it
            logger.exception("A timer's action raised")
        return self.active


def check_seconds(seconds: object, *, repeated: bool) -> None:
    """Raise ``SpecInvalid`` for what is no time to wait, or no interval to repeat after."""
    if (
        isinstance(seconds, (int, float))
        and not isinstance(seconds, bool)
        and math.isfinite(seconds)
        and (seconds > 0 or (seconds == 0 and not repeated))
    ):
        return
    wanted = "more than 0" if repeated else "0 or more"
    raise SpecInvalid(f"{repr_of(seconds)} is no time to wait: give seconds, {wanted}", kind=ErrorKind.TIMER_INVALID)


class TimerService(Protocol):
    """Where timers are kept: a thread in production, virtual time in a simulation."""

    def add(self, timer: Timer) -> Timer:
        """Let it happen at ``timer.due``."""
        ...

    def stop(self) -> None:
        """Forget every timer and end the thread, if there is one."""


class ThreadTimers:
    """Timers on a thread of their own, started with the first one. Actions must be short: they send."""

    def __init__(self, clock: Callable[[], float], name: str) -> None:
        self._clock = clock
        self._name = name
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sweep_at = SWEEP_FROM
        self._stopped = False

    def add(self, timer: Timer) -> Timer:
        """Let it happen at ``timer.due``; refused silently once the service has stopped."""
        with self._changed:
            if self._stopped:
                timer.cancel()
                return timer
            if len(self._heap) >= self._sweep_at:
                self._sweep()
            heapq.heappush(self._heap, (timer.due, next(self._order), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{self._name}-timers", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def __len__(self) -> int:
        """How many timers are kept, cancelled ones among them."""
        return len(self._heap)

    def _sweep(self) -> None:
        """Throw the cancelled ones out: an ask with a deadline sets a timer, and is mostly answered long before."""
        self._heap = [entry for entry in self._heap if entry[2].active]
        heapq.heapify(self._heap)
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._heap))

    def stop(self) -> None:
        """Forget every timer and end the thread."""
        with self._changed:
            self._stopped = True
            self._heap.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(LAST_ACTION)

    def _run(self) -> None:
        while True:
            with self._changed:
                timer = self._next_due()
            if timer is None:
                return
            if timer.fire():
                with self._changed:
                    now = self._clock()
                    if timer.due <= now and timer.interval is not None:
                        # A clock that jumped, or a thread that was stalled, must not cause a burst of repetitions.
                        timer.due = now + timer.interval
                    heapq.heappush(self._heap, (timer.due, next(self._order), timer))

    def _next_due(self) -> Timer | None:
        while not self._stopped:
            while self._heap and not self._heap[0][2].active:
                heapq.heappop(self._heap)
            if not self._heap:
                self._changed.wait()
                continue
            wait = self._heap[0][0] - self._clock()
            if wait <= 0:
                return heapq.heappop(self._heap)[2]
            self._changed.wait(min(wait, threading.TIMEOUT_MAX))
        return None

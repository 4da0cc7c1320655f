"""Timers of a simulation: nothing is waited for, the clock jumps to whatever is due next."""

from __future__ import annotations

import heapq
import itertools

from ..actors.timers import Timer

__all__ = ["VirtualTimers"]


class VirtualTimers:
    """Keeps timers in the order they are due; the simulation fires them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopped = False

    def add(self, timer: Timer) -> Timer:
        """Let it happen at ``timer.due``; refused silently once the service has stopped."""
        if self._stopped:
            timer.cancel()
        else:
            heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """Forget every timer."""
        self._stopped = True
        self._heap.clear()

    @property
    def next_due(self) -> float | None:
        """When the next timer is due, in virtual seconds; None if there is none."""
        heap = self._heap
        while heap and not heap[0][2].active:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def fire_next(self) -> None:
        """Let the timer happen that is due first."""
        timer = heapq.heappop(self._heap)[2]
        if timer.fire():
            self.add(timer)

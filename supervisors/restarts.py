"""The two rules at the heart of supervision: who is restarted, and how often that may happen."""

from __future__ import annotations

from collections import deque
from enum import Enum

from ..actors.reasons import ExitReason
from .child import Restart

__all__ = ["RestartIntensity", "Verdict", "verdict"]


class Verdict(Enum):
    """What follows when a child ended on its own."""

    RESTART = "restart"
    KEEP_SPEC = "keep the spec, without a child"
    FORGET = "forget the child and its spec"


def verdict(restart: Restart, reason: ExitReason) -> Verdict:
    """The restart table."""
    match restart, reason.abnormal:
        case "permanent", _:
            return Verdict.RESTART
        case "transient", True:
            return Verdict.RESTART
        case "transient", False:
            return Verdict.KEEP_SPEC
        case _:
            return Verdict.FORGET


class RestartIntensity:
    """At most ``intensity`` restarts within ``period`` seconds."""

    __slots__ = ("_times", "intensity", "period")

    def __init__(self, intensity: int, period: float) -> None:
        self.intensity = intensity
        self.period = period
        self._times: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Count a restart at ``now`` (seconds, monotonic); False if that is one too many."""
        times = self._times
        times.append(now)
        while times[0] < now - self.period:
            times.popleft()
        return len(times) <= self.intensity

"""Limits on how often tasks begin: of a queue, and of a type, across all processes that share the queues.

Who may begin is decided in the engine (``TaskEngine.admit``). A queue at its limit is left alone until it may go on, so
its tasks stay pending. A task whose type is at its limit gets a place in line and is scheduled for that instant:
others of its queue go before it, and it keeps its retries.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ...messages.errors import ActorError, ErrorKind, SpecInvalid
from ...messages.tasks import TaskPayload
from .engine import Ending, Lease, TaskEngine

__all__ = ["Admitted", "LimitKey", "Limiter", "Rate", "limits_of"]

logger = logging.getLogger("understudy.tasks")

QUEUE_PREFIX: Final = "queue:"
PATIENCE: Final = 0.1
"""Seconds that a task is held in hand until it may begin; one that must wait longer goes back."""

LimitKey = str | type[TaskPayload[Any]]
"""``queue:`` and the queue's name; or a task type, or the payload class that has it."""


@dataclass(frozen=True)
class Rate:
    """How often something may begin.

    Attributes:
        limit: how many times.
        per: within how many seconds.
        burst: how many may begin at once after a pause. With 1 they are spread evenly, and never more than ``limit``
            begin within ``per`` seconds; with more, up to ``burst - 1`` more.

    Raises:
        SpecInvalid: ``config.task_processing.invalid``.
    """

    limit: int
    per: float = 1.0
    burst: int = 1

    def __post_init__(self) -> None:
        for name in ("limit", "burst"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _invalid(f"Rate: {name}={value!r:.200}: give a whole number from 1")
        per = self.per
        if isinstance(per, bool) or not isinstance(per, (int, float)) or not (math.isfinite(per) and per > 0):
            raise _invalid(f"Rate: per={per!r:.200}: give seconds, more than 0")

    @property
    def every(self) -> float:
        """Seconds between two of them."""
        return self.per / self.limit


def limits_of(limits: Mapping[LimitKey, Rate]) -> dict[str, Rate]:
    """Limits by name.

    Raises:
        SpecInvalid: ``config.task_processing.invalid``.
    """
    named: dict[str, Rate] = {}
    for key, rate in limits.items():
        name = key if isinstance(key, str) else getattr(key, "task_type", "")
        if not isinstance(name, str) or not name.removeprefix(QUEUE_PREFIX).strip():
            raise _invalid(f"limits: {key!r:.200}: give queue: and a queue's name, a task type, or a payload class")
        if not isinstance(rate, Rate):
            raise _invalid(f"limits: {key!r:.200}: {rate!r:.200}: give a Rate")
        if name in named:
            raise _invalid(f"limits: {name!r:.200} is given twice")
        named[name] = rate
    return named


class Admitted(NamedTuple):
    """Tasks that may begin, each at an instant (unix seconds) that is not far; and what becomes of the others."""

    leases: list[tuple[Lease, float]]
    endings: list[Ending]


class Limiter:
    """Takes no more tasks than may begin. One thread uses it.

    Args:
        engine: where the queues are.
        limits: by name.
    """

    def __init__(self, engine: TaskEngine, limits: Mapping[str, Rate]) -> None:
        self._engine = engine
        self._limits = limits
        self._open_at: dict[str, float] = {}

    def open(self, queues: Sequence[str]) -> tuple[str, ...]:
        """The queues that are not at their limit, as far as this process knows."""
        now = self._engine.now()
        return tuple(queue for queue in queues if self._open_at.get(queue, 0.0) <= now + PATIENCE)

    def pause(self, queues: Sequence[str], at_most: float) -> float:
        """Seconds until one more of the queues may go on."""
        now = self._engine.now()
        closed = [self._open_at.get(queue, 0.0) - PATIENCE - now for queue in queues]
        return min([at_most, *(seconds for seconds in closed if seconds > 0)])

    def take(self, queues: Sequence[str], count: int) -> Admitted:
        """Begin attempts at up to ``count`` tasks, of the first queue first.

        Those of which the engine cannot say whether they may begin go back: they have not begun.
        """
        admitted = Admitted([], [])
        for queue in self.open(queues):
            wanted = self._wanted(queue, count - len(admitted.leases))
            if wanted > 0 and not self._take_of(queue, wanted, admitted):
                break
        return admitted

    def _take_of(self, queue: str, wanted: int, admitted: Admitted) -> bool:
        leases: list[Lease] = []
        endings: list[Ending] = []
        try:
            leases = self._engine.dequeue((queue,), wanted)
            timed = self._by_queue(queue, leases, endings)
            admitted.leases.extend(self._by_type(timed, endings))
        except ActorError as error:
            if not leases and not admitted.leases and not admitted.endings:
                raise
            logger.warning("queue %s: %s", queue, error)
            admitted.endings.extend(Ending(lease, "requeue") for lease in reversed(leases))
            return False
        admitted.endings.extend(endings)
        return True

    def _wanted(self, queue: str, count: int) -> int:
        """How many to take: of a limited queue as many as may begin if nobody else takes any."""
        rate = self._limits.get(QUEUE_PREFIX + queue)
        return count if rate is None else min(count, rate.burst + int(PATIENCE / rate.every))

    def _by_queue(self, queue: str, leases: list[Lease], endings: list[Ending]) -> list[tuple[Lease, float]]:
        """Those that the queue's limit lets begin; the others go back to where they were."""
        name = QUEUE_PREFIX + queue
        rate = self._limits.get(name)
        if rate is None or not leases:
            return [(lease, 0.0) for lease in leases]
        turns = self._engine.admit(name, rate.every, rate.burst, [""] * len(leases), PATIENCE)
        self._open_at[queue] = max(turn.at for turn in turns)
        pairs = list(zip(leases, turns, strict=True))
        # The last one first: each goes to the head of its queue.
        endings.extend(Ending(lease, "requeue") for lease, turn in reversed(pairs) if not turn.granted)
        return [(lease, turn.at) for lease, turn in pairs if turn.granted]

    def _by_type(self, timed: list[tuple[Lease, float]], endings: list[Ending]) -> list[tuple[Lease, float]]:
        """Those that their type's limit lets begin; the others are scheduled for their place in line."""
        limited: dict[str, list[tuple[Lease, float]]] = {}
        free: list[tuple[Lease, float]] = []
        for lease, at in timed:
            name = lease.message.type
            (limited.setdefault(name, []) if name in self._limits else free).append((lease, at))
        for name, group in limited.items():
            rate = self._limits[name]
            tasks = [f"{lease.message.queue}\0{lease.message.id}" for lease, _ in group]
            turns = self._engine.admit(name, rate.every, rate.burst, tasks, PATIENCE)
            for (lease, at), turn in zip(group, turns, strict=True):
                if turn.granted:
                    free.append((lease, max(at, turn.at)))
                else:
                    endings.append(Ending(lease, "defer", at=turn.at))
        return free


def _invalid(text: str) -> SpecInvalid:
    return SpecInvalid(text, kind=ErrorKind.TASK_PROCESSING_INVALID)

"""Which queue is served first: always the weightier one, or more often."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from ...messages.errors import ErrorKind, SpecInvalid

__all__ = ["QueueOrder"]


class QueueOrder:
    """The order in which queues are asked for tasks.

    Args:
        weights: of each queue; one of 0 or less is not served.
        strict: always by weight; else an order is drawn for each dequeue in which a queue comes first as often as its
            weight says, so that none starves.
        chance: random numbers.

    Raises:
        SpecInvalid: ``config.task_processing.invalid``: no queue is served, or a name or weight cannot be.
    """

    def __init__(self, weights: Mapping[str, int], *, strict: bool, chance: random.Random) -> None:
        for name, weight in weights.items():
            if not isinstance(name, str) or not name.strip() or isinstance(weight, bool) or not isinstance(weight, int):
                raise SpecInvalid(
                    f"queues: {name!r}: {weight!r}: give names that are not blank, and whole numbers as weights",
                    kind=ErrorKind.TASK_PROCESSING_INVALID,
                )
        served = {name: weight for name, weight in weights.items() if weight > 0}
        if not served:
            raise SpecInvalid(
                "queues: none has a weight above 0, so nothing would be processed",
                kind=ErrorKind.TASK_PROCESSING_INVALID,
            )
        self.weights = served
        self.strict = strict
        self.names = tuple(sorted(served, key=lambda name: (-served[name], name)))
        self._chance = chance

    def draw(self) -> tuple[str, ...]:
        """The order for one dequeue."""
        if self.strict or len(self.names) == 1:
            return self.names
        # Drawing without replacement by weight: each waits for an exponential time of that rate.
        waits = {name: -math.log(1.0 - self._chance.random()) / weight for name, weight in self.weights.items()}
        return tuple(sorted(waits, key=waits.__getitem__))

"""How long a supervisor waits before it tries again."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ..actors.declared import Declared
from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of

__all__ = ["Backoff"]


LONGEST = sys.float_info.max
"""Seconds: what is longer, and infinity, is not waited for."""


@dataclass(frozen=True, slots=True)
class Backoff(Declared):
    """Exponential backoff between restarts of one child; every try still counts against the intensity.

    Attributes:
        min: seconds before the first restart; each further one in a row waits twice as long.
        max: seconds that a wait has at most; a finite number, so that the child is tried again some time.
        jitter: the part of a wait, 0 to 1, that is drawn at random, so that many children do not come back
            at the same moment.
        reset_after: seconds that a child must have run for the next wait to be ``min`` again.

    Raises:
        SpecInvalid: ``config.backoff.invalid``, naming the field and its value.
    """

    _invalid_kind: ClassVar[ErrorKind] = ErrorKind.BACKOFF_INVALID

    min: float
    max: float
    jitter: float = 0.2
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        self._require("min", self.min, lambda value: 0 < value <= LONGEST, "seconds, more than 0")
        # Without a bound, some thirty failures in a row would be a child that never comes back.
        self._require("max", self.max, lambda value: self.min <= value <= LONGEST, "seconds, not less than min, finite")
        self._require("jitter", self.jitter, lambda value: 0 <= value <= 1, "a part, from 0 to 1")
        self._require("reset_after", self.reset_after, lambda value: value >= 0, "seconds, 0 or more")

    def delay(self, attempt: int, chance: random.Random) -> float:
        """Seconds to wait before the restart that is the ``attempt``-th in a row, counted from 1."""
        full: float = min(self.max, self.min * 2.0 ** min(attempt - 1, 60))
        return full * (1.0 - self.jitter * chance.random())

    def _require(self, field: str, value: object, good: Callable[[float], bool], wanted: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not good(value):
            raise SpecInvalid(
                f"Backoff({field}={repr_of(value)}): give {wanted}",
                kind=ErrorKind.BACKOFF_INVALID,
            )

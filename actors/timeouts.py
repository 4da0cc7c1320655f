"""How long to wait: what callers may give, and what it means."""

from __future__ import annotations

import math
import sys

from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of

__all__ = ["INFINITY", "as_seconds", "as_timeout"]

INFINITY = math.inf


def as_timeout(
    value: object, *, name: str = "timeout", target: str | None = None, verb: str | None = None, as_pykka: bool = False
) -> float | None:
    """Read how long somebody is willing to wait.

    Args:
        value: seconds; None or infinity: no limit. Below zero is as good as zero, the time has passed already: it
            may be what somebody computed to be left.
        name: the argument's name, for the error.
        target: the path of the actor that is addressed, for the error.
        verb: what is asked of it, for the error.
        as_pykka: take ``True`` and ``False`` for the numbers that they are, as pykka does.

    Returns:
        seconds, 0 or more; None for no limit.

    Raises:
        SpecInvalid: ``config.timeout.invalid``: it is not a number, or NaN; ``True`` is not one either.
    """
    if value is None:
        return None
    if as_pykka and isinstance(value, bool):
        value = float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # NaN
        raise SpecInvalid(
            f"{name}={repr_of(value)}: give seconds as a number, or None for no limit",
            kind=ErrorKind.TIMEOUT_INVALID,
            target=target,
            verb=verb,
            field=name,
            value=value,
        )
    if value <= 0:
        return 0.0
    return float(value) if value < sys.float_info.max else None


def as_seconds(value: object, *, name: str = "timeout", verb: str | None = None) -> float:
    """As ``as_timeout``, with infinity for no limit."""
    seconds = as_timeout(value, name=name, verb=verb)
    return INFINITY if seconds is None else seconds

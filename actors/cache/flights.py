"""Making a value once for all who miss it: what the cache actor keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ...messages.cache import CacheFetch
from ...messages.message import Message
from ..request import Request

__all__ = ["CLAIMS_KEPT", "GOODBYE", "LOOK_EVERY", "ClaimsLeft", "Flight", "LookAgain", "Made", "claim_of"]

LOOK_EVERY: Final = 0.05
"""Seconds between two looks whether another process has made a value."""

GOODBYE: Final = 0.5
"""Seconds that giving up the claims of what has ended may take."""
CLAIMS_KEPT: Final = 1_000
"""Claims of which it is not known what became of them, at most: each runs out by itself."""


@dataclass(slots=True, eq=False)
class Flight:
    """A value that is being made, here or in another process.

    Args:
        wanted: The first wish for it.
        gives_up: When it has taken too long, in seconds of the system's clock.
    """

    wanted: CacheFetch
    gives_up: float
    waiting: list[Request[CacheFetch]] = field(default_factory=list)


class Made(Message[None]):
    """The maker has answered, or will not."""

    flight: Any
    value: Any
    error: Any


class LookAgain(Message[None]):
    """Time to see whether another process has made it."""

    flight: Any


class ClaimsLeft(Message[None]):
    """An earlier incarnation may have claimed values, which it does not make any more."""


def claim_of(key: str) -> str:
    """The key whose holder makes the value of ``key``: a list of one item, which says whose it is, and expires."""
    return f"{key}:understudy:flight"

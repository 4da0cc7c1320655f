"""The mailbox's settings: how much may wait, and what happens to one message more."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of
from .declared import Declared

__all__ = ["DEFAULT_CAPACITY", "Mailbox", "Overflow"]

Overflow = Literal["reject", "block", "drop_oldest", "drop_newest"]

DEFAULT_CAPACITY = 10_000
UNBOUNDED = sys.maxsize


@dataclass(frozen=True, slots=True)
class Mailbox(Declared):
    """A mailbox's bound and its overflow policy.

    Attributes:
        capacity: how many messages may wait; None for no bound. The bound is exact for one sending
            thread; every further thread that sends in the same instant may add one.
        overflow: what a full mailbox does with one message more. ``reject``: the sender gets
            ``actor.mailbox.full``. ``block``: the sender waits for room, up to its deadline (never on an
            event-loop thread: there it is a ``reject``). ``drop_oldest``: the message that waited longest
            makes room. ``drop_newest``: the new one is dropped. What is dropped goes to the dead
            letters; a dropped ask is answered with ``actor.mailbox.dropped``.

    Raises:
        SpecInvalid: ``config.mailbox.invalid`` for another value of either.
    """

    _invalid_kind: ClassVar[ErrorKind] = ErrorKind.MAILBOX_INVALID

    capacity: int | None = DEFAULT_CAPACITY
    overflow: Overflow = "reject"

    def __post_init__(self) -> None:
        capacity: object = self.capacity
        if capacity is not None and (isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1):
            raise SpecInvalid(
                f"Mailbox(capacity={repr_of(capacity)}): give a whole number of messages, 1 or more, or None",
                kind=ErrorKind.MAILBOX_INVALID,
            )
        if self.overflow not in get_args(Overflow):
            raise SpecInvalid(
                f"Mailbox(overflow={repr_of(self.overflow)}): give one of {', '.join(get_args(Overflow))}",
                kind=ErrorKind.MAILBOX_INVALID,
            )

    @property
    def limit(self) -> int:
        """The bound as a number that a length can be compared with."""
        return UNBOUNDED if self.capacity is None else self.capacity


DEFAULT_MAILBOX = Mailbox()
UNBOUNDED_MAILBOX = Mailbox(capacity=None)

"""What is said to the error log, beside the error responses themselves."""

from __future__ import annotations

from .message import Message
from .registry import register


class ErrorCounts(Message[None]):
    """What became of the errors that were to be logged, since the system started."""

    written: int
    """To the file or stream."""
    published: int
    """Confirmed by the broker."""
    unwritten: int
    """The file or stream did not take them."""
    unpublished: int
    """The broker did not take them, or not in time."""
    missed: int
    """They came while the log's mailbox was full."""


@register("errorlog.count")
class CountErrors(Message[ErrorCounts]):
    """Count what became of the errors that were to be logged."""

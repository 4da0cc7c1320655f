"""What askers are told when the runtime answers in the handler's stead."""

from __future__ import annotations

from typing import Any

from ..messages.errors import AskTimeout, ErrorKind, HandlerFailed, ReplyMissing
from ..messages.redact import text_of as text_of_value
from .cell import Cell
from .reasons import ActorKilled
from .request import Request

__all__ = ["handler_failed", "is_due", "never_answered", "text_of"]


def handler_failed(cell: Cell, message: Any, error: BaseException) -> HandlerFailed:
    """What the asker gets when ``error`` escaped the handler of its message."""
    kind = ErrorKind.HANDLER_KILLED if isinstance(error, ActorKilled) else ErrorKind.HANDLER_FAILED
    what = "was killed" if isinstance(error, ActorKilled) else f"raised {text_of(error)}"
    return HandlerFailed(
        f"{cell.describe()} {what} while handling {type(message).__name__}",
        kind=kind,
        target=cell.path,
        verb="ask",
        actor=cell.path,
        incarnation=cell.incarnation,
        message_type=type(message).__name__,
        cause=error,
    )


def never_answered(cell: Cell, message: Any, why: str = "ended before it answered") -> ReplyMissing:
    """What the asker gets whose request was kept or taken in a batch, and never answered."""
    return ReplyMissing(
        f"{cell.describe()} {why} {type(message).__name__}",
        target=cell.path,
        verb="ask",
        actor=cell.path,
        incarnation=cell.incarnation,
        message_type=type(message).__name__,
    )


def is_due(cell: Cell, request: Request[Any]) -> bool:
    """Whether somebody still waits for the answer; if nobody does, the request is dropped unhandled."""
    future = request.reply_to
    if future is not None and future.done:
        cell.runtime.events.dead_letter(cell.path, request.message, "expired")
        return False
    if request.deadline is not None and cell.runtime.clock() >= request.deadline:
        error = AskTimeout(
            f"the deadline passed while {type(request.message).__name__} waited for {cell.describe()}",
            kind=ErrorKind.MAILBOX_EXPIRED,
            target=cell.path,
            verb="ask",
            actor=cell.path,
            message_type=type(request.message).__name__,
        )
        error.deadline = request.deadline
        cell.bury(request, "expired", error)
        cell.runtime.events.dead_letter(cell.path, request.message, "expired")
        return False
    return True


def text_of(error: BaseException | None) -> str:
    """An exception's type and text, whatever its ``__str__`` does."""
    text = text_of_value(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

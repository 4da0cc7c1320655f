"""A message that somebody waits for: what lies in a mailbox for an ask, and what a batch handler gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..messages.errors import ActorError, IncarnationFenced

if TYPE_CHECKING:
    from .actor import Actor
    from .future import Future

__all__ = ["Request"]

M = TypeVar("M")


class Request(Generic[M]):
    """A message with somebody who waits for its reply.

    ``@handles_batch`` gives a handler a list of these; ``Actor.defer_reply()`` gives the one that is being
    handled, to be answered later.

    Attributes:
        message: what was sent.
        deadline: when the asker stops waiting, in seconds of the system's clock; None for no deadline.
        deferred: whether the run loop leaves the answer to somebody else.
        kept: whether the handler keeps it beyond its return.
    """

    __slots__ = ("_handled_by", "deadline", "deferred", "kept", "message", "reply_to")

    def __init__(self, message: M, reply_to: Future[Any] | None = None, deadline: float | None = None) -> None:
        self.message = message
        self.reply_to = reply_to
        self.deadline = deadline
        self.deferred = False
        self.kept = False
        self._handled_by: Actor | None = None

    @property
    def answered(self) -> bool:
        """Whether an answer was given, or none is waited for (the message came by ``tell``)."""
        return self.reply_to is None or self.reply_to.done

    def reply(self, value: Any = None) -> bool:
        """Answer with ``value``.

        Returns:
            False if it came too late: the asker had an answer or its time-out already, or there is no
            asker. The late reply is dropped.

        Raises:
            IncarnationFenced: if the incarnation that took the request has ended.
        """
        self._refuse_if_fenced()
        self._release()
        return self.reply_to is not None and self.reply_to.try_set(value)

    def fail(self, error: BaseException) -> bool:
        """Answer with an error, which the asker's ``ask`` raises. Returns and raises as ``reply``."""
        self._refuse_if_fenced()
        self._release()
        actor = self._handled_by
        if actor is not None and isinstance(error, ActorError):
            cell = actor._cell
            error.note_place(cell.path, cell.incarnation, type(self.message).__name__)
        return self.reply_to is not None and self.reply_to.try_fail(error)

    def defer(self) -> Request[M]:
        """Keep the request beyond the handler's return, to be answered later by the same incarnation.

        When that incarnation ends first, the asker gets ``actor.reply.missing``.

        Raises:
            IncarnationFenced: it has ended already.
        """
        self._refuse_if_fenced()
        self.kept = self.deferred = True
        if self._handled_by is not None:
            self._handled_by._cell.needs.deferred[self] = None
        return self

    def hold(self, actor: Actor) -> None:
        """Tie the request to the incarnation that answers it: when that ends, its answers are refused."""
        self._handled_by = actor
        self.deferred = True

    def _release(self) -> None:
        if self.kept and self._handled_by is not None:
            self._handled_by._cell.needs.deferred.pop(self, None)

    def _refuse_if_fenced(self) -> None:
        actor = self._handled_by
        if actor is not None and actor._fenced:
            raise IncarnationFenced(
                f"{actor} was replaced: its reply to {type(self.message).__name__} is refused",
                actor=str(actor),
                message_type=type(self.message).__name__,
            )

    def __repr__(self) -> str:
        return f"Request({self.message!r}, deadline={self.deadline!r}, answered={self.answered})"

"""`ErrorResponse`: a failure as a message, to be answered, logged, published, or rendered for HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson

from .base_error import ActorError
from .caller import wall_clock
from .catalogue import entry_of
from .kinds import ErrorCode, ErrorKind, show_code
from .message import Message
from .redact import MAX_NAME, clean, clean_again, text_of

MAX_CAUSES = 8
"""How many causes below an error are kept."""


class _Context(NamedTuple):
    """What is known of the circumstances, apart from the error itself."""

    method: str = ""
    actor: str = ""
    incarnation: int = 0
    message_type: str = ""
    message_id: str = ""


class ErrorResponse(Message[None]):
    """What went wrong, where, to whom and when.

    It can always be built, whatever failed: see `from_exception`.
    """

    code: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
    """The family: one of `ErrorCode`, shown in hex."""
    kind: str
    """Dotted and specific: one of `ErrorKind`, or `python.<exception>` for a cause that is not ours."""
    method: str = ""
    """Where it was called: caller's function, target's path, verb."""
    source: str = ""
    """The text of the underlying error, credentials redacted."""
    actor: str = ""
    """The path of the actor in which it happened."""
    incarnation: int = 0
    """Which life of that actor, counted from 1."""
    message_type: str = ""
    message_id: str = ""
    at: float = 0.0
    """When: Unix time in seconds."""
    retryable: bool = False
    """Whether trying again can help."""
    cause: ErrorResponse | None = None
    """The error below this one."""

    @classmethod
    def of(cls, error: ActorError) -> ErrorResponse:
        """Build the response of one of our own errors. `ActorError.response` keeps what this makes."""
        return cls.from_exception(error)

    @classmethod
    def from_exception(
        cls,
        error: BaseException,
        *,
        kind: str = ErrorKind.HANDLER_FAILED,
        method: str = "",
        actor: str = "",
        incarnation: int = 0,
        message_type: str = "",
        message_id: str = "",
    ) -> ErrorResponse:
        """Build a response from any exception, never failing.

        A `__str__` that raises, causes that form a circle, text of megabytes or of lone surrogates: all are
        answered with a response that can be written as JSON.

        Args:
            error: What was raised. One of our own errors keeps its kind.
            kind: The kind to give to an exception that is not ours.
            method: Where it was called. Here and below, what the error itself knows takes precedence.
            actor: The path of the actor in which it happened.
            incarnation: Which life of that actor, counted from 1.
            message_type: The name of the message's type.
            message_id: The message's id.
        """
        context = _Context(method, actor, incarnation, message_type, message_id)
        try:
            return _build(error, kind, context)
        # An exception class may override anything, `__cause__` included, with something that raises.
        except Exception:
            name = _name_of(type(error))
            return ErrorResponse(
                code=_code_of(kind), kind=_kind(kind), method=_text(method), source=name, actor=_text(actor)
            )

    def to_json(self) -> bytes:
        """Write it as one line of JSON for a log: the code in hex, the time as RFC 3339."""
        return orjson.dumps(self._shown())

    def to_problem(self) -> dict[str, Any]:
        """Render it as the members of an `application/problem+json` document (RFC 9457).

        The `type` is a URN made of the kind; what RFC 9457 does not name stands in extension members.
        """
        row = entry_of(self.kind)
        shown = self._shown()
        return {
            "type": f"urn:understudy:error:{shown['kind']}",
            "title": row.meaning if row else "Something failed.",
            "status": row.status if row else 500,
            "detail": shown.pop("source"),
            **shown,
        }

    def _shown(self) -> dict[str, Any]:
        """The fields as they are shown; more than `MAX_CAUSES` causes, as a peer may send, are cut."""
        chain: list[ErrorResponse] = [self]
        while chain[-1].cause is not None and len(chain) <= MAX_CAUSES:
            chain.append(chain[-1].cause)
        shown: dict[str, Any] | None = None
        for error in reversed(chain):
            shown = error._shown_above(shown)
        assert shown is not None
        return shown

    def _shown_above(self, cause: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "code": show_code(self.code),
            # Cleaned again: this one may have been made by hand, or by a peer.
            "kind": clean_again(self.kind, MAX_NAME),
            "method": clean_again(self.method, MAX_NAME),
            "source": clean_again(self.source),
            "actor": clean_again(self.actor, MAX_NAME),
            "incarnation": self.incarnation,
            "message_type": clean_again(self.message_type, MAX_NAME),
            "message_id": clean_again(self.message_id, MAX_NAME),
            "at": _shown_time(self.at),
            "retryable": self.retryable,
            "cause": cause,
        }

    def __str__(self) -> str:
        where = f" in {clean_again(self.method, MAX_NAME)}" if self.method else ""
        return f"{show_code(self.code)} {clean_again(self.kind, MAX_NAME)}{where}: {clean_again(self.source)}"


def _shown_time(at: float) -> str | None:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # not a time: from a peer, or from a clock gone wrong
        return None


_Failure = BaseException | ErrorResponse


def _build(error: BaseException, kind: str, context: _Context) -> ErrorResponse:
    """Build the response of an error and of those below it, from the lowest one upwards."""
    chain = _chain(error)
    code = error.code if isinstance(error, ActorError) else _code_of(kind)
    below: ErrorResponse | None = None
    for failure in reversed(chain[1:]):
        below = failure if isinstance(failure, ErrorResponse) else _one(failure, code, "", _Context(), below)
    return _one(error, code, kind, context, below)


def _chain(error: BaseException) -> list[_Failure]:
    """List an error and its causes, outermost first, cutting circles and overlong chains."""
    chain: list[_Failure] = [error]
    seen = {id(error)}
    last: _Failure | None = _below(error)
    while last is not None and id(last) not in seen and len(chain) <= MAX_CAUSES:
        chain.append(last)
        seen.add(id(last))
        last = _below(last) if isinstance(last, BaseException) else None
    return chain


def _below(error: Any) -> _Failure | None:
    if not isinstance(error, BaseException):  # from a caller that does not keep to the types
        return None
    if isinstance(error, ActorError) and error.cause is not None:
        return error.cause
    if error.__cause__ is not None:
        return error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]  # the others are counted in the group's text
    return None if error.__suppress_context__ else error.__context__


def _code_of(kind: str) -> ErrorCode:
    row = entry_of(kind)
    return row.code if row else ErrorCode.HANDLER


def _one(error: BaseException, code: int, kind: str, context: _Context, below: ErrorResponse | None) -> ErrorResponse:
    """Build the response of one error; one that is not ours has the family of the error above it."""
    text = text_of(error)
    if isinstance(error, ActorError):
        code, kind, at = error.code, error.kind, error.at
        context = _Context(
            error.method or context.method,
            error.actor or context.actor,
            error.incarnation or context.incarnation,
            error.message_type or context.message_type,
            error.message_id or context.message_id,
        )
    else:
        name = _name_of(type(error))
        kind, at = kind or f"python.{name}", wall_clock.get()()
        text = f"{name}: {text}" if text else name
    row = entry_of(kind)
    return ErrorResponse(
        code=int(code),
        kind=_kind(kind),
        method=_text(context.method),
        source=clean(text),
        actor=_text(context.actor),
        incarnation=context.incarnation if isinstance(context.incarnation, int) else 0,
        message_type=_text(context.message_type),
        message_id=_text(context.message_id),
        at=at,
        retryable=row.retryable if row else False,
        cause=below,
    )


def _text(value: object) -> str:
    """A name as it is sent: bounded; and a text, whatever it was given as."""
    return clean_again(value if isinstance(value, str) else text_of(value), MAX_NAME)


def _kind(value: object) -> str:
    return _text(value) or str(ErrorKind.HANDLER_FAILED)


def _name_of(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"

"""`ActorError`, the base of all errors: cheap to make, and carrying everything needed for an error response."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypedDict

from .caller import NO_CALLER, find_caller, method_name, wall_clock
from .kinds import ErrorCode, ErrorKind

if TYPE_CHECKING:
    from .response import ErrorResponse


class ErrorDetails(TypedDict, total=False):
    """The keyword arguments of `ActorError`, for subclasses that pass them on."""

    kind: ErrorKind | None
    method: str | None
    target: str | None
    verb: str | None
    actor: str
    incarnation: int
    message_type: str
    message_id: str
    cause: BaseException | ErrorResponse | None


class ActorError(Exception):
    """A failure that a caller can see, as an exception.

    `str(error)` is `source`, exactly as it was passed. Building one is cheap, since a refused tell may happen a
    million times: only the caller's name and the time are taken at once, the response is made when it is read.

    Args:
        source: The text of what went wrong.
        kind: Which kind of the catalogue; by default the class's `default_kind`.
        method: The dotted name of where it was called; by default read off the calling frame and put together with
            `target` and `verb`: `register_notif.broker.ask`.
        target: The path of the actor that was addressed, such as `notifications/broker`.
        verb: What was asked of it: `ask`, `tell`, `stop` …
        actor: The path of the actor in which it happened.
        incarnation: Which life of that actor, counted from 1; 0 when none was involved.
        message_type: The name of the message's type.
        message_id: The message's id.
        cause: The error below this one; by default the exception's own `__cause__` or `__context__`.
    """

    code: ClassVar[ErrorCode] = ErrorCode.HANDLER
    default_kind: ClassVar[ErrorKind] = ErrorKind.HANDLER_FAILED

    # Defaults on the class: an error that was not told need not write them, and a subclass whose constructor forgets
    # to call this one is still a complete error.
    at: float = 0.0
    cause: BaseException | ErrorResponse | None = None
    _kind: ErrorKind | None = None
    _called: tuple[tuple[str, str], str | None, str | None, str | None] = (NO_CALLER, None, None, None)
    _where: tuple[str, int, str, str] = ("", 0, "", "")
    _response: ErrorResponse | None = None

    def __init__(
        self,
        source: str = "",
        *,
        kind: ErrorKind | None = None,
        method: str | None = None,
        target: str | None = None,
        verb: str | None = None,
        actor: str = "",
        incarnation: int = 0,
        message_type: str = "",
        message_id: str = "",
        cause: BaseException | ErrorResponse | None = None,
    ) -> None:
        super().__init__(source)
        self.at = wall_clock.get()()
        self._called = (NO_CALLER if method else find_caller(), method, target, verb)
        self._where = (actor, incarnation, message_type, message_id)
        if kind is not None:
            self._kind = kind
        if cause is not None:
            self.cause = cause
            if isinstance(cause, BaseException):
                self.__cause__ = cause  # shown in tracebacks, as by `raise … from`

    @property
    def kind(self) -> ErrorKind:
        """Which kind of the catalogue it is."""
        return self._kind or self.default_kind

    @property
    def source(self) -> str:
        """The text of what went wrong, as it was passed."""
        return str(self)

    @property
    def method(self) -> str:
        """Where it was called: the caller's function, the target's path and the verb."""
        caller, method, target, verb = self._called
        return method or method_name(caller, target, verb)

    @property
    def actor(self) -> str:
        """The path of the actor in which it happened, or nothing."""
        return self._where[0]

    @property
    def incarnation(self) -> int:
        """Which life of that actor, counted from 1; 0 when none was involved."""
        return self._where[1]

    @property
    def message_type(self) -> str:
        """The name of the message's type, or nothing."""
        return self._where[2]

    @property
    def message_id(self) -> str:
        """The message's id, or nothing."""
        return self._where[3]

    @property
    def response(self) -> ErrorResponse:
        """The same failure as a message: to be logged, sent or rendered. Made when first read, then kept."""
        if self._response is None:
            from .response import ErrorResponse  # it is built from errors, so it is imported after them

            self._response = ErrorResponse.of(self)
        return self._response

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.hex} {self.kind}, {self.source!r})"

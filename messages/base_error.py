"""`ActorError`, the base of all errors: cheap to make, and with everything that an error response needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypedDict

from .caller import NO_CALLER, find_caller, method_name, wall_clock
from .kinds import ErrorCode, ErrorKind
from .redact import MAX_NAME, MAX_TEXT, clean, repr_of

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

    `str(error)` is `source`, exactly as it was passed. Making one is cheap, since a refused tell may happen a
    million times: only the caller's name and the time are taken at once, and the response when it is read.

    Args:
        source: The text of what went wrong.
        kind: Which kind of the catalogue; by default the class's `default_kind`.
        method: The dotted name of where it was called; by default the calling function's name, put together
            with `target` and `verb`: `register_notif.broker.ask`.
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

    # Defaults on the class: what was not told need not be written, and a subclass whose constructor forgets
    # to call this one is still a complete error.
    at: float = 0.0
    cause: BaseException | ErrorResponse | None = None
    _kind: ErrorKind | None = None
    _called: tuple[tuple[str, str], str | None, str | None] = (NO_CALLER, None, None)
    _method: str | None = None
    _where: tuple[str, int, str, str] = ("", 0, "", "")
    _response: ErrorResponse | None = None
    _new_id: Callable[[], str] | None = None

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
        if method is None:
            self._called = (find_caller(), target, verb)
        else:
            self._method = method
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
        """Where it was called: the caller's function, the target's path and the verb; a very long one is cut."""
        return clean(method_name(*self._called) if self._method is None else self._method, MAX_NAME)

    @property
    def target(self) -> str:
        """The path of the actor that was addressed, or nothing if that is not known."""
        return self._called[1] or ""

    def note_call(self, method: str | None, target: str, verb: str) -> None:
        """Fill in where the failed call was made, for an error that was made where it was handled.

        The call of an error that knows its target is known already, and kept.

        Args:
            method: The name that the caller gave the call; by default the calling function's name is used.
            target: The path of the actor that was addressed.
            verb: What was asked of it.
        """
        caller, known_target, known_verb = self._called
        if self._method is not None:
            return
        if caller != NO_CALLER and known_target:
            if method is not None and known_target == target:  # it is this call, and the caller has a name for it
                self._method = method
                self._response = None
            elif not known_verb:  # made by a supervisor about itself: what it was asked by is this call
                self._called = (caller, known_target, verb)
                self._response = None
            return
        if method is None:
            # An error without a target was made by a handler, as its answer: the call that failed is this one.
            caller = find_caller()
        self._method = method
        self._called = (caller, known_target or target, known_verb or verb)
        self._response = None

    def note_message(self, message_type: str, new_id: Callable[[], str]) -> None:
        """Fill in which message it is about, for an error that does not know, or not all of it.

        A message that crosses no wire has no id of its own. It gets one when somebody looks for it, so that what is
        logged, answered and published of one failure can be told to belong together.

        Args:
            message_type: The name of the message's type; or nothing.
            new_id: Makes an id.
        """
        if self._new_id is not None or self._where[3]:
            return
        self._new_id = new_id
        self._response = None
        if message_type and not self._where[2]:
            self._where = (*self._where[:2], message_type, "")

    def note_place(self, actor: str, incarnation: int, message_type: str) -> None:
        """Fill in where it happened, for an error of a part that does not know which actor it works for.

        An error that says its actor is left as it is.

        Args:
            actor: The path of the actor in which it happened.
            incarnation: Which life of that actor.
            message_type: The name of the type of the message that was being handled.
        """
        if not self._where[0]:
            self._where = (actor, incarnation, self._where[2] or message_type, self._where[3])
            self._response = None

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
        if not self._where[3] and self._new_id is not None:
            self._where = (*self._where[:3], self._new_id())
        return self._where[3]

    @property
    def response(self) -> ErrorResponse:
        """The same failure as a message: to be logged, sent or rendered. Made when first read, then kept."""
        if self._response is None:
            from .response import ErrorResponse  # it is built from errors, so it is imported after them

            self._response = ErrorResponse.of(self)
        return self._response

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.hex} {self.kind}, {repr_of(self.source, MAX_TEXT)})"

"""``@handles`` and ``@handles_batch``: typed dispatch, built once per class.

A handler declares what it handles by the annotation of its message parameter. Everything that is wrong
with a declaration is an error at the definition of the class, and names the method.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pykka

from ..messages.errors import ErrorKind, HandlerDeclarationError
from ..messages.message import Message
from ..messages.redact import repr_of
from .batches import batch_handler
from .request import Request

if TYPE_CHECKING:
    from .actor import Actor

__all__ = ["HandlerTable", "handles", "handles_batch"]

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[Any, Any], Any]

_MARK = "_understudy_handles"
DEFAULT_BATCH = 1_000


class _Declaration:
    """What a decorator noted on a method."""

    __slots__ = ("assisted", "batch_size")

    def __init__(self, batch_size: int | None, *, assisted: bool = True) -> None:
        self.batch_size = batch_size
        self.assisted = assisted


class HandlerTable:
    """What a class of actors handles.

    Attributes:
        handlers: the handler of each message type, called with the actor and the message.
        quick: message types whose handler lately took less than a millisecond (see assisted ask).
        batched: message types that go to a ``@handles_batch`` method.
        unassisted: those of them that the asking thread never runs.
        has_async: whether any handler is a coroutine function.
        trusted: whether an asker without a deadline may always run it, however long it takes: supervisors.
        starts, stops, fails: whether the class has an ``on_start``, ``on_stop``, ``on_failure`` of its own.
    """

    __slots__ = ("batched", "fails", "handlers", "has_async", "quick", "starts", "stops", "trusted", "unassisted")

    def __init__(self) -> None:
        self.handlers: dict[type, Handler] = {}
        self.quick: dict[type, bool] = {}
        self.batched: set[type] = set()
        self.unassisted: set[type] = set()
        self.has_async = False
        self.starts = self.stops = self.fails = self.trusted = False

    def adopt(self, message_type: type) -> Handler | None:
        """The handler of the nearest base class of ``message_type``, remembered from now on."""
        for base in message_type.__mro__[1:]:
            handler = self.handlers.get(base)
            if handler is not None:
                if base in self.batched:
                    self.batched.add(message_type)
                if base in self.unassisted:
                    self.unassisted.add(message_type)
                self.handlers[message_type] = handler
                return handler
        return None


def handles(method: F) -> F:
    """Make a method of an actor the handler of the message type that its parameter is annotated with.

    What the method returns is the reply. A union (``A | B``) declares several types at once.

    Example::

        class Account(Actor):
            @handles
            def deposit(self, message: Deposit) -> int: ...
    """
    return _marked(method, _Declaration(None))


def _marked(method: F, declaration: _Declaration) -> F:
    """Note a declaration on a method; anything else would be overlooked when the class is read."""
    given: object = method
    if not isinstance(given, (types.FunctionType, staticmethod, classmethod)):
        raise HandlerDeclarationError(
            f"{repr_of(method)} is a {type(method).__name__}: a handler is a plain method",
            kind=ErrorKind.HANDLER_UNCALLABLE,
        )
    setattr(method, _MARK, declaration)
    return method


@overload
def handles_batch(method: F) -> F: ...
@overload
def handles_batch(*, max_size: int = DEFAULT_BATCH, assisted: bool = False) -> Callable[[F], F]: ...


def handles_batch(method: Any = None, *, max_size: int = DEFAULT_BATCH, assisted: bool = False) -> Any:
    """Give a method everything of one message type that is waiting, as requests to be answered one by one.

    The parameter is annotated with ``list[Request[M]]``, or ``list[Request[A | B]]`` for all that waits of several
    types. The requests are in the order they were sent; messages of other types that were sent between them are
    handled after the batch. A request that is neither answered nor deferred when the method returns is answered with
    ``actor.reply.missing``.

    Args:
        method: the method, where the decorator is used without arguments.
        max_size: how many requests a batch may have at most; at least 1.
        assisted: whether a thread that asks the actor while that is idle may run the batch itself, as it may run other
            quick handlers: a wait for one server less two switches of threads. Such a method must keep to the
            requests' deadlines, for nobody else ends the asker's wait.

    Raises:
        HandlerDeclarationError: ``max_size`` is no such number.

    Example::

        class Store(Actor):
            @handles_batch
            def store(self, requests: list[Request[StoreRow]]) -> None:
                with self.connection.transaction():
                    ...
                for request in requests:
                    request.reply(True)
    """
    if not isinstance(max_size, int) or isinstance(max_size, bool) or max_size < 1:
        raise HandlerDeclarationError(
            f"handles_batch(max_size={repr_of(max_size)}): give a whole number of requests, 1 or more",
            kind=ErrorKind.HANDLER_UNCALLABLE,
        )
    if method is None:
        return lambda function: _marked(function, _Declaration(max_size, assisted=assisted))
    return _marked(method, _Declaration(max_size, assisted=assisted))


def build_table(actor_class: type[Actor]) -> HandlerTable:
    """Read the declarations of a class and its bases.

    Raises:
        HandlerDeclarationError: a message parameter has no annotation, it is no message type, two methods handle
            the same type, or one could not be called with a message alone.
    """
    table = HandlerTable()
    table.starts = actor_class.on_start is not pykka.Actor.on_start
    table.stops = actor_class.on_stop is not pykka.Actor.on_stop
    table.trusted = getattr(actor_class, "_trusted", False)
    table.fails = actor_class.on_failure is not pykka.Actor.on_failure
    owners: dict[type, str] = {}
    namespaces = _enclosing_namespaces(actor_class)
    for name, declaration in _declarations(actor_class).items():
        method = inspect.getattr_static(actor_class, name)
        declared = _declaring_function(actor_class, name)
        where = f"{actor_class.__qualname__}.{name}"
        _check_callable(method, where)
        declared_types = _message_types(declared, where, declaration, namespaces)
        batch = declaration.batch_size
        # One for all types of a union: what belongs into the same batch is known by having the same handler.
        handler = method if batch is None else batch_handler(method, frozenset(declared_types), batch)
        for message_type in declared_types:
            if message_type in owners:
                raise HandlerDeclarationError(
                    f"{where} and {actor_class.__qualname__}.{owners[message_type]} both handle "
                    f"{message_type.__name__}: one message type has one handler",
                    kind=ErrorKind.HANDLER_DUPLICATE,
                )
            owners[message_type] = name
            table.has_async |= inspect.iscoroutinefunction(method)
            table.handlers[message_type] = handler
            if batch is not None:
                table.batched.add(message_type)
                if not declaration.assisted:
                    table.unassisted.add(message_type)
    return table


def _declarations(actor_class: type) -> dict[str, _Declaration]:
    found: dict[str, _Declaration] = {}
    for base in reversed(actor_class.__mro__):
        for name, value in vars(base).items():
            if not isinstance(value, (types.FunctionType, staticmethod, classmethod)):
                continue
            function = getattr(value, "__func__", value)
            declaration = getattr(value, _MARK, None) or getattr(function, _MARK, None)
            if declaration is None:
                continue
            if function is not value:
                raise HandlerDeclarationError(
                    f"{actor_class.__qualname__}.{name} is a {type(value).__name__}: a handler is a plain method",
                    kind=ErrorKind.HANDLER_NOT_A_MESSAGE,
                )
            found[name] = declaration
    return found


def _declaring_function(actor_class: type, name: str) -> Any:
    """The function that carries the declaration; an override may leave the decorator out."""
    for base in actor_class.__mro__:
        value = vars(base).get(name)
        if hasattr(value, _MARK):
            return value
    raise AssertionError(name)  # pragma: no cover - _declarations found it a moment ago


def _message_types(
    function: Any, where: str, declaration: _Declaration, namespaces: list[dict[str, Any]]
) -> list[type]:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2 or parameters[1].annotation is inspect.Parameter.empty:
        raise HandlerDeclarationError(
            f"{where} does not say what it handles: annotate its message parameter with a Message type",
            kind=ErrorKind.HANDLER_MISSING_ANNOTATION,
        )
    annotation = _resolve(parameters[1].annotation, function, where, namespaces)
    if declaration.batch_size is not None:
        inner = typing.get_args(annotation)
        request = inner[0] if typing.get_origin(annotation) in (list, typing.List) and inner else None  # noqa: UP006
        if typing.get_origin(request) is not Request:
            raise HandlerDeclarationError(
                f"{where} is a batch handler: annotate its parameter with list[Request[M]], not {annotation!r}",
                kind=ErrorKind.HANDLER_NOT_A_MESSAGE,
            )
        annotation = typing.get_args(request)[0]
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if union else (annotation,)
    return [_checked(member, where) for member in members]


def _check_callable(method: Any, where: str) -> None:
    """Refuse what cannot be called with a message and nothing else, or answers with a generator."""
    wrong = ""
    if not isinstance(method, types.FunctionType):
        wrong = f"is a {type(method).__name__}: a handler is a plain method"
    elif inspect.isgeneratorfunction(method):
        wrong = "is a generator function: return the reply, nobody would take what it yields"
    elif inspect.isasyncgenfunction(method):
        wrong = "is an asynchronous generator function: return the reply, nobody would take what it yields"
    else:
        # As it is called: a decorator that gives the rest hides it.
        further = list(inspect.signature(method, follow_wrapped=False).parameters.values())[1:]
        if further and further[0].kind is inspect.Parameter.KEYWORD_ONLY:
            wrong = f"takes {further[0].name!r} by name only: the message is given by its place"
        for parameter in further[1:]:
            if parameter.default is inspect.Parameter.empty and parameter.kind not in _ANY_NUMBER:
                wrong = wrong or f"needs {parameter.name!r} beside the message: give it a default"
    if wrong:
        raise HandlerDeclarationError(f"{where} {wrong}", kind=ErrorKind.HANDLER_UNCALLABLE)


_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _checked(annotation: Any, where: str) -> type:
    message_type = typing.get_origin(annotation) or annotation
    if isinstance(message_type, type) and issubclass(message_type, Message) and message_type is not Message:
        return message_type
    raise HandlerDeclarationError(
        f"{where} is declared to handle {annotation!r}, which is no subclass of Message",
        kind=ErrorKind.HANDLER_NOT_A_MESSAGE,
    )


def _resolve(annotation: Any, function: Any, where: str, namespaces: list[dict[str, Any]]) -> Any:
    """Evaluate an annotation that is text (``from __future__ import annotations``) where it was written."""
    if not isinstance(annotation, str):
        return annotation
    names: dict[str, Any] = {}
    for namespace in reversed(namespaces):
        names.update(namespace)
    try:
        return eval(annotation, function.__globals__, names)  # the module's own source text
    except Exception as error:
        raise HandlerDeclarationError(
            f"{where} is annotated with {annotation!r}, which cannot be resolved here ({error}): "
            "define or import the message type before the actor, not only under TYPE_CHECKING",
            kind=ErrorKind.HANDLER_MISSING_ANNOTATION,
        ) from error


def _enclosing_namespaces(actor_class: type) -> list[dict[str, Any]]:
    """The local names around the class statement, innermost first: message types defined in a function."""
    found: list[dict[str, Any]] = [dict(vars(actor_class))]
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == actor_class.__module__:
            found.append(frame.f_locals)
        frame = frame.f_back
    return found

"""Which handler takes a task: the one for its exact type, or else the one for the longest prefix of it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from ...messages.codec import decode
from ...messages.errors import CodecError, ErrorKind, SpecInvalid, TaskError
from ...messages.tasks import TaskPayload
from .context import TaskContext

__all__ = ["Middleware", "Route", "TaskProcessor", "TaskRouter", "invoke"]

F = TypeVar("F", bound=Callable[..., Any])

Middleware = Callable[[TaskContext, Callable[[], Any]], Any]
"""Called with the context and ``proceed``, which calls the next one or the handler and returns what that returns.
An ``async def`` middleware awaits it."""


class TaskProcessor(Protocol):
    """What a processor runs: something that has handlers. A ``TaskRouter`` is one.

    Extend it with the handlers that your program must have, and give an object that has them to the ``Processor``.
    """

    def routes(self) -> TaskRouter:
        """The handlers of all task types."""
        ...


class Route(NamedTuple):
    """A handler, and how it is called."""

    call: Callable[[TaskContext], Any]
    is_async: bool


class _Handler(NamedTuple):
    function: Callable[..., Any]
    payload_type: type[TaskPayload[Any]] | None
    takes_context: bool
    is_async: bool


class TaskRouter:
    """Handlers by task type, and the middleware around them.

    ::

        tasks = TaskRouter()

        @tasks.handles(SendVerifyEmail)
        def send(payload: SendVerifyEmail, context: TaskContext) -> None: ...

        @tasks.handles("image:")
        async def image(task: RawTask) -> None: ...
    """

    def __init__(self) -> None:
        self._exact: dict[str, _Handler] = {}
        self._prefixes: dict[str, _Handler] = {}
        self._middleware: list[Middleware] = []
        self._found: dict[str, Route] = {}

    def routes(self) -> TaskRouter:
        """Itself: a router is a ``TaskProcessor``."""
        return self

    def handles(self, what: type[TaskPayload[Any]] | str) -> Callable[[F], F]:
        """Register a handler, as a decorator; see ``add``."""

        def register(function: F) -> F:
            self.add(what, function)
            return function

        return register

    def add(self, what: type[TaskPayload[Any]] | str, function: Callable[..., Any]) -> None:
        """Register a handler.

        Args:
            what: a payload class, for exactly its type; or a text, for the type of this name and, where nothing
                longer is registered, for all types that begin with it.
            function: called with the payload, or with a ``RawTask`` where ``what`` is a text; and with the
                ``TaskContext``, if it needs a second argument. What it returns is stored with a task that has a
                retention. ``def`` handlers run on threads, ``async def`` handlers on the event loop.

        Raises:
            SpecInvalid: ``config.task_processing.invalid``: the type is blank or has a handler, or this is none.
        """
        payload_type = None if isinstance(what, str) else what
        name = what if isinstance(what, str) else getattr(what, "task_type", "")
        if payload_type is not None and not (isinstance(payload_type, type) and issubclass(payload_type, TaskPayload)):
            raise _invalid(f"{what!r:.200} is neither a TaskPayload class nor a task type")
        if not isinstance(name, str) or not name.strip():
            raise _invalid(f"{what!r:.200} has no task type")
        if name in self._exact:
            raise _invalid(f"the task type {name!r} has a handler already")
        if not callable(function):
            raise _invalid(f"the handler of {name!r} cannot be called: {function!r:.200}")
        handler = _Handler(function, payload_type, _takes_context(name, function), _is_async(function))
        self._exact[name] = handler
        if payload_type is None:
            self._prefixes[name] = handler
        self._found.clear()

    def use(self, middleware: Middleware) -> Middleware:
        """Put ``middleware`` around all handlers, inside of those that are used already; also as a decorator."""
        if not callable(middleware):
            raise _invalid(f"a middleware that cannot be called: {middleware!r:.200}")
        self._middleware.append(middleware)
        self._found.clear()
        return middleware

    def route(self, task_type: str) -> Route:
        """How a task of this type is handled: where no handler is registered, by an error."""
        route = self._found.get(task_type)
        if route is None:
            route = self._make(task_type)
            if task_type in self._exact:  # others may have any number of names
                self._found[task_type] = route
        return route

    def _make(self, task_type: str) -> Route:
        handler = self._exact.get(task_type)
        if handler is None:
            prefixes = [prefix for prefix in self._prefixes if task_type.startswith(prefix)]
            handler = self._prefixes[max(prefixes, key=len)] if prefixes else _MISSING
        if handler.is_async or any(_is_async(each) for each in self._middleware):
            return Route(_async_chain(handler, self._middleware), is_async=True)
        return Route(_chain(handler, self._middleware), is_async=False)


def _arguments(handler: _Handler, context: TaskContext) -> tuple[Any, ...]:
    first: Any = context.task
    if handler.payload_type is not None:
        try:
            first = context.payload = decode(context.task.payload, handler.payload_type)
        except CodecError as error:
            raise TaskError(
                f"the payload is no {handler.payload_type.__name__}: {error}",
                kind=ErrorKind.TASK_PAYLOAD_INVALID,
                cause=error,
            ) from error
    return (first, context) if handler.takes_context else (first,)


def invoke(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the user's: what runs above this frame may be interrupted."""
    return function(*arguments)


def _chain(handler: _Handler, middleware: list[Middleware]) -> Callable[[TaskContext], Any]:
    def handle(context: TaskContext) -> Any:
        return invoke(handler.function, *_arguments(handler, context))

    call: Callable[[TaskContext], Any] = handle
    for each in reversed(middleware):
        call = _around(each, call)
    return call


def _around(middleware: Middleware, inner: Callable[[TaskContext], Any]) -> Callable[[TaskContext], Any]:
    return lambda context: invoke(middleware, context, functools.partial(inner, context))


def _async_chain(handler: _Handler, middleware: list[Middleware]) -> Callable[[TaskContext], Awaitable[Any]]:
    """A chain of coroutines. A ``def`` handler in it runs on a thread, so that the loop goes on."""

    async def handle(context: TaskContext) -> Any:
        arguments = _arguments(handler, context)
        if handler.is_async:
            return await handler.function(*arguments)
        return await asyncio.to_thread(_call_plain, handler.function, arguments)

    call: Callable[[TaskContext], Awaitable[Any]] = handle
    for each in reversed(middleware):
        call = _async_around(each, call)
    return call


def _call_plain(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a handler on a thread. Like a coroutine, a future cannot be told of a StopIteration (PEP 479)."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError(f"the handler raised {error!r}") from error


def _async_around(
    middleware: Middleware, inner: Callable[[TaskContext], Awaitable[Any]]
) -> Callable[[TaskContext], Awaitable[Any]]:
    async def call(context: TaskContext) -> Any:
        answer = middleware(context, functools.partial(inner, context))
        return await answer if inspect.isawaitable(answer) else answer  # a plain one hands the awaitable on

    return call


def _is_async(function: Callable[..., Any]) -> bool:
    called = getattr(type(function), "__call__", None)  # noqa: B004 -- an object may have an async one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _takes_context(name: str, function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one that is written in C: it takes what it is given
        return False
    for arguments in ((None,), (None, None)):  # an argument with a default is not for the context
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise _invalid(f"the handler of {name!r} takes {signature}: it is called with the payload, and the context or not")


def _missing(task: Any) -> None:
    raise TaskError(f'handler not found for task "{task.type}"', kind=ErrorKind.TASK_HANDLER_MISSING)


_MISSING = _Handler(_missing, None, takes_context=False, is_async=False)


def _invalid(text: str) -> SpecInvalid:
    return SpecInvalid(f"TaskRouter: {text}", kind=ErrorKind.TASK_PROCESSING_INVALID)

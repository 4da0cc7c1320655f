"""Taking everything of one type out of a mailbox, and seeing to it that each request is answered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ..messages.errors import Refusal
from .answers import handler_failed, is_due, never_answered
from .cell import Cell
from .request import Request

__all__ = ["batch_handler"]


def batch_handler(method: Any, message_types: frozenset[type], max_size: int) -> Callable[[Any, Any], Any]:
    """Make a handler of single messages out of a method that takes a list of requests."""

    def handle(actor: Any, message: Any) -> Any:
        cell: Cell = actor._cell
        first = cell.current if type(cell.current) is Request else Request(message)
        requests = [first, *_take(cell, message_types, handle, max_size - 1)]
        for request in requests:
            request.hold(actor)
        cell.current = requests
        try:
            value = method(actor, requests)
        except BaseException as error:
            _fail(cell, actor, requests, error)
            raise
        if isinstance(value, Coroutine):
            return _finish(cell, actor, requests, value)
        _complete(cell, requests)
        return None

    return handle


async def _finish(cell: Cell, actor: Any, requests: list[Request[Any]], work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except BaseException as error:
        _fail(cell, actor, requests, error)
        raise
    _complete(cell, requests)


def _take(cell: Cell, message_types: frozenset[type], handler: object, wanted: int) -> list[Request[Any]]:
    """Take what waits of the types and of those derived from them, oldest first; the rest stays, in its order."""
    find, adopt = cell.handlers.handlers.get, cell.handlers.adopt
    taken: list[Request[Any]] = []
    left: list[Any] = []
    queue = cell.queue
    for _ in range(len(queue)):
        if len(taken) >= wanted:
            break
        try:
            item = queue.popleft()
        except IndexError:
            break
        request = item if type(item) is Request else None
        kind = type(item if request is None else request.message)
        if kind not in message_types and (find(kind) or adopt(kind)) is not handler:
            left.append(item)
        elif request is None:
            taken.append(Request(item))
        elif is_due(cell, request):
            taken.append(request)
    queue.extendleft(reversed(left))
    if cell.room_waiters:
        for _ in taken:
            cell.admit()
    return taken


def _fail(cell: Cell, actor: Any, requests: list[Request[Any]], error: BaseException) -> None:
    """The handler raised: every request that it left unanswered gets the error; the first is the run loop's."""
    if cell.actor is not actor:
        return  # killed meanwhile, and answered by the killer
    cell.current = requests[0]
    for request in requests[1:]:
        if not request.answered or request.reply_to is None:
            plain = cell.parent is None or isinstance(error, Refusal)
            cell.bury(
                request if request.reply_to is not None else request.message,
                "crashed",
                error if plain else handler_failed(cell, request.message, error),
            )


def _complete(cell: Cell, requests: list[Request[Any]]) -> None:
    for request in requests:
        if not request.answered and not request.kept:
            cell.bury(
                request,
                "unanswered",
                never_answered(cell, request.message, "returned from its batch without an answer to"),
            )

"""Running an actor whose handlers are coroutines: ``running``'s work, on the event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Coroutine
from typing import Any

from . import execution, lifecycle
from .answers import is_due
from .cell import Cell
from .reasons import ActorKilled, ExitReason
from .request import Request
from .running import SLICE, failed, leave, obey, other

__all__ = ["run_async"]


async def run_async(cell: Cell, limit: int = SLICE) -> None:  # noqa: C901  # `run`'s loop, awaiting
    """As ``run``, on the event loop: a handler that is a coroutine is awaited before the next message."""
    actor = cell.actor
    execution.current.set(cell)
    cell.runner = threading.get_ident()
    left = limit
    item: Any = lifecycle.NO_MESSAGE
    while left:
        turn = execution.Turn()
        execution.turn.set(turn)
        try:
            if cell.control:
                left -= 1
                item = lifecycle.NO_MESSAGE
                if not await _obey_async(cell, actor):
                    return
                continue
            try:
                item = cell.queue.popleft()
            except IndexError:
                break
            if cell.actor is not actor:
                cell.put_always(item, first=True)
                return
            left -= 1
            if cell.room_waiters:
                cell.admit()
            cell.current = item
            request = item if type(item) is Request else None
            if request is not None and not is_due(cell, request):
                continue
            message = item if request is None else request.message
            handler = cell.handlers.handlers.get(type(message))
            value = other(cell, actor, item) if handler is None else handler(actor, message)
            if isinstance(value, Coroutine):
                value = await value
            turn.end(cell)  # before anybody hears of the answer
            if cell.actor is not actor:
                return
            if request is not None and request.reply_to is not None and not request.deferred:
                request.reply_to.try_set(value)
        except BaseException as error:
            # By its type: what an exception says of its own class may raise.
            if issubclass(type(error), asyncio.CancelledError) and cell.actor is actor and not _loop_is_closing():
                error = ActorKilled()
            if not failed(cell, actor, item, error):
                return
        finally:
            turn.end(cell)
    leave(cell, actor)


def _loop_is_closing() -> bool:
    return not asyncio.get_running_loop().is_running()


async def _obey_async(cell: Cell, actor: Any) -> bool:
    assert cell.control is not None
    item = cell.control[0]
    if (
        cell.actor is actor
        and isinstance(item, lifecycle.End)
        and cell.handlers.stops
        and inspect.iscoroutinefunction(actor.on_stop)
    ):
        cell.control.popleft()
        try:
            await actor.on_stop()
        except BaseException as error:
            lifecycle.end_now(cell, actor, ExitReason.of(error), error)
        else:
            lifecycle.incarnation_over(cell, actor, item.reason)
        return False
    return obey(cell, actor)

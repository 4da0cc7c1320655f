"""Running an actor: a slice of its mailbox on a worker, or one message on the asking thread (assisted ask).

Everything here is called by whoever holds the cell's token.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pykka
from pykka.messages import _ActorStop as ActorStop

from ..messages.errors import ActorError, AskTimeout, Refusal, UnhandledMessage
from . import execution, killing, lifecycle
from .answers import handler_failed, is_due
from .cell import CLOSED, RUNNING, Cell, ending
from .future import Future, not_answered
from .reasons import NORMAL, ActorKilled, ExitReason
from .request import Request

__all__ = ["BOOT", "SLICE", "assist", "await_reply", "can_assist", "failed", "leave", "obey", "other", "run"]

SLICE = 256
"""How many messages an actor handles before other ready actors get the thread."""

SLOW = 0.001
"""Seconds: an actor whose handler took longer is not run on asking threads for a while."""

SLOW_FOR = 1.0
"""Seconds: the longest such while. It is ``SLOW_TIMES`` what the handler took, so that a handler which was
merely interrupted for one switch of threads is trusted again soon."""

SLOW_TIMES = 10

MAX_ASSIST_DEPTH = 24
"""How many assisted asks may be nested on one thread's stack."""

BOOT = object()
"""On the control lane of an actor started pykka's way: run ``on_start``."""

pykka_logger = logging.getLogger("pykka")
get_ident = threading.get_ident
perf_counter = time.perf_counter


def run(cell: Cell, limit: int = SLICE) -> None:
    """Handle what waits, up to ``limit`` messages and signals, on this thread; then give the token back."""
    actor = cell.actor
    previous = execution.current.set(cell)
    cell.runner = get_ident()
    goes_on = _run_slice(cell, actor, limit)
    execution.current.reset(previous)
    if goes_on:
        leave(cell, actor)
    else:
        killing.forget_pending(get_ident())


def _run_slice(cell: Cell, actor: Any, limit: int) -> bool:  # noqa: C901  # the hot loop: calls cost
    """Handle what waits; returns whether the incarnation goes on."""
    queue = cell.queue
    find = cell.handlers.handlers.get
    left = limit
    item: Any = lifecycle.NO_MESSAGE
    while left:
        try:
            while left:
                if cell.control:
                    left -= 1
                    item = lifecycle.NO_MESSAGE
                    if not obey(cell, actor):
                        return False
                    continue
                if not queue:
                    return True
                try:
                    item = queue.popleft()
                except IndexError:  # a sender of drop_oldest was quicker
                    continue
                if cell.actor is not actor:  # ended by force between two messages
                    cell.put_always(item, first=True)
                    return False
                left -= 1
                if cell.room_waiters:
                    cell.admit()
                cell.current = item
                if type(item) is Request:
                    _serve(cell, actor, item)
                else:
                    handler = find(type(item))
                    if handler is not None:
                        handler(actor, item)
                    else:
                        other(cell, actor, item)
                if cell.actor is not actor:  # ended by the handler, or by force: what waits is for the next one
                    return False
        except BaseException as error:
            if not failed(cell, actor, item, error):
                return False
    return True


def can_assist(cell: Cell, request: Request[Any], here: execution.Party | None) -> bool:
    """Whether an idle ``cell`` may be run by the thread that asks: its handler has been quick, and no loop is here.

    The caller has claimed the cell.
    """
    if cell.state != RUNNING or cell.queue or cell.control or execution.on_event_loop():
        return False
    if here is not None and here.depth >= MAX_ASSIST_DEPTH:
        return False
    table, deadline, message_type = cell.handlers, request.deadline, type(request.message)
    if table.trusted and deadline is None:
        return message_type in table.handlers
    return (
        table.quick.get(message_type, False)
        and (not cell.slow_until or cell.slow_until <= cell.runtime.clock())
        and (deadline is None or deadline > cell.runtime.clock())
    )


def assist(cell: Cell, request: Request[Any], here: execution.Party | None) -> Any:
    """Run one request of a claimed cell on the asking thread; returns the reply or raises what the asker gets."""
    actor = cell.actor
    message = request.message
    message_type = type(message)
    previous = execution.current.set(cell)
    if here is not None:
        here.waiting_on += (cell,)
        cell.depth = here.depth + 1
    cell.runner = get_ident()
    cell.current = request
    if message_type in cell.handlers.batched:  # answers each of its requests, this one among them
        request.reply_to = Future()
        request.reply_to.ground = cell
    started = perf_counter()
    try:
        # In a copy of the asker's context: what the handler sets there is not the asker's. (An empty one costs 10 %.)
        value = copy_context().run(cell.handlers.handlers[message_type], actor, message)
    except BaseException as error:
        request.reply_to = request.reply_to or Future()
        if failed(cell, actor, request, error):
            leave(cell, actor)
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # a Ctrl-C is the asking program's, whoever's handler it ran into
        if not request.reply_to.done:  # it was killed while there was nothing yet that could be answered
            raise handler_failed(cell, message, ActorKilled()) from None
        return request.reply_to.get(timeout=0.0)
    finally:
        execution.current.reset(previous)
        if here is not None:
            cell.depth = 0
            execution.leave_wait(here, cell)
    elapsed = perf_counter() - started
    if elapsed > SLOW:
        _time(cell, message_type, elapsed)
    fenced = cell.actor is not actor
    leave(cell, actor)
    if request.reply_to is not None:  # the reply was deferred, or came already
        return await_reply(cell, request, request.reply_to)
    if fenced:
        raise handler_failed(cell, message, ActorKilled())
    return value


def await_reply(cell: Cell, request: Request[Any], future: Future[Any]) -> Any:
    """Wait for the reply to a blocking ask. Who gives up says so: a reply that comes later is refused.

    Else whoever answers would believe that the answer had arrived; a lock, for one, would be held by nobody.

    Raises:
        AskTimeout: the time ran out.
        ActorKilled, WorkCancelled: whoever waits was ended by force.
        Exception: what the future was failed with.
    """
    timeout = None if request.deadline is None else max(0.0, request.deadline - cell.runtime.clock())
    try:
        return future.get(timeout=timeout)
    except BaseException as error:
        given_up = future.try_set(None)
        if not isinstance(error, AskTimeout):
            raise
        if given_up:
            raise not_answered(cell, timeout, type(request.message).__name__, request.deadline) from None
        return future.get(timeout=0.0)  # it came at the last moment, or is this very error


def leave(cell: Cell, actor: Any) -> None:
    """End a run: let go of the cell, unless the incarnation was taken away from this thread meanwhile."""
    ending.acquire()  # not by `with`, which takes twice as long: every message comes by here
    try:
        if cell.actor is not actor:
            killing.forget_pending(get_ident())
            return
        cell.runner = 0
        cell.current = None
    finally:
        ending.release()
    cell.settle()


def _serve(cell: Cell, actor: Any, request: Request[Any]) -> None:
    """Handle one ask and answer it."""
    if not is_due(cell, request):
        return
    message = request.message
    message_type = type(message)
    handler = cell.handlers.handlers.get(message_type)
    if handler is None:
        value = other(cell, actor, request)
        if request.reply_to is not None and request.reply_to.done:
            return
    else:
        started = perf_counter()
        value = handler(actor, message)
        _time(cell, message_type, perf_counter() - started)
    if request.reply_to is not None and not request.deferred:
        request.reply_to.try_set(value)


def _time(cell: Cell, message_type: type, elapsed: float) -> None:
    """Learn whether the handler is quick enough to be run by those who ask."""
    if elapsed > SLOW:
        cell.handlers.quick[message_type] = False
        _distrust(cell, elapsed)
    elif message_type not in cell.handlers.unassisted:
        cell.handlers.quick[message_type] = True


def _distrust(cell: Cell, elapsed: float) -> None:
    cell.slow_until = cell.runtime.clock() + min(SLOW_FOR, SLOW_TIMES * elapsed)


def other(cell: Cell, actor: Any, item: Any) -> Any:
    """A message that no handler is declared for: pykka's own, a subclass's, or one for ``on_receive``."""
    message = item.message if type(item) is Request else item
    handler = cell.handlers.adopt(type(message))
    if handler is not None:
        return handler(actor, message)
    if type(message) is ActorStop and cell.parent is None:
        _stop_as_in_pykka(cell, actor, item)
        return None
    return actor._handle_receive(message)


def _stop_as_in_pykka(cell: Cell, actor: Any, item: Any) -> None:
    """Pykka's stop: runs ``on_stop``, closes the mailbox, answers what waited behind it."""
    cell.state = CLOSED
    cell.limit = -1
    actor._stop()
    _close_unsupervised(cell)
    if type(item) is Request and item.reply_to is not None:
        item.reply_to.try_set(None)


def _close_unsupervised(cell: Cell) -> None:
    if lifecycle.incarnation_over(cell, cell.actor, NORMAL):
        lifecycle.close(cell, NORMAL)


def obey(cell: Cell, actor: Any) -> bool:
    """Do what comes first on the control lane; returns whether the incarnation goes on."""
    assert cell.control is not None
    item = cell.control.popleft()
    if cell.actor is not actor:  # ended by force meanwhile
        if not isinstance(item, (lifecycle.End, lifecycle.LinkBroken)):  # these were for the one that has ended
            cell.signal(item, first=True)
        return False
    if isinstance(item, lifecycle.End):
        lifecycle.end_now(cell, actor, item.reason)
    elif item is BOOT:
        return _boot(cell, actor)
    elif isinstance(item, lifecycle.LinkBroken):
        lifecycle.link_broken(cell, actor, item)
    else:
        actor.on_signal(item)
    return cell.actor is actor


def _boot(cell: Cell, actor: Any) -> bool:
    try:
        actor.on_start()
    except Exception:
        _pykka_failure(cell, actor, call_hook=False)
        actor._on_not_started()
        return False
    return True


def failed(cell: Cell, actor: Any, item: Any, error: BaseException) -> bool:
    """An exception escaped a handler; returns whether the incarnation goes on.

    Whatever fails while that is dealt with, the asker is answered, and the incarnation ends if it cannot go on: else
    the exception would end the thread with the actor in its hands, which would never be run again.
    """
    try:
        return _deal_with(cell, actor, item, error)
    except BaseException as failure:
        _give_up(cell, actor, item, failure)
        if isinstance(failure, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # it has nothing to do with the actor
        return False


def _give_up(cell: Cell, actor: Any, item: Any, failure: BaseException) -> None:
    """What went wrong cannot be dealt with as it should be: answer the asker, end the incarnation."""
    if type(item) is Request and item.reply_to is not None:
        with suppress(Exception):  # of somebody who is told of the answer
            item.reply_to.try_fail(handler_failed(cell, item.message, failure))
    if cell.actor is not actor:
        killing.forget_pending(get_ident())
        return
    if cell.parent is None:
        cell.state, cell.limit = CLOSED, -1
        pykka.ActorRegistry.unregister(actor.actor_ref)
        _close_unsupervised(cell)
        return
    try:
        lifecycle.crashed(cell, actor, item, failure)
    except BaseException as worse:
        lifecycle.incarnation_over(cell, actor, ExitReason.of(worse))


def _deal_with(cell: Cell, actor: Any, item: Any, error: BaseException) -> bool:
    if cell.actor is not actor:  # it was fenced while it ran: nobody listens to it any more
        killing.forget_pending(get_ident())
        if type(item) is Request:  # who ended it may have looked just before this one was taken up
            cell.bury(item, "killed", handler_failed(cell, item.message, ActorKilled()))
        return False
    if isinstance(error, (Refusal, UnhandledMessage, *actor.refusals)):
        _refuse(cell, item, error)
        return True
    if cell.parent is not None:
        if isinstance(error, AskTimeout) and _is_out_of_time(item, error):
            if item.reply_to is not None:  # else nobody waits, and it was no ask of anybody's
                item.reply_to.try_fail(not_answered(cell, None, type(item.message).__name__, item.deadline))
            return True
        lifecycle.crashed(cell, actor, item, error)
        return False
    return _failed_as_in_pykka(cell, actor, item, error)


def _is_out_of_time(item: Any, error: AskTimeout) -> bool:
    """Whether the time that the asker gave has run out, for the handler as for the asker: nobody's fault here."""
    return type(item) is Request and item.deadline is not None and error.deadline == item.deadline


def _refuse(cell: Cell, item: Any, error: BaseException) -> None:
    """Answer the asker with the refusal; the actor is as well as before."""
    if isinstance(error, ActorError):
        message = item.message if type(item) is Request else item
        error.note_place(cell.path, cell.incarnation, type(message).__name__)
    if type(item) is Request and item.reply_to is not None:
        item.reply_to.try_fail(error)
    else:
        message = item.message if type(item) is Request else item
        reason = "unhandled" if isinstance(error, UnhandledMessage) else "refused"
        cell.runtime.events.dead_letter(cell.path, message, reason)


def _failed_as_in_pykka(cell: Cell, actor: Any, item: Any, error: BaseException) -> bool:
    """What pykka does, with its texts: an ask's exception goes to the asker, a tell's ends the actor."""
    reply_to = item.reply_to if type(item) is Request else None
    if isinstance(error, Exception):
        if reply_to is not None:
            pykka_logger.info(f"Exception returned from {actor} to caller:", exc_info=error)  # noqa: G004
            reply_to.try_fail(error)
            return True
        _pykka_failure(cell, actor, call_hook=True)
        return False
    pykka_logger.debug(f"{error!r} in {actor}. Stopping all actors.")  # noqa: G004
    cell.limit = -1
    cell.state = CLOSED
    actor._stop()
    if reply_to is not None:
        reply_to.try_fail(error)
    _close_unsupervised(cell)
    if execution.on_event_loop():  # it waits for the others, which may run on this very thread
        threading.Thread(target=pykka.ActorRegistry.stop_all, name="pykka-stop-all", daemon=True).start()
    else:
        pykka.ActorRegistry.stop_all()
    return False


def _pykka_failure(cell: Cell, actor: Any, *, call_hook: bool) -> None:
    cell.state = CLOSED
    cell.limit = -1
    info = sys.exc_info()
    actor._handle_failure(*info)
    if call_hook:
        try:
            actor.on_failure(*info)
        except Exception:
            actor._handle_failure(*sys.exc_info())
    _close_unsupervised(cell)

"""How incarnations begin and end: start, orderly end, crash, kill, and the closing of the place itself.

A supervised actor's incarnation ends into ``SUSPENDED``: its mailbox stays, and its supervisor decides
whether another one takes the place (``start`` again) or the place closes (``close``). An actor started
pykka's way has no supervisor and closes at once.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pykka

from ..messages.errors import ActorRestarting, ErrorKind, StartFailed
from . import execution, killing
from .answers import handler_failed, never_answered, text_of
from .cell import CLOSED, RUNNING, STARTING, SUSPENDED, Cell, ending
from .events import ActorCrashed, ActorStopped, HandlerAbandoned
from .future import Future
from .reasons import KILLED, NORMAL, SHUTDOWN, ActorKilled, ExitReason
from .request import Request
from .watching import tell_watchers

if TYPE_CHECKING:
    from .actor import Actor
    from .background import BackgroundTask
    from .handlers import HandlerTable
    from .timers import Timer

__all__ = [
    "IGNORE",
    "NO_MESSAGE",
    "ChildExited",
    "End",
    "LinkBroken",
    "Started",
    "close",
    "crashed",
    "end",
    "end_now",
    "incarnation_over",
    "kill",
    "link_broken",
    "refuse_rest",
    "start",
]


@dataclass(frozen=True, slots=True)
class Started:
    """What ``on_start`` may return: the start went well, and ``info`` goes back to whoever asked for it.

    The information is passed through and never stored (OTP's ``{ok, Child, Info}``).
    """

    info: object = None


class _Ignore:
    """See ``IGNORE``."""

    def __repr__(self) -> str:
        return "IGNORE"


IGNORE = _Ignore()
"""What ``on_start`` may return: there is nothing to do, go on without me (OTP's ``ignore``)."""


@dataclass(frozen=True, slots=True)
class End:
    """On the control lane: end the incarnation in good order."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class LinkBroken:
    """On the control lane: what the incarnation is linked to has ended, and takes it along.

    ``reason`` is asked when the incarnation comes to it; None: it has dealt with the matter meanwhile.
    """

    incarnation: int
    reason: Callable[[], ExitReason | None]


@dataclass(frozen=True, slots=True)
class ChildExited:
    """On a supervisor's control lane: the incarnation of a child ended, and nobody had asked it to."""

    cell: Cell
    incarnation: int
    reason: ExitReason


def start(cell: Cell, build: Callable[[], Actor], by: Actor | None = None) -> Started | _Ignore:
    """Put a new incarnation into the place, and return when its ``on_start`` has.

    The caller owns the cell: it was just made, or is between two incarnations. A start that is given up (somebody
    kills the incarnation, or ``by``, while a constructor or ``on_start`` is stuck) may come back at any time later,
    when a successor is in the place: it knows its own number, and touches nothing that is not its own.

    Args:
        cell: the place.
        build: makes the actor.
        by: whose child it is; when that incarnation is fenced, so is the start.

    Returns:
        ``IGNORE`` if ``on_start`` said so: then there is no incarnation.

    Raises:
        StartFailed: the constructor or ``on_start`` raised, or ``on_start`` returned something else.
        ActorKilled: the start was given up.
    """
    life = _take_place(cell, by)
    parent = cell.parent
    before = () if parent is None else parent.waiting_on
    waiting = (*before, cell)
    if parent is not None:
        parent.waiting_on = waiting
    try:
        outcome = _fill(cell, life, build, by)
        if outcome is not IGNORE:
            _go_on(cell, life, by, RUNNING)
    except BaseException as error:
        if not _vacate(cell, life, error) and not isinstance(error, KeyboardInterrupt):
            raise ActorKilled from error
        raise
    finally:
        if parent is not None:
            if parent.waiting_on is waiting:
                parent.waiting_on = before
            elif by is None or by._cell.actor is by:
                execution.leave_wait(parent, cell)
    if outcome is IGNORE:
        _vacate(cell, life, None)
    else:
        cell.settle()
    return outcome


def _take_place(cell: Cell, by: Actor | None) -> int:
    """Begin an incarnation; returns its number."""
    with ending:
        if by is not None and by._cell.actor is not by:
            raise ActorKilled
        cell.state = STARTING
        cell.incarnation = life = cell.incarnation + 1
        cell.runner = threading.get_ident()  # a constructor can be stuck like any code
    return life


def _fill(cell: Cell, life: int, build: Callable[[], Actor], by: Actor | None) -> Started | _Ignore:
    """Make the actor, and run its ``on_start``."""
    try:
        actor: Any = build()
        # Its constructor put it there; a function of the user's may have returned something else.
        if actor is None or (actor is not cell.actor and not isinstance(actor, pykka.Actor)):
            if isinstance(actor, _Ignore):
                return actor
            raise _bad_answer(cell, "the child spec's function", actor)
        table: HandlerTable | None = getattr(actor, "_table", None)
        if table is None:  # one of pykka's own
            raise _bad_answer(cell, "the child spec's function", actor)
        if table.starts:
            _go_on(cell, life, by, STARTING, actor)
            outcome: Started | _Ignore = cell.dispatcher.call(cell, lambda: _run_on_start(cell, actor))
            return outcome
        if actor is not cell.actor or table is not cell.handlers:
            _go_on(cell, life, by, STARTING, actor)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, ActorKilled, StartFailed)):
            raise
        raise _start_failed(cell, error) from error
    return _STARTED


def _go_on(cell: Cell, life: int, by: Actor | None, state: int, actor: Any = None) -> None:
    """Go on with the start, unless somebody ended it by force meanwhile: it must not be brought back to life."""
    with ending:
        if cell.state != STARTING or cell.incarnation != life or (by is not None and by._cell.actor is not by):
            raise ActorKilled
        cell.state = state
        cell.runner = 0
        if actor is not None:
            cell.actor = actor
            cell.handlers = actor._table
        if cell.refuses_between and state == RUNNING:
            cell.limit = cell.policy.limit


def _run_on_start(cell: Cell, actor: Any) -> Any:
    """Run ``on_start`` where the dispatcher wants it to run, and undo it there if it comes to nothing."""
    if cell.actor is not actor:
        raise ActorKilled  # given up before it had its turn
    try:
        answer = actor.on_start()
        if isinstance(answer, Coroutine):
            return _await_on_start(cell, actor, answer) if execution.on_event_loop() else answer
        return _started(cell, actor, answer)
    except BaseException:
        _undo(cell, actor)
        raise


async def _await_on_start(cell: Cell, actor: Any, work: Coroutine[Any, Any, Any]) -> Started | _Ignore:
    try:
        return _started(cell, actor, await work)
    except BaseException:
        _undo(cell, actor)
        raise


def _started(cell: Cell, actor: Any, answer: object) -> Started | _Ignore:
    """What ``on_start`` comes to."""
    if cell.actor is not actor:
        raise ActorKilled  # given up meanwhile: who did it has closed only what was there then
    if answer is None:
        return _STARTED
    if not isinstance(answer, (Started, _Ignore)):
        raise _bad_answer(cell, "on_start", answer)
    if isinstance(answer, _Ignore):
        _undo(cell, actor)
    return answer


def _undo(cell: Cell, actor: Any) -> None:
    """The start has come to nothing: close what it opened."""
    if cell.actor is not actor:
        killing.forget_pending(threading.get_ident())
    try:
        actor._on_not_started()
    except BaseException as failure:  # the start's own failure is the one that is told
        _report_crash(cell, failure, None)


def _bad_answer(cell: Cell, what: str, answer: object) -> StartFailed:
    return _start_failed(cell, None, f"{what} returned {answer!r}, which is not one of its answers")


_STARTED = Started()


def end(cell: Cell, reason: ExitReason = SHUTDOWN) -> Future[ExitReason]:
    """Ask the incarnation to end in good order, before anything else that waits.

    Returns:
        a future of the reason it ended with; already there if no incarnation runs.
    """
    future: Future[ExitReason] = Future()
    future.ground = cell
    with ending:
        if cell.state in (SUSPENDED, CLOSED) or cell.actor is None:
            future.try_set(cell.reason)
            return future
        cell.needs.ends.append(future)
    if not cell.handlers.stops and cell.dispatcher.ends_inline and cell.claim():
        # Nothing of the user's runs at its end, so the asking thread can end it without a switch.
        end_now(cell, cell.actor, reason)
    else:
        cell.signal(End(reason))
        _wait_for_nobody_gone(cell)
    return future


def _wait_for_nobody_gone(cell: Cell) -> None:
    """Who is to end does not wait for somebody who has ended: the reply could only come from a next life."""
    for note in cell.waiting_on:
        target = note.target if isinstance(note, execution.Wait) else None
        if isinstance(note, execution.Wait) and isinstance(target, Cell) and target.state == SUSPENDED:
            note.refuse(
                ActorRestarting(
                    f"{target.describe()} has ended, and {cell.describe()} is to end: it does not wait any longer",
                    actor=target.path,
                    target=target.path,
                    verb="ask",
                )
            )


def refuse_rest(cell: Cell) -> None:
    """No incarnation will come to this place any more, though it is not closed yet: nobody waits for one."""
    cell.state = CLOSED
    cell.limit = -1
    cell.drain()


def end_now(cell: Cell, actor: Any, reason: ExitReason, error: BaseException | None = None) -> None:
    """End the incarnation on this thread, which holds the cell: run its hook, then leave the place."""
    hook: Callable[[], Any] | None = None
    if reason.kind == "killed" and error is None:
        hook = actor._on_killed
    elif error is not None:
        hook = _failure_hook(cell, actor, error)
    elif cell.handlers.stops:
        hook = actor.on_stop
    if hook is not None:
        try:
            cell.dispatcher.call(cell, hook)
        except ActorKilled:
            reason = KILLED
        except BaseException as failure:  # whatever a hook raises, the end it belongs to comes about
            if error is None:
                reason = ExitReason.of(failure)
            _report_crash(cell, failure, None)
    incarnation_over(cell, actor, reason)


NO_MESSAGE = object()
"""In the place of a message where an exception escaped while none was being handled."""


def crashed(cell: Cell, actor: Any, item: Any, error: BaseException) -> None:
    """An exception escaped a handler of a supervised actor: answer the asker and end the incarnation."""
    message, message_id = None, ""
    if item is not NO_MESSAGE:
        message = item.message if type(item) is Request else item
        failed = handler_failed(cell, message, error)
        if type(item) is Request:
            failed.note_message(type(message).__name__, cell.runtime.new_id)
            message_id = failed.message_id  # made before the asker has it: what is logged has the same
        cell.bury(item, "crashed", failed)
    _report_crash(cell, error, message, message_id)
    end_now(cell, actor, ExitReason.of(error), error)


def link_broken(cell: Cell, actor: Any, link: LinkBroken) -> None:
    """What the incarnation is linked to has ended: end likewise."""
    reason = link.reason() if link.incarnation == cell.incarnation else None
    if reason is not None:
        if reason.error is not None:
            _report_crash(cell, reason.error, None)
        end_now(cell, actor, reason, reason.error)


def kill(cell: Cell, reason: ExitReason = KILLED) -> None:
    """End the incarnation by force: fence it, answer for it, and give up the thread that runs it.

    Only what really runs needs force; an actor that is idle or waits for a thread is ended through the
    control lane and is over as soon as it is picked up.
    """
    left, item = _NOTHING, None
    with ending:
        actor, runner, life = cell.actor, cell.runner, cell.incarnation
        if cell.state in (SUSPENDED, CLOSED) or (actor is None and cell.state != STARTING):
            return
        if actor is None or runner:
            item = cell.current
            left = _leave(cell, reason)
            if actor is not None:
                cell.dispatcher.interrupt(cell, actor, runner)
    if actor is None:  # it was still being made: whoever makes it finds that it is not wanted any more
        for future in left.ends:
            future.try_set(reason)
        return
    if not runner:
        cell.signal(End(reason), first=True)
        return
    latch = cell.latch
    if latch is not None:
        execution.free(latch)
    items = item if isinstance(item, list) else [item] if item is not None else []
    for each in items:
        message = each.message if type(each) is Request else each
        cell.bury(each, "killed", handler_failed(cell, message, ActorKilled()))
    # A supervisor that waits for a child is not what is stuck.
    if not (cell.handlers.trusted and latch is not None):
        kind = type(items[0].message if type(items[0]) is Request else items[0]).__name__ if items else ""
        _report_abandoned(cell, life, kind, runner)
    _clean_up(cell, left)
    _tell_killed(cell, actor)
    _tell_end(cell, life, left.ends, reason)


def _report_abandoned(cell: Cell, life: int, message_type: str, thread_id: int) -> None:
    if cell.runtime.events.wanted(HandlerAbandoned):
        cell.runtime.events.publish(
            HandlerAbandoned(path=cell.path, incarnation=life, message_type=message_type, thread_id=thread_id)
        )


def _tell_killed(cell: Cell, actor: Any) -> None:
    """Run the hook of an incarnation that was ended by force; it may be half made, if its constructor was stuck."""
    try:
        actor._on_killed()
    except Exception as failure:
        _report_crash(cell, failure, None)


def evict(cell: Cell) -> None:
    """Take a killed incarnation out of its place though no thread takes up its end, and close the place.

    It waits for a thread, and the threads are all stuck, or for an event loop that somebody hogs. The place is still
    in that line, so that it cannot be given to another incarnation.
    """
    with ending:
        actor, life = cell.actor, cell.incarnation
        if cell.state in (SUSPENDED, CLOSED) or actor is None or cell.runner:
            return
        left = _leave(cell, KILLED)
    _clean_up(cell, left)
    _tell_killed(cell, actor)
    close(cell, KILLED)
    _tell_end(cell, life, left.ends, KILLED)


def incarnation_over(cell: Cell, actor: Any, reason: ExitReason) -> bool:
    """Leave the place, unless somebody ended this incarnation before. Returns whether this was the end."""
    with ending:
        if cell.actor is not actor:
            return False
        life = cell.incarnation
        left = _leave(cell, reason)
    try:
        _clean_up(cell, left)
    finally:
        _tell_end(cell, life, left.ends, reason)
    return True


def close(cell: Cell, reason: ExitReason) -> None:
    """Close the place for good: no incarnation is left, and none will come.

    What waits is answered, its name becomes free, and whoever watches it is told.
    """
    if cell.state == CLOSED and cell.idle:
        return
    cell.reason = reason
    cell.state = CLOSED
    cell.limit = -1
    cell.drain()
    cell.idle = True  # from now on a sender that was too late finds it idle and drains it itself
    cell.drain()
    cell.dispatcher.release(cell)
    cell.runtime.directory.forget(cell)
    extras = cell.extras
    if extras is not None:
        if extras.stopped is not None:
            extras.stopped.set()
        places, extras.places = extras.places, {}
        for place in places.values():
            close(place, place.reason)
        tell_watchers(cell, reason)
    # The supervisor of a service's parts has no name of its own: its end, with every life of the service, is no stop.
    named = cell.parent is not None and (cell.name != "" or not cell.parent.path)
    if named and cell.runtime.events.wanted(ActorStopped):
        cell.runtime.events.publish(ActorStopped(path=cell.path, reason=str(reason)))


class _Left(NamedTuple):
    """What an incarnation leaves behind when it ends."""

    ends: Sequence[Future[ExitReason]] = ()
    timers: Iterable[Timer] = ()
    background: Iterable[BackgroundTask[Any]] = ()
    deferred: Iterable[Request[Any]] = ()


_NOTHING = _Left()


def _leave(cell: Cell, reason: ExitReason) -> _Left:
    """The decisive step, under ``ending``: from here on the incarnation is fenced, and the next one may come."""
    cell.actor = cell.current = None
    if cell.state != CLOSED:
        cell.state = SUSPENDED
    cell.reason = reason
    cell.runner = 0
    cell.waiting_on = ()  # its thread may go on waiting, but nobody waits for that one any more
    if cell.refuses_between:
        cell.limit = 0
    extras = cell.extras
    if extras is None:
        return _NOTHING
    left = _Left(extras.ends, extras.timers, extras.background, extras.deferred)
    extras.ends, extras.timers, extras.background, extras.deferred = [], set(), {}, {}
    return left


def _tell_end(cell: Cell, life: int, ends: Sequence[Future[ExitReason]], reason: ExitReason) -> None:
    if cell.limit == 0:
        cell.admit(everyone=True)
    for future in ends:
        future.try_set(reason)
    if not ends and cell.parent is not None:
        cell.parent.signal(ChildExited(cell, life, reason))


def _vacate(cell: Cell, life: int, error: BaseException | None) -> bool:
    """Undo a start that came to nothing; its caller is the supervisor, who needs no exit signal.

    Returns:
        False if it had been given up before: then nothing that is here now belongs to it.
    """
    with ending:
        if cell.incarnation != life or cell.state != STARTING:
            return False
        actor, runner = cell.actor, cell.runner
        elsewhere = runner not in (0, threading.get_ident())
        left = _leave(cell, NORMAL if error is None else ExitReason.of(error))
        if elsewhere and actor is not None:  # this thread was called away from waiting for ``on_start``
            cell.dispatcher.interrupt(cell, actor, runner)
    _clean_up(cell, left)
    if elsewhere:
        _report_abandoned(cell, life, "", runner)
    if actor is not None and isinstance(error, ActorKilled):
        _tell_killed(cell, actor)
    for future in left.ends:
        future.try_set(cell.reason)
    return True


def _clean_up(cell: Cell, left: _Left) -> None:
    """Free what belonged to the incarnation: timers, background work, replies that it still owed."""
    if cell.control:
        _withdraw_ends(cell.control)
    for timer in tuple(left.timers):  # other threads may take out what is over by itself
        timer.cancel()
    for task in tuple(left.background):
        task.cancel()
    for request in tuple(left.deferred):
        if not request.answered:
            cell.bury(request, "killed", never_answered(cell, request.message))


def _withdraw_ends(control: deque[Any]) -> None:
    """An order to end this incarnation must not reach the next one; what others put there meanwhile must."""
    for _ in range(len(control)):
        try:
            item = control.popleft()
        except IndexError:  # the thread that was given up took it
            return
        if not isinstance(item, (End, LinkBroken)):
            control.append(item)


def _failure_hook(cell: Cell, actor: Any, error: BaseException) -> Callable[[], Any] | None:
    if not cell.handlers.fails:
        return None
    return lambda: actor.on_failure(type(error), error, error.__traceback__)


def _report_crash(cell: Cell, error: BaseException, message: Any, message_id: str = "") -> None:
    events = cell.runtime.events
    if events.wanted(ActorCrashed):
        events.publish(
            ActorCrashed(
                path=cell.path,
                incarnation=cell.incarnation,
                error=error,
                traceback="".join(traceback.format_exception(error)),
                message_type="" if message is None else type(message).__name__,
                message_id=message_id,
            )
        )


def _start_failed(cell: Cell, error: BaseException | None, text: str = "") -> StartFailed:
    return StartFailed(
        f"{cell.describe()} did not start: {text or text_of(error)}",
        kind=ErrorKind.CHILD_START_FAILED if error is not None else ErrorKind.CHILD_BAD_RETURN,
        target=cell.path,
        verb="start",
        actor=cell.path,
        incarnation=cell.incarnation,
        cause=error,
    )

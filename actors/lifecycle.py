"""How incarnations begin and end: start, orderly end, crash, kill, and the closing of the place itself.

A supervised actor's incarnation ends into ``SUSPENDED``: its mailbox stays, and its supervisor decides
whether another one takes the place (``start`` again) or the place closes (``close``). An actor started
pykka's way has no supervisor and closes at once.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pykka

from ..messages.errors import ActorRestarting, ErrorKind, StartFailed
from . import execution
from .answers import handler_failed, never_answered, text_of
from .cell import CLOSED, RUNNING, STARTING, SUSPENDED, Cell, ending
from .events import ActorCrashed, ActorStopped, HandlerAbandoned
from .future import Future
from .reasons import KILLED, NORMAL, SHUTDOWN, ActorKilled, ExitReason
from .request import Request
from .watching import tell_watchers

if TYPE_CHECKING:
    from .actor import Actor

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


def start(cell: Cell, build: Callable[[], Actor]) -> Started | _Ignore:
    """Put a new incarnation into the place, and return when its ``on_start`` has.

    The caller owns the cell: it was just made, or is between two incarnations.

    Returns:
        ``IGNORE`` if ``on_start`` said so: then there is no incarnation.

    Raises:
        StartFailed: the constructor or ``on_start`` raised, or ``on_start`` returned something else.
    """
    parent = cell.parent
    before = () if parent is None else parent.waiting_on
    waiting = (*before, cell)
    if parent is not None:
        parent.waiting_on = waiting
    answer: object = None
    outcome: Started | _Ignore = _STARTED
    try:
        cell.state = STARTING
        cell.incarnation += 1
        cell.runner = threading.get_ident()  # a constructor can be stuck like any code
        try:
            actor: Any = build()
            _go_on(cell)
            # Its constructor put it there; a function of the user's may have returned something else.
            if actor is cell.actor or isinstance(actor, pykka.Actor):
                cell.actor = actor
                cell.handlers = table = actor._table  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]  # an understudy.Actor: the spec saw to it
                if table.starts:
                    answer = cell.dispatcher.call(cell, actor.on_start)
                    _go_on(cell)
            else:
                answer = actor
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, ActorKilled, StartFailed)):
                raise
            raise _start_failed(cell, error) from error
        if answer is not None or cell.actor is None:
            outcome = _checked(cell, answer)
    except BaseException as error:
        _vacate(cell, cell.actor, ExitReason.of(error))
        raise
    finally:
        if parent is not None:
            if parent.waiting_on is waiting:
                parent.waiting_on = before
            else:
                execution.leave_wait(parent, cell)
    if isinstance(outcome, _Ignore):
        _vacate(cell, cell.actor, NORMAL)
        return outcome
    if cell.refuses_between:
        cell.limit = cell.policy.limit
    cell.state = RUNNING
    cell.settle()
    return outcome


def _go_on(cell: Cell) -> None:
    """Go on with the start, unless somebody ended it by force meanwhile: it must not be brought back to life."""
    with ending:
        if cell.state != STARTING:
            raise ActorKilled
        cell.runner = 0


def _checked(cell: Cell, answer: object) -> Started | _Ignore:
    if isinstance(answer, (Started, _Ignore)):
        return answer
    what = "on_start" if cell.actor is not None else "the child spec's function"
    raise _start_failed(cell, None, f"{what} returned {answer!r}, which is not one of its answers")


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
    message: Any = None
    if item is not NO_MESSAGE:
        message = item.message if type(item) is Request else item
        cell.bury(item, "crashed", handler_failed(cell, message, error))
    _report_crash(cell, error, message)
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
    with ending:
        actor, runner = cell.actor, cell.runner
        if cell.state in (SUSPENDED, CLOSED) or actor is None:
            return
        if not runner:
            ends, item = [], None
        else:
            ends = _leave(cell, reason)
            item = cell.current
            cell.dispatcher.interrupt(cell, actor, runner)
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
    if not (cell.handlers.trusted and latch is not None) and cell.runtime.events.wanted(HandlerAbandoned):
        kind = type(items[0].message if type(items[0]) is Request else items[0]).__name__ if items else ""
        cell.runtime.events.publish(
            HandlerAbandoned(path=cell.path, incarnation=cell.incarnation, message_type=kind, thread_id=runner)
        )
    _clean_up(cell, actor)
    actor._on_killed()
    _tell_end(cell, ends, reason)


def evict(cell: Cell) -> None:
    """Take a killed incarnation out of its place though no thread takes up its end, and close the place.

    It waits for a thread, and the threads are all stuck, or for an event loop that somebody hogs. The place is still
    in that line, so that it cannot be given to another incarnation.
    """
    with ending:
        actor = cell.actor
        if cell.state in (SUSPENDED, CLOSED) or actor is None or cell.runner:
            return
        ends = _leave(cell, KILLED)
    _clean_up(cell, actor)
    actor._on_killed()
    close(cell, KILLED)
    _tell_end(cell, ends, KILLED)


def incarnation_over(cell: Cell, actor: Any, reason: ExitReason) -> bool:
    """Leave the place, unless somebody ended this incarnation before. Returns whether this was the end."""
    with ending:
        if cell.actor is not actor:
            return False
        ends = _leave(cell, reason)
    _clean_up(cell, actor)
    _tell_end(cell, ends, reason)
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
    if cell.parent is not None and cell.runtime.events.wanted(ActorStopped):
        cell.runtime.events.publish(ActorStopped(path=cell.path, reason=str(reason)))


def _leave(cell: Cell, reason: ExitReason) -> list[Future[ExitReason]]:
    """The decisive step, under ``ending``: from here on the incarnation is fenced."""
    cell.actor = None
    if cell.state != CLOSED:
        cell.state = SUSPENDED
    cell.reason = reason
    cell.runner = 0
    if cell.refuses_between:
        cell.limit = 0
    if cell.extras is None:
        return []
    ends, cell.extras.ends = cell.extras.ends, []
    return ends


def _tell_end(cell: Cell, ends: list[Future[ExitReason]], reason: ExitReason) -> None:
    if cell.limit == 0:
        cell.admit(everyone=True)
    for future in ends:
        future.try_set(reason)
    if not ends and cell.parent is not None:
        cell.parent.signal(ChildExited(cell, cell.incarnation, reason))


def _vacate(cell: Cell, actor: Any, reason: ExitReason) -> None:
    """Undo a start that came to nothing; its caller is the supervisor, who needs no exit signal."""
    with ending:
        ends = _leave(cell, reason)
    if actor is not None:
        _clean_up(cell, actor)
    for future in ends:
        future.try_set(reason)


def _clean_up(cell: Cell, actor: Any) -> None:
    """Free what belonged to the incarnation: timers, background work, replies that it still owed."""
    cell.current = None
    if cell.control:
        _withdraw_ends(cell.control)
    extras = cell.extras
    if extras is None:
        return
    timers, extras.timers = extras.timers, set()
    for timer in tuple(timers):  # other threads may take out what is over by itself
        timer.cancel()
    background, extras.background = extras.background, {}
    for task in tuple(background):
        task.cancel()
    deferred, extras.deferred = extras.deferred, {}
    for request in tuple(deferred):
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


def _report_crash(cell: Cell, error: BaseException, message: Any) -> None:
    events = cell.runtime.events
    if events.wanted(ActorCrashed):
        events.publish(
            ActorCrashed(
                path=cell.path,
                incarnation=cell.incarnation,
                error=error,
                traceback="".join(traceback.format_exception(error)),
                message_type="" if message is None else type(message).__name__,
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

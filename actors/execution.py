"""Which actor the running code belongs to, and how that code may wait.

Three facts about "here and now" that every part of the runtime asks for:

- ``current``: the cell of the actor that is being run, followed through threads and coroutines alike;
- ``host.dispatcher``: the dispatcher that lent this thread, which must hear of a wait to compensate it;
- who waits for whom, so that a cycle of asks is refused instead of hanging.
"""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..messages.errors import AskCycle
from .reasons import ActorKilled

if TYPE_CHECKING:
    from .cell import Cell, Parent
    from .dispatch.base import Dispatcher

__all__ = ["current", "enter_wait", "host", "inherited_deadline", "leave_wait", "on_event_loop", "refuse_cycle", "wait"]

current: ContextVar[Cell | None] = ContextVar("understudy_current_actor", default=None)

adopting: ContextVar[Cell | None] = ContextVar("understudy_adopting_cell", default=None)
"""The place that a child spec's factory is making an actor for."""


class _Host(threading.local):
    """What a thread knows of itself: whose worker it is, and whose event loop's."""

    dispatcher: Dispatcher | None = None
    loop_of: Dispatcher | None = None


host = _Host()


def on_event_loop() -> bool:
    """Whether this thread is running an event loop, which must not be blocked. Does not import asyncio for it."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return running is not None and running() is not None


def wait(latch: threading.Lock, timeout: float | None, target: Cell | None) -> bool:
    """Wait until somebody releases ``latch``, letting the dispatchers know that this thread is lent out.

    Args:
        latch: an acquired lock; the waker releases it.
        timeout: seconds, None for no limit.
        target: the cell that will answer, if one is known.

    Returns:
        False when the time ran out.
    """
    here = current.get()
    if here is None:
        return _wait(latch, timeout, target)
    here.latch = latch  # so that killing the incarnation wakes it
    actor = here.actor
    try:
        arrived = _wait(latch, timeout, target)
    finally:
        here.latch = None
    if here.actor is not actor:
        raise ActorKilled
    return arrived


def _wait(latch: threading.Lock, timeout: float | None, target: Cell | None) -> bool:
    dispatcher = host.dispatcher
    if dispatcher is None and target is not None and target.dispatcher.drives_waiters:
        dispatcher = target.dispatcher
    if dispatcher is not None:
        return dispatcher.block(latch, timeout)
    if timeout is None:
        return latch.acquire()
    return latch.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))


def inherited_deadline(here: Cell | None) -> float | None:
    """The deadline of the request that is being handled, which what it asks for inherits."""
    return getattr(here.current, "deadline", None) if here is not None else None


def refuse_cycle(waiter: Cell, target: Cell) -> None:
    """Raise ``AskCycle`` if ``target`` already waits, directly or through others, for ``waiter``."""
    chain = _chain_between(target, waiter)
    if chain is not None:
        loop = " → ".join(cell.path for cell in (waiter, *chain))
        raise AskCycle(f"the ask would wait for itself: {loop}", actor=waiter.path, target=target.path, verb="ask")


def enter_wait(waiter: Cell, target: Cell) -> None:
    """Note that ``waiter`` waits for ``target``; refuse it if that closes a cycle.

    The note is made before the check, so that of two actors which begin to wait for each other at the
    same moment at least one sees the other.
    """
    waiter.waiting_on += (target,)
    try:
        refuse_cycle(waiter, target)
    except AskCycle:
        leave_wait(waiter, target)
        raise


def leave_wait(waiter: Parent, target: Cell) -> None:
    """Take one note of ``waiter`` waiting for ``target`` back."""
    notes = waiter.waiting_on
    if notes == (target,):
        waiter.waiting_on = ()
    else:
        at = notes.index(target)
        waiter.waiting_on = notes[:at] + notes[at + 1 :]


def _chain_between(start: Cell, goal: Cell) -> tuple[Cell, ...] | None:
    """The way of waits from ``start`` to ``goal``, or None."""
    if start is goal:
        return (goal,)
    paths: list[tuple[Cell, ...]] = [(start,)]
    seen = {start}
    while paths:
        path = paths.pop()
        for following in path[-1].waiting_on:
            if following is goal:
                return (*path, goal)
            if following not in seen:
                seen.add(following)
                paths.append((*path, following))
    return None

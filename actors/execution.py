"""Which actor the running code belongs to, and how that code may wait.

Three facts about "here and now" that every part of the runtime asks for:

- ``current``: the cell of the actor that is being run, followed through threads and coroutines alike;
- ``host.dispatcher``: the dispatcher that lent this thread, which must hear of a wait to compensate it;
- who waits for whom, so that a cycle of asks is refused instead of hanging.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..messages.errors import AskCycle
from . import killing
from .reasons import ActorKilled
from .request import Request

if TYPE_CHECKING:
    from .cell import Cell
    from .runtime import Runtime

__all__ = [
    "Awaiting",
    "Blocking",
    "Ground",
    "Party",
    "Turn",
    "Wait",
    "current",
    "free",
    "host",
    "inherited_deadline",
    "is_left_behind",
    "leave_wait",
    "on_event_loop",
    "refuse_cycle",
    "turn",
    "wait",
]


class Ground(Protocol):
    """What lends threads, as far as waiting goes: a dispatcher, or the threads for work in the background."""

    drives_waiters: ClassVar[bool]
    """Whether a thread of no dispatcher that waits for somebody here must wait through ``block``."""

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait for ``latch`` (seconds) on a thread of its own, compensated. False: time ran out."""
        ...


class Party(Protocol):
    """Who waits and is waited for: an actor in its cell, or work in the background."""

    runtime: Runtime
    latch: threading.Lock | None
    """What its thread waits for now; whoever ends it by force releases it."""
    waiting_on: tuple[Party | Wait, ...]

    @property
    def path(self) -> str:
        """How it is named in texts."""
        ...

    @property
    def actor(self) -> Any:
        """The incarnation; another one, or none, after the one that waited has ended."""
        ...

    @property
    def current(self) -> Any:
        """What is being handled; its ``deadline`` is inherited."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise ``WorkCancelled``, once, if it is work that was told to end."""

    @property
    def depth(self) -> int:
        """How many assisted asks its stack is in."""
        ...

    @property
    def dispatcher(self) -> Ground:
        """What it runs on."""
        ...


current: ContextVar[Party | None] = ContextVar("understudy_current_actor", default=None)


class Turn:
    """One message's time on an event loop. What a handler leaves running there, a task, is not of the actor any more.

    Such a task keeps the context that it was made in, and so ``current``: this tells it that the time is over.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left: Party | None = None

    def end(self, cell: Party) -> None:
        """What still goes on of it is nobody's turn."""
        self.left = cell


turn: ContextVar[Turn | None] = ContextVar("understudy_turn", default=None)


def is_left_behind(here: Party) -> bool:
    """Whether the running code is a task of ``here`` whose handler has returned."""
    its = turn.get()
    return its is not None and its.left is here


adopting: ContextVar[tuple[Cell, int] | None] = ContextVar("understudy_adopting_cell", default=None)
"""The place that a child spec's factory is making an actor for, and the number of that incarnation."""


class _Host(threading.local):
    """What a thread knows of itself: whose worker it is, and whose event loop's."""

    dispatcher: Ground | None = None
    loop_of: Ground | None = None


host = _Host()


def on_event_loop() -> bool:
    """Whether this thread is running an event loop, which must not be blocked. Does not import asyncio for it."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return running is not None and running() is not None


def wait(latch: threading.Lock, timeout: float | None, target: Party | None) -> bool:
    """Wait until somebody releases ``latch``, letting the dispatchers know that this thread is lent out.

    Args:
        latch: an acquired lock; the waker releases it.
        timeout: seconds, None for no limit.
        target: who will answer, if that is known.

    Returns:
        False when the time ran out.

    Raises:
        ActorKilled: the incarnation that waits was ended by force.
        WorkCancelled: the background work that waits was cancelled.
    """
    here = current.get()
    if here is None:
        return _wait(latch, timeout, target)
    here.latch = latch  # so that killing the incarnation, or cancelling the work, wakes it
    actor = here.actor
    try:
        here.raise_if_cancelled()
        arrived = _wait(latch, timeout, target)
    finally:
        here.latch = None
    here.raise_if_cancelled()
    if here.actor is not actor:
        killing.forget_pending(threading.get_ident())  # it is raised here and now, once
        raise ActorKilled
    return arrived


def free(latch: threading.Lock) -> None:
    """Release a latch that somebody else may release as well."""
    try:  # noqa: SIM105  # on the way of every ask that waits: `suppress` costs twice as much
        latch.release()
    except RuntimeError:
        pass


def _wait(latch: threading.Lock, timeout: float | None, target: Party | None) -> bool:
    dispatcher = host.dispatcher
    if dispatcher is None and target is not None and target.dispatcher.drives_waiters:
        dispatcher = target.dispatcher
    if dispatcher is not None:
        return dispatcher.block(latch, timeout)
    if timeout is None:
        return latch.acquire()
    return latch.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))


def inherited_deadline(here: Party | None) -> float | None:
    """The deadline of the request that is being handled, which what it asks for inherits."""
    if here is None:
        return None
    handled = here.current
    if type(handled) is Request:
        # Of a task that outlives its handler this is somebody else's request.
        return None if handled.deadline is None or is_left_behind(here) else handled.deadline
    # Work in the background is its own request. Nothing else counts: a message may have a field called so.
    own: float | None = getattr(handled, "deadline", None) if handled is here else None
    return own


def refuse_cycle(waiter: Party, target: Party) -> None:
    """Raise ``AskCycle`` if ``target`` already waits, directly or through others, for ``waiter``."""
    chain = _chain_between(target, waiter)
    if chain is not None:
        loop = " → ".join(cell.path or cell.runtime.name for cell in (waiter, *chain))
        raise AskCycle(f"the ask would wait for itself: {loop}", actor=waiter.path, target=target.path, verb="ask")


def free_from(waiter: _Waiting, target: Party, seen: set[int] | None = None) -> None:
    """Refuse what ``waiter`` waits for, as far as it waits for ``target``, which is about to wait for ``waiter``.

    Where it waits for somebody without having asked (it runs that actor itself, or starts or stops it), that one's
    own waits are looked at.
    """
    seen = set() if seen is None else seen
    for note in waiter.waiting_on:
        if not isinstance(note, Wait):
            if id(note) not in seen:
                seen.add(id(note))
                free_from(note, target, seen)
        elif not note.over:
            chain = _chain_between(note.target, target)
            if chain is not None:
                loop = " → ".join(cell.path or cell.runtime.name for cell in (target, *chain))
                what = f"who is asked waits for the one that asks: {loop}"
                note.refuse(AskCycle(what, target=target.path, verb="ask"))


class Settled(Protocol):
    """Something that comes about, such as a future's outcome."""

    @property
    def done(self) -> bool:
        """Whether it has."""
        ...


class Wait:
    """A context in which ``waiter`` waits for ``target``; entering it is refused where that closes a cycle.

    The note that it leaves in ``waiter.waiting_on`` counts until ``event`` has come about: the waiter is on its
    way then, though its thread may still sleep. It is made before the check, so that of two which begin to wait
    for each other at the same moment at least one sees the other.
    """

    __slots__ = ("_event", "_waiter", "target")

    def __init__(self, waiter: Party, target: Party, event: Settled) -> None:
        self._waiter = waiter
        self._event = event
        self.target = target

    @property
    def over(self) -> bool:
        """Whether what is waited for has come."""
        return self._event.done

    @property
    def path(self) -> str:
        """The target's."""
        return self.target.path

    def refuse(self, error: BaseException) -> None:
        """Have it come about as a failure, if it can fail: the target will not get to it."""
        fail = getattr(self._event, "try_fail", None)
        if fail is not None:
            fail(error)

    def __enter__(self) -> None:
        self._waiter.waiting_on += (self,)
        try:
            refuse_cycle(self._waiter, self.target)
        except AskCycle:
            leave_wait(self._waiter, self)
            raise

    def __exit__(self, *_: object) -> None:
        leave_wait(self._waiter, self)


class Blocking(Wait):
    """As ``Wait``, by a thread that can do nothing else meanwhile.

    If it runs an event loop, it keeps everybody else on that loop waiting, which is noted too.
    """

    __slots__ = ("_before", "_loop")

    def __init__(self, waiter: Party, target: Party, event: Settled) -> None:
        super().__init__(waiter, target, event)
        self._loop = host.loop_of
        self._before: Party | None = None

    def __enter__(self) -> None:
        if self._loop is not None:
            self._before = _blockers.get(self._loop)
            _blockers[self._loop] = self._waiter
        try:
            super().__enter__()
        except AskCycle:
            self._free_loop()
            raise

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._free_loop()

    def _free_loop(self) -> None:
        if self._loop is None:
            return
        if self._before is None:
            _blockers.pop(self._loop, None)
        else:
            _blockers[self._loop] = self._before


class Awaiting(Wait):
    """As ``Wait``, by a coroutine: if its handler returns without it, its actor waits no longer."""

    __slots__ = ("_turn",)

    def __init__(self, waiter: Party, target: Party, event: Settled) -> None:
        super().__init__(waiter, target, event)
        self._turn = turn.get()

    @property
    def over(self) -> bool:
        """Whether what is waited for has come, or it is not the actor that waits."""
        return self._event.done or (self._turn is not None and self._turn.left is self._waiter)


def leave_wait(waiter: _Waiting, note: Party | Wait) -> None:
    """Take one note of ``waiter`` waiting back, unless it went with the incarnation that waited."""
    notes = waiter.waiting_on
    if len(notes) == 1 and notes[0] is note:
        waiter.waiting_on = ()
    elif note in notes:
        at = notes.index(note)
        waiter.waiting_on = notes[:at] + notes[at + 1 :]


_blockers: dict[Ground, Party] = {}
"""Who blocks the thread of an event loop; everybody on that loop waits for it."""


def _waited_for(party: Party) -> Iterator[Party]:
    for note in party.waiting_on:
        if not isinstance(note, Wait):
            yield note
        elif not note.over:
            yield note.target
    if _blockers:
        blocker = _blockers.get(party.dispatcher)
        if blocker is not None and blocker is not party:
            yield blocker


class _Waiting(Protocol):
    """What is noted of who waits."""

    waiting_on: tuple[Party | Wait, ...]


def _chain_between(start: Party, goal: Party) -> tuple[Party, ...] | None:
    """The way of waits from ``start`` to ``goal``, or None."""
    if start is goal:
        return (goal,)
    paths: list[tuple[Party, ...]] = [(start,)]
    seen = {start}
    while paths:
        path = paths.pop()
        for following in _waited_for(path[-1]):
            if following is goal:
                return (*path, goal)
            if following not in seen:
                seen.add(following)
                paths.append((*path, following))
    return None

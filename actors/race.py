"""Several works, one result: ``Actor.race`` and ``race``.

The first work that has a result wins. The others are cancelled, and the race waits for them to end before it
gives the result, so that what they held (a lock, a connection) is free again. It does not wait for ever: after
``grace`` seconds, and at the race's deadline, it gives the result anyway; what still runs then is fenced, its
result dropped, and it is reported as ``BackgroundAbandoned`` if it keeps on.

A work that fails is out of the race, and published as ``BackgroundFailed``. If all fail, the race fails with the
first error; the others are its notes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pykka

from ..messages.errors import BackgroundCancelled, RaceTimeout
from . import execution
from .answers import text_of
from .background import BackgroundTask
from .future import Future
from .launching import launch
from .spawning import GRACE
from .timeouts import as_seconds, as_timeout

if TYPE_CHECKING:
    from .actor import Actor
    from .dispatch.background import Background
    from .execution import Party, Wait
    from .runtime import Runtime

__all__ = ["race"]


def race(
    runtime: Runtime,
    *works: Any,
    owner: Actor | None = None,
    timeout: float | None = None,
    grace: float = GRACE,
) -> Future[Any]:
    """Let ``works`` run at once; the first result wins, the others are cancelled.

    Args:
        runtime: what they run on.
        works: functions and coroutine functions without arguments, coroutines, background tasks that run
            already, or futures of asks; a future that loses is failed, and its message dropped if it still waits.
        owner: the actor whose incarnation the works are tied to; None: to nobody.
        timeout: seconds until all of them are cancelled and the race fails; None: no limit of its own. Within a
            handler, the deadline of what is being handled holds too. Asks that the works make inherit it.
        grace: seconds to wait for the losers' end before the result is given.

    Returns:
        the future of the winner's result. It fails with the first error if all fail, and with ``RaceTimeout``
        if time runs out.

    Raises:
        TypeError: there is nothing to run, or something that can not be run.
        SpecInvalid: ``config.timeout.invalid``: a time is no number.
        IncarnationFenced, SystemStopped, DispatcherExhausted, ForkedSystem: see ``launch``.
    """
    if not works:
        raise TypeError("a race needs at least one work")
    deadline = execution.inherited_deadline(execution.current.get())
    entrants: list[_Entrant] = []
    try:
        timeout = as_timeout(timeout, verb="race")
        grace = as_seconds(grace, name="grace", verb="race")
        if timeout is not None:
            own = runtime.clock() + timeout
            deadline = own if deadline is None else min(own, deadline)
        entrants.extend(_enter(runtime, owner, work, deadline) for work in works)
    except BaseException:
        for entrant in entrants:
            entrant.cancel()
        for work in works[len(entrants) :]:
            if isinstance(work, Coroutine):
                work.close()  # nobody will ever await it
        raise
    return _Race(runtime, owner, entrants, grace).run(deadline)


class _Entrant:
    """A work in a race: its result, its end, and how to cancel it."""

    __slots__ = ("cancel", "ended", "party", "result")

    def __init__(
        self, result: Future[Any], ended: Future[Any], cancel: Callable[[], object], party: Party | None
    ) -> None:
        self.result = result
        self.ended = ended
        self.cancel = cancel
        self.party = party

    @property
    def error(self) -> BaseException | None:
        """What it failed with; None if it has a result."""
        return self.result.error


def _enter(runtime: Runtime, owner: Actor | None, work: Any, deadline: float | None) -> _Entrant:
    if isinstance(work, Future) and work._get_hook is None:
        return _Entrant(work, work, lambda: work.try_fail(_lost(work)), work.target)
    if isinstance(work, pykka.Future):
        work = work.get  # one that is computed when it is asked for, such as a mapped one
    task = work if isinstance(work, BackgroundTask) else None
    if task is None:
        task = launch(runtime, owner, work, deadline=deadline, tells_failure=False)
    return _Entrant(task.result, task.ended, task.cancel, task)


def _lost(future: Future[Any]) -> BackgroundCancelled:
    path = "" if future.target is None else future.target.path
    return BackgroundCancelled("the reply came too late for the race", actor=path, target=path, verb="ask")


class _Race:
    """One race; as a party to waits it is what its works wait for."""

    actor: None = None
    current: None = None
    latch: threading.Lock | None = None
    depth = 0

    def __init__(self, runtime: Runtime, owner: Actor | None, entrants: list[_Entrant], grace: float) -> None:
        self.runtime = runtime
        self.waiting_on: tuple[Party | Wait, ...] = tuple(each.party for each in entrants if each.party is not None)
        self._where = runtime.name if owner is None else owner._cell.path
        self._entrants = entrants
        self._grace = grace
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._decided = False
        self._give: Callable[[], None] | None = None
        self._outcome: Future[Any] = Future()
        self._outcome.target = self

    @property
    def path(self) -> str:
        """How it is named in texts."""
        return f"{self._where}~race"

    def raise_if_cancelled(self) -> None:
        """Its works are cancelled, each for itself."""

    @property
    def dispatcher(self) -> Background:
        """What its works run on."""
        return self.runtime.background

    def run(self, deadline: float | None) -> Future[Any]:
        """Follow the works until the race is decided; returns its outcome."""
        if deadline is not None:
            seconds = max(0.0, deadline - self.runtime.clock())
            timer = self.runtime.after(seconds, lambda: self._expire(seconds))
            self._outcome.on_done(timer.cancel)
        for entrant in self._entrants:
            self._follow(entrant)
        return self._outcome

    def _follow(self, entrant: _Entrant) -> None:
        entrant.result.on_done(lambda: self._has_result(entrant))

    def _has_result(self, entrant: _Entrant) -> None:
        error = entrant.error
        with self._lock:
            if self._decided:
                return
            if error is not None:
                self._errors.append(error)
                if len(self._errors) < len(self._entrants):
                    return
            self._decided = True
            self._give = lambda: self._give_outcome(entrant if error is None else None)
        self._end_the_others(entrant)

    def _give_outcome(self, winner: _Entrant | None) -> None:
        if winner is not None:
            self._outcome.try_set(winner.result.get(timeout=0.0))
        elif not self._outcome.done:
            self._outcome.try_fail(_with_notes(self._errors[0], self._errors[1:]))

    def _end_the_others(self, last: _Entrant) -> None:
        """Cancel the losers, and give the outcome once they have ended or the grace is over."""
        assert self._give is not None
        losers = [each for each in self._entrants if each is not last]
        for loser in losers:
            loser.cancel()
        left = len(losers)

        def one_ended() -> None:
            nonlocal left
            with self._lock:
                left -= 1
                all_ended = left == 0
            if all_ended and self._give is not None:
                self._give()

        if not losers:
            self._give()
            return
        timer = self.runtime.after(self._grace, self._give)
        self._outcome.on_done(timer.cancel)
        for loser in losers:
            loser.ended.on_done(one_ended)

    def _expire(self, seconds: float) -> None:
        with self._lock:
            late, self._decided = self._decided, True
            give, errors = self._give, list(self._errors)
        if late:
            if give is not None:
                give()  # it was decided in time: nobody waits for the rest of the grace
            return
        for entrant in self._entrants:
            entrant.cancel()
        error = RaceTimeout(
            f"none of {len(self._entrants)} works had a result within {seconds:g} seconds",
            actor=self._where,
            target=self.path,
            verb="race",
        )
        self._outcome.try_fail(_with_notes(error, errors))


def _with_notes(error: BaseException, others: list[BaseException]) -> BaseException:
    for other in others:
        if other is not error:
            error.add_note(f"in the same race: {text_of(other)}")
    return error

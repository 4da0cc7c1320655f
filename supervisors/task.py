"""A task: work that a task supervisor does for somebody, who gets what came of it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..actors import execution
from ..actors.answers import text_of
from ..actors.cell import Cell
from ..actors.future import Future
from ..actors.lifecycle import LinkBroken
from ..actors.reasons import ExitReason
from ..actors.timeouts import as_timeout
from ..messages.errors import ActorError, AskTimeout, BackgroundCancelled, LoopBlocked, TaskCrashed, TaskTimeout

if TYPE_CHECKING:
    from ..actors.background import BackgroundTask
    from ..actors.execution import Party
    from ..actors.ref import ActorRef
    from .requests import StartedChild

__all__ = ["TASK_TIMEOUT", "Failed", "Ok", "Task", "TaskOutcome", "name_of", "settling"]

R = TypeVar("R")

TASK_TIMEOUT = 5.0
"""Seconds that is waited for a task unless told otherwise (``Task.await``'s default in Elixir)."""


@dataclass(frozen=True, slots=True)
class Ok(Generic[R]):
    """A task returned ``value``."""

    value: R


@dataclass(frozen=True, slots=True)
class Failed:
    """A task came to no value.

    Attributes:
        error: a ``TaskCrashed``, whose ``cause`` is what the task raised; or a ``TaskTimeout``.
        input: in a stream with ``zip_input_on_exit``, the item that the task was given.
    """

    error: ActorError
    input: Any = None


TaskOutcome = Ok[R] | Failed
"""What came of a task, as a value."""


class Task(Generic[R]):
    """What a task supervisor's ``submit`` gives: the way to what comes of the work.

    *Links.* A task that was submitted by an actor, or by another task, is linked to it. When the incarnation (or
    the other task) ends, this one is cancelled. When this one crashes or is stopped by somebody else, the one that
    submitted it ends too, unless it gets the error from ``result``: an actor after the handler that is running, a
    task at once. ``submit_nolink`` makes no link.

    Attributes:
        name: the name of the function.
        ref: the reference of the supervisor's child that stands for the task; None until it has started.
    """

    def __init__(self, name: str, owner: Cell | BackgroundTask[Any] | None, *, takes_owner_along: bool) -> None:
        self.name = name
        self.ref: ActorRef[Any] | None = None
        self._owner = owner
        self._takes_owner_along = takes_owner_along
        self._incarnation: int = owner.incarnation if isinstance(owner, Cell) else 0
        self._lock = threading.Lock()
        self._work: BackgroundTask[R] | None = None
        self._readers = 0
        self._cancelled = False
        self._refused = False
        self._outcome: TaskOutcome[R] | None = None
        self._result: Future[R] = Future()
        self._ended: Future[None] = Future()
        self._result.on_done(self._break_link)

    # --- what came of it -------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether there is a result, or an error."""
        return self._result.done

    @property
    def cancelled(self) -> bool:
        """Whether it was told to end."""
        return self._cancelled

    def result(self, timeout: float | None = TASK_TIMEOUT) -> R:
        """Wait for the value and return it. In a coroutine write ``await task`` instead.

        Args:
            timeout: seconds to wait; None for no limit. In a handler, the deadline of what is being handled holds
                too.

        Raises:
            TaskCrashed: the work raised (``cause`` says what), or was stopped.
            TaskTimeout: (also a ``pykka.Timeout``) no result yet. The task goes on: ask again, or ``cancel`` it.
            AskCycle: the work waits, directly or through others, for the actor that calls.
            LoopBlocked: called on an event loop's thread.
        """
        return _value(self.outcome(timeout))

    def outcome(self, timeout: float | None = TASK_TIMEOUT) -> TaskOutcome[R]:
        """As ``result``, but a crash is a value: ``Ok(value)`` or ``Failed(error)``.

        Raises:
            TaskTimeout, AskCycle, LoopBlocked: see ``result``.
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
        """
        timeout = as_timeout(timeout, target=self._path, verb="result")
        with self._reading():
            if not self._result.done:
                self._wait(timeout)
            return self._read()

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the value in a coroutine, without blocking the loop; raises ``TaskCrashed``."""
        return self._await().__await__()

    def cancel(self) -> bool:
        """Tell the work to end, and wait for nothing; ``result`` raises ``TaskCrashed`` at once.

        A coroutine gets ``CancelledError``, a function ``WorkCancelled``; see ``Actor.spawn``. Whoever submitted
        the task is not ended by it.

        Returns:
            False if it was over or cancelled before.
        """
        if self._cancelled or self._result.done:
            return False
        self._stop()
        return True

    # --- waiting ---------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> None:
        if execution.on_event_loop():
            raise LoopBlocked(
                f"waiting for the task {self.name} would block the event loop: write `await task`",
                target=self._path,
                verb="result",
            )
        work = self._work
        deadline = execution.inherited_deadline(execution.current.get())
        if deadline is not None and work is not None:
            left = max(0.0, deadline - work.runtime.clock())
            timeout = left if timeout is None else min(timeout, left)
        try:
            settling(self._result, self._work).get(timeout=timeout)
        except AskTimeout:
            raise TaskTimeout(
                f"the task {self.name} has no result after {timeout:g} seconds", target=self._path, verb="result"
            ) from None

    async def _await(self) -> R:
        with self._reading():
            if not self._result.done:
                await settling(self._result, self._work)
            return _value(self._read())

    def _read(self) -> TaskOutcome[R]:
        if self._outcome is None:
            error = self._result.error
            self._outcome = Ok(self._result.get()) if error is None else Failed(self._failure(error))
        return self._outcome

    def _failure(self, error: BaseException) -> ActorError:
        if isinstance(error, _Instead):
            return error.error
        what = "was stopped" if isinstance(error, BackgroundCancelled) else f"raised {text_of(error)}"
        actor = "" if self.ref is None else self.ref.path
        return TaskCrashed(f"the task {self.name} {what}", target=self._path, verb="result", actor=actor, cause=error)

    @property
    def _path(self) -> str:
        return self.name if self._work is None else self._work.path

    # --- the work --------------------------------------------------------------------------------------

    def _adopt(self, work: BackgroundTask[R]) -> None:
        """The work has begun; called by the child that stands for the task."""
        with self._lock:
            self._work = work
            cancelled = self._cancelled
        self._result.target = self._ended.target = work
        work.result.on_done(lambda: self._take(work.result))
        work.ended.on_done(self._end)
        if cancelled:
            work.cancel()

    def _take(self, result: Future[R]) -> None:
        error = result.error
        if error is None:
            self._result.try_set(result.get())
        else:
            self._result.try_fail(error)

    def _note_start(self, started: StartedChild) -> None:
        """The supervisor has answered."""
        self.ref = started.ref
        if started.ref is None:  # whom it is tied to ended meanwhile
            self._refuse(TaskCrashed(f"the task {self.name} was stopped before it began", verb="submit"))

    def _refuse(self, error: BaseException) -> None:
        """There will be no work: it could not be started."""
        self._refused = True
        self._result.try_fail(_Instead(error) if isinstance(error, ActorError) else error)
        self._end()

    def _abandon(self) -> None:
        """Whether it was started will never be known to the one that asked for it."""
        self._stop()
        self._untie()

    def _expire(self, timeout: float) -> None:
        """Time is up."""
        error = TaskTimeout(
            f"the task {self.name} was stopped: it had no result after {timeout:g} seconds",
            target=self._path,
            verb="stream",
        )
        if self._result.try_fail(_Instead(error)):
            self._stop()

    def _stop(self) -> None:
        with self._lock:
            self._cancelled = True
            work = self._work
        if work is not None:
            work.cancel()

    def _end(self) -> None:
        self._ended.try_set(None)
        self._untie()

    # --- links -----------------------------------------------------------------------------------------

    def _tie(self) -> None:
        """Have it cancelled when its owner ends."""
        owner = self._owner
        if isinstance(owner, Cell):
            owner.needs.background[self] = None
            over = owner.actor is None or owner.incarnation != self._incarnation
        elif owner is not None:
            owner.linked[self] = None
            over = owner.done
        else:
            return
        if over:
            self.cancel()

    def _untie(self) -> None:
        owner = self._owner
        if isinstance(owner, Cell):
            owner.needs.background.pop(self, None)
        elif owner is not None:
            owner.linked.pop(self, None)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """While its owner reads the result, and once it has, a crash is its to deal with."""
        if not self._takes_owner_along or execution.current.get() is not self._owner:
            yield
            return
        with self._lock:
            self._readers += 1
        try:
            yield
        except BaseException:
            if self._outcome is None:  # it gave up waiting
                with self._lock:
                    self._readers -= 1
                if self._result.done:
                    self._break_link()
            raise

    def _break_link(self) -> None:
        """It crashed, or somebody stopped it: its owner ends too, unless it deals with it."""
        if not self._takes_owner_along or self._cancelled or self._broken() is None:
            return
        owner = self._owner
        if owner is None:
            return
        if not isinstance(owner, Cell):
            owner.result.try_fail(self._failure(self._result.error or TaskCrashed()))
            owner.cancel()
        elif owner.parent is not None:  # one without a supervisor goes on: nothing would take its place
            owner.signal(LinkBroken(self._incarnation, self._broken))

    def _broken(self) -> ExitReason | None:
        error = self._result.error
        with self._lock:
            if error is None or self._readers:
                return None
        if isinstance(error, BackgroundCancelled):
            return ExitReason.shutdown(f"the linked task {self.name} was stopped")
        return ExitReason.of(self._failure(error))

    def __repr__(self) -> str:
        return f"<Task {self._path} {'done' if self.done else 'cancelled' if self._cancelled else 'running'}>"


class _Instead(Exception):
    """Stands for an error that is given as it is: the work did not raise it, it was not started, or in time."""

    def __init__(self, error: ActorError) -> None:
        super().__init__(str(error))
        self.error = error


def settling(future: Future[Any], party: Party | None) -> Future[None]:
    """A future that is settled with another one, and never fails: all it raises concerns the one who waits.

    Args:
        future: the other one.
        party: who will settle it.
    """
    settled: Future[None] = Future()
    settled.target = party

    def settle() -> None:
        settled.try_set(None)

    future.on_done(settle)
    return settled


def _value(outcome: TaskOutcome[R]) -> R:
    if isinstance(outcome, Failed):
        raise outcome.error.with_traceback(None)
    return outcome.value


def name_of(work: Callable[..., Any]) -> str:
    """How a task is named in texts."""
    while isinstance(work, functools.partial):
        work = work.func
    name = getattr(work, "__qualname__", None) or type(work).__qualname__
    return str(name).rpartition("<locals>.")[2]

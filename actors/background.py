"""Work in the background of an actor: ``Actor.spawn``.

A plain function runs on a worker thread, a coroutine on the event loop. The work belongs to the incarnation that
spawned it, and is cancelled with it. It is not the actor's turn: the actor goes on handling messages meanwhile,
so the work shares no state with it and tells it what it found out.

*Cancelling.* A coroutine gets ``CancelledError``, as everywhere in asyncio. A function gets ``WorkCancelled``:
where it asks, where it waits for a channel or a future, where it calls ``check_cancelled()``, or else at its next
bytecode, but never in the middle of the runtime's own code. It gets it once: in a ``finally`` it may ask and wait
as ever. A function that sits in a C call (``time.sleep``, a socket) sees it when that call returns; if that takes
longer than a second, it is reported as ``BackgroundAbandoned``.

*Failing.* An exception is delivered through ``result``, published as a ``BackgroundFailed`` event (logged as an
error if nobody listens for those) and, if the actor has a handler for ``TaskFailed``, told to the actor. It does
not end the actor: one that cannot do without the work raises in that handler.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..messages.errors import BackgroundCancelled
from ..messages.message import Message
from ..messages.response import ErrorResponse
from . import execution
from .events import BackgroundAbandoned, BackgroundFailed
from .future import Future
from .reasons import ActorKilled, WorkCancelled

if TYPE_CHECKING:
    from .actor import Actor
    from .dispatch.background import Background
    from .execution import Party, Wait
    from .runtime import Runtime
    from .timers import Timer

__all__ = ["BackgroundTask", "TaskFailed", "cancelled", "check_cancelled"]

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds after which cancelled work that has not ended is reported, and its thread replaced."""

logger = logging.getLogger("understudy.errors")


class TaskFailed(Message[None]):
    """Sent to an actor that handles it when background work it has spawned ended with an exception.

    Attributes:
        work: the name of the function.
        error: the exception.
    """

    work: str
    error: Any


def cancelled() -> bool:
    """Whether the background work that calls this was cancelled and should end; False anywhere else."""
    here = execution.current.get()
    return isinstance(here, BackgroundTask) and here.cancelled


def check_cancelled() -> None:
    """Raise ``WorkCancelled`` if the background work that calls this was cancelled; else do nothing.

    For loops that must end in a good place rather than at any bytecode, and for those that spend their time
    in C calls.
    """
    if cancelled():
        raise WorkCancelled


class BackgroundTask(Generic[T]):
    """Work in the background.

    Attributes:
        name: the function's name.
        result: the future of what the work returns, or of the exception that ended it. If the work is cancelled
            it fails at once with ``BackgroundCancelled``, and what the work still returns is dropped.
        ended: a future that is settled once the work's code runs no more; after a cancellation that may be
            later than ``result``.
        cancelled: whether it was told to end.
        linked: what is cancelled when it ends or is cancelled: each has a ``cancel``.
    """

    # As somebody who waits and is waited for (``execution.Party``): it is nobody's current actor.
    actor: None = None
    depth = 0

    def __init__(self, runtime: Runtime, name: str, owner: Actor | None, deadline: float | None) -> None:
        self.runtime = runtime
        self.name = name
        self.cancelled = False
        self.deadline = deadline
        self.latch: threading.Lock | None = None
        self.waiting_on: tuple[Party | Wait, ...] = ()
        self.result: Future[T] = Future()
        self.result.target = self
        self.ended: Future[None] = Future()
        self.ended.target = self
        self.linked: dict[Any, None] = {}
        self._owner = owner
        self._tells_failure = True
        self._incarnation = 0 if owner is None else owner._cell.incarnation
        self._context = contextvars.copy_context()
        self._change = threading.Lock()
        self._running = False
        self._over = False
        self._told = False
        self._given_up = False
        self._thread_id = 0
        self._patience: Timer | None = None

    @property
    def done(self) -> bool:
        """Whether there is a result, an error, or the task was cancelled."""
        return self.result.done

    def cancel(self) -> bool:
        """Tell the work to end; ``result`` fails with ``BackgroundCancelled`` at once.

        Any thread may call it, the work's own included.

        Returns:
            False if it was over or cancelled before.
        """
        with self._change:
            if self.cancelled or self._over:
                return False
            self.cancelled = True
            waiting = not self._running
            self._over = waiting
            if not waiting:
                self.runtime.cancelled_work[self] = None
        self.result.try_fail(self._cancellation())
        self._cancel_linked()
        if waiting:
            self._finish(None, WorkCancelled())
            return True
        self._patience = self.runtime.after(PATIENCE, self.give_up)
        self._interrupt()
        return True

    # --- as a party to waits ---------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """How it is named in texts: its actor's path and its own name."""
        return f"{self._where}~{self.name}"

    @property
    def current(self) -> BackgroundTask[T]:
        """Where an ask looks for the deadline it inherits; cancelled work is told of it there."""
        self.raise_if_cancelled()
        return self

    def raise_if_cancelled(self) -> None:
        """Raise ``WorkCancelled`` if the work was cancelled and does not know yet."""
        if self.cancelled and not self._told:
            with self._change:
                self._told = True
            raise WorkCancelled

    @property
    def dispatcher(self) -> Background:
        """What it runs on."""
        return self.runtime.background

    # --- beginning and end -----------------------------------------------------------------------------

    def _start(self) -> None:
        raise NotImplementedError

    def _interrupt(self) -> None:
        raise NotImplementedError

    def _finish(self, value: Any, error: BaseException | None) -> None:
        """The work's code has ended, or will never run."""
        if self._patience is not None:
            self._patience.cancel()
        owner = self._owner
        tasks = self.runtime.unowned if owner is None else owner._cell.needs.background
        tasks.pop(self, None)
        self.runtime.cancelled_work.pop(self, None)
        try:
            if error is None and not self._fenced:
                self.result.try_set(value)
            elif error is None or isinstance(error, (WorkCancelled, ActorKilled)):
                self.cancelled = True
                self.result.try_fail(self._cancellation())
            else:
                self._report(error)
                self.result.try_fail(error)
            self._cancel_linked()
        finally:  # whatever those who wait for the result do with it
            self.ended.try_set(None)

    def _cancel_linked(self) -> None:
        linked, self.linked = self.linked, {}
        for each in tuple(linked):
            each.cancel()

    @property
    def _fenced(self) -> bool:
        return self._owner is not None and self._owner._fenced

    @property
    def _where(self) -> str:
        return self.runtime.name if self._owner is None else self._owner._cell.path

    def _cancellation(self) -> BackgroundCancelled:
        why = "the incarnation that had spawned it has ended" if self._fenced else "it came to no result"
        return BackgroundCancelled(
            f"{self.name} in the background of {self._where} was cancelled: {why}",
            target=self.path,
            verb="spawn",
            actor="" if self._owner is None else self._where,
            incarnation=self._incarnation,
        )

    def _report(self, error: BaseException) -> None:
        events = self.runtime.events
        if events.wanted(BackgroundFailed):
            events.publish(
                BackgroundFailed(
                    path=self._where,
                    incarnation=self._incarnation,
                    work=self.name,
                    error=error,
                    traceback="".join(traceback.format_exception(error)),
                )
            )
        else:
            response = ErrorResponse.from_exception(error, actor=self._where, incarnation=self._incarnation)
            logger.error("%s", response.to_json().decode(), exc_info=error)
        owner = self._owner
        if owner is not None and self._tells_failure and not owner._fenced:
            cell = owner._cell
            if TaskFailed in cell.handlers.handlers:
                cell.put_always(TaskFailed(self.name, error))

    def give_up(self) -> None:
        """It was cancelled and has not ended: count on its thread no longer, and report it, once."""
        with self._change:
            if self._over or self._given_up:
                return
            self._given_up = True
            thread_id = self._thread_id
        if thread_id:
            self.runtime.background.discount()
        if self.runtime.events.wanted(BackgroundAbandoned):
            self.runtime.events.publish(
                BackgroundAbandoned(
                    path=self._where, incarnation=self._incarnation, work=self.name, thread_id=thread_id
                )
            )

    def __repr__(self) -> str:
        state = "over" if self.ended.done else "running" if self._running else "waiting"
        return f"<BackgroundTask {self.path} {'cancelled, ' if self.cancelled else ''}{state}>"

"""Work in the background of an actor: ``Actor.spawn``.

A plain function runs on a worker thread, a coroutine on the event loop. The work belongs to the incarnation that
spawned it, and is cancelled with it. It is not the actor's turn: the actor goes on handling messages meanwhile,
so the work shares no state with it and tells it what it found out.

*Cancelling.* A coroutine gets ``CancelledError``, as everywhere in asyncio. A function gets ``WorkCancelled``:
where it waits in an ask or for a channel, where it calls ``check_cancelled()``, or else at its next bytecode, but
never in the middle of the runtime's own code. A function that sits in a C call (``time.sleep``, a socket) sees it
when that call returns. If that takes longer than a second, it is reported as ``BackgroundAbandoned``.

*Failing.* An exception is delivered through ``result``, published as a ``BackgroundFailed`` event (logged as an
error if nobody listens for those) and, if the actor has a handler for ``TaskFailed``, told to the actor. It does
not end the actor: one that cannot do without the work raises in that handler.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import threading
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..messages.errors import BackgroundCancelled, SystemStopped
from ..messages.message import Message
from . import execution, killing
from .events import BackgroundAbandoned, BackgroundFailed
from .future import Future
from .reasons import ActorKilled, WorkCancelled

if TYPE_CHECKING:
    from .actor import Actor
    from .dispatch.background import Background
    from .execution import Party
    from .runtime import Runtime
    from .timers import Timer

__all__ = ["BackgroundTask", "TaskFailed", "cancelled", "check_cancelled", "launch"]

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds after which cancelled work that has not ended is reported, and its thread replaced."""

FIRST_RETRY, LAST_RETRY = 0.005, 0.5
"""Seconds between two attempts to interrupt a function that is in the runtime's own code; they double."""

logger = logging.getLogger("understudy.actors")


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
    return here is not None and here.cancelled


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
        self.waiting_on: tuple[Party, ...] = ()
        self.result: Future[T] = Future()
        self.result.target = self
        self.ended: Future[None] = Future()
        self.ended.target = self
        self._owner = owner
        self._tells_failure = True
        self._incarnation = 0 if owner is None else owner._cell.incarnation
        self._context = contextvars.copy_context()
        self._change = threading.Lock()
        self._running = False
        self._over = False
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
        self.result.try_fail(self._cancellation())
        if waiting:
            self._finish(None, WorkCancelled())
            return True
        self._patience = self.runtime.after(PATIENCE, self._give_up)
        self._interrupt()
        return True

    # --- as a party to waits ---------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """How it is named in texts: its actor's path and its own name."""
        return f"{self._where}~{self.name}"

    @property
    def current(self) -> BackgroundTask[T]:
        """What is being handled, where asks look for the deadline they inherit."""
        return self

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
        tasks.discard(self)
        if error is None and not self._fenced:
            self.result.try_set(value)
        elif error is None or isinstance(error, (WorkCancelled, ActorKilled, asyncio.CancelledError)):
            self.cancelled = True
            self.result.try_fail(self._cancellation())
        else:
            self._report(error)
            self.result.try_fail(error)
        self.ended.try_set(None)

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
            logger.error("%s in the background of %s failed", self.name, self._where, exc_info=error)
        owner = self._owner
        if owner is not None and self._tells_failure and not owner._fenced:
            cell = owner._cell
            if TaskFailed in cell.handlers.handlers:
                cell.put_always(TaskFailed(self.name, error))

    def _give_up(self) -> None:
        with self._change:
            if self._over:
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


class FunctionTask(BackgroundTask[T]):
    """A plain function on a worker thread."""

    _function: Callable[[], T]

    def _start(self) -> None:
        self.runtime.background.submit(self._run)

    def _run(self) -> None:
        with self._change:
            if self._over:
                return
            self._running = True
            self._thread_id = threading.get_ident()
        value: Any = None
        error: BaseException | None = None
        # An interruption is sent while the function runs and lands in it, or just after it. So it may still
        # come up to `_leave`, but there is only one, and none after that.
        try:
            try:
                self._context.run(execution.current.set, self)
                value = self._context.run(_call, self._function)
            except BaseException as raised:
                error = raised
            self._leave()
        except WorkCancelled as raised:
            error = error or raised
            self._leave()
        if isinstance(value, Coroutine):
            value.close()
            error = TypeError(f"{self.name} returned a coroutine: spawn the coroutine function itself")
        self._finish(value, error)

    def _leave(self) -> None:
        with self._change:
            self._over = True
            thread_id, self._thread_id = self._thread_id, 0
            given_up = self._given_up
        killing.forget_pending(threading.get_ident())
        if given_up and thread_id:
            self.runtime.background.count()

    def _interrupt(self) -> None:
        latch = self.latch
        if latch is not None:
            execution.free(latch)
        if self.runtime.background.interrupts:
            self._inject(FIRST_RETRY)

    def _inject(self, retry: float) -> None:
        with self._change:
            if not self._thread_id or killing.inject_into_call(self._thread_id, WorkCancelled, _call.__code__):
                return
        self.runtime.after(retry, lambda: self._inject(min(2 * retry, LAST_RETRY)))


class CoroutineTask(BackgroundTask[T]):
    """A coroutine on the event loop."""

    _coroutine: Coroutine[Any, Any, T]
    _loop: asyncio.AbstractEventLoop
    _task: asyncio.Task[tuple[T | None, BaseException | None]]

    def _start(self) -> None:
        self._loop = self.runtime.background.loop
        try:
            self._loop.call_soon_threadsafe(self._launch)
        except RuntimeError as error:
            raise SystemStopped(f"the event loop of {self.runtime.name!r} has stopped") from error

    def _launch(self) -> None:
        with self._change:
            if self._over:
                return
            self._running = True
        self._context.run(execution.current.set, self)
        self._task = self._loop.create_task(self._main(), context=self._context)
        self._task.add_done_callback(self._task_ended)

    async def _main(self) -> tuple[T | None, BaseException | None]:
        try:
            return await self._coroutine, None
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a SystemExit is the work's own end, not the loop's
            return None, error

    def _task_ended(self, task: asyncio.Task[tuple[T | None, BaseException | None]]) -> None:
        with self._change:
            self._over = True
        self._finish(*((None, WorkCancelled()) if task.cancelled() else task.result()))

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._coroutine.close()  # it may never have begun
        super()._finish(value, error)

    def _interrupt(self) -> None:
        with suppress(RuntimeError):  # the loop was closed, which cancelled everything on it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._task.cancel()


def launch(
    runtime: Runtime,
    owner: Actor | None,
    work: Any,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    deadline: float | None = None,
    tells_failure: bool = True,
) -> BackgroundTask[Any]:
    """Start a function, a coroutine function or a coroutine in the background.

    Args:
        runtime: what it runs on.
        owner: the actor whose incarnation it is tied to; None: to nobody.
        work: what to run.
        args: its positional arguments.
        kwargs: its keyword arguments.
        deadline: when its asks expire, in seconds of the runtime's clock.
        tells_failure: whether an actor that handles ``TaskFailed`` is sent one.

    Raises:
        IncarnationFenced: the owner's incarnation has ended.
        SystemStopped: the system was stopped.
        DispatcherExhausted: there is no thread for it.
        ForkedSystem: the process was forked after the system had started.
    """
    if owner is not None:
        owner._refuse_if_fenced("spawn")
    runtime.refuse_if_forked()
    name = _name_of(work)
    task: FunctionTask[Any] | CoroutineTask[Any]
    if inspect.iscoroutine(work) or inspect.iscoroutinefunction(work):
        task = CoroutineTask(runtime, name, owner, deadline)
        task._coroutine = work if inspect.iscoroutine(work) else work(*args, **(kwargs or {}))
    elif callable(work):
        task = FunctionTask(runtime, name, owner, deadline)
        task._function = functools.partial(work, *args, **(kwargs or {}))
    else:
        raise TypeError(f"{work!r} can not run in the background: give a function or a coroutine function")
    task._tells_failure = tells_failure
    tasks = runtime.unowned if owner is None else owner._cell.needs.background
    tasks.add(task)
    try:
        task._start()
        if owner is not None:
            owner._refuse_if_fenced("spawn")  # it may have ended since, and not have seen this task
    except BaseException:
        task.cancel()
        raise
    return task


def _call(function: Callable[[], T]) -> T:
    """The frame above which a function may be interrupted."""
    return function()


def _name_of(work: Any) -> str:
    while isinstance(work, functools.partial):
        work = work.func
    name = getattr(work, "__qualname__", None) or type(work).__qualname__
    return str(name).rpartition("<locals>.")[2]

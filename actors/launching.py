"""Starting work in the background: how functions and coroutines run there, and how they are made to end."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..messages.errors import SystemStopped
from . import execution, killing
from .background import BackgroundTask
from .reasons import WorkCancelled

if TYPE_CHECKING:
    from .actor import Actor
    from .runtime import Runtime

__all__ = ["launch"]

T = TypeVar("T")

RETRY = 0.005
"""Seconds between two attempts to interrupt a function that is in the runtime's own code."""


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
            self._inject()

    def _inject(self) -> None:
        with self._change:
            if self._told or not self._thread_id:
                return
            self._told = True
            if killing.inject_into_call(self._thread_id, WorkCancelled, _call.__code__, self._tell_again):
                return
            self._told = False
        self.runtime.after(RETRY, self._inject)

    def _tell_again(self) -> None:
        with self._change:
            self._told = False
        self._inject()


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
    tasks[task] = None
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

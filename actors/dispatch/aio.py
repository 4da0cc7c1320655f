"""The event loop: one thread runs all actors that have ``async def`` handlers."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from .. import execution, killing
from ..coroutines import run_async

if TYPE_CHECKING:
    from ..actor import Actor
    from ..cell import Cell

__all__ = ["AsyncioDispatcher"]

HOGGING = 0.2
"""Seconds after which a killed handler that does not yield the loop gets ``ActorKilled`` raised in it."""


class AsyncioDispatcher:
    """Runs actors as tasks of one event loop, on a thread that starts with the first of them.

    A handler that awaits lets the other actors run; its own actor handles the next message when it returns.

    Args:
        name: begins the name of the thread.
    """

    assists: ClassVar[bool] = False
    ends_inline: bool = False
    drives_waiters: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[Cell, asyncio.Task[None]] = {}

    def ready(self, cell: Cell) -> None:
        """Run ``cell`` as a task."""
        self._running_loop().call_soon_threadsafe(self._launch, cell, context=contextvars.Context())

    def call(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the loop, awaiting what it returns; on the loop's own thread it cannot be awaited."""
        loop = self._running_loop()
        if threading.current_thread() is self._thread:
            value = function()
            if isinstance(value, Coroutine):
                value.close()
                raise TypeError("a coroutine function as on_failure is not awaited: make it a plain function")
            return value

        async def run_it() -> Any:
            execution.current.set(cell)
            turn = execution.Turn()
            execution.turn.set(turn)
            try:
                value = function()
                return await value if isinstance(value, Coroutine) else value
            finally:
                turn.end(cell)

        done = threading.Lock()
        done.acquire()
        task = asyncio.run_coroutine_threadsafe(run_it(), loop)
        task.add_done_callback(lambda _: execution.free(done))
        try:
            execution.wait(done, None, None)
        except BaseException:
            task.cancel()  # nobody waits for it any more
            raise
        return task.result()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop; its thread starts with the first use."""
        return self._running_loop()

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait on the loop's thread: everything else on it waits too, so asks refuse to."""
        return latch.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def interrupt(self, cell: Cell, actor: Actor, thread_id: int) -> None:
        """Cancel the handler's task; if it hogs the loop, raise ``ActorKilled`` in it."""
        loop, task = self._loop, self._tasks.pop(cell, None)
        if loop is None or task is None:
            return
        cancelled = threading.Event()

        def cancel() -> None:
            cancelled.set()
            task.cancel()

        loop.call_soon_threadsafe(cancel)

        def inject_if_hogging() -> None:
            if not cancelled.wait(HOGGING):
                killing.strike(thread_id, actor)

        threading.Thread(target=inject_if_hogging, name=f"{self._name}-killer", daemon=True).start()

    def release(self, cell: Cell) -> None:
        """Nothing is kept for one actor alone."""
        self._tasks.pop(cell, None)

    def stop(self, timeout: float) -> None:
        """End the loop and its thread, cancelling what is left on it."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            with self._start:
                if self._loop is None:
                    loop = asyncio.new_event_loop()
                    self._thread = threading.Thread(
                        target=self._run, args=(loop,), name=f"{self._name}-asyncio", daemon=True
                    )
                    self._thread.start()
                    self._loop = loop
                loop = self._loop
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        execution.host.dispatcher = self
        execution.host.loop_of = self
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.close()

    def _launch(self, cell: Cell) -> None:
        task = asyncio.get_running_loop().create_task(run_async(cell))
        self._tasks[cell] = task
        task.add_done_callback(lambda done: self._forget(cell, done))

    def _forget(self, cell: Cell, task: asyncio.Task[None]) -> None:
        if self._tasks.get(cell) is task:
            del self._tasks[cell]
        if not task.cancelled() and task.exception() is not None:
            task.get_loop().call_exception_handler(
                {"message": f"running {cell.path} raised", "exception": task.exception(), "task": task}
            )

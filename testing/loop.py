"""The event loop of a simulation: asyncio's interface, virtual time, one callback per step.

It offers what coroutines need to wait for each other and for time (``sleep``, ``timeout``, ``gather``, tasks,
futures, queues, locks, ``to_thread``). Sockets and processes belong to the outside world and are not there:
asking for them raises ``NotImplementedError``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from ..actors import execution
from ..actors.timers import Timer

if TYPE_CHECKING:
    from ..actors.dispatch.base import Dispatcher
    from .baton import Baton

__all__ = ["SimulatedLoop"]

logger = logging.getLogger("asyncio")


class _TimerHandle(asyncio.TimerHandle):
    """A callback that waits for its time; ``timer`` is what brings it."""

    timer: Timer


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs callbacks one per step, in the order they were asked for; the simulation decides when.

    Args:
        baton: the scheduler that the steps are asked of.
        dispatcher: the one that runs actors on this loop; a blocking ask for one of those is refused here.
    """

    def __init__(self, baton: Baton, dispatcher: Dispatcher) -> None:
        self._baton = baton
        self._dispatcher = dispatcher
        self._callbacks: deque[asyncio.Handle] = deque()
        self._scheduled = False
        self._busy = False
        self._closed = False
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def step(self) -> None:
        """Run the callback that has waited longest, on the calling thread."""
        self._baton.trace.append((self._baton.now, "loop", "", ""))
        self._scheduled = False
        if not self._callbacks:
            return
        host = execution.host
        handle = self._callbacks.popleft()
        asyncio._set_running_loop(self)
        host.loop_of = self._dispatcher
        self._busy = True
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._close_generator)
        try:
            handle._run()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            self._busy = False
            host.loop_of = None
            asyncio._set_running_loop(None)
            self._schedule()

    def _schedule(self) -> None:
        # While a callback waits in its middle (a blocking ask), the loop waits with it, as in production.
        if self._callbacks and not self._scheduled and not self._busy:
            self._scheduled = True
            self._baton.add(self)

    # --- what asyncio asks of a loop -------------------------------------------------------------------

    def call_soon(  # type: ignore[override]  # typeshed's type variables for the arguments add nothing here
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run ``callback`` in one of the next steps."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._callbacks.append(handle)
            self._schedule()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # one thread runs at a time

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run ``callback`` in ``delay`` virtual seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run ``callback`` when the virtual clock shows ``when``."""
        handle = _TimerHandle(when, callback, args, self, context)

        def due() -> None:
            if not handle.cancelled():
                self._callbacks.append(handle)
                self._schedule()

        handle.timer = self._baton.timers.add(Timer(when, due))
        return handle

    def _timer_handle_cancelled(self, handle: _TimerHandle) -> None:
        handle.timer.cancel()  # otherwise time would pass for nothing

    def time(self) -> float:
        """The virtual clock, in seconds."""
        return self._baton.now

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, **kwargs: Any) -> asyncio.Task[Any]:
        """Run a coroutine on this loop."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, **kwargs)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def get_task_factory(self) -> None:
        """There is none: tasks are asyncio's own."""

    def run_in_executor(  # type: ignore[override]  # there is one executor: the simulation
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run ``func(*args)`` as a step beside the loop; it may wait in its middle."""
        future = self.create_future()

        def job() -> None:
            try:
                value = func(*args)
            except Exception as error:
                outcome, what = future.set_exception, error
            else:
                outcome, what = future.set_result, value
            if not future.done():
                outcome(what)

        self._baton.add(job)
        return future

    def is_running(self) -> bool:
        """Whether coroutines may still run."""
        return not self._closed

    def is_closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def get_debug(self) -> bool:
        """Asyncio's debug mode is off."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody awaited, as asyncio's own loop does."""
        logger.error(context.get("message", "Unhandled exception"), exc_info=context.get("exception"))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As ``call_exception_handler``."""
        self.call_exception_handler(context)

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An asynchronous generator was left behind: close it in a task of its own, as asyncio's loops do."""
        if not self._closed:
            self.call_soon(lambda: self.create_task(_close(generator)), context=contextvars.Context())

    async def shutdown_asyncgens(self) -> None:
        """Nothing is kept of asynchronous generators."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is no executor."""

    def cancel_all(self) -> bool:
        """Cancel every task that is left; returns whether there was any."""
        left = list(self._tasks)
        for task in left:
            task.cancel()
        return bool(left)

    def close(self) -> None:
        """Run nothing any more."""
        self._closed = True
        self._callbacks.clear()


async def _close(generator: AsyncGenerator[Any, Any]) -> None:
    await generator.aclose()

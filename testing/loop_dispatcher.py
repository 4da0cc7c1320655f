"""Who runs ``async def`` handlers in a simulation: tasks on the simulated loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from ..actors import execution
from ..actors.coroutines import run_async
from .loop import SimulatedLoop

if TYPE_CHECKING:
    from ..actors.actor import Actor
    from ..actors.cell import Cell
    from .simulated import SimulatedDispatcher

__all__ = ["SimulatedLoopDispatcher"]


class SimulatedLoopDispatcher:
    """Runs actors as tasks of the simulated loop, one message per task."""

    assists: ClassVar[bool] = False
    ends_inline: bool = False
    drives_waiters: ClassVar[bool] = True

    def __init__(self, simulation: SimulatedDispatcher) -> None:
        self._simulation = simulation
        self._tasks: dict[Cell, asyncio.Task[None]] = {}
        self.loop = SimulatedLoop(simulation._baton, self)  # type: ignore[abstract]  # the outside world is not there

    def ready(self, cell: Cell) -> None:
        """Run ``cell`` as a task, once it is chosen."""
        self._simulation.ready(cell)

    def launch(self, cell: Cell) -> None:
        """It was chosen: make the task."""
        task = self.start(self._run(cell))
        self._tasks[cell] = task
        task.add_done_callback(lambda done: self._forget(cell, done))

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` on the loop, as nobody in particular."""
        return contextvars.Context().run(self.loop.create_task, work)

    def call(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run ``function`` on the loop, awaiting what it returns; in a callback of the loop it cannot be awaited."""
        if asyncio._get_running_loop() is self.loop:
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
        task = self.start(run_it())
        task.add_done_callback(lambda _: execution.free(done))
        try:
            execution.wait(done, None, cell)
        except BaseException:
            self.loop.call_soon(task.cancel)  # nobody waits for it any more
            raise
        return task.result()

    def block(self, latch: threading.Lock, timeout: float | None) -> bool:
        """Wait in the middle of a callback: everything else on the loop waits too, as in production."""
        return self._simulation.block(latch, timeout)

    def interrupt(self, cell: Cell, actor: Actor, thread_id: int) -> None:
        """Cancel the handler's task."""
        task = self._tasks.pop(cell, None)
        if task is not None:
            self.loop.call_soon(task.cancel)

    def release(self, cell: Cell) -> None:
        """``cell`` has closed: its task ends by itself."""
        self._tasks.pop(cell, None)
        self._simulation.release(cell)

    def stop(self, timeout: float) -> None:
        """The simulation stops the loop with everything else."""

    async def _run(self, cell: Cell) -> None:
        if self._simulation.admits(cell):
            await run_async(cell, 1)

    def _forget(self, cell: Cell, task: asyncio.Task[None]) -> None:
        if self._tasks.get(cell) is task:
            del self._tasks[cell]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._simulation.report(error)

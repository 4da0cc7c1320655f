"""The workers of a processor: they run handlers, on threads or on the event loop, and end those that must not go on."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any, ClassVar, Literal

from ...messages.errors import ErrorKind, TaskError
from ...messages.message import Message
from ...messages.tasks import TaskMessage
from .. import killing
from ..actor import Actor
from ..background import BackgroundTask
from ..handlers import handles
from ..reasons import ActorKilled, WorkCancelled
from .context import as_result
from .crew import Crew, Run, StartRuns
from .engine import Ending
from .following import hands_on
from .router import invoke

__all__ = ["EndRuns", "Why", "Workers"]

LOOK_EVERY = 0.1
"""Seconds between two looks whether an attempt has passed its deadline."""
SIMULATED_LOOK = 0.5
"""The same in a simulation, where each look is a step."""
STRIKE_AGAIN, STRIKE_RARELY = 0.005, 0.5
"""Seconds between two tries to interrupt a handler where it may be interrupted, at first and in the long run."""

Why = Literal["cancelled", "deadline", "lease", "shutdown"]


class EndRuns(Message[None]):
    """Cancel these attempts; ``lease``: without a word, they count no longer; ``shutdown``: and requeue them."""

    runs: list[Any]
    why: Why


class Look(Message[None]):
    """See whether an attempt has passed its deadline."""


class Slot:
    """A place where one ``def`` handler runs at a time, on a thread of its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.run: Run | None = None
        self.task: BackgroundTask[None] | None = None
        self.doomed = False
        self.over = False
        self.thread_id = 0


class Workers(Actor):
    """Runs handlers. A handler that must end is interrupted, and its slot replaced by another one.

    Args:
        crew: what the parts of the processor share.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self._crew = crew
        self._slots: set[Slot] = set()

    def on_start(self) -> None:
        """Take orders. What an earlier incarnation was at is requeued: its handlers ended with it."""
        self._crew.has_slots = False
        self._requeue(self._crew.runs())
        self._crew.workers = self.actor_ref
        self.every(SIMULATED_LOOK if self._crew.simulated else LOOK_EVERY, Look())

    @handles
    def start_runs(self, message: StartRuns) -> None:
        """Make attempts."""
        for run in message.runs:
            if run.wait > 0:
                seconds, run.wait = run.wait, 0.0
                self.after(seconds, StartRuns([run]))
                continue
            route = self._crew.router.route(run.lease.message.type)
            if route.is_async:
                run.work = self.spawn(self._await_handler, run)
            else:
                self._fill_slots()
                self._crew.work.put_all([run])

    @handles
    def end_runs(self, message: EndRuns) -> None:
        """Cancel attempts."""
        for run in message.runs:
            self._end(run, message.why)

    @handles
    def look(self, _message: Look) -> None:
        """End what has passed its deadline, or its lease: of the latter nothing is told where the storage is away."""
        clock, now = self._crew.clock(), self._crew.engine.now()
        for run in self._crew.runs():
            if run.lease.expires_at <= now:
                self._end(run, "lease")
            elif run.due <= clock:
                self._end(run, "deadline")

    def _end(self, run: Run, why: Why) -> None:
        if not self._crew.claim(run):
            return
        run.context._cancelled = True
        work = run.work
        if isinstance(work, Slot):
            self._doom(work, run)
        elif work is not None:
            work.cancel()
        message = run.lease.message
        if why == "lease":
            self._crew.settled()
        elif why == "shutdown":
            self._crew.end(Ending(run.lease, "requeue"))
        elif why == "deadline":
            self.spawn(self._crew.fail, run, _too_late(message))
        elif why == "cancelled":
            text = f"task {message.id!r} of queue {message.queue} was cancelled"
            self.spawn(self._cancelled, run, TaskError(text, kind=ErrorKind.TASK_CANCELLED))

    def _cancelled(self, run: Run, error: TaskError) -> None:
        if self._crew.settings.after_cancel == "retry":
            self._crew.fail(run, error)
            return
        try:
            self._crew.settings.tell_failure(run.lease.message, error)
        except BaseException:
            self._crew.settled()
            raise
        self._crew.end(Ending(run.lease, "archive", error=f"{error.code.hex} {error.kind}: {error}"))

    def _requeue(self, runs: list[Run]) -> None:
        for run in runs:
            if self._crew.claim(run):
                self._crew.end(Ending(run.lease, "requeue"))

    def _is_too_late(self, run: Run) -> bool:
        """Whether its deadline had passed before its handler could begin: then the attempt has failed."""
        if run.due > self._crew.clock():
            return False
        if self._crew.claim(run):
            run.context._cancelled = True
            self._crew.fail(run, _too_late(run.lease.message))
        return True

    # --- def handlers ----------------------------------------------------------------------------------

    def _fill_slots(self) -> None:
        for _ in range(self._crew.settings.workers - len(self._slots)):
            slot = Slot()
            self._slots.add(slot)
            slot.task = self.spawn(self._work, slot)
        self._crew.has_slots = True

    def _work(self, slot: Slot) -> None:
        """Run one handler after the other, until the slot is given up."""
        slot.thread_id = threading.get_ident()
        crew = self._crew
        try:
            while True:
                run = crew.work.take()
                slot.run = run
                run.work = slot
                if not run.context.cancelled and crew.holds(run) and not self._is_too_late(run):
                    self._call_handler(run)
                with slot.lock:
                    slot.run = None
                    if slot.doomed:
                        return
        finally:
            slot.over = True

    def _call_handler(self, run: Run) -> None:
        try:
            result = self._crew.router.route(run.lease.message.type).call(run.context)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("the handler returned a coroutine: declare it with async def")
            ending = _done(run, result)
        except (WorkCancelled, ActorKilled) as error:
            if run.context.cancelled or not self._crew.claim(run):
                raise
            self._crew.fail(run, error)
        except BaseException as error:  # a SystemExit is the end of the attempt, not of the process
            if self._crew.claim(run):
                self._crew.fail(run, error)
        else:
            self._crew.finish(run, ending)

    def _doom(self, slot: Slot, run: Run) -> None:
        """Have the handler interrupted that runs in a slot, and the slot not used again."""
        with slot.lock:
            if slot.run is not run:
                return
            slot.doomed = True
        self._slots.discard(slot)
        if slot.task is not None:
            slot.task.cancel()
        self._strike(slot, STRIKE_AGAIN)
        self._fill_slots()

    def _strike(self, slot: Slot, again: float) -> None:
        """Raise ``WorkCancelled`` in the handler; once, where no code of the runtime is hit."""
        if slot.over or killing.inject_into_call(
            slot.thread_id, WorkCancelled, invoke.__code__, self._strike, slot, STRIKE_AGAIN
        ):
            return
        self._cell.runtime.after(again, lambda: self._strike(slot, min(again * 2, STRIKE_RARELY)))

    # --- async def handlers ----------------------------------------------------------------------------

    async def _await_handler(self, run: Run) -> None:
        if not self._crew.holds(run) or self._is_too_late(run):
            return
        try:
            ending = _done(run, await self._crew.router.route(run.lease.message.type).call(run.context))
        except asyncio.CancelledError as error:
            if run.context.cancelled or not self._crew.claim(run):
                raise
            self._crew.fail(run, error)
        except BaseException as error:
            if self._crew.claim(run):
                self._crew.fail(run, error)
        else:
            self._crew.finish(run, ending)


def _too_late(message: TaskMessage) -> TaskError:
    text = f"task {message.id!r} of queue {message.queue} did not end before its deadline"
    return TaskError(text, kind=ErrorKind.TASK_DEADLINE_PASSED)


def _done(run: Run, result: object) -> Ending:
    """How an attempt ends whose handler returned ``result``, which counts only where it is kept or handed on."""
    message = run.lease.message
    if not (message.retention or (message.headers and hands_on(message.headers))):
        return Ending(run.lease, "done")
    return Ending(run.lease, "done", result=run.context._written if result is None else as_result(result))

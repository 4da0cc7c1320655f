"""The child that stands for a task: it begins the work, and ends as the work does."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..actors.actor import Actor
from ..actors.background import BackgroundTask
from ..actors.handlers import handles
from ..actors.lifecycle import IGNORE
from ..actors.reasons import NORMAL, SHUTDOWN, ExitReason
from ..messages.errors import TaskCrashed
from ..messages.message import Message
from .task import Task

__all__ = ["Job", "TaskActor"]


@dataclass(frozen=True, slots=True)
class Job:
    """What a task is to do.

    Attributes:
        work: a function or coroutine function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        context: the context variables of whoever submitted it; the work sees them.
        task: who is told what came of it, if anybody is.
    """

    work: Callable[..., Any]
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    context: contextvars.Context
    task: Task[Any] | None


class WorkEnded(Message[None]):
    """The code of the work runs no more."""

    work: Any


class TaskActor(Actor):
    """Stands for a task among its supervisor's children. Its incarnation owns the work, which is cancelled with it."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self.work: BackgroundTask[Any] | None = None

    def on_start(self) -> Any:
        """Begin the work, unless the task was cancelled before it came to this."""
        from ..actors.launching import launch  # asyncio comes with it: only who has tasks pays for that

        job = self._job
        if job.task is not None and job.task.cancelled:
            return IGNORE
        self.work = job.context.run(launch, self._cell.runtime, self, job.work, job.args, job.kwargs)
        if job.task is not None:
            job.task._adopt(self.work)
        self.work.ended.on_done(self._note_end)
        return None

    def _note_end(self) -> None:
        if not self._fenced:
            self._cell.put_always(WorkEnded(self.work))

    @handles
    def _end(self, message: WorkEnded) -> None:
        work: BackgroundTask[Any] = message.work
        if work is self.work:  # else it is that of an earlier incarnation
            self.stop(_reason(work))


def _reason(work: BackgroundTask[Any]) -> ExitReason:
    error = work.result.error
    if error is None:
        return NORMAL
    # Cancelled work has failed with the cancellation, or with the crash of a task that it was linked to.
    if work.cancelled and not isinstance(error, TaskCrashed):
        return SHUTDOWN
    return ExitReason.of(error)

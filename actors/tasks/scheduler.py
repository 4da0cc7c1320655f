"""The scheduler: enqueues periodic tasks when they are due. Of several on the same queues one leads."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import ClassVar, Final, Literal

from ...messages.errors import ActorError, ErrorKind, SpecInvalid, TaskError, TaskIdConflict
from ...messages.message import Message
from ..embedded import Embedded
from ..handlers import handles
from ..service import ServiceActor
from .crew import logger
from .engine import EnqueueEvent, SchedulerEntry, TaskEngine
from .opening import DEFAULT_URL, VARIABLE, open_engine
from .options import plan
from .periodic import Periodic, option_texts

__all__ = ["PeriodicProvider", "Scheduler"]

LEADER: Final = "scheduler"
TICK: Final = 1.0
"""Seconds between two looks at what is due."""
REPORT_EVERY: Final = 10.0
LEAD_SECONDS: Final = 20.0
"""How long a leader that is not heard of any more is waited for."""
CATCH_UP: Final = 60.0
"""Seconds after which what nobody enqueued in time is not enqueued any more."""

PeriodicProvider = Callable[[], Iterable[Periodic]]
"""Says which periodic tasks there are; asked again and again."""


class Tick(Message[None]):
    """See what is due."""


class _Entry:
    """A periodic task, and when it is due next."""

    def __init__(self, task: Periodic, now: float) -> None:
        self.task = task
        self.id = task.id
        self.spec = task.spec
        self.prev = 0.0
        self.next = self.spec.after(now)


class Scheduler(ServiceActor[TaskEngine]):
    """Enqueues periodic tasks.

    Several schedulers may be given the same tasks: the one that leads enqueues, and another one takes over when it is
    not heard of for 20 seconds, with what became due meanwhile. Each due instant is enqueued once.

    Args:
        tasks: the periodic tasks; or a function that says which there are. It must succeed when the scheduler starts;
            later, a failure leaves everything as it is.
        url: where the queues are; None takes ``UNDERSTUDY_TASKS_URL``, or else ``sqlite:///understudy.db``.
        refresh: seconds after which the function is asked again.

    Raises:
        SpecInvalid: a periodic task is given twice, or is none.
    """

    variable: ClassVar[str] = VARIABLE
    default_url: ClassVar[str] = DEFAULT_URL
    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(
        self, tasks: Iterable[Periodic] | PeriodicProvider, url: str | None = None, refresh: float = 180.0
    ) -> None:
        super().__init__(url)
        self._provider: PeriodicProvider = tasks if callable(tasks) else (lambda fixed=tuple(tasks): fixed)  # type: ignore[misc]
        self._refresh = refresh
        self._entries: dict[str, _Entry] = {}
        self._leads = False
        self._refresh_at = self._report_at = 0.0

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> TaskEngine:
        return open_engine(url, embedded, clock)

    def on_start(self) -> None:
        """Read the periodic tasks, and begin to look."""
        super().on_start()
        unique = self._cell.runtime.new_urn().rpartition(":")[2]
        self._id = f"{socket.gethostname()}:{os.getpid()}:{unique}"
        now = self._backend.now()
        self._read(now)
        self._refresh_at = now + self._refresh
        self.continue_with(Tick())

    def on_stop(self) -> None:
        """Let another one lead."""
        try:
            self._backend.resign(LEADER, self._id)
            self._backend.report_schedule(self._id, [], 0.0)
        except ActorError as error:
            logger.warning("%s: %s", self._cell.path, error)
        super().on_stop()

    @handles
    def tick(self, _message: Tick) -> None:
        """Enqueue what is due, if this one leads."""
        try:
            self._look(self._backend.now())
        except ActorError as error:  # the storage is away: what is due meanwhile is caught up
            logger.warning("%s: %s", self._cell.path, error)
        self.after(TICK, Tick())

    def _look(self, now: float) -> None:
        if now >= self._refresh_at:
            self._refresh_at = now + self._refresh
            try:
                self._read(now)
            except Exception:
                logger.exception(
                    "%s: the periodic tasks could not be read again, and stay as they are", self._cell.path
                )
        led, self._leads = self._leads, self._backend.lead(LEADER, self._id, LEAD_SECONDS)
        if self._leads and not led:
            self._take_over(now)
        for entry in self._entries.values():
            self._advance(entry, now)
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY
            shown = [_show(entry) for entry in self._entries.values()]
            self._backend.report_schedule(self._id, shown, LEAD_SECONDS)

    def _take_over(self, now: float) -> None:
        """Go on where the leader before this one ended."""
        for entry in self._entries.values():
            last = self._backend.enqueued(entry.id, 1, 1)
            if last:
                entry.prev = last[0].at
                entry.next = entry.spec.after(max(entry.prev, now - CATCH_UP))

    def _advance(self, entry: _Entry, now: float) -> None:
        """Enqueue what is due. One that does not lead only forgets what is too old, for it may have to take over."""
        entry.next = max(entry.next, entry.spec.after(now - CATCH_UP))
        while self._leads and entry.next <= now:
            due = entry.next
            event = self._enqueue(entry, due, now)
            entry.prev, entry.next = due, entry.spec.after(due)
            if event is not None:  # now that it counts as done: this may fail
                self._backend.note_enqueued(entry.id, event)

    def _enqueue(self, entry: _Entry, due: float, now: float) -> EnqueueEvent | None:
        """Enqueue for one due instant; what is to be noted of it.

        The id keeps a scheduler that only thinks it leads from doing it again, and one that does not know whether its
        predecessor did; also when the task is done by then.
        """
        options = {"task_id": f"{entry.id}:{int(due)}", **entry.task.options}
        task = plan(entry.task.payload, options, now)
        if "task_id" not in entry.task.options:
            task = task._replace(once_for=2 * CATCH_UP)
        (outcome,) = self._backend.enqueue([task])
        if isinstance(outcome, TaskIdConflict):
            return None
        if isinstance(outcome, TaskError):
            logger.warning("%s: %s was due and not enqueued: %s", self._cell.path, entry.task.schedule, outcome)
            return None
        return EnqueueEvent(outcome.id, due)

    def _read(self, now: float) -> None:
        """Take what is new, and leave out what is gone; what stays keeps its next instant."""
        entries: dict[str, _Entry] = {}
        for task in self._provider():
            if not isinstance(task, Periodic):
                raise SpecInvalid(f"{task!r:.200} is no Periodic", kind=ErrorKind.TASK_PROCESSING_INVALID)
            entry = self._entries.get(task.id) or _Entry(task, now)
            if entry.id in entries:
                raise SpecInvalid(f"{task!r:.200} is given twice", kind=ErrorKind.TASK_PROCESSING_INVALID)
            entries[entry.id] = entry
        self._entries = entries


def _show(entry: _Entry) -> SchedulerEntry:
    message = plan(entry.task.payload, entry.task.options, 0.0).message
    options = tuple(option_texts(entry.task.options))
    return SchedulerEntry(entry.id, entry.task.schedule, message.type, message.payload, options, entry.next, entry.prev)

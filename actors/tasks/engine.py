"""The engine protocol: what queues of tasks are kept in. Its data model is asynq's.

A task is in exactly one state of its queue, and each state is a list ordered by a number: the position of a pending
task, the end of an active one's lease, the instant at which a scheduled or failed one is due, at which an archived one
was archived, at which a completed one is deleted, at which an aggregating one was added. All instants are unix
seconds. Every operation takes many tasks at once; each task changes completely or not at all.

An attempt begins when a processor dequeues a task: it gets a lease, which it must extend, and a token. Nothing that
carries an older token, or comes after the lease has ended, changes the task any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

from ...messages.errors import TaskError
from ...messages.tasks import TaskInfo, TaskMessage, TaskState
from .options import NewTask

__all__ = [
    "ARCHIVE_SECONDS",
    "ARCHIVE_SIZE",
    "LEASE_SECONDS",
    "STATS_DAYS",
    "Ending",
    "EnqueueEvent",
    "How",
    "Lease",
    "QueueInfo",
    "SchedulerEntry",
    "ServerInfo",
    "TaskEngine",
    "Turn",
    "WorkerInfo",
]

LEASE_SECONDS: Final = 30
"""How long an attempt may go on without its lease being extended."""
ARCHIVE_SECONDS: Final = 90 * 86_400
"""How long archived tasks are kept."""
ARCHIVE_SIZE: Final = 9_999
"""How many archived tasks are kept in a queue."""
STATS_DAYS: Final = 90
"""How long the counters of a day are kept."""

How = Literal["done", "retry", "archive", "requeue", "defer"]


class Lease(NamedTuple):
    """An attempt at a task.

    Attributes:
        message: the task as it was when the attempt began.
        token: tells this attempt from earlier and later ones.
        expires_at: unix seconds; later once it is extended.
    """

    message: TaskMessage
    token: int
    expires_at: float


class Ending(NamedTuple):
    """How an attempt ended.

    Attributes:
        lease: the attempt.
        how: ``done``: deleted, or completed where the task has a retention. ``retry``: again at ``at``.
            ``archive``: kept, not tried again. ``requeue``: as if it had not been dequeued, at the head of its queue.
            ``defer``: as if it had not been dequeued, but scheduled for ``at``.
        error: the text of what went wrong.
        at: unix seconds, for ``retry`` and ``defer``.
        failure: whether a ``retry`` counts as a failure: one of ``max_retry``, and in the statistics.
        result: what is stored with a completed task; None: what the handler has written, if anything.
        forget: ``done`` without regard to the retention.
        next: what is stored with the end, if that is accepted. An engine that cannot do both in one step stores it
            first; its ``once_for`` makes that harmless. One that is refused, as it is there already, is let be.
    """

    lease: Lease
    how: How
    error: str = ""
    at: float = 0.0
    failure: bool = True
    result: bytes | None = None
    forget: bool = False
    next: NewTask | None = None


class Turn(NamedTuple):
    """Whether something may begin.

    Attributes:
        granted: whether it may.
        at: unix seconds, when; if it may not, when it should ask again.
    """

    granted: bool
    at: float


class QueueInfo(NamedTuple):
    """A queue at one moment. ``size`` is the sum of all states but ``completed`` and ``archived`` are in it, too.

    Attributes:
        sizes: how many tasks are in each state.
        latency: seconds that the oldest pending task has been waiting.
        processed, failed: attempts today (UTC); ``processed_total`` and ``failed_total`` ever.
        paused: whether nothing is dequeued from it.
        groups: how many groups there are.
    """

    name: str
    sizes: dict[TaskState, int]
    latency: float
    processed: int
    failed: int
    processed_total: int
    failed_total: int
    paused: bool
    groups: int

    @property
    def size(self) -> int:
        """All tasks of the queue."""
        return sum(self.sizes.values())


class WorkerInfo(NamedTuple):
    """An attempt that is being made, as its processor reports it. Instants in unix seconds; 0: no deadline."""

    task_id: str
    task_type: str
    queue: str
    payload: bytes
    started_at: float
    deadline: float


class ServerInfo(NamedTuple):
    """A processor, as it reports itself."""

    id: str
    host: str
    pid: int
    concurrency: int
    queues: dict[str, int]
    strict_priority: bool
    status: str
    started_at: float
    workers: tuple[WorkerInfo, ...] = ()


class SchedulerEntry(NamedTuple):
    """A periodic task, as its scheduler reports it. ``prev``: 0 when it never ran."""

    id: str
    spec: str
    task_type: str
    payload: bytes
    options: tuple[str, ...]
    next: float
    prev: float


class EnqueueEvent(NamedTuple):
    """One enqueueing of a periodic task."""

    task_id: str
    at: float


class TaskEngine(Protocol):
    """Keeps the queues. Threads may share one; several processes may have one each on the same queues.

    Every method may raise ``StorageError`` where the storage cannot be reached; then nothing has changed, or it is
    not known whether it has.
    """

    def now(self) -> float:
        """The clock that leases are measured with: unix seconds."""
        ...

    # --- the way of a task -----------------------------------------------------------------------------

    def enqueue(self, tasks: Sequence[NewTask], timeout: float | None = None) -> list[TaskInfo | TaskError]:
        """Store tasks: scheduled if their time is to come, else aggregating if they have a group, else pending.

        Args:
            tasks: what to store.
            timeout: seconds to wait for the storage, if that is less than what the engine waits anyhow.

        Returns:
            for each where it stands, or ``TaskDuplicate``, ``TaskIdConflict``; a refused one leaves no trace. The id
            of a task with ``once_for`` stays taken for so long, for others with ``once_for``.
        """
        ...

    def dequeue(self, queues: Sequence[str], count: int) -> list[Lease]:
        """Begin attempts at up to ``count`` pending tasks, the first queue's oldest first; a paused one gives none."""
        ...

    def finish(self, endings: Sequence[Ending], *, recovering: bool = False) -> list[bool]:
        """End attempts.

        Args:
            endings: how each ended.
            recovering: they are others', which let their leases run out.

        Returns:
            for each whether it was accepted: it is the task's latest attempt and, unless ``recovering``, its lease
            has not ended; if ``recovering``, it has.
        """
        ...

    def turn(self, endings: Sequence[Ending], queues: Sequence[str], count: int) -> tuple[list[bool], list[Lease]]:
        """``finish``, then ``dequeue``, at once where that can be: in one transaction, in one round trip."""
        ...

    def extend(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """Extend leases to 30 seconds from now; None for an attempt that has lost its lease."""
        ...

    def write_result(self, lease: Lease, result: bytes) -> bool:
        """Store a result while the attempt goes on; False if it has lost its lease."""
        ...

    def expired(self, queues: Sequence[str]) -> list[Lease]:
        """Attempts whose lease has ended, or that have none."""
        ...

    def forward(self, queues: Sequence[str]) -> int:
        """Make scheduled and failed tasks that are due pending, or aggregating; how many."""
        ...

    def sweep(self, queues: Sequence[str], batch: int) -> int:
        """Delete what is kept no longer: up to ``batch`` completed tasks of each queue; how many of those."""
        ...

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        """Wait until a task may have become pending, ``wake`` is called, or ``timeout`` seconds have passed.

        ``queues`` may be none.
        """
        ...

    def wake(self) -> None:
        """Let every ``wait`` of this engine return."""
        ...

    def admit(self, limit: str, every: float, burst: int, tasks: Sequence[str], patience: float) -> list[Turn]:
        """Ask whether tasks may begin, of which one may every so often. The first ones come first.

        For each limit the engine keeps two instants: ``next``, from which one more may begin, and ``tail``, the end of
        the line of those that could not; and the place, an instant, of each in that line. For each task in turn, ``at``
        is ``max(now, next - (burst - 1) * every)``, and not before its place.

        - It is granted at ``at`` if that is within ``patience``, and it is in line or ``tail`` is over. ``next``
          becomes ``max(next, at) + every``, and it leaves the line.
        - Else it keeps its place in line, if it has one that is yet to come.
        - Else its place is ``max(at, tail)``, and ``tail`` becomes ``every`` later.

        Places that are an hour over are forgotten.

        Args:
            limit: the limit's name.
            every: seconds between two.
            burst: how many may begin at once after a pause.
            tasks: what is to begin; an empty text gets no place in line, and stands for what need not come back.
            patience: seconds; who may begin within so long is granted.

        Returns:
            for each whether it may begin, and when.
        """
        ...

    # --- groups ----------------------------------------------------------------------------------------

    def gather(
        self, queue: str, group: str, *, grace: float, max_delay: float, max_size: int
    ) -> tuple[str, list[TaskMessage]] | None:
        """Take a group's tasks out to be made into one, if it is full, old or quiet enough.

        Args:
            queue: the queue's name.
            group: the group's name.
            grace: seconds since the newest was added.
            max_delay: seconds since the oldest was added; 0: no limit.
            max_size: as many as are taken at once; 0: no limit.

        Returns:
            the id of the set and its tasks, oldest first; None: not yet. The set must be dropped within 2 minutes.
        """
        ...

    def drop_set(self, queue: str, set_id: str, made: NewTask | None = None) -> bool:
        """The set has been made into ``made``, which is stored: delete its tasks. False: it was given back before."""
        ...

    def reclaim(self, queues: Sequence[str]) -> int:
        """Give tasks of sets that nobody dropped in time back to their groups; how many."""
        ...

    def groups(self, queue: str) -> list[str]:
        """The names of a queue's groups, sorted."""
        ...

    # --- looking and managing --------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        ...

    def queue_info(self, queue: str) -> QueueInfo:
        """A queue at this moment. Raises ``TaskNotFound``."""
        ...

    def group_sizes(self, queue: str) -> dict[str, int]:
        """How many tasks each of a queue's groups has, by name; sets that are being aggregated are in none."""
        ...

    def memory_usage(self, queue: str) -> int:
        """About how many bytes a queue takes up, from a sample of its tasks. Raises ``TaskNotFound``."""
        ...

    def cluster_slot(self, queue: str) -> int | None:
        """The slot of a queue's keys; None where there are no slots."""
        ...

    def cluster_nodes(self, queue: str) -> list[str]:
        """Host and port of each node that has the queue's slot, the master first; none where there are no slots."""
        ...

    def history(self, queue: str, days: int) -> list[tuple[str, int, int]]:
        """Day (UTC, YYYY-MM-DD), processed and failed, of the last ``days`` days, today first."""
        ...

    def tasks(self, queue: str, state: TaskState, page: int = 1, size: int = 30, group: str = "") -> list[TaskInfo]:
        """A page, counted from 1, of a queue's tasks in a state, in their order."""
        ...

    def task(self, queue: str, task_id: str) -> TaskInfo:
        """One task. Raises ``TaskNotFound``."""
        ...

    def run(self, queue: str, task_id: str) -> None:
        """Make it pending now. Raises ``TaskNotFound``, or ``TaskRefused`` where it is active or pending."""
        ...

    def archive(self, queue: str, task_id: str) -> None:
        """Archive it. Raises ``TaskNotFound``, or ``TaskRefused`` where it is active or archived."""
        ...

    def delete(self, queue: str, task_id: str) -> None:
        """Delete it. Raises ``TaskNotFound``, or ``TaskRefused`` where it is active."""
        ...

    def run_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """Make all of a state pending; how many."""
        ...

    def archive_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """Archive all of a state; how many."""
        ...

    def delete_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """Delete all of a state; how many."""
        ...

    def update_payload(self, queue: str, task_id: str, payload: bytes) -> None:
        """Replace a scheduled task's payload. Raises ``TaskNotFound``, or ``TaskRefused`` where it is not scheduled."""
        ...

    def pause(self, queue: str) -> None:
        """Let nothing be dequeued from it. Raises ``TaskRefused`` where it is paused."""
        ...

    def unpause(self, queue: str) -> None:
        """Take a pause back. Raises ``TaskRefused`` where it is not paused."""
        ...

    def remove_queue(self, queue: str, *, force: bool = False) -> None:
        """Remove a queue. Raises ``TaskNotFound``; ``TaskRefused`` where it has tasks, with force: active ones."""
        ...

    # --- processes -------------------------------------------------------------------------------------

    def cancel(self, task_id: str) -> None:
        """Ask every processor to cancel its attempt at this task."""
        ...

    def cancellations(self, after: Any, timeout: float) -> tuple[Any, list[str]]:
        """Wait for ids to cancel.

        Args:
            after: what the last call returned first; None: from now on.
            timeout: seconds.

        Returns:
            where to go on, and the ids.
        """
        ...

    def beat(self, server: ServerInfo, ttl: float) -> None:
        """Report a processor; the report holds for ``ttl`` seconds."""
        ...

    def leave(self, server_id: str) -> None:
        """The processor has ended."""
        ...

    def servers(self) -> list[ServerInfo]:
        """The processors that report themselves."""
        ...

    def lead(self, name: str, holder: str, ttl: float) -> bool:
        """Become, or stay, the leader of that name for ``ttl`` seconds; False: somebody else is."""
        ...

    def resign(self, name: str, holder: str) -> None:
        """Lead no longer."""
        ...

    def report_schedule(self, scheduler_id: str, entries: Sequence[SchedulerEntry], ttl: float) -> None:
        """Report a scheduler's periodic tasks; the report holds for ``ttl`` seconds."""
        ...

    def schedule(self) -> list[SchedulerEntry]:
        """The periodic tasks that schedulers report."""
        ...

    def note_enqueued(self, entry_id: str, event: EnqueueEvent) -> None:
        """Remember that a periodic task was enqueued; the latest 1,000 are kept."""
        ...

    def enqueued(self, entry_id: str, page: int = 1, size: int = 30) -> list[EnqueueEvent]:
        """When a periodic task was enqueued, the latest first."""
        ...

    def close(self) -> None:
        """End the connection; what is under way ends with an error."""
        ...

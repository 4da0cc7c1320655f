"""The inspector: looks at queues, and manages them. It needs no actor system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Unpack

from ...messages.codec import encode
from ...messages.errors import ErrorKind, TaskError
from ...messages.tasks import RawTask, TaskInfo, TaskOptions, TaskPayload, TaskState
from .engine import EnqueueEvent, QueueInfo, SchedulerEntry, ServerInfo, TaskEngine
from .opening import DEFAULT_URL, VARIABLE, open_engine
from .options import plan

__all__ = ["Inspector"]

PAGE = 30
"""Tasks on a page, unless said otherwise."""


class Inspector:
    """Looks at queues, and manages them. Threads may share one; use it as a context manager, or call ``close``.

    ::

        with Inspector() as inspector:
            for info in inspector.tasks("default", "archived"):
                inspector.run("default", info.id)

    A task that is active can only be cancelled; what its state does not allow raises ``TaskRefused``, a task or queue
    that is not there ``TaskNotFound``, and every method ``StorageError`` where the storage cannot be reached.

    Args:
        url: where the queues are; None takes ``UNDERSTUDY_TASKS_URL``, or else ``sqlite:///understudy.db``.

    Raises:
        UrlInvalid: there is no such engine.
        StorageError: it cannot be opened.
    """

    def __init__(self, url: str | None = None) -> None:
        self._engine: TaskEngine = open_engine(url or os.environ.get(VARIABLE) or DEFAULT_URL)

    def __enter__(self) -> Inspector:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._engine.close()

    # --- queues ----------------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """The names of all queues."""
        return self._engine.queues()

    def queue(self, queue: str) -> QueueInfo:
        """How many tasks of each state a queue has, how long the oldest waits, what was done today and ever."""
        return self._engine.queue_info(queue)

    def history(self, queue: str, days: int) -> list[tuple[str, int, int]]:
        """Day (UTC), processed and failed of the last ``days`` days, today first."""
        return self._engine.history(queue, _number("days", days, 1))

    def groups(self, queue: str) -> list[str]:
        """The names of a queue's groups."""
        return self._engine.groups(queue)

    def group_sizes(self, queue: str) -> dict[str, int]:
        """How many tasks each of a queue's groups has, by name."""
        return self._engine.group_sizes(queue)

    def memory_usage(self, queue: str) -> int:
        """About how many bytes a queue takes up, from a sample of its tasks."""
        return self._engine.memory_usage(queue)

    def cluster_slot(self, queue: str) -> int | None:
        """The slot of a queue's keys in a Redis Cluster; None where there are no slots."""
        return self._engine.cluster_slot(queue)

    def cluster_nodes(self, queue: str) -> list[str]:
        """``host:port`` of each node of a Redis Cluster that has a queue, the master first; else none."""
        return self._engine.cluster_nodes(queue)

    def pause(self, queue: str) -> None:
        """Let no task of it be begun; those that are being processed go on."""
        self._engine.pause(queue)

    def unpause(self, queue: str) -> None:
        """Take a pause back."""
        self._engine.unpause(queue)

    def remove_queue(self, queue: str, *, force: bool = False) -> None:
        """Remove a queue that has no tasks; with ``force`` with all that wait in it, but never with active ones."""
        self._engine.remove_queue(queue, force=force)

    # --- tasks -----------------------------------------------------------------------------------------

    def tasks(
        self, queue: str, state: TaskState | str, *, page: int = 1, size: int = PAGE, group: str = ""
    ) -> list[TaskInfo]:
        """A page of the tasks in a state, in their order.

        Args:
            queue: the queue's name.
            state: such as ``pending``.
            page: counted from 1.
            size: tasks on a page.
            group: of aggregating tasks, only those of this group.
        """
        return self._engine.tasks(queue, _state(state), _number("page", page, 1), _number("size", size, 1), group)

    def each(self, queue: str, state: TaskState | str) -> Iterator[TaskInfo]:
        """All tasks in a state, read page by page. What changes its place meanwhile may come twice, or not at all."""
        page = 1
        while found := self.tasks(queue, state, page=page, size=1_000):
            yield from found
            page += 1

    def task(self, queue: str, task_id: str) -> TaskInfo:
        """One task, with its result."""
        return self._engine.task(queue, task_id)

    def enqueue(self, payload: TaskPayload[Any] | RawTask, **options: Unpack[TaskOptions]) -> TaskInfo:
        """Put a task into its queue, as a ``Distributor`` does; programs that have a system ask that.

        Raises:
            TaskError, CodecError: as ``ActorTaskDistributor.distribute``.
        """
        (outcome,) = self._engine.enqueue([plan(payload, options, self._engine.now())])
        if isinstance(outcome, TaskError):
            raise outcome
        return outcome

    def run(self, queue: str, task_id: str) -> None:
        """Make a task pending now."""
        self._engine.run(queue, task_id)

    def archive(self, queue: str, task_id: str) -> None:
        """Archive a task."""
        self._engine.archive(queue, task_id)

    def delete(self, queue: str, task_id: str) -> None:
        """Delete a task, and the lock that it holds."""
        self._engine.delete(queue, task_id)

    def run_all(self, queue: str, state: TaskState | str, *, group: str = "") -> int:
        """Make all tasks in a state pending; how many these were."""
        return self._engine.run_all(queue, _state(state), group)

    def archive_all(self, queue: str, state: TaskState | str, *, group: str = "") -> int:
        """Archive all tasks in a state; how many these were."""
        return self._engine.archive_all(queue, _state(state), group)

    def delete_all(self, queue: str, state: TaskState | str, *, group: str = "") -> int:
        """Delete all tasks in a state; how many these were."""
        return self._engine.delete_all(queue, _state(state), group)

    def update_payload(self, queue: str, task_id: str, payload: TaskPayload[Any] | bytes) -> None:
        """Replace the payload of a scheduled task. Its lock, if it has one, stays that of the payload before."""
        body = payload if isinstance(payload, bytes) else encode(payload)
        self._engine.update_payload(queue, task_id, body)

    def cancel(self, task_id: str) -> None:
        """Ask every processor to cancel its attempt at this task. Nobody says whether one makes any."""
        self._engine.cancel(task_id)

    # --- processes -------------------------------------------------------------------------------------

    def servers(self) -> list[ServerInfo]:
        """The processors that run, and what each works on."""
        return self._engine.servers()

    def schedule(self) -> list[SchedulerEntry]:
        """The periodic tasks of all schedulers that run."""
        return self._engine.schedule()

    def enqueued(self, entry_id: str, *, page: int = 1, size: int = PAGE) -> list[EnqueueEvent]:
        """When a periodic task was enqueued, the latest first."""
        return self._engine.enqueued(entry_id, _number("page", page, 1), _number("size", size, 1))


def _state(state: TaskState | str) -> TaskState:
    with _as_option_error():
        return TaskState(state)


def _number(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise TaskError(f"{name}={value!r}: give a whole number from {least}", kind=ErrorKind.TASK_OPTION_INVALID)
    return value


@contextmanager
def _as_option_error() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        known = ", ".join(TaskState)
        raise TaskError(f"{error}: states are {known}", kind=ErrorKind.TASK_OPTION_INVALID, cause=error) from error

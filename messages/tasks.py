"""Durable tasks: what is distributed, how it is written down, and what is said about it.

A payload is a message with a task type. In a queue it travels as a `TaskMessage`, whose fields are those of asynq's
protobuf message: what is written here can be read by a Go process, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final, TypedDict, TypeVar

import msgspec

from .message import Message

__all__ = [
    "DEFAULT_MAX_RETRY",
    "DEFAULT_QUEUE",
    "DEFAULT_TIMEOUT",
    "NO_PAYLOAD",
    "DistributeTask",
    "DistributeTasks",
    "Duration",
    "Instant",
    "RawTask",
    "TaskInfo",
    "TaskMessage",
    "TaskOptions",
    "TaskPayload",
    "TaskState",
]

R_co = TypeVar("R_co", covariant=True)

DEFAULT_QUEUE: Final = "default"
DEFAULT_MAX_RETRY: Final = 25
DEFAULT_TIMEOUT: Final = 1800
"""Seconds that a handler has, where a task sets neither a timeout nor a deadline."""

Duration = float | timedelta
"""Seconds, or a timedelta."""
Instant = float | datetime
"""Unix seconds, or a datetime with a time zone."""


class TaskOptions(TypedDict, total=False):
    """How a task is to be processed; all are optional.

    Attributes:
        max_retry: how often it is tried again after a failure; below 0 counts as 0. 25 unless said.
        queue: the queue's name; ``default`` unless said.
        task_id: its id, unique in the queue for as long as the task is there; a uuid4 unless said.
        timeout: how long one attempt may take. 30 minutes where neither this nor ``deadline`` is given.
        deadline: when an attempt must have ended. With both, the earlier one counts.
        unique: for how long, at least a second, no other unique task of the same type and payload is taken.
        process_at: not before this instant.
        process_in: not before so long from now.
        retention: how long the task is kept, with its result, after it is done. 0, unless said: not at all.
        group: gather it with the others of this group, to be processed as one.
        headers: texts that travel with it.
        on_success: what is put into its queue when it is done: a payload, or a list of a payload and its options, which
            may have an ``on_success`` in turn. Handlers find the result of the task before in ``context.previous``.
        on_failure: the same for when it is archived because it failed.
    """

    max_retry: int
    queue: str
    task_id: str
    timeout: Duration
    deadline: Instant
    unique: Duration
    process_at: Instant
    process_in: Duration
    retention: Duration
    group: str
    headers: Mapping[str, str]
    on_success: Any
    on_failure: Any


class TaskPayload(Message[R_co]):
    """The base of payloads: a message with a task type; the parameter is what its handler returns.

    ::

        class SendVerifyEmail(TaskPayload[None]):
            task_type = "task:send_verify_email"
            username: str

    Attributes:
        task_type: the type's name in the queue, shared with every process that uses the queue.
        task_options: options of every task of this type; what is given when it is distributed goes before.
    """

    task_type: ClassVar[str] = ""
    task_options: ClassVar[TaskOptions] = {}


class _NoPayload(bytes):
    """See ``NO_PAYLOAD``."""

    def __repr__(self) -> str:
        return "NO_PAYLOAD"


NO_PAYLOAD: Final = _NoPayload()
"""What Go's ``NewTask(type, nil)`` has: empty, but a unique task with it has another lock than one with ``b""``."""


class RawTask(msgspec.Struct, frozen=True):
    """A task as type and bytes: for types that have no payload class, and for handlers of a prefix.

    Attributes:
        type: the task type.
        payload: any bytes; ``NO_PAYLOAD`` for none.
    """

    type: str
    payload: bytes = b""


class TaskState(StrEnum):
    """Where a task stands; the texts are asynq's."""

    PENDING = "pending"
    """It waits for a processor."""
    ACTIVE = "active"
    """A processor works on it."""
    SCHEDULED = "scheduled"
    """It waits for its time."""
    RETRY = "retry"
    """It failed, and waits to be tried again."""
    ARCHIVED = "archived"
    """It failed for good, and is kept to be looked at."""
    COMPLETED = "completed"
    """It is done, and kept until its retention is over."""
    AGGREGATING = "aggregating"
    """It waits in a group."""


class TaskMessage(msgspec.Struct, frozen=True, array_like=True):
    """A task as it is stored; the fields are those of asynq's message, in the order of their numbers.

    Attributes:
        timeout: seconds for one attempt; 0: none.
        deadline: unix seconds; 0: none.
        unique_key: the full name of the lock that it holds; empty if it is not unique.
        last_failed_at: unix seconds; 0: never.
        retention: seconds.
        completed_at: unix seconds; 0: not yet.
    """

    type: str
    payload: bytes
    id: str
    queue: str = DEFAULT_QUEUE
    max_retry: int = DEFAULT_MAX_RETRY
    retried: int = 0
    error_msg: str = ""
    timeout: int = 0
    deadline: int = 0
    unique_key: str = ""
    last_failed_at: int = 0
    retention: int = 0
    completed_at: int = 0
    group_key: str = ""
    headers: dict[str, str] = {}


class TaskInfo(msgspec.Struct, frozen=True):
    """A task and where it stands.

    Attributes:
        message: the task as it is stored.
        state: where it stands.
        next_process_at: unix seconds at which it is to be processed; the time it was asked for is now for a pending
            task; 0 if that is not known or will not happen.
        result: what its handler returned or wrote, as bytes.
        orphaned: it is active, and the processor that took it extends its lease no longer.
    """

    message: TaskMessage
    state: TaskState
    next_process_at: float = 0.0
    result: bytes = b""
    orphaned: bool = False

    @property
    def id(self) -> str:
        """Its id."""
        return self.message.id

    @property
    def type(self) -> str:
        """Its type."""
        return self.message.type

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self.message.queue


class DistributeTask(Message[TaskInfo]):
    """Put a task into its queue; answered when it is stored.

    Attributes:
        payload: a `TaskPayload` or a `RawTask`.
        options: how it is to be processed.
    """

    payload: Any
    options: TaskOptions = msgspec.field(default_factory=TaskOptions)


class DistributeTasks(Message[list[Any]]):
    """Put many tasks into their queues at once; answered with a `TaskInfo` or a `TaskError` for each.

    Attributes:
        tasks: each with its own options.
    """

    tasks: tuple[DistributeTask, ...]

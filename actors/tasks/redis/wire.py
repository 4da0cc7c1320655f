"""Tasks, and what processes say about themselves, as the bytes that asynq writes and reads."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from ....messages.errors import ErrorKind, TaskError
from ....messages.tasks import TaskInfo, TaskMessage, TaskState
from .. import engine
from . import records

__all__ = [
    "buried",
    "read_entry",
    "read_event",
    "read_server",
    "read_task",
    "read_worker",
    "show",
    "unreadable",
    "write_entry",
    "write_event",
    "write_server",
    "write_task",
    "write_worker",
]

NEVER: Final = -62_135_596_800
"""Go's zero time in unix seconds."""


def write_task(message: TaskMessage) -> bytes:
    """The record of a task; the same bytes for the same task."""
    # One field at a time, and none that says nothing: half the time that naming all of them takes.
    record = records.TaskMessage()
    record.type = message.type
    record.payload = message.payload
    record.id = message.id
    record.queue = message.queue
    record.retry = message.max_retry
    record.timeout = message.timeout
    for name in _SELDOM:
        value = getattr(message, name)
        if value:
            setattr(record, name, value)
    if message.error_msg:
        record.error_msg = _text(message.error_msg)
    if not message.headers:
        plain: bytes = record.SerializeToString()
        return plain
    record.headers.update(message.headers)
    return _bytes(record)


_SELDOM: Final = (
    "retried",
    "deadline",
    "unique_key",
    "last_failed_at",
    "retention",
    "completed_at",
    "group_key",
)
"""Fields that most tasks have nothing in."""


def read_task(blob: bytes | None, queue: str, task_id: str) -> TaskMessage | None:
    """The task that a record says.

    Args:
        blob: the record; None: there is none.
        queue: in whose key it was found.
        task_id: in whose key it was found.

    Returns:
        None if it cannot be read, or is that of another task: whatever was done to it would be done to that one.
    """
    if not blob:
        return None
    try:
        record = records.TaskMessage.FromString(blob)
    except (DecodeError, UnicodeDecodeError):
        return None
    if record.id != task_id or record.queue != queue or not record.type:
        return None
    return TaskMessage(
        record.type,
        record.payload,
        task_id,
        queue,
        record.retry,
        record.retried,
        record.error_msg,
        record.timeout,
        record.deadline,
        record.unique_key,
        record.last_failed_at,
        record.retention,
        record.completed_at,
        record.group_key,
        dict(record.headers),
    )


def unreadable(blob: bytes | None, queue: str, task_id: str) -> TaskMessage:
    """What stands in the place of a task whose record cannot be read: no type, and the record as its payload."""
    error = f"{ErrorKind.TASK_RECORD_INVALID}: its record cannot be read"
    return TaskMessage("", blob or b"", task_id, queue, error_msg=error)


def buried(blob: bytes | None, queue: str, task_id: str, now: int) -> TaskMessage:
    """The record that is archived in the place of one that cannot be read."""
    error = f"{TaskError.code.hex} {ErrorKind.TASK_RECORD_INVALID}: its record cannot be read"
    return msgspec.structs.replace(unreadable(blob, queue, task_id), error_msg=error, last_failed_at=now)


def show(
    queue: str, task_id: str, state: TaskState, score: float | None, blob: bytes | None, result: bytes, now: float
) -> TaskInfo:
    """What is known of a task.

    Args:
        queue: the queue's name.
        task_id: its id.
        state: where it stands.
        score: its number in the list of that state; of an active one, the end of its lease.
        blob: its record.
        result: what its handler wrote.
        now: unix seconds.
    """
    message = read_task(blob, queue, task_id) or _buried(blob, queue, task_id) or unreadable(blob, queue, task_id)
    due = {TaskState.PENDING: now, TaskState.SCHEDULED: score or 0.0, TaskState.RETRY: score or 0.0}
    orphaned = state == TaskState.ACTIVE and (score is None or score <= now)
    return TaskInfo(message, state, due.get(state, 0.0), result, orphaned)


def _buried(blob: bytes | None, queue: str, task_id: str) -> TaskMessage | None:
    """The record that was archived in the place of one that could not be read."""
    try:
        record = records.TaskMessage.FromString(blob or b"")
    except (DecodeError, UnicodeDecodeError):
        return None
    if record.type or record.id != task_id or not record.error_msg:
        return None
    return TaskMessage(
        "", record.payload, task_id, queue, error_msg=record.error_msg, last_failed_at=record.last_failed_at
    )


def write_server(server: engine.ServerInfo) -> bytes:
    """The record of a processor."""
    record = records.ServerInfo(
        host=server.host,
        pid=server.pid,
        server_id=_unique_part(server.id),
        concurrency=server.concurrency,
        strict_priority=server.strict_priority,
        status=server.status,
        active_worker_count=len(server.workers),
    )
    record.queues.update(server.queues)
    _set_time(record.start_time, server.started_at)
    return _bytes(record)


def read_server(blob: bytes, workers: tuple[engine.WorkerInfo, ...]) -> engine.ServerInfo | None:
    """The processor that a record says, with what it works on; None if it cannot be read."""
    record = _read(records.ServerInfo, blob)
    if record is None:
        return None
    return engine.ServerInfo(
        f"{record.host}:{record.pid}:{record.server_id}",
        record.host,
        record.pid,
        record.concurrency,
        dict(record.queues),
        record.strict_priority,
        record.status,
        _time(record.start_time),
        workers,
    )


def write_worker(server: engine.ServerInfo, worker: engine.WorkerInfo) -> bytes:
    """The record of an attempt that a processor makes."""
    record = records.WorkerInfo(
        host=server.host,
        pid=server.pid,
        server_id=_unique_part(server.id),
        task_id=worker.task_id,
        task_type=worker.task_type,
        task_payload=worker.payload,
        queue=worker.queue,
    )
    _set_time(record.start_time, worker.started_at)
    _set_time(record.deadline, worker.deadline)
    return _bytes(record)


def read_worker(blob: bytes) -> engine.WorkerInfo | None:
    """The attempt that a record says; None if it cannot be read."""
    record = _read(records.WorkerInfo, blob)
    if record is None:
        return None
    return engine.WorkerInfo(
        record.task_id,
        record.task_type,
        record.queue,
        record.task_payload,
        _time(record.start_time),
        _time(record.deadline),
    )


def write_entry(entry: engine.SchedulerEntry) -> bytes:
    """The record of a periodic task."""
    record = records.SchedulerEntry(
        id=entry.id,
        spec=entry.spec,
        task_type=entry.task_type,
        task_payload=entry.payload,
        enqueue_options=entry.options,
    )
    _set_time(record.next_enqueue_time, entry.next)
    _set_time(record.prev_enqueue_time, entry.prev)
    return _bytes(record)


def read_entry(blob: bytes) -> engine.SchedulerEntry | None:
    """The periodic task that a record says; None if it cannot be read."""
    record = _read(records.SchedulerEntry, blob)
    if record is None:
        return None
    return engine.SchedulerEntry(
        record.id,
        record.spec,
        record.task_type,
        record.task_payload,
        tuple(record.enqueue_options),
        _time(record.next_enqueue_time),
        _time(record.prev_enqueue_time),
    )


def write_event(event: engine.EnqueueEvent) -> bytes:
    """The record of an enqueueing."""
    record = records.EnqueueEvent(task_id=event.task_id)
    _set_time(record.enqueue_time, event.at)
    return _bytes(record)


def read_event(blob: bytes) -> engine.EnqueueEvent | None:
    """The enqueueing that a record says; None if it cannot be read."""
    record = _read(records.EnqueueEvent, blob)
    return None if record is None else engine.EnqueueEvent(record.task_id, _time(record.enqueue_time))


def _unique_part(server_id: str) -> str:
    return server_id.rpartition(":")[2]


def _read(kind: Any, blob: bytes) -> Any:
    try:
        return kind.FromString(blob)
    except (DecodeError, UnicodeDecodeError):
        return None


def _bytes(record: Any) -> bytes:
    blob: bytes = record.SerializeToString(deterministic=True)
    return blob


def _set_time(field: Any, at: float) -> None:
    """Write an instant; 0, which is none, as Go's zero time."""
    micros = round(at * 1e6)
    field.seconds, field.nanos = (micros // 1_000_000, micros % 1_000_000 * 1_000) if at > 0 else (NEVER, 0)


def _time(field: Any) -> float:
    return float(max(0.0, field.seconds + field.nanos / 1e9))


def _text(text: str) -> str:
    """The text without what UTF-8 has no bytes for: an error may quote anything."""
    return text.encode("utf-8", "replace").decode()

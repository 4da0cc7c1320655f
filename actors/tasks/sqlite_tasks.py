"""Single tasks in SQLite: stored, put into another state, trimmed; each in a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from ...messages.errors import TaskDuplicate, TaskError, TaskIdConflict
from ...messages.tasks import TaskInfo, TaskState
from .engine import ARCHIVE_SECONDS, ARCHIVE_SIZE
from .options import NewTask, once_key
from .sqlite_file import encode

__all__ = ["note_queues", "release", "store", "to_archive", "to_pending", "trim_archive"]


def store(db: sqlite3.Connection, task: NewTask, now: float) -> TaskInfo | TaskError:
    """Store one task; a refused one leaves no trace, not even a lock."""
    message = task.message
    if message.unique_key and _locked(db, message.unique_key, now):
        return TaskDuplicate(f"queue {message.queue}: a task like this {message.type!r} is there already")
    if task.once_for and _locked(db, once_key(message.queue, message.id), now):
        return TaskIdConflict(f"queue {message.queue}: the id {message.id!r} was taken by another task")
    scheduled = task.process_at > now
    group = message.group_key or None
    if scheduled:
        state, score = TaskState.SCHEDULED, task.process_at
    elif group is not None:
        state, score = TaskState.AGGREGATING, now
    else:
        state, score = TaskState.PENDING, _last(db, message.queue) + 1
    inserted = db.execute(
        # Tokens begin anywhere: a task that takes the place of a deleted one must not have the same.
        "INSERT INTO task_tasks (queue, id, state, score, msg, token, pending_since, unique_key, grp) "
        "VALUES (?, ?, ?, ?, ?, abs(random() >> 2), ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            message.queue,
            message.id,
            state,
            score,
            encode(message),
            int(now * 1e9) if state == TaskState.PENDING else None,
            message.unique_key or None,
            group,
        ),
    )
    if not inserted.rowcount:
        return TaskIdConflict(f"queue {message.queue}: the id {message.id!r} is taken by another task")
    if message.unique_key:
        until = (task.process_at if scheduled else now) + task.unique_for
        db.execute("INSERT OR REPLACE INTO task_locks VALUES (?, ?, ?)", (message.unique_key, message.id, until))
    if task.once_for:
        key = once_key(message.queue, message.id)
        db.execute("INSERT OR REPLACE INTO task_locks VALUES (?, ?, ?)", (key, message.id, now + task.once_for))
    due = {TaskState.PENDING: now, TaskState.SCHEDULED: task.process_at}
    return TaskInfo(message, state, due.get(state, 0.0))


def to_pending(db: sqlite3.Connection, queue: str, ids: Iterable[str], now: float) -> None:
    """Put tasks at the end of those that are pending."""
    last = _last(db, queue)
    db.executemany(
        "UPDATE task_tasks SET state = 'pending', score = ?, pending_since = ?, set_id = NULL "
        "WHERE queue = ? AND id = ?",
        [(last + place, int(now * 1e9), queue, task_id) for place, task_id in enumerate(ids, 1)],
    )


def to_archive(db: sqlite3.Connection, queue: str, ids: Iterable[str], now: float) -> None:
    """Archive tasks, and delete the oldest where there are too many."""
    db.executemany(
        "UPDATE task_tasks SET state = 'archived', score = ?, pending_since = NULL, set_id = NULL "
        "WHERE queue = ? AND id = ?",
        [(now, queue, task_id) for task_id in ids],
    )
    trim_archive(db, queue, now)


def release(db: sqlite3.Connection, queue: str, ids: Iterable[str]) -> None:
    """Release the locks that these tasks hold. A lock that ran out and is another task's by now stays."""
    db.executemany(
        "DELETE FROM task_locks WHERE id = ? AND key = (SELECT unique_key FROM task_tasks WHERE queue = ? AND id = ?)",
        [(task_id, queue, task_id) for task_id in ids],
    )


def note_queues(db: sqlite3.Connection, tasks: Sequence[NewTask]) -> None:
    """Note that the queues of these tasks exist."""
    names = {task.message.queue for task in tasks}
    db.executemany("INSERT OR IGNORE INTO task_queues (name) VALUES (?)", [(name,) for name in sorted(names)])


def _locked(db: sqlite3.Connection, key: str, now: float) -> bool:
    return bool(db.execute("SELECT 1 FROM task_locks WHERE key = ? AND expires_at > ?", (key, now)).fetchall())


def _last(db: sqlite3.Connection, queue: str) -> float:
    ((last,),) = db.execute("SELECT max(score) FROM task_tasks WHERE queue = ? AND state = 'pending'", (queue,))
    return float(last or 0.0)


def trim_archive(db: sqlite3.Connection, queue: str, now: float) -> None:
    """Delete archived tasks that are too old, or too many."""
    archived = "FROM task_tasks WHERE queue = ? AND state = 'archived'"
    db.execute(f"DELETE {archived} AND score <= ?", (queue, now - ARCHIVE_SECONDS))
    db.execute(
        f"DELETE FROM task_tasks WHERE rowid IN (SELECT rowid {archived} ORDER BY score DESC, rowid DESC "
        "LIMIT -1 OFFSET ?)",
        (queue, ARCHIVE_SIZE),
    )

"""The way of a task through its queue in SQLite: stored, attempted, ended, recovered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ...messages.errors import TaskDuplicate, TaskError, TaskIdConflict
from ...messages.tasks import TaskInfo, TaskMessage, TaskState
from .engine import ARCHIVE_SECONDS, ARCHIVE_SIZE, LEASE_SECONDS, STATS_DAYS, Ending, Lease
from .options import NewTask, once_key
from .sqlite_file import SqliteFile, decode, encode

__all__ = ["SqliteAttempts", "release", "to_archive", "to_pending"]

TOTAL = ""
"""In the place of a day: the counters since ever."""
MAX_COUNT = 2**63 - 1
FORWARD_AT_ONCE = 100

_HELD = "queue = ? AND id = ? AND state = 'active' AND token = ? AND score > ?"
"""An attempt that has its lease."""


class SqliteAttempts(SqliteFile):
    """The part of the engine that processors and distributors use."""

    def enqueue(self, tasks: Sequence[NewTask]) -> list[TaskInfo | TaskError]:
        """See ``TaskEngine.enqueue``."""
        with self._writing(tell=True) as db:
            now = self._now()
            _note_queues(db, tasks)
            return [store(db, task, now) for task in tasks]

    def dequeue(self, queues: Sequence[str], count: int) -> list[Lease]:
        """See ``TaskEngine.dequeue``."""
        leases: list[Lease] = []
        if count <= 0 or not self._has_pending(queues):
            return leases
        with self._writing(synced=False) as db:
            now = self._now()
            for queue in queues:
                while len(leases) < count:
                    rows = db.execute(
                        "SELECT id, msg, token FROM task_tasks WHERE queue = ? AND state = 'pending' AND NOT EXISTS "
                        "(SELECT 1 FROM task_queues WHERE name = queue AND paused_at IS NOT NULL) "
                        "ORDER BY score, rowid LIMIT ?",
                        (queue, count - len(leases)),
                    ).fetchall()
                    leases.extend(_begin(db, queue, rows, now))
                    if not rows:
                        break
        return leases

    def finish(self, endings: Sequence[Ending], *, recovering: bool = False) -> list[bool]:
        """See ``TaskEngine.finish``."""
        following = [ending.next for ending in endings if ending.next is not None]
        tell = bool(following) or any(ending.how == "requeue" for ending in endings)
        with self._writing(tell=tell, synced=False) as db:
            now = self._now()
            _note_queues(db, following)
            return [_finish(db, ending, now, recovering=recovering) for ending in endings]

    def extend(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """See ``TaskEngine.extend``."""
        if not leases:
            return []
        with self._writing(synced=False) as db:
            now = self._now()
            until = now + LEASE_SECONDS
            return [
                lease._replace(expires_at=until)
                if db.execute(f"UPDATE task_tasks SET score = ? WHERE {_HELD}", (until, *_key(lease), now)).rowcount
                else None
                for lease in leases
            ]

    def write_result(self, lease: Lease, result: bytes) -> bool:
        """See ``TaskEngine.write_result``."""
        with self._writing(synced=False) as db:
            written = db.execute(f"UPDATE task_tasks SET result = ? WHERE {_HELD}", (result, *_key(lease), self._now()))
            return written.rowcount > 0

    def expired(self, queues: Sequence[str]) -> list[Lease]:
        """See ``TaskEngine.expired``."""
        leases: list[Lease] = []
        for queue in queues:
            rows = self._rows(
                "SELECT id, msg, token, score FROM task_tasks "
                "WHERE queue = ? AND state = 'active' AND (score IS NULL OR score <= ?)",
                queue,
                self._now(),
            )
            for task_id, blob, token, score in rows:
                message = decode(blob) or TaskMessage("", bytes(blob), task_id, queue)
                leases.append(Lease(message, token, score or 0.0))
        return leases

    def forward(self, queues: Sequence[str]) -> int:
        """See ``TaskEngine.forward``."""
        moved = 0
        for queue in queues:
            for state in (TaskState.SCHEDULED, TaskState.RETRY):
                while batch := self._forward(queue, state):
                    moved += batch
        return moved

    def _forward(self, queue: str, state: TaskState) -> int:
        due = "FROM task_tasks WHERE queue = ? AND state = ? AND score <= ? ORDER BY score, rowid LIMIT ?"
        if not self._rows(f"SELECT 1 {due}", queue, state, self._now(), 1):
            return 0  # looking needs no lock
        with self._writing(tell=True, synced=False) as db:
            now = self._now()
            rows = db.execute(f"SELECT id, grp {due}", (queue, state, now, FORWARD_AT_ONCE)).fetchall()
            to_pending(db, queue, [task_id for task_id, group in rows if group is None], now)
            db.executemany(
                "UPDATE task_tasks SET state = 'aggregating', score = ? WHERE queue = ? AND id = ?",
                [(now, queue, task_id) for task_id, group in rows if group is not None],
            )
            return len(rows)

    def sweep(self, queues: Sequence[str], batch: int) -> int:
        """See ``TaskEngine.sweep``."""
        swept = 0
        now = self._now()
        with self._writing(synced=False) as db:
            for queue in queues:
                swept += db.execute(
                    "DELETE FROM task_tasks WHERE rowid IN (SELECT rowid FROM task_tasks "
                    "WHERE queue = ? AND state = 'completed' AND score <= ? ORDER BY score LIMIT ?)",
                    (queue, now, batch),
                ).rowcount
                _trim_archive(db, queue, now)
                first = (datetime.fromtimestamp(now, UTC) - timedelta(days=STATS_DAYS)).strftime("%Y-%m-%d")
                db.execute("DELETE FROM task_counts WHERE queue = ? AND day <> '' AND day < ?", (queue, first))
            for table in ("locks", "servers", "leaders", "schedulers"):
                db.execute(f"DELETE FROM task_{table} WHERE expires_at <= ?", (now,))
            db.execute("DELETE FROM task_cancels WHERE at <= ?", (now - 60.0,))
        return swept

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        """See ``TaskEngine.wait``."""
        return self._wait_for(lambda: self._has_pending(queues), timeout)

    def _has_pending(self, queues: Sequence[str]) -> bool:
        marks = ", ".join("?" * len(queues))
        return bool(
            self._rows(
                f"SELECT 1 FROM task_tasks JOIN task_queues ON name = queue WHERE queue IN ({marks}) "
                "AND state = 'pending' AND paused_at IS NULL LIMIT 1",
                *queues,
            )
        )


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
    _trim_archive(db, queue, now)


def release(db: sqlite3.Connection, queue: str, ids: Iterable[str]) -> None:
    """Release the locks that these tasks hold. A lock that ran out and is another task's by now stays."""
    db.executemany(
        "DELETE FROM task_locks WHERE id = ? AND key = (SELECT unique_key FROM task_tasks WHERE queue = ? AND id = ?)",
        [(task_id, queue, task_id) for task_id in ids],
    )


def _note_queues(db: sqlite3.Connection, tasks: Sequence[NewTask]) -> None:
    names = {task.message.queue for task in tasks}
    db.executemany("INSERT OR IGNORE INTO task_queues (name) VALUES (?)", [(name,) for name in sorted(names)])


def _locked(db: sqlite3.Connection, key: str, now: float) -> bool:
    return bool(db.execute("SELECT 1 FROM task_locks WHERE key = ? AND expires_at > ?", (key, now)).fetchall())


def _last(db: sqlite3.Connection, queue: str) -> float:
    ((last,),) = db.execute("SELECT max(score) FROM task_tasks WHERE queue = ? AND state = 'pending'", (queue,))
    return float(last or 0.0)


def _begin(db: sqlite3.Connection, queue: str, rows: list[tuple[str, bytes, int]], now: float) -> list[Lease]:
    """Make pending tasks active. One whose record cannot be read is archived as it is: nobody could process it."""
    leases: list[Lease] = []
    for task_id, blob, token in rows:
        message = decode(blob)
        if message is None:
            to_archive(db, queue, [task_id], now)
            continue
        leases.append(Lease(message, token + 1, now + LEASE_SECONDS))
    db.executemany(
        "UPDATE task_tasks SET state = 'active', score = ?, token = ?, pending_since = NULL WHERE queue = ? AND id = ?",
        [(lease.expires_at, lease.token, queue, lease.message.id) for lease in leases],
    )
    return leases


def _key(lease: Lease) -> tuple[str, str, int]:
    return lease.message.queue, lease.message.id, lease.token


def _finish(db: sqlite3.Connection, ending: Ending, now: float, *, recovering: bool) -> bool:
    queue, task_id, token = _key(ending.lease)
    rows = db.execute(
        "SELECT score FROM task_tasks WHERE queue = ? AND id = ? AND state = 'active' AND token = ?",
        (queue, task_id, token),
    ).fetchall()
    if not rows:
        return False
    ((score,),) = rows
    lost = score is None or score <= now
    if lost != recovering:
        return False
    message = ending.lease.message
    match ending.how:
        case "done":
            release(db, queue, [task_id])
            if message.retention > 0 and not ending.forget:
                done = msgspec.structs.replace(message, completed_at=int(now))
                result = {} if ending.result is None else {"result": ending.result}
                _change(db, done, TaskState.COMPLETED, now + message.retention, **result)
            else:
                db.execute("DELETE FROM task_tasks WHERE queue = ? AND id = ?", (queue, task_id))
            _count(db, queue, now, failed=0)
        case "retry":
            retried = message.retried + 1 if ending.failure else message.retried
            failed_at = int(now) if ending.failure else message.last_failed_at
            again = msgspec.structs.replace(message, retried=retried, error_msg=ending.error, last_failed_at=failed_at)
            _change(db, again, TaskState.RETRY, ending.at)
            if ending.failure:
                _count(db, queue, now, failed=1)
        case "defer":
            _change(db, message, TaskState.SCHEDULED, ending.at)
        case "archive":
            if message.type:
                dead = msgspec.structs.replace(message, error_msg=ending.error, last_failed_at=int(now))
                _change(db, dead, TaskState.ARCHIVED, now)
            to_archive(db, queue, [task_id], now)
            _count(db, queue, now, failed=1)
        case "requeue":
            ((first,),) = db.execute(
                "SELECT min(score) FROM task_tasks WHERE queue = ? AND state = 'pending'", (queue,)
            )
            _change(db, message, TaskState.PENDING, (first or 0.0) - 1, pending_since=int(now * 1e9))
    if ending.next is not None:
        store(db, ending.next._replace(once_for=0.0), now)  # in one step with the end, so never twice
    return True


def _change(db: sqlite3.Connection, message: TaskMessage, state: TaskState, score: float, **columns: Any) -> None:
    more = "".join(f", {name} = ?" for name in columns)
    db.execute(
        f"UPDATE task_tasks SET state = ?, score = ?, msg = ?{more} WHERE queue = ? AND id = ?",
        (state, score, encode(message), *columns.values(), message.queue, message.id),
    )


def _trim_archive(db: sqlite3.Connection, queue: str, now: float) -> None:
    archived = "FROM task_tasks WHERE queue = ? AND state = 'archived'"
    db.execute(f"DELETE {archived} AND score <= ?", (queue, now - ARCHIVE_SECONDS))
    db.execute(
        f"DELETE FROM task_tasks WHERE rowid IN (SELECT rowid {archived} ORDER BY score DESC, rowid DESC "
        "LIMIT -1 OFFSET ?)",
        (queue, ARCHIVE_SIZE),
    )


def _count(db: sqlite3.Connection, queue: str, now: float, *, failed: int) -> None:
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    db.executemany(
        "INSERT INTO task_counts VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET "
        f"processed = iif(processed >= {MAX_COUNT - 1}, 1, processed + 1), "
        f"failed = iif(processed >= {MAX_COUNT - 1}, excluded.failed, failed + excluded.failed)",
        [(queue, day, failed), (queue, TOTAL, failed)],
    )

"""How an attempt ends in SQLite: what becomes of its task, of the lock it holds, and of the counters."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ...messages.tasks import TaskMessage, TaskState
from .engine import Ending, Lease
from .sqlite_file import encode
from .sqlite_tasks import release, store, to_archive

__all__ = ["HELD", "TOTAL", "count_attempts", "finish", "key_of"]

TOTAL: Final = ""
"""In the place of a day: the counters since ever."""
MAX_COUNT: Final = 2**63 - 1

HELD: Final = "queue = ? AND id = ? AND state = 'active' AND token = ? AND score > ?"
"""An attempt that has its lease."""


def key_of(lease: Lease) -> tuple[str, str, int]:
    """What tells an attempt from all others: the first three values of `HELD`."""
    return lease.message.queue, lease.message.id, lease.token


def finish(
    db: sqlite3.Connection, ending: Ending, now: float, counts: Counter[tuple[str, bool]], *, recovering: bool
) -> bool:
    """End one attempt, and count it by queue and whether it failed."""
    message = ending.lease.message
    if ending.how == "done" and not (message.retention or message.unique_key or recovering or ending.next):
        deleted = db.execute(f"DELETE FROM task_tasks WHERE {HELD}", (*key_of(ending.lease), now))
        if deleted.rowcount:
            counts[message.queue, False] += 1
        return bool(deleted.rowcount)
    if not _may_end(db, ending.lease, now, recovering=recovering):
        return False
    queue, task_id, _ = key_of(ending.lease)
    match ending.how:
        case "done":
            _succeed(db, ending, now)
            counts[queue, False] += 1
        case "retry":
            retried = message.retried + 1 if ending.failure else message.retried
            again = msgspec.structs.replace(message, retried=retried, error_msg=ending.error, last_failed_at=int(now))
            _change(db, again, TaskState.RETRY, ending.at)
            if ending.failure:
                counts[queue, True] += 1
        case "defer":
            _change(db, message, TaskState.SCHEDULED, ending.at)
        case "archive":
            if message.type:
                dead = msgspec.structs.replace(message, error_msg=ending.error, last_failed_at=int(now))
                _change(db, dead, TaskState.ARCHIVED, now)
            to_archive(db, queue, [task_id], now)
            counts[queue, True] += 1
        case "requeue":
            ((first,),) = db.execute(
                "SELECT min(score) FROM task_tasks WHERE queue = ? AND state = 'pending'", (queue,)
            )
            _change(db, message, TaskState.PENDING, (first or 0.0) - 1, pending_since=int(now * 1e9))
    if ending.next is not None:
        store(db, ending.next._replace(once_for=0.0), now)  # in one step with the end, so never twice
    return True


def _succeed(db: sqlite3.Connection, ending: Ending, now: float) -> None:
    message = ending.lease.message
    release(db, message.queue, [message.id])
    if message.retention > 0 and not ending.forget:
        done = msgspec.structs.replace(message, completed_at=int(now))
        result = {} if ending.result is None else {"result": ending.result}
        _change(db, done, TaskState.COMPLETED, now + message.retention, **result)
    else:
        db.execute("DELETE FROM task_tasks WHERE queue = ? AND id = ?", (message.queue, message.id))


def _may_end(db: sqlite3.Connection, lease: Lease, now: float, *, recovering: bool) -> bool:
    """Whether it is the task's latest attempt, and has its lease; or has lost it, for who recovers it."""
    rows = db.execute(
        "SELECT score FROM task_tasks WHERE queue = ? AND id = ? AND state = 'active' AND token = ?", key_of(lease)
    ).fetchall()
    return any((score is None or score <= now) == recovering for (score,) in rows)


def _change(db: sqlite3.Connection, message: TaskMessage, state: TaskState, score: float, **columns: Any) -> None:
    more = "".join(f", {name} = ?" for name in columns)
    db.execute(
        f"UPDATE task_tasks SET state = ?, score = ?, msg = ?{more} WHERE queue = ? AND id = ?",
        (state, score, encode(message), *columns.values(), message.queue, message.id),
    )


def count_attempts(db: sqlite3.Connection, queue: str, now: float, number: int, *, failed: bool) -> None:
    """Count attempts of today and ever."""
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    failures = number if failed else 0
    full = f"processed >= {MAX_COUNT} - excluded.processed"
    db.executemany(
        "INSERT INTO task_counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        f"processed = iif({full}, 1, processed + excluded.processed), "
        f"failed = iif({full}, min(excluded.failed, 1), failed + excluded.failed)",
        [(queue, day, number, failures), (queue, TOTAL, number, failures)],
    )

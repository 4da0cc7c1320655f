"""The way of a task through its queue in SQLite: stored, attempted, ended, recovered."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ...messages.errors import TaskError
from ...messages.tasks import TaskInfo, TaskMessage, TaskState
from .engine import LEASE_SECONDS, STATS_DAYS, Ending, Lease
from .options import NewTask
from .sqlite_endings import HELD, count_attempts, finish, key_of
from .sqlite_file import SqliteFile, decode
from .sqlite_tasks import note_queues, store, to_archive, to_pending, trim_archive

__all__ = ["SqliteAttempts"]

FORWARD_AT_ONCE: Final = 100


class SqliteAttempts(SqliteFile):
    """The part of the engine that processors and distributors use."""

    def enqueue(self, tasks: Sequence[NewTask], timeout: float | None = None) -> list[TaskInfo | TaskError]:
        """See ``TaskEngine.enqueue``."""
        with self._writing(tell=True, timeout=timeout) as db:
            now = self._now()
            note_queues(db, tasks)
            return [store(db, task, now) for task in tasks]

    def dequeue(self, queues: Sequence[str], count: int) -> list[Lease]:
        """See ``TaskEngine.dequeue``."""
        if count <= 0 or not self._has_pending(queues):
            return []
        with self._writing(synced=False) as db:
            return _dequeue(db, queues, count, self._now())

    def finish(self, endings: Sequence[Ending], *, recovering: bool = False) -> list[bool]:
        """See ``TaskEngine.finish``."""
        with self._writing(tell=_makes_pending(endings), synced=False) as db:
            return _finish_all(db, endings, self._now(), recovering=recovering)

    def turn(self, endings: Sequence[Ending], queues: Sequence[str], count: int) -> tuple[list[bool], list[Lease]]:
        """See ``TaskEngine.turn``."""
        with self._writing(tell=_makes_pending(endings), synced=False) as db:
            now = self._now()
            accepted = _finish_all(db, endings, now, recovering=False)
            return accepted, _dequeue(db, queues, count, now)

    def extend(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """See ``TaskEngine.extend``."""
        if not leases:
            return []
        with self._writing(synced=False) as db:
            now = self._now()
            until = now + LEASE_SECONDS
            return [
                lease._replace(expires_at=until)
                if db.execute(f"UPDATE task_tasks SET score = ? WHERE {HELD}", (until, *key_of(lease), now)).rowcount
                else None
                for lease in leases
            ]

    def write_result(self, lease: Lease, result: bytes) -> bool:
        """See ``TaskEngine.write_result``."""
        with self._writing(synced=False) as db:
            written = db.execute(
                f"UPDATE task_tasks SET result = ? WHERE {HELD}", (result, *key_of(lease), self._now())
            )
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
                trim_archive(db, queue, now)
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


def _dequeue(db: sqlite3.Connection, queues: Sequence[str], count: int, now: float) -> list[Lease]:
    leases: list[Lease] = []
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


def _makes_pending(endings: Sequence[Ending]) -> bool:
    return any(ending.next is not None or ending.how == "requeue" for ending in endings)


def _finish_all(db: sqlite3.Connection, endings: Sequence[Ending], now: float, *, recovering: bool) -> list[bool]:
    note_queues(db, [ending.next for ending in endings if ending.next is not None])
    counts: Counter[tuple[str, bool]] = Counter()
    accepted = [finish(db, ending, now, counts, recovering=recovering) for ending in endings]
    for (queue, failed), number in counts.items():
        count_attempts(db, queue, now, number, failed=failed)
    return accepted

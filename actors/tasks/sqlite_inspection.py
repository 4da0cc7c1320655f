"""Looking at queues in SQLite, and managing them."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import msgspec

from ...messages.errors import ErrorKind, TaskNotFound, TaskRefused
from ...messages.tasks import TaskInfo, TaskState
from .engine import QueueInfo
from .sqlite_endings import TOTAL
from .sqlite_file import SqliteFile, decode, encode, info_of
from .sqlite_tasks import release, to_archive, to_pending

__all__ = ["SqliteInspection"]

_COLUMNS = "queue, id, state, score, msg, result"
_ONE = "queue = ? AND id = ?"
ROW_BYTES = 100
"""What a row and its places in the indexes take beside its contents, about."""


class SqliteInspection(SqliteFile):
    """The part of the engine that inspectors use."""

    def queues(self) -> list[str]:
        """See ``TaskEngine.queues``."""
        return [name for (name,) in self._rows("SELECT name FROM task_queues ORDER BY name")]

    def queue_info(self, queue: str) -> QueueInfo:
        """See ``TaskEngine.queue_info``."""
        now = self._now()
        with self._reading() as db:
            paused_at = _queue(db, queue)
            counted = db.execute("SELECT state, count(*) FROM task_tasks WHERE queue = ? GROUP BY state", (queue,))
            sizes = dict.fromkeys(TaskState, 0) | {TaskState(state): number for state, number in counted}
            ((since,),) = db.execute(
                "SELECT min(pending_since) FROM task_tasks WHERE queue = ? AND state = 'pending'", (queue,)
            )
            counts = {
                day: (processed, failed)
                for day, processed, failed in db.execute(
                    "SELECT day, processed, failed FROM task_counts WHERE queue = ? AND day IN (?, ?)",
                    (queue, TOTAL, _day(now)),
                )
            }
            ((groups,),) = db.execute(
                "SELECT count(DISTINCT grp) FROM task_tasks "
                "WHERE queue = ? AND state = 'aggregating' AND set_id IS NULL",
                (queue,),
            )
        latency = 0.0 if since is None else max(0.0, now - since / 1e9)
        today, total = counts.get(_day(now), (0, 0)), counts.get(TOTAL, (0, 0))
        return QueueInfo(queue, sizes, latency, *today, *total, paused=paused_at is not None, groups=groups)

    def group_sizes(self, queue: str) -> dict[str, int]:
        """See ``TaskEngine.group_sizes``."""
        return dict(
            self._rows(
                "SELECT grp, count(*) FROM task_tasks "
                "WHERE queue = ? AND state = 'aggregating' AND set_id IS NULL GROUP BY grp ORDER BY grp",
                queue,
            )
        )

    def memory_usage(self, queue: str) -> int:
        """See ``TaskEngine.memory_usage``."""
        with self._reading() as db:
            _queue(db, queue)
            ((used,),) = db.execute(
                "SELECT coalesce(sum(length(id) + length(msg) + length(coalesce(result, '')) "
                f"+ length(coalesce(unique_key, ''))), 0) + {ROW_BYTES} * count(*) FROM task_tasks WHERE queue = ?",
                (queue,),
            )
        return int(used)

    def cluster_slot(self, queue: str) -> int | None:
        """See ``TaskEngine.cluster_slot``."""
        return None

    def cluster_nodes(self, queue: str) -> list[str]:
        """See ``TaskEngine.cluster_nodes``."""
        return []

    def history(self, queue: str, days: int) -> list[tuple[str, int, int]]:
        """See ``TaskEngine.history``."""
        with self._reading() as db:
            _queue(db, queue)
            counts = {
                day: (processed, failed)
                for day, processed, failed in db.execute(
                    "SELECT day, processed, failed FROM task_counts WHERE queue = ?", (queue,)
                )
            }
        now = self._now()
        asked = [_day(now - 86_400 * back) for back in range(days)]
        return [(day, *counts.get(day, (0, 0))) for day in asked]

    def tasks(self, queue: str, state: TaskState, page: int = 1, size: int = 30, group: str = "") -> list[TaskInfo]:
        """See ``TaskEngine.tasks``."""
        with self._reading() as db:
            _queue(db, queue)
            where, arguments = _of_state(queue, state, group)
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM task_tasks WHERE {where} ORDER BY score, rowid LIMIT ? OFFSET ?",
                (*arguments, size, (page - 1) * size),
            ).fetchall()
        now = self._now()
        return [info_of(row, now) for row in rows]

    def task(self, queue: str, task_id: str) -> TaskInfo:
        """See ``TaskEngine.task``."""
        with self._reading() as db:
            _state(db, queue, task_id)
            (row,) = db.execute(f"SELECT {_COLUMNS} FROM task_tasks WHERE {_ONE}", (queue, task_id))
        return info_of(row, self._now())

    def run(self, queue: str, task_id: str) -> None:
        """See ``TaskEngine.run``."""
        with self._writing(tell=True) as db:
            _refuse(queue, task_id, _state(db, queue, task_id), TaskState.ACTIVE, TaskState.PENDING)
            to_pending(db, queue, [task_id], self._now())

    def archive(self, queue: str, task_id: str) -> None:
        """See ``TaskEngine.archive``."""
        with self._writing() as db:
            _refuse(queue, task_id, _state(db, queue, task_id), TaskState.ACTIVE, TaskState.ARCHIVED)
            to_archive(db, queue, [task_id], self._now())

    def delete(self, queue: str, task_id: str) -> None:
        """See ``TaskEngine.delete``."""
        with self._writing() as db:
            _refuse(queue, task_id, _state(db, queue, task_id), TaskState.ACTIVE)
            release(db, queue, [task_id])
            db.execute(f"DELETE FROM task_tasks WHERE {_ONE}", (queue, task_id))

    def run_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """See ``TaskEngine.run_all``."""
        with self._writing(tell=True) as db:
            ids = _ids(db, queue, state, group, TaskState.ACTIVE, TaskState.PENDING)
            to_pending(db, queue, ids, self._now())
        return len(ids)

    def archive_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """See ``TaskEngine.archive_all``."""
        with self._writing() as db:
            ids = _ids(db, queue, state, group, TaskState.ACTIVE, TaskState.ARCHIVED)
            to_archive(db, queue, ids, self._now())
        return len(ids)

    def delete_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """See ``TaskEngine.delete_all``."""
        with self._writing() as db:
            ids = _ids(db, queue, state, group, TaskState.ACTIVE)
            release(db, queue, ids)
            db.executemany(f"DELETE FROM task_tasks WHERE {_ONE}", [(queue, task_id) for task_id in ids])
        return len(ids)

    def update_payload(self, queue: str, task_id: str, payload: bytes) -> None:
        """See ``TaskEngine.update_payload``."""
        with self._writing() as db:
            state = _state(db, queue, task_id)
            ((blob,),) = db.execute(f"SELECT msg FROM task_tasks WHERE {_ONE}", (queue, task_id))
            message = decode(blob)
            if state != TaskState.SCHEDULED or message is None:
                raise TaskRefused(f"task {task_id!r} of queue {queue} is {state}: only a scheduled one can be changed")
            changed = encode(msgspec.structs.replace(message, payload=payload))
            db.execute(f"UPDATE task_tasks SET msg = ? WHERE {_ONE}", (changed, queue, task_id))

    def pause(self, queue: str) -> None:
        """See ``TaskEngine.pause``. A queue may be paused before its first task."""
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO task_queues (name) VALUES (?)", (queue,))
            if _queue(db, queue) is not None:
                raise TaskRefused(f"queue {queue} is paused already")
            db.execute("UPDATE task_queues SET paused_at = ? WHERE name = ?", (self._now(), queue))

    def unpause(self, queue: str) -> None:
        """See ``TaskEngine.unpause``."""
        with self._writing(tell=True) as db:
            if _queue(db, queue) is None:
                raise TaskRefused(f"queue {queue} is not paused")
            db.execute("UPDATE task_queues SET paused_at = NULL WHERE name = ?", (queue,))

    def remove_queue(self, queue: str, *, force: bool = False) -> None:
        """See ``TaskEngine.remove_queue``. The locks of its tasks go with it."""
        with self._writing() as db:
            _queue(db, queue)
            in_way = "state = 'active'" if force else "1"
            ((number,),) = db.execute(f"SELECT count(*) FROM task_tasks WHERE queue = ? AND {in_way}", (queue,))
            if number:
                what = "active tasks" if force else "tasks"
                raise TaskRefused(f"queue {queue} has {number} {what}", kind=ErrorKind.TASK_QUEUE_NOT_EMPTY)
            ids = [task_id for (task_id,) in db.execute("SELECT id FROM task_tasks WHERE queue = ?", (queue,))]
            release(db, queue, ids)
            for table, column in (("tasks", "queue"), ("sets", "queue"), ("counts", "queue"), ("queues", "name")):
                db.execute(f"DELETE FROM task_{table} WHERE {column} = ?", (queue,))


def _day(now: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now)).strftime("%Y-%m-%d")


def _queue(db: sqlite3.Connection, queue: str) -> float | None:
    """When it was paused; raises ``TaskNotFound`` where there is no such queue."""
    rows = db.execute("SELECT paused_at FROM task_queues WHERE name = ?", (queue,)).fetchall()
    if not rows:
        raise TaskNotFound(f"there is no queue {queue!r}", kind=ErrorKind.TASK_QUEUE_UNKNOWN)
    ((paused_at,),) = rows
    return None if paused_at is None else float(paused_at)


def _state(db: sqlite3.Connection, queue: str, task_id: str) -> TaskState:
    _queue(db, queue)
    rows = db.execute(f"SELECT state FROM task_tasks WHERE {_ONE}", (queue, task_id)).fetchall()
    if not rows:
        raise TaskNotFound(f"queue {queue} has no task {task_id!r}")
    return TaskState(rows[0][0])


def _refuse(queue: str, task_id: str, state: TaskState, *refused: TaskState) -> None:
    if state in refused:
        raise TaskRefused(f"task {task_id!r} of queue {queue} is {state}")


def _of_state(queue: str, state: TaskState, group: str) -> tuple[str, tuple[object, ...]]:
    """The condition for the tasks of a state. Those that an aggregator has taken out belong to no group."""
    where, arguments = "queue = ? AND state = ?", (queue, str(state))
    if state != TaskState.AGGREGATING:
        return where, arguments
    if not group:
        return f"{where} AND set_id IS NULL", arguments
    return f"{where} AND set_id IS NULL AND grp = ?", (*arguments, group)


def _ids(db: sqlite3.Connection, queue: str, state: TaskState, group: str, *refused: TaskState) -> list[str]:
    _queue(db, queue)
    if state in refused:
        raise TaskRefused(f"queue {queue}: this cannot be done to all tasks that are {state}")
    where, arguments = _of_state(queue, state, group)
    return [row[0] for row in db.execute(f"SELECT id FROM task_tasks WHERE {where} ORDER BY score, rowid", arguments)]

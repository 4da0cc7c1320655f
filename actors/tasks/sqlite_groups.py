"""Groups in SQLite: tasks that are gathered to be made into one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from ...messages.errors import TaskError
from ...messages.tasks import TaskMessage
from .options import NewTask
from .sqlite_file import SqliteFile, decode
from .sqlite_tasks import store

__all__ = ["SqliteGroups"]

SET_SECONDS: Final = 120.0
"""How long an aggregator has to make a set into one task."""

_FREE = "queue = ? AND state = 'aggregating' AND set_id IS NULL"


class SqliteGroups(SqliteFile):
    """The part of the engine that aggregators use."""

    def gather(
        self, queue: str, group: str, *, grace: float, max_delay: float, max_size: int
    ) -> tuple[str, list[TaskMessage]] | None:
        """See ``TaskEngine.gather``."""
        with self._writing() as db:
            now = self._now()
            ((size, oldest, newest),) = db.execute(
                f"SELECT count(*), min(score), max(score) FROM task_tasks WHERE {_FREE} AND grp = ?", (queue, group)
            )
            full = 0 < max_size <= size
            old = max_delay > 0 and size and oldest <= now - max_delay
            if not size or not (full or old or newest <= now - grace):
                return None
            rows = db.execute(
                f"SELECT id, msg FROM task_tasks WHERE {_FREE} AND grp = ? ORDER BY score, rowid LIMIT ?",
                (queue, group, max_size or -1),
            ).fetchall()
            set_id = str(uuid.uuid4())
            db.executemany(
                "UPDATE task_tasks SET set_id = ? WHERE queue = ? AND id = ?",
                [(set_id, queue, task_id) for task_id, _ in rows],
            )
            db.execute("INSERT INTO task_sets VALUES (?, ?, ?)", (queue, set_id, now + SET_SECONDS))
        return set_id, [message for _, blob in rows if (message := decode(blob)) is not None]

    def drop_set(self, queue: str, set_id: str, made: NewTask | None = None) -> bool:
        """See ``TaskEngine.drop_set``. The locks of unique members are released with them."""
        with self._writing(tell=True) as db:
            now = self._now()
            dropped = db.execute(
                "DELETE FROM task_sets WHERE queue = ? AND id = ? AND deadline > ?", (queue, set_id, now)
            )
            if not dropped.rowcount:
                return False
            db.execute(
                "DELETE FROM task_locks WHERE (key, id) IN "
                "(SELECT unique_key, id FROM task_tasks WHERE queue = ? AND set_id = ?)",
                (queue, set_id),
            )
            db.execute("DELETE FROM task_tasks WHERE queue = ? AND set_id = ?", (queue, set_id))
            if made is not None:
                db.execute("INSERT OR IGNORE INTO task_queues (name) VALUES (?)", (made.message.queue,))
                stored = store(db, made, now)
                if isinstance(stored, TaskError):
                    raise stored
            return True

    def reclaim(self, queues: Sequence[str]) -> int:
        """See ``TaskEngine.reclaim``."""
        given_back = 0
        with self._writing() as db:
            now = self._now()
            for queue in queues:
                given_back += db.execute(
                    "UPDATE task_tasks SET set_id = NULL WHERE queue = ? AND state = 'aggregating' AND set_id IN "
                    "(SELECT id FROM task_sets WHERE queue = ? AND deadline <= ?)",
                    (queue, queue, now),
                ).rowcount
                db.execute("DELETE FROM task_sets WHERE queue = ? AND deadline <= ?", (queue, now))
        return given_back

    def groups(self, queue: str) -> list[str]:
        """See ``TaskEngine.groups``."""
        return [name for (name,) in self._rows(f"SELECT DISTINCT grp FROM task_tasks WHERE {_FREE} ORDER BY 1", queue)]

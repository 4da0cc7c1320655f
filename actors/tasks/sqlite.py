"""The engine on a SQLite file; several processes may share the file."""

from __future__ import annotations

import time
from collections.abc import Callable

from .sqlite_attempts import SqliteAttempts
from .sqlite_file import MEMORY
from .sqlite_groups import SqliteGroups
from .sqlite_inspection import SqliteInspection
from .sqlite_limits import SqliteLimits
from .sqlite_presence import SqlitePresence

__all__ = ["SharedSqliteEngine", "SqliteEngine"]


class SqliteEngine(SqliteAttempts, SqliteGroups, SqliteInspection, SqliteLimits, SqlitePresence):
    """Queues of tasks in a SQLite file.

    Each operation is one transaction, in WAL mode. What was enqueued is on the disk when it is acknowledged; a loss of
    power may make it be processed again.

    Args:
        path: the file, or ``:memory:``.
        now: unix seconds.
        busy_timeout: seconds to wait for another process's lock on the file.

    Raises:
        StorageError: ``storage.sqlite.unavailable``, ``storage.migration.failed``.
    """


class SharedSqliteEngine(SqliteEngine):
    """The engine in memory: it is gone with its one connection, so all actors of a system share that one."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__(MEMORY, now)

    def close(self) -> None:
        """One of its actors has ended; the others go on."""
        self.wake()

    def end(self) -> None:
        """The system has stopped."""
        super().close()

"""The store that needs no server: one SQLite file, or memory.

Writing is in WAL mode with `synchronous=FULL`: what was answered is on the disk. The connection is used by the
thread that runs its actor; which thread that is may change, so SQLite's own check is off and a lock stands in.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from ...messages.errors import CodecError, ErrorKind, StorageError
from ...messages.lock import Fence
from ...messages.mutator import StoreNotifEvent
from ...messages.statements import ReadStatement, WriteStatement
from .backend import TIMEOUT, Attempt, Guard, StoreOutcome
from .plan import Row, check_fence, row_invalid, row_of, stale, text_fault
from .reading import NotifReader
from .sqlite_migrations import migrate_sqlite
from .sqlite_statements import PRUNE, read_statement, write_statements

T = TypeVar("T")

MEMORY: Final = ":memory:"
BUSY_TIMEOUT: Final = 5.0
"""Seconds that a statement waits for another process's lock on the file."""

_INSERT = (
    "INSERT INTO notifs (receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (nid) DO NOTHING"
)

# What one row can do wrong by itself. Everything else that SQLite raises is about the database.
_ROW_FAULTS = (
    CodecError,
    OverflowError,
    ValueError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class SqliteStore(NotifReader):
    """A connection to a SQLite database; a backend of the mutator and the accessor.

    Args:
        path: The file, or ``:memory:``.
        busy_timeout: Seconds to wait for another process's lock on the file.

    Raises:
        StorageError: `storage.sqlite.unavailable` if the file cannot be opened, read or written;
            `storage.migration.failed`.
    """

    _columns = "id, receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen"
    _mark = "?"

    def __init__(self, path: str, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._closed = False
        self._busy_timeout = self._told = busy_timeout
        try:
            self._db = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, ValueError) as error:
            raise self._error(error, ErrorKind.SQLITE_UNAVAILABLE) from error
        try:
            self._use_wal(busy_timeout)
            self._db.execute("PRAGMA synchronous = FULL")
            migrate_sqlite(self._db)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise self._error(error, ErrorKind.SQLITE_UNAVAILABLE) from error
            raise

    def store(
        self, events: Sequence[StoreNotifEvent], guard: Guard, attempt: Attempt | None = None
    ) -> list[StoreOutcome]:
        """See `StoreBackend.store`."""
        timeout = TIMEOUT if attempt is None else attempt.timeout
        try:
            return self._write(lambda: [self._store(event) for event in events], guard, timeout)
        except StorageError as failed:
            # One error for each request: they are raised on different threads, at different times.
            return [StorageError(str(failed), kind=failed.kind, cause=failed.__cause__) for _ in events]

    def mark_seen(self, ids: Sequence[str], guard: Guard, *, timeout: float = TIMEOUT) -> list[bool]:
        """See `StoreBackend.mark_seen`."""
        return self._write(lambda: [self._mark_seen(nid) for nid in ids], guard, timeout)

    def read(self, statement: ReadStatement[Any], *, timeout: float = TIMEOUT) -> Any:
        """See `StoreBackend.read`."""
        with self._use(timeout) as db:
            return read_statement(db, statement)

    def write(
        self, statements: Sequence[WriteStatement[Any]], guard: Guard, attempt: Attempt | None = None
    ) -> list[Any]:
        """See `StoreBackend.write`."""
        trying = attempt or Attempt()

        def work() -> list[Any]:
            if trying.prunes:
                self._db.execute(PRUNE)
            return write_statements(self._db, statements, trying, self._pass_fence)

        return self._write(work, guard, trying.timeout)

    def close(self) -> None:
        """See `StoreBackend.close`."""
        if not self._closed:
            self._closed = True
            self._db.interrupt()  # an abandoned handler's statement ends now
        self._close_if_free()

    def _use_wal(self, patience: float) -> None:
        """Log ahead of writing; of several programs that open a new file at once one changes its mode, the others wait.

        That lock is taken in a way in which SQLite does not wait by itself.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)

    def _close_if_free(self) -> None:
        """Close, or leave it to the abandoned handler that is still at it: who ends it must not wait for it."""
        if self._lock.acquire(blocking=False):
            try:
                self._db.close()
            finally:
                self._lock.release()

    def _write(self, work: Callable[[], T], guard: Guard, timeout: float) -> T:
        with self._use(timeout) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                done = work()
                guard()
                db.execute("COMMIT")
                return done
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _store(self, event: StoreNotifEvent) -> StoreOutcome:
        try:
            if event.fence is not None:
                check_fence(event.fence)
                self._pass_fence(event.fence)
            return self._insert(row_of(event.message))
        except StorageError as refused:
            return refused
        except _ROW_FAULTS as error:
            return row_invalid(event.message, error)

    def _pass_fence(self, fence: Fence) -> None:
        passed = self._db.execute(
            "INSERT INTO fences (lock, token) VALUES (?, ?) ON CONFLICT (lock) "
            "DO UPDATE SET token = excluded.token WHERE excluded.token >= token",
            (fence.lock, fence.token),
        )
        if not passed.rowcount:
            ((highest,),) = self._db.execute("SELECT token FROM fences WHERE lock = ?", (fence.lock,))
            raise stale(fence, highest)

    def _insert(self, row: Row) -> bool:
        self._db.execute("SAVEPOINT one_row")
        try:
            return self._db.execute(_INSERT, _values(row)).rowcount == 1
        except BaseException:
            if self._db.in_transaction:  # some failures end the whole transaction, and the savepoint with it
                self._db.execute("ROLLBACK TO one_row")
            raise
        finally:
            if self._db.in_transaction:
                self._db.execute("RELEASE one_row")

    def _mark_seen(self, nid: str) -> bool:
        if text_fault(nid) is not None:  # no row can have it
            return False
        return self._db.execute("UPDATE notifs SET is_seen = TRUE WHERE nid = ?", (nid,)).rowcount == 1

    def _query(self, statement: str, arguments: tuple[object, ...], timeout: float) -> list[tuple[Any, ...]]:
        with self._use(timeout) as db:
            try:
                return db.execute(statement, arguments).fetchall()
            except (OverflowError, UnicodeError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
                raise self._error(error, ErrorKind.QUERY_INVALID) from error

    @contextmanager
    def _use(self, timeout: float) -> Iterator[sqlite3.Connection]:
        """The connection, which waits for another process's lock for at most ``timeout`` seconds."""
        try:
            with self._lock:
                if self._closed:
                    raise StorageError(f"{self._path}: the connection is closed", kind=ErrorKind.SQLITE_UNAVAILABLE)
                try:
                    self._wait_at_most(timeout)
                    yield self._db
                except sqlite3.Error as error:
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    kind = ErrorKind.SQLITE_UNAVAILABLE if locked else ErrorKind.SQLITE_FAILED
                    raise self._error(error, kind) from error
        finally:
            if self._closed:
                self._close_if_free()

    def _wait_at_most(self, timeout: float) -> None:
        wanted = min(timeout, self._busy_timeout)
        # An asker's deadline leaves a little less each time: only a difference that matters is worth a statement.
        if not 0.9 * self._told <= wanted <= self._told + 0.001:
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * wanted)}")
            self._told = wanted

    def _error(self, error: Exception, kind: ErrorKind) -> StorageError:
        return StorageError(f"{self._path}: {error}", kind=kind, cause=error)


class SharedSqliteStore(SqliteStore):
    """The store in memory: it is gone with its one connection, so all actors of a system share that one."""

    def __init__(self) -> None:
        super().__init__(MEMORY)

    def close(self) -> None:
        """One of its actors has ended; the others go on."""

    def end(self) -> None:
        """The system has stopped."""
        super().close()


def _values(row: Row) -> tuple[object, ...]:
    return (
        row.receiver_info,
        row.nid,
        row.action_data,
        row.actioner_info,
        row.action_type,
        row.fired_at,
        row.is_seen,
    )

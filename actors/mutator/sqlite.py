"""The store that needs no server: one SQLite file, or memory.

Writing is in WAL mode with `synchronous=FULL`: what was answered is on the disk. The connection is used by the
thread that runs its actor; which thread that is may change, so SQLite's own check is off and a lock stands in.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import orjson

from ...messages.codec import encode_reply
from ...messages.errors import CodecError, ErrorKind, StorageError
from ...messages.lock import Fence
from ...messages.mutator import AllNotifs, NotifRow, NotifsOfOwner, StoreNotifEvent
from ...messages.notifications import ActionType, NotifData
from .backend import Guard, StoreOutcome, page_of
from .migrations import migrate_sqlite

T = TypeVar("T")

MEMORY: Final = ":memory:"
BUSY_TIMEOUT: Final = 5.0
"""Seconds that a statement waits for another process's lock on the file."""

_COLUMNS = "id, receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen"
_INSERT = (
    "INSERT INTO notifs (receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (nid) DO NOTHING"
)
_NEWEST_FIRST = "ORDER BY fired_at DESC, id DESC LIMIT ? OFFSET ?"

# What one row can do wrong by itself. Everything else that SQLite raises is about the database.
_ROW_FAULTS = (
    CodecError,
    OverflowError,
    UnicodeError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class SqliteStore:
    """A connection to a SQLite database; a backend of the mutator and the accessor.

    Args:
        path: The file, or ``:memory:``.
        busy_timeout: Seconds to wait for another process's lock on the file.

    Raises:
        StorageError: `storage.sqlite.unavailable` if the file cannot be opened, read or written;
            `storage.migration.failed`.
    """

    def __init__(self, path: str, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._db = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, ValueError) as error:
            raise self._error(error, ErrorKind.SQLITE_UNAVAILABLE) from error
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            migrate_sqlite(self._db)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise self._error(error, ErrorKind.SQLITE_UNAVAILABLE) from error
            raise

    def store(self, events: Sequence[StoreNotifEvent], guard: Guard) -> list[StoreOutcome]:
        """See `StoreBackend.store`."""
        try:
            return self._write(lambda: [self._store(event) for event in events], guard)
        except StorageError as failed:
            # One error for each request: they are raised on different threads, at different times.
            return [StorageError(str(failed), kind=failed.kind, cause=failed.__cause__) for _ in events]

    def mark_seen(self, ids: Sequence[str], guard: Guard) -> list[bool]:
        """See `StoreBackend.mark_seen`."""
        return self._write(lambda: [self._mark_seen(nid) for nid in ids], guard)

    def of_owner(self, query: NotifsOfOwner) -> list[NotifRow]:
        """See `StoreBackend.of_owner`."""
        offset, size = page_of(query)
        unseen = "AND NOT is_seen" if query.unseen_only else ""
        return self._read(f"WHERE receiver_info = ? {unseen} {_NEWEST_FIRST}", (query.owner, size, offset))

    def all(self, query: AllNotifs) -> list[NotifRow]:
        """See `StoreBackend.all`."""
        offset, size = page_of(query)
        unseen = "WHERE NOT is_seen" if query.unseen_only else ""
        return self._read(f"{unseen} {_NEWEST_FIRST}", (size, offset))

    def by_id(self, nid: str) -> NotifRow | None:
        """See `StoreBackend.by_id`."""
        return next(iter(self._read("WHERE nid = ?", (nid,))), None)

    def count(self, owner: str | None) -> int:
        """See `StoreBackend.count`."""
        where, arguments = ("", ()) if owner is None else ("WHERE receiver_info = ?", (owner,))
        ((number,),) = self._query(f"SELECT count(*) FROM notifs {where}", arguments)
        return int(number)

    def close(self) -> None:
        """See `StoreBackend.close`."""
        if not self._closed:
            self._closed = True
            self._db.interrupt()  # an abandoned handler's statement ends now
        self._close_if_free()

    def _close_if_free(self) -> None:
        """Close, or leave it to the abandoned handler that is still at it: who ends it must not wait for it."""
        if self._lock.acquire(blocking=False):
            try:
                self._db.close()
            finally:
                self._lock.release()

    def _write(self, work: Callable[[], T], guard: Guard) -> T:
        with self._use() as db:
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
                self._pass_fence(event.fence)
            return self._insert(event.message)
        except StorageError as refused:
            return refused
        except _ROW_FAULTS as error:
            text = f"notification {event.message.id!r}: {str(error).removeprefix('reply: ')}"
            return StorageError(text, kind=ErrorKind.ROW_INVALID, cause=error)

    def _pass_fence(self, fence: Fence) -> None:
        passed = self._db.execute(
            "INSERT INTO fences (lock, token) VALUES (?, ?) ON CONFLICT (lock) "
            "DO UPDATE SET token = excluded.token WHERE excluded.token >= token",
            (fence.lock, fence.token),
        )
        if not passed.rowcount:
            ((highest,),) = self._db.execute("SELECT token FROM fences WHERE lock = ?", (fence.lock,))
            raise StorageError(
                f"lock {fence.lock!r}: token {fence.token} is older than {highest}, which has written since",
                kind=ErrorKind.FENCING_STALE,
            )

    def _insert(self, notif: NotifData) -> bool:
        values = (
            notif.receiver_info,
            notif.id,
            encode_reply(notif.action_data).decode(),
            notif.actioner_info,
            notif.action_type,
            notif.fired_at,
            notif.is_seen,
        )
        self._db.execute("SAVEPOINT one_row")
        try:
            return self._db.execute(_INSERT, values).rowcount == 1
        except BaseException:
            if self._db.in_transaction:  # some failures end the whole transaction, and the savepoint with it
                self._db.execute("ROLLBACK TO one_row")
            raise
        finally:
            if self._db.in_transaction:
                self._db.execute("RELEASE one_row")

    def _mark_seen(self, nid: str) -> bool:
        try:
            return self._db.execute("UPDATE notifs SET is_seen = TRUE WHERE nid = ?", (nid,)).rowcount == 1
        except UnicodeError:  # no row can have an id that is not UTF-8
            return False

    def _read(self, where: str, arguments: tuple[object, ...]) -> list[NotifRow]:
        return [_row(values) for values in self._query(f"SELECT {_COLUMNS} FROM notifs {where}", arguments)]

    def _query(self, statement: str, arguments: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._use() as db:
            try:
                return db.execute(statement, arguments).fetchall()
            except (OverflowError, UnicodeError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
                raise self._error(error, ErrorKind.QUERY_INVALID) from error

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._closed:
                    raise StorageError(f"{self._path}: the connection is closed", kind=ErrorKind.SQLITE_UNAVAILABLE)
                try:
                    yield self._db
                except sqlite3.Error as error:
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    kind = ErrorKind.SQLITE_UNAVAILABLE if locked else ErrorKind.SQLITE_FAILED
                    raise self._error(error, kind) from error
        finally:
            if self._closed:
                self._close_if_free()

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


def _row(values: tuple[Any, ...]) -> NotifRow:
    number, receiver, nid, data, actioner, action_type, fired_at, seen = values
    try:
        return NotifRow(
            id=number,
            receiver_info=receiver,
            nid=nid,
            action_data=orjson.loads(data),
            actioner_info=actioner,
            action_type=ActionType(action_type),
            fired_at=fired_at,
            is_seen=bool(seen),
        )
    except ValueError as error:
        raise StorageError(f"row {number}: {error}", kind=ErrorKind.ROW_INVALID, cause=error) from error

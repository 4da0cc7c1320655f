"""The SQLite file under the engine: its connection, its transactions, and the news that something was written."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from ...messages.errors import ErrorKind, StorageError
from ...messages.tasks import TaskInfo, TaskMessage, TaskState
from ..forking import renewed_in_forks
from .sqlite_schema import migrate

__all__ = ["MEMORY", "SqliteFile", "decode", "encode", "info_of"]

MEMORY: Final = ":memory:"

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process's lock on the file."""
LOOK_EVERY: Final = 0.003
"""Seconds between two looks whether another process has written. Writes of this one are told at once."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TaskMessage)
encode = _encoder.encode


def decode(blob: bytes) -> TaskMessage | None:
    """The stored message; None if it cannot be read."""
    try:
        return _decoder.decode(blob)
    except (msgspec.DecodeError, TypeError):
        return None


def info_of(row: tuple[Any, ...], now: float) -> TaskInfo:
    """What is known of a task: of a row of queue, id, state, score, msg, result."""
    queue, task_id, state_text, score, blob, result = row
    state = TaskState(state_text)
    message = decode(blob)
    if message is None:
        error = f"{ErrorKind.TASK_RECORD_INVALID}: its record cannot be read"
        message = TaskMessage("", bytes(blob), task_id, queue, error_msg=error)
    due = {TaskState.PENDING: now, TaskState.SCHEDULED: score, TaskState.RETRY: score}.get(state, 0.0)
    orphaned = state == TaskState.ACTIVE and (score is None or score <= now)
    return TaskInfo(message, state, due, result or b"", orphaned)


class News:
    """Tells the threads of one process that something was written to a file."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0

    def tell(self) -> None:
        """Something was."""
        with self.changed:
            self.count += 1
            self.changed.notify_all()


_news: WeakValueDictionary[str, News] = WeakValueDictionary()
_news_lock = renewed_in_forks(threading.Lock())


class SqliteFile:
    """A connection to a file of task queues.

    Args:
        path: the file, or ``:memory:``.
        now: unix seconds.
        busy_timeout: seconds to wait for another process's lock on the file.

    Raises:
        StorageError: ``storage.sqlite.unavailable``, ``storage.migration.failed``.
    """

    def __init__(self, path: str, now: Callable[[], float] = time.time, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._busy_timeout = busy_timeout
        self._closed = False
        self._woken = 0
        self._synced = True
        with _news_lock:
            key = f"{MEMORY}{id(self)}" if path == MEMORY else os.path.realpath(path)
            self._news = _news.setdefault(key, News())
        self._db = self._connect(busy_timeout)
        self._watch = None if path == MEMORY else self._connect(busy_timeout)

    def _connect(self, busy_timeout: float) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self._path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, ValueError) as error:
            raise self._error(error, ErrorKind.SQLITE_UNAVAILABLE) from error
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            migrate(db)
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.Error):
                raise self._error(error, ErrorKind.SQLITE_UNAVAILABLE) from error
            raise
        return db

    def now(self) -> float:
        """Unix seconds."""
        return self._now()

    def close(self) -> None:
        """End the connection; whoever waits or works on it gets an error."""
        if not self._closed:
            self._closed = True
            self._db.interrupt()
            self.wake()
        self._close_if_free()

    def _close_if_free(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self._db.close()
                if self._watch is not None:
                    self._watch.close()
            finally:
                self._lock.release()

    def wake(self) -> None:
        """Let every wait on this connection return."""
        with self._news.changed:
            self._woken += 1
            self._news.changed.notify_all()

    def _wait_for(self, find: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``find`` is true, looking again whenever something was written; False: woken, or time is up."""
        news = self._news
        until = time.monotonic() + timeout
        with news.changed:
            woken = self._woken
        while True:
            with news.changed:
                count = news.count
            version = self._version()
            if find():
                return True
            while True:
                left = until - time.monotonic()
                with news.changed:
                    if self._woken != woken or self._closed or left <= 0:
                        return False
                    if news.count == count:
                        news.changed.wait(left if version is None else min(left, LOOK_EVERY))
                    if news.count != count:
                        break
                if version is not None and self._version() != version:
                    break

    def _version(self) -> int | None:
        """A number that changes when another connection has written; None where there is no other."""
        if self._watch is None:
            return None
        with self._use():
            ((version,),) = self._watch.execute("PRAGMA data_version")
            return int(version)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads that see the state of one moment, whatever others write meanwhile."""
        with self._use() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextmanager
    def _writing(
        self, *, tell: bool = False, synced: bool = True, timeout: float | None = None
    ) -> Iterator[sqlite3.Connection]:
        """A transaction: kept if the block ends, undone if it raises.

        Args:
            tell: tell those who wait once it is kept.
            synced: whether it also outlasts a loss of power, which costs a wait for the disk. What only moves a task
                on need not: the task is where it was before, and is moved on again.
            timeout: seconds to wait for another process's lock on the file, if that is less than always.
        """
        with self._use(timeout) as db:
            if synced != self._synced:
                db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
                self._synced = synced
            self._begin(db, self._busy_timeout if timeout is None else min(timeout, self._busy_timeout))
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        if tell:
            self._news.tell()

    def _begin(self, db: sqlite3.Connection, timeout: float) -> None:
        """Take the lock on the file; the others find the connection as it was."""
        if timeout >= self._busy_timeout:
            db.execute("BEGIN IMMEDIATE")
            return
        db.execute(f"PRAGMA busy_timeout = {round(timeout * 1000)}")
        try:
            db.execute("BEGIN IMMEDIATE")
        finally:
            db.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout * 1000)}")

    def _rows(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self._use() as db:
            return db.execute(statement, arguments).fetchall()

    @contextmanager
    def _use(self, timeout: float | None = None) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise StorageError(f"{self._path}: it is in use", kind=ErrorKind.SQLITE_UNAVAILABLE)
        try:
            try:
                if self._closed:
                    raise StorageError(f"{self._path}: the connection is closed", kind=ErrorKind.SQLITE_UNAVAILABLE)
                try:
                    yield self._db
                except sqlite3.Error as error:
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    raise self._error(
                        error, ErrorKind.SQLITE_UNAVAILABLE if locked else ErrorKind.SQLITE_FAILED
                    ) from error
            finally:
                self._lock.release()
        finally:
            if self._closed:
                self._close_if_free()

    def _error(self, error: Exception, kind: ErrorKind) -> StorageError:
        return StorageError(f"{self._path}: {error}", kind=kind, cause=error)

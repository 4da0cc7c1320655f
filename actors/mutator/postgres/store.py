"""The store on a PostgreSQL server, through psycopg and its pool.

A lost server is no end of it: connections that died are replaced, and what was under way is done again, for as long as
whoever asked for it waits. That is safe because a write is recognised by its key.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from ....messages.errors import ErrorKind, StorageError
from ....messages.mutator import StoreNotifEvent
from ....messages.statements import ReadStatement, WriteStatement
from ..backend import TIMEOUT, Attempt, Guard, StoreOutcome
from ..plan import plan_of, text_fault
from ..reading import NotifReader
from .connection import Connection, Target, is_row_fault, is_transient, look
from .migrations import bring_up_to_date, migrate_postgres
from .pooling import open_pool
from .statements import read_statement, write_statements
from .writing import store_plan

__all__ = ["PostgresStore"]

T = TypeVar("T")

POOL_PATIENCE: Final = 0.5
"""Seconds in which the pool replaces a connection that died, if the server is there at all."""

FIRST_TRY: Final = 4.0
"""Seconds until the first try is given up and made again on another connection; each further one has twice as long."""

PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two tries."""

PROBE_TIMEOUT: Final = 2.0
"""Seconds in which a server that is well answers a check."""

CLOSE_TIMEOUT: Final = 0.25
"""Seconds to wait for the end of a thread of the pool."""

_MARK_SEEN = (
    "WITH found AS (SELECT nid FROM notifs WHERE nid = ANY(%s)), "
    "marked AS (UPDATE notifs SET is_seen = TRUE WHERE nid = ANY(%s) AND NOT is_seen) "
    "SELECT nid FROM found"
)


class PostgresStore(NotifReader):
    """Connections to a PostgreSQL database; a backend of the mutator and the accessor.

    Args:
        url: ``postgresql://user:password@host:port/database?option=value``, as libpq reads it.
        hurried: Says whether somebody waits for the end of what is being done: then it is not tried again.

    Raises:
        UrlInvalid: libpq cannot read the URL.
        StorageError: `storage.postgres.denied`, `storage.migration.failed`. A server that is not there is no reason:
            its schema is brought up to date when it is found.
    """

    _columns = (
        "id, receiver_info, nid, action_data::text, actioner_info, action_type, "
        "extract(epoch FROM fired_at)::bigint, is_seen"
    )
    _mark = "%s"

    def __init__(self, url: str, hurried: Callable[[], bool] = lambda: False) -> None:
        self._target = Target(url)
        self._hurried = hurried
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._migrated = False
        self._probe: Connection | None = None
        self._in_use: dict[Connection, None] = {}
        self._fault: BaseException | None = None
        try:
            bring_up_to_date(self._target)
            self._migrated = True
        except StorageError as error:
            if error.kind is not ErrorKind.POSTGRES_UNAVAILABLE:  # else it looks for the server when it is needed
                raise
        self._pool = open_pool(self._target, self._note_connecting)

    def store(
        self, events: Sequence[StoreNotifEvent], guard: Guard, attempt: Attempt | None = None
    ) -> list[StoreOutcome]:
        """See `StoreBackend.store`."""
        plan, attempt = plan_of(events), attempt or Attempt()
        try:
            return self._run(lambda db: store_plan(db, plan, guard, attempt), attempt.timeout)
        except StorageError as failed:
            # One error for each request: they are raised on different threads, at different times.
            return [
                plan.refused.get(place) or StorageError(str(failed), kind=failed.kind, cause=failed.__cause__)
                for place in range(len(events))
            ]

    def mark_seen(self, ids: Sequence[str], guard: Guard, *, timeout: float = TIMEOUT) -> list[bool]:
        """See `StoreBackend.mark_seen`."""
        possible = sorted({nid for nid in ids if text_fault(nid) is None})

        def mark(db: Connection) -> set[str]:
            guard()
            return {nid for (nid,) in db.execute(_MARK_SEEN, (possible, possible))}

        found = self._run(mark, timeout)
        return [text_fault(nid) is None and nid in found for nid in ids]

    def read(self, statement: ReadStatement[Any], *, timeout: float = TIMEOUT) -> Any:
        """See `StoreBackend.read`."""
        return self._run(lambda db: read_statement(db, statement), timeout)

    def write(
        self, statements: Sequence[WriteStatement[Any]], guard: Guard, attempt: Attempt | None = None
    ) -> list[Any]:
        """See `StoreBackend.write`."""
        trying = attempt or Attempt()
        return self._run(lambda db: write_statements(db, statements, guard, trying), trying.timeout)

    def check(self) -> None:
        """Ask the server, on a connection that nothing else uses, whether it answers; any thread may call it.

        Raises:
            StorageError: `storage.postgres.unavailable` or `storage.postgres.denied`.
        """
        failed: StorageError
        with self._lock:
            self._refuse_if_closed()
            if self._probe is None:
                self._probe = self._target.connect()
            self._probe.abandoned = self._closing.is_set()
            try:
                self._probe.deadline = monotonic() + PROBE_TIMEOUT
                self._probe.execute("SELECT 1")
            except psycopg.Error as error:
                failed = self._target.error(error)
                self._probe.close()
                self._probe = None
            else:
                return
        raise failed

    def close(self) -> None:
        """See `StoreBackend.close`."""
        if self._closing.is_set():
            return
        self._closing.set()
        for connection in (*self._in_use, *filter(None, (self._probe,))):
            connection.abandoned = True  # an abandoned handler's statement ends now
        # Not for long: one of the pool's threads may be about to connect to a server that hangs.
        self._pool.close(timeout=CLOSE_TIMEOUT)
        if self._lock.acquire(timeout=PROBE_TIMEOUT):
            try:
                if self._probe is not None:
                    self._probe.close()
            finally:
                self._lock.release()

    def _query(self, statement: str, arguments: tuple[object, ...], timeout: float) -> list[tuple[Any, ...]]:
        def read(db: Connection) -> list[tuple[Any, ...]]:
            try:
                return db.execute(statement.encode(), arguments).fetchall()
            except psycopg.Error as error:
                if is_row_fault(error):
                    text = f"{self._target.name}: {error.diag.message_primary}"
                    raise StorageError(text, kind=ErrorKind.QUERY_INVALID, cause=error) from error
                raise

        return self._run(read, timeout)

    def _run(self, work: Callable[[Connection], T], timeout: float) -> T:
        """Do a piece of work, again while the server cannot be reached or others get in its way.

        Raises:
            StorageError: it could not be done within `timeout` seconds, or the server says no.
        """
        deadline = monotonic() + timeout
        patience, pause = FIRST_TRY, PAUSE
        while True:
            self._refuse_if_closed()
            try:
                with self._connection(min(deadline, monotonic() + patience)) as db:
                    return work(db)
            except psycopg.Error as error:
                failed = self._target.error(self._reason(error))
                again = failed.kind is ErrorKind.POSTGRES_UNAVAILABLE or is_transient(error)
            left = deadline - monotonic()
            if not again or left <= pause or self._hurried():
                raise failed
            self._closing.wait(pause)
            patience, pause = 2 * patience, min(2 * pause, LONGEST_PAUSE)

    @contextmanager
    def _connection(self, deadline: float) -> Iterator[Connection]:
        """A connection of the pool, for work that ends by a deadline."""
        connection = self._take(deadline)
        try:
            self._in_use[connection] = None
            connection.abandoned = self._closing.is_set()
            connection.deadline = deadline
            connection.hurried = self._hurried
            _limit_on_the_server(connection, deadline - monotonic())
            if not self._migrated:
                migrate_postgres(connection)
                self._migrated = True
            yield connection
        except BaseException:
            _leave_clean(connection)
            raise
        finally:
            self._in_use.pop(connection, None)
            connection.deadline = math.inf
            self._pool.putconn(connection)

    def _take(self, deadline: float) -> Connection:
        while True:
            left = max(0.001, deadline - monotonic())
            connection = self._pool.getconn(timeout=min(left, POOL_PATIENCE))
            try:
                look(connection)
            except psycopg.Error:  # it died of a restart, as perhaps all did that were made before
                connection.close()
                self._pool.putconn(connection)
            else:
                return connection

    def _note_connecting(self, failed: BaseException | None) -> None:
        self._fault = failed

    def _reason(self, error: psycopg.Error) -> BaseException:
        """Why there was no connection, where the pool only says that there was none."""
        return self._fault or error if isinstance(error, PoolTimeout) else error

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise StorageError(f"{self._target.name}: the connection is closed", kind=ErrorKind.POSTGRES_UNAVAILABLE)


def _limit_on_the_server(connection: Connection, seconds: float) -> None:
    """Have the server end by itself, soon after the deadline, what waits there for a lock.

    It is told the next power of two, so that it need not be told each time.
    """
    wanted = 1 << max(6, math.ceil(seconds * 1000) - 1).bit_length()
    if not wanted <= connection.server_timeout <= 2 * wanted:
        connection.execute("SELECT set_config('statement_timeout', %s, FALSE)", (f"{wanted}ms",))
        connection.server_timeout = wanted


def _leave_clean(connection: Connection) -> None:
    """Roll back what an error left open, or close.

    A connection in another state, such as in the middle of a statement whose handler was killed, is of no use to
    anybody.
    """
    status = connection.info.transaction_status
    if status in (psycopg.pq.TransactionStatus.INTRANS, psycopg.pq.TransactionStatus.INERROR):
        try:
            connection.rollback()
        except psycopg.Error:
            connection.close()  # raised is what made the rollback necessary
    elif status != psycopg.pq.TransactionStatus.IDLE:
        connection.close()

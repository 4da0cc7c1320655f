"""Locks in PostgreSQL, for where two must never work at once.

A lock is a session's advisory lock: while its holder's connection lives nobody else gets it, whatever clocks say and
however long the holder is stopped; when the connection is gone, so is the lock. Beside it a table says who holds what
with which token, and another who waits in which order. Tokens come from a sequence.

So it differs from the other backends in this: leases end with the connection, and a lease that has run out is ended by
its holder's own client, which tells the holder; where that client is stopped, the others wait until it goes on or dies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from ...messages.errors import ErrorKind, LockError, StorageError, UrlInvalid
from ..mutator.postgres.connection import Connection, Target
from .backend import Acquire, Answer, Lease, Lost, check_ttl
from .postgres_schema import CLIENTS, prepare

LOOK_EVERY: Final = 0.1
"""Seconds between two looks of one who waits."""
TIMEOUT: Final = 3.0
"""Seconds that one call may take where it is not told."""
CHECK_TIMEOUT: Final = 2.0
LET_GO_TIMEOUT: Final = 0.5
KEEPALIVES: Final = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
"""How the server finds out that a client is gone without a word: within 11 seconds."""

_ROW = "SELECT token, owner, request_id, client, last, released FROM understudy_locks WHERE resource = %s FOR UPDATE"
_FIRST = """
    SELECT request_id FROM understudy_lock_line AS line
    WHERE resource = %s AND EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = %s
        AND objid::bigint = line.client AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY place LIMIT 1
"""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A wish that has no answer yet."""

    wish: Acquire
    answers: list[Answer]
    lost: Lost
    deadline: float
    look_at: float = 0.0
    in_line: bool = False


class _Seen(NamedTuple):
    """Why a wish was not granted: who holds the lock, and whose request comes first in line."""

    owner: str
    first: bytes


@dataclass(slots=True, eq=False)
class _Held:
    """A lease that this client has."""

    lease: Lease
    request_id: str
    lost: Lost


class PostgresLock:
    """A connection to locks in PostgreSQL; a backend of the lock actor. Safe to use from any thread.

    Args:
        url: The database, as libpq takes it.
        clock: Seconds, monotonic.

    Raises:
        UrlInvalid: libpq cannot read it.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        try:
            self._target = Target(url)
        except UrlInvalid as error:
            raise UrlInvalid(str(error).replace("store:", "lock:", 1)) from None
        given = self._target.options.get("options", "")
        self._target.options["options"] = f"{given} {KEEPALIVES}".strip()
        self._clock = clock
        self._use = threading.RLock()
        self._db: Connection | None = None
        self._client = 0
        self._pid = 0
        self._closed = False
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._held: dict[str, _Held] = {}

    # --- the contract ------------------------------------------------------------------------------------

    def acquire(self, wish: Acquire, answer: Answer, lost: Lost, timeout: float | None = None) -> None:
        """See `LockBackend.acquire`."""
        key = (wish.resource, wish.request_id)
        with self._use:
            if self._closed:
                answer(_closed())
                return
            try:
                self._run_out()
            except LockError as error:
                answer(error)
                return
            held = self._held.get(wish.resource)
            if held is not None and held.request_id == wish.request_id:
                held.lost = lost
                answer(held.lease)
                return
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.answers.append(answer)
                waiting.lost = lost
                return
            waiting = self._waiting[key] = _Waiting(wish, [answer], lost, self._clock() + wish.wait)
            try:
                seen = self._ask(waiting, timeout)
            except LockError as error:
                self._refuse(key, error)
            else:
                if seen is not None and wish.wait == 0:
                    self._refuse(key, _timeout(wish, seen.owner))

    def withdraw(self, resource: str, request_id: str) -> bool:
        """See `LockBackend.withdraw`."""
        with self._use:
            waiting = self._waiting.pop((resource, request_id), None)
            if waiting is None:
                return False
            with suppress(LockError):  # its line is that of a client which is gone, then
                self._leave(waiting)
            return True

    def renew(self, resource: str, token: int, ttl: float, timeout: float | None = None) -> Lease:
        """See `LockBackend.renew`."""
        check_ttl(ttl)
        with self._use:
            self._run_out()
            held = self._held.get(resource)
            if held is None or held.lease.token != token:
                raise self._fate(resource, token, timeout)[1]
            ends = self._clock() + ttl
            with self._using(timeout) as db:
                db.execute("SELECT 1")  # that the session lives is what the lease stands on
            held.lease = Lease(resource, held.lease.owner, token, ends)
            return held.lease

    def release(self, resource: str, token: int, timeout: float | None = None) -> bool:
        """See `LockBackend.release`."""
        with self._use:
            self._run_out()
            held = self._held.get(resource)
            if held is None or held.lease.token != token:
                released, fate = self._fate(resource, token, timeout)
                if not released:
                    raise fate
                return False
            self._end(held, released=True, timeout=timeout)
            self._look(resource)
            return True

    def holder(self, resource: str, timeout: float | None = None) -> Lease | None:
        """See `LockBackend.holder`; of another client's lease the seconds that remain are not known: 0."""
        with self._use:
            self._run_out()
            held = self._held.get(resource)
            if held is not None:
                return held.lease
            with self._transaction(timeout) as db:
                row = db.execute(_ROW, (_bytes(resource),)).fetchone()
                if row is None or row[0] is None or not _is_locked(db, resource):
                    return None
            return Lease(resource, row[1], row[0], self._clock())

    def tick(self) -> float | None:
        """See `LockBackend.tick`."""
        with self._use:
            with suppress(LockError):
                self._run_out()
            now = self._clock()
            for resource in {key[0]: None for key, each in self._waiting.items() if each.look_at <= now}:
                self._look(resource)
            return self.next_tick()

    def next_tick(self) -> float | None:
        """See `LockBackend.next_tick`."""
        with self._use:
            times = [held.lease.expires_at for held in self._held.values()]
            times += [min(waiting.deadline, waiting.look_at) for waiting in self._waiting.values()]
        return min(times, default=None)

    def check(self) -> None:
        """See `Server.check`."""
        if not self._use.acquire(timeout=CHECK_TIMEOUT):
            return  # whoever uses it finds out
        try:
            with self._using(CHECK_TIMEOUT) as db:
                db.execute("SELECT 1")
        finally:
            self._use.release()

    def close(self) -> None:
        """See `LockBackend.close`."""
        self._closed = True
        db = self._db
        if db is not None:
            db.abandoned = True  # what another thread waits for ends now
        with self._use:
            waiting, self._waiting = self._waiting, {}
            held, self._held = self._held, {}
            if self._db is not None:
                _let_go(self._db)
                self._db = None
        for each in held.values():  # the leases have ended with the session
            each.lost(each.lease)
        for wish in waiting.values():
            for answer in wish.answers:
                answer(_closed())

    # --- wishes ------------------------------------------------------------------------------------------

    def _ask(self, waiting: _Waiting, timeout: float | None = None) -> _Seen | None:
        """Take the lock if it is free and the wish comes first; else put it into the line. What was seen then."""
        wish = waiting.wish
        asked = self._clock()
        waiting.look_at = asked + LOOK_EVERY
        name, request = _bytes(wish.resource), _bytes(wish.request_id)
        with self._transaction(timeout) as db:
            row = db.execute(_ROW, (name,)).fetchone()
            if row is None:  # it is the first wish of all for this lock
                db.execute("INSERT INTO understudy_locks (resource) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
                row = db.execute(_ROW, (name,)).fetchone()
            assert row is not None
            first = db.execute(_FIRST, (name, CLIENTS)).fetchone()
            mine = wish.resource not in self._held and (first is None or bytes(first[0]) == request)
            if not mine or not _one(db, "SELECT pg_try_advisory_lock(%s)", _key(wish.resource)):
                if wish.wait > 0 and not waiting.in_line:
                    db.execute(
                        "INSERT INTO understudy_lock_line (resource, request_id, client) VALUES (%s, %s, %s) "
                        "ON CONFLICT (resource, request_id) DO UPDATE SET client = excluded.client",
                        (name, request, self._client),
                    )
                    waiting.in_line = True
                return _Seen(row[1] or "", bytes(first[0]) if first is not None else request)
            try:
                token = int(
                    _one(
                        db,
                        "UPDATE understudy_locks SET token = nextval('understudy_lock_tokens'), owner = %s, "
                        "request_id = %s, client = %s, last = coalesce(token, last), "
                        "released = released AND token IS NULL WHERE resource = %s RETURNING token",
                        wish.owner.replace("\0", "\\0"),
                        request,
                        self._client,
                        name,
                    )
                )
                db.execute("DELETE FROM understudy_lock_line WHERE resource = %s AND request_id = %s", (name, request))
            except BaseException:
                self._lose("granting a lock failed")  # the session, and with it what it holds
                raise
        self._waiting.pop((wish.resource, wish.request_id), None)
        lease = Lease(wish.resource, wish.owner, token, asked + wish.ttl)
        self._held[wish.resource] = _Held(lease, wish.request_id, waiting.lost)
        for answer in waiting.answers:
            answer(lease)
        return None

    def _look(self, resource: str) -> None:
        """See whether the turn of one who waits here has come. If that cannot be seen now, it is tried again."""
        first: bytes | None = None  # in line, once that is known: nobody else's turn can have come
        for (name, request_id), waiting in list(self._waiting.items()):
            if name != resource:
                continue
            if first is not None and waiting.in_line and first != _bytes(request_id):
                waiting.look_at = self._clock() + LOOK_EVERY
                continue
            try:
                seen = self._ask(waiting)
                first = b"" if seen is None else seen.first
            except LockError as error:
                waiting.look_at = self._clock() + 10 * LOOK_EVERY
                if error.kind is not ErrorKind.LOCK_UNAVAILABLE:
                    self._refuse((name, request_id), error)

    def _give_up(self, key: tuple[str, str], waiting: _Waiting) -> None:
        try:
            owner = self._leave(waiting)
        except LockError as error:
            self._refuse(key, error)
        else:
            self._refuse(key, _timeout(waiting.wish, owner))

    def _leave(self, waiting: _Waiting) -> str:
        name, request = _bytes(waiting.wish.resource), _bytes(waiting.wish.request_id)
        with self._transaction() as db:
            db.execute("DELETE FROM understudy_lock_line WHERE resource = %s AND request_id = %s", (name, request))
            row = db.execute(_ROW, (name,)).fetchone()
        return (row[1] or "") if row is not None else ""

    def _refuse(self, key: tuple[str, str], error: LockError) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            for answer in waiting.answers:
                answer(LockError(str(error), kind=error.kind, cause=error.__cause__))

    # --- leases ------------------------------------------------------------------------------------------

    def _run_out(self) -> None:
        """End the waits and the leases whose time has come, and tell who waited and who held them."""
        if self._closed:
            raise _closed()
        now = self._clock()
        for key, waiting in list(self._waiting.items()):
            if waiting.deadline <= now:
                self._give_up(key, waiting)
        for held in [each for each in self._held.values() if each.lease.expires_at <= now]:
            # Told first: until the server has been told, nobody else gets the lock.
            self._held.pop(held.lease.resource, None)
            held.lost(held.lease)
            self._end(held, released=False)
            self._look(held.lease.resource)

    def _end(self, held: _Held, *, released: bool, timeout: float | None = None) -> None:
        resource = held.lease.resource
        with self._using(timeout) as db:
            db.execute(
                "UPDATE understudy_locks SET token = NULL, owner = NULL, request_id = NULL, client = NULL, "
                "last = %s, released = %s WHERE resource = %s AND token = %s",
                (held.lease.token, released, _bytes(resource), held.lease.token),
            )
        self._held.pop(resource, None)
        with self._using(timeout) as db:
            db.execute("SELECT pg_advisory_unlock(%s)", (_key(resource),))

    def _fate(self, resource: str, token: int, timeout: float | None) -> tuple[bool, LockError]:
        """Whether a lease that is not this client's was the last one released; the error for what became of it."""
        with self._transaction(timeout) as db:
            row = db.execute(_ROW, (_bytes(resource),)).fetchone()
        current, _, _, _, last, released = row or (None, None, None, None, None, True)
        kind, fate = ErrorKind.LOCK_NOT_HELD, "is not held"
        was_released = token == last and released
        if token == current or (token == last and not released):
            kind, fate = ErrorKind.LEASE_LOST, "was lost"
        elif token < (last or 0) or token < (current or 0):
            kind, fate = ErrorKind.LOCK_TOKEN_STALE, "is older than the latest lease"
        error = LockError(f"lock {resource!r}: the lease with token {token} {fate}", kind=kind)
        return was_released, error

    # --- the session -------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, timeout: float | None = None) -> Iterator[Connection]:
        """A transaction, as a whole no longer than it may take; see `_using`."""
        with self._using(timeout) as db, db.transaction():
            yield db

    @contextmanager
    def _using(self, timeout: float | None = None) -> Iterator[Connection]:
        """The session, whose statements take no longer than they may; if it breaks, it takes its leases along."""
        try:
            yield self._session(TIMEOUT if timeout is None else timeout)
        except psycopg.Error as error:
            seen = self._target.error(error)
            if self._db is None or not _is_idle(self._db):
                self._lose(str(seen))
            raise _as_lock_error(seen) from error
        except StorageError as error:
            raise _as_lock_error(error) from error
        finally:
            if self._closed and self._db is not None:
                self._db.abandoned = True

    def _session(self, timeout: float) -> Connection:
        if self._closed:
            raise StorageError("the connection to the locks is closed", kind=ErrorKind.LOCK_CLOSED)
        if self._db is not None and not _is_idle(self._db):
            self._lose("the session has ended")
        deadline = monotonic() + timeout
        if self._db is None:
            db = self._target.connect()
            db.deadline = deadline
            try:
                self._client = prepare(db, self._client, self._pid)
            except BaseException:
                db.close()
                raise
            self._db, self._pid = db, db.info.backend_pid
            for waiting in self._waiting.values():
                waiting.in_line = False
        self._db.deadline = deadline
        return self._db

    def _lose(self, why: str) -> None:
        """The session is over, and with it every lease of it."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
        held, self._held = self._held, {}
        if not self._closed:
            for each in held.values():
                each.lost(each.lease)


def _let_go(db: Connection) -> None:
    """Close a session. The server may take a while to notice; what it holds is to be free at once, for who is next."""
    if _is_idle(db):
        db.abandoned, db.deadline = False, monotonic() + LET_GO_TIMEOUT
        with suppress(psycopg.Error):
            db.execute("SELECT pg_advisory_unlock_all()")
    db.close()


def _is_idle(db: Connection) -> bool:
    """Whether the session can be used. A broken one may count as open, in the middle of a statement for ever."""
    return db.pgconn.transaction_status == TransactionStatus.IDLE


def _one(db: Connection, statement: Any, *arguments: object) -> Any:
    row = db.execute(statement, arguments).fetchone()
    assert row is not None
    return row[0]


def _is_locked(db: Connection, resource: str) -> bool:
    """Whether some session has the advisory lock."""
    key = _key(resource)
    return bool(
        _one(
            db,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
            "AND classid::bigint = %s AND objid::bigint = %s "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            (key >> 32) & 0xFFFFFFFF,
            key & 0xFFFFFFFF,
        )
    )


def _key(resource: str) -> int:
    """The number of the advisory lock: 64 bits that no two names are likely to share."""
    return int.from_bytes(sha256(b"understudy lock " + _bytes(resource)).digest()[:8], "big", signed=True)


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LockError(f"{text!r} cannot be written as UTF-8", kind=ErrorKind.LOCK_REQUEST_INVALID) from error


_KINDS: Final = {
    ErrorKind.POSTGRES_UNAVAILABLE: ErrorKind.LOCK_UNAVAILABLE,
    ErrorKind.POSTGRES_DENIED: ErrorKind.LOCK_DENIED,
    ErrorKind.LOCK_CLOSED: ErrorKind.LOCK_CLOSED,
}


def _as_lock_error(error: StorageError) -> LockError:
    return LockError(str(error), kind=_KINDS.get(error.kind, ErrorKind.LOCK_FAILED))


def _closed() -> LockError:
    return LockError("the connection to the locks is closed", kind=ErrorKind.LOCK_CLOSED)


def _timeout(wish: Acquire, owner: str) -> LockError:
    whose = repr(owner) if owner else "nobody"
    return LockError(
        f"lock {wish.resource!r}: {whose} holds it, {wish.owner!r} did not get it within {wish.wait} s",
        kind=ErrorKind.LOCK_TIMEOUT,
    )

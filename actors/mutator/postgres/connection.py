"""Connections to PostgreSQL that never wait past a deadline, and what their errors mean.

libpq waits for as long as the socket is open, and a server that was stopped (not ended) keeps it open for ever. So
every wait of a connection is looked at again and again, and given up when its time is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from ....messages.errors import ErrorKind, StorageError, UrlInvalid
from ....messages.redact import MASK

__all__ = ["Connection", "Target", "is_row_fault", "is_transient", "look"]

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 2
"""Seconds to connect, unless the URL says ``connect_timeout``: a server that hangs is soon tried again."""

LOOK: Final = 0.1
"""Seconds between two looks at a wait."""

HURRIED: Final = 1.0
"""Seconds that a statement still has when its actor is to stop."""

_DENIED = ("28", "42501", "3D000", "3F000")
_UNAVAILABLE = ("08", "57P", "53300")
_ROW_FAULTS = ("21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0")
"""Classes of what is wrong with a value, a constraint, or a function that a trigger or a statement calls."""
_SERVERS_CLASSES: Final = (
    *("00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "24", "25", "26", "28"),
    *("2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV", "XX"),
)
"""PostgreSQL's other classes (its Appendix A): of the server, of the session, or of the text of a statement."""
_TRANSIENT = ("40001", "40P01", "55P03")


class DeadlinePassed(psycopg.OperationalError):
    """The server did not answer in time; the connection was closed, and what became of the statement is unknown."""


class Connection(psycopg.Connection[TupleRow]):
    """A connection whose waits end at ``deadline``, or as soon as it is ``abandoned``.

    Attributes:
        deadline: when to give up, in seconds of the monotonic clock.
        abandoned: set, by any thread, where nobody is interested in the answer any more.
        hurried: whether somebody waits for the end of what is being done: then it has a second left.
        server_timeout: the ``statement_timeout`` that the server was told, in milliseconds; 0 for none yet.
    """

    deadline: float = math.inf
    abandoned: bool = False
    hurried: Callable[[], bool] = staticmethod(lambda: False)
    server_timeout: int = 0

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Run a step of the protocol to its end, or to the deadline; raises `DeadlinePassed`."""
        if not args and "interval" not in kwargs:
            left = max(0.001, self.deadline - monotonic())
            # Equal parts (in whole milliseconds), so that the last look comes when the time is over, not a look later.
            kwargs["interval"] = LOOK if left == math.inf else left / math.ceil(left / LOOK) + 0.001
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            state = next(gen)
            while True:
                state = gen.send((yield state))
                now = monotonic()
                if self.hurried():
                    self.deadline = min(self.deadline, now + HURRIED)
                if self.abandoned or now >= self.deadline:
                    gen.close()
                    self.pgconn.finish()  # it is in the middle of a statement: there is no other way out of it
                    raise DeadlinePassed("given up by its actor" if self.abandoned else "no answer in time")
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # what `gen` returns


def look(connection: Connection) -> None:
    """Raise if the server has closed the connection: one look at the socket, without a round trip.

    A server that stops or is killed closes its sockets, so this finds out about a restart. What it cannot see (a
    server that hangs, a network that is cut) ends at the statement's deadline.
    """
    pgconn = connection.pgconn
    pgconn.consume_input()
    pgconn.consume_input()  # the first may have read the server's farewell, and only the second the end
    if pgconn.status != pq.ConnStatus.OK or pgconn.transaction_status != pq.TransactionStatus.IDLE:
        raise psycopg.OperationalError("the server has closed the connection")


class Target:
    """The database that a URL names; knows how to connect to it and how to speak of it without its secrets.

    Args:
        url: A libpq URL, ``postgresql://user:password@host:port/database?option=value``.

    Raises:
        UrlInvalid: libpq cannot read it. The text repeats nothing of it, for it may hold a password.
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] | None = None
        with suppress(psycopg.Error, UnicodeError, ValueError):
            options = conninfo_to_dict(url) if _is_divided_as_written(url) else None
        # Raised outside of the block, without libpq's error, which quotes the part that it does not like.
        if options is None:
            raise UrlInvalid(
                "store: this is no URL that PostgreSQL's client can read: write "
                "postgresql://user:password@host:port/database?option=value with special characters percent-encoded "
                "(%40 for @, %2F for /)"
            )
        self._secrets = [str(options[name]) for name in ("password", "sslpassword") if options.get(name)]
        host, port = options.get("host") or "localhost", str(options.get("port") or "").strip(",")
        self.name = f"postgresql://{host}{f':{port}' if port else ''}/{options.get('dbname') or ''}"
        self.options: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "understudy",
            **options,
            "client_encoding": "UTF8",
        }

    def connect(self) -> Connection:
        """Open a connection in autocommit mode.

        Raises:
            StorageError: `storage.postgres.unavailable` or `storage.postgres.denied`.
        """
        failed: StorageError
        try:
            return Connection.connect(**self.options, autocommit=True)
        except (psycopg.Error, UnicodeError, OSError) as error:
            failed = self.error(error, method="connect")
        raise failed

    def error(self, error: BaseException, doing: str = "", method: str | None = None) -> StorageError:
        """Make the error that a caller sees out of one of psycopg's.

        Args:
            error: What psycopg raised.
            doing: What was being done, to begin the text with.
            method: Where it was done, if no caller will say.
        """
        kind = _kind_of(error)
        text = self.clean(f"{self.name}: {doing}{_text_of(error)}")
        # The client's own error is kept as the cause, unless it would say what must not be said.
        cause = error if self.clean(str(error)) == str(error) else None
        return StorageError(text, kind=kind, method=method, cause=cause)

    def clean(self, text: str) -> str:
        """The text without the password, wherever it came from."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def _is_divided_as_written(url: str) -> bool:
    """Whether libpq takes nothing of a password for a host, a port or a database's name, and quotes it as such.

    It ends the password at the first ``@``, and looks for none after a ``/``; so one that comes later was not meant to
    divide anything. A port that is no number is the password of a URL without a host.
    """
    body, _, options = url.partition("://")[2].partition("?")
    if "@" in options and "@" not in body and ":" in body:
        return False  # the password has a "?"; libpq would read what follows as options
    credentials, at, _ = body.partition("@")
    place = body if "/" in credentials else body[len(credentials) + len(at) :]
    if "@" in place:
        return False
    ports = str(conninfo_to_dict(url).get("port") or "")
    return all(port.isdecimal() for port in ports.split(",") if port)


def _text_of(error: BaseException) -> str:
    diagnosis = getattr(error, "diag", None)
    text = (diagnosis.message_primary if diagnosis is not None else None) or str(error) or type(error).__name__
    return " ".join(text.split())


def _kind_of(error: BaseException) -> ErrorKind:
    state = getattr(error, "sqlstate", None) or ""
    if state.startswith(_DENIED):
        return ErrorKind.POSTGRES_DENIED
    if state == "57014":  # canceled by its statement_timeout
        return ErrorKind.POSTGRES_UNAVAILABLE
    if state.startswith(_UNAVAILABLE):
        return ErrorKind.POSTGRES_UNAVAILABLE
    if state:
        return ErrorKind.POSTGRES_FAILED
    text = str(error)
    if any(mark in text for mark in _DENIED_TEXTS):
        return ErrorKind.POSTGRES_DENIED
    connection_is_gone = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, OSError))
    return ErrorKind.POSTGRES_UNAVAILABLE if connection_is_gone else ErrorKind.POSTGRES_FAILED


_DENIED_TEXTS = ("password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist")
"""While connecting there may be no SQLSTATE, only the server's text (in English where it was not set otherwise)."""


def is_row_fault(error: psycopg.Error) -> bool:
    """Whether the server found fault with a value, rather than with itself or with us.

    A class that is none of PostgreSQL's is a user's own (``RAISE … USING ERRCODE``), raised for a value.
    """
    state = error.sqlstate
    return state is not None and (state.startswith(_ROW_FAULTS) or state[:2] not in _SERVERS_CLASSES)


def is_transient(error: psycopg.Error) -> bool:
    """Whether two transactions got into each other's way, and the same one may succeed at once."""
    return (error.sqlstate or "") in _TRANSIENT

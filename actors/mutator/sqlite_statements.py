"""The user's own statements on SQLite."""

from __future__ import annotations

import enum
import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
import orjson

from ...messages.codec import encode_reply
from ...messages.errors import ActorError, CodecError, ErrorKind, SpecInvalid, StorageError
from ...messages.lock import Fence
from ...messages.message import Message, reply_type_of
from ...messages.statements import ReadStatement, WriteStatement, in_sqlite, statement_of
from .backend import Attempt
from .plan import check_fence, text_fault

__all__ = ["PRUNE", "read_statement", "write_statements"]

PRUNE: Final = "DELETE FROM statements_done WHERE done_at < datetime('now', '-1 day')"

_NOTHING: Final = re.compile(r"(?:[\s;]|--[^\n]*|/\*.*?\*/)*+", re.DOTALL)
"""A text in which there is no statement."""

_VALUE_FAULTS = (
    CodecError,
    ValueError,
    OverflowError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
)
_DISK_FAULTS = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
)


def read_statement(db: sqlite3.Connection, message: ReadStatement[Any]) -> Any:
    """Run a statement on a connection that may not write meanwhile."""
    db.execute("PRAGMA query_only = ON")
    try:
        return _run(db, message)
    except (*_VALUE_FAULTS, sqlite3.Error) as error:
        raise _own_fault(error, message, ErrorKind.QUERY_INVALID) from error
    finally:
        db.execute("PRAGMA query_only = OFF")


def write_statements(
    db: sqlite3.Connection,
    messages: Sequence[WriteStatement[Any]],
    attempt: Attempt,
    pass_fence: Callable[[Fence], None],
) -> list[Any]:
    """Run statements within a transaction that is open; the reply of each, or why it was refused."""
    outcomes: list[Any] = []
    for message in messages:
        try:
            outcomes.append(_once(db, message, attempt.key_of(message), pass_fence))
        except ActorError as refused:
            outcomes.append(refused)
        except (*_VALUE_FAULTS, sqlite3.Error) as error:
            outcomes.append(_own_fault(error, message, ErrorKind.ROW_INVALID))
    return outcomes


def _once(db: sqlite3.Connection, message: WriteStatement[Any], key: str, pass_fence: Callable[[Fence], None]) -> Any:
    statement_of(message)
    _check_text("key", message.key)
    if message.fence is not None:
        check_fence(message.fence)
    known = db.execute("SELECT reply FROM statements_done WHERE key = ?", (key,)).fetchone()
    if known is not None:
        return msgspec.convert(orjson.loads(known[0]), reply_type_of(message))
    if message.fence is not None:
        pass_fence(message.fence)
    db.execute("SAVEPOINT one_statement")
    try:
        reply = _run(db, message)
        db.execute("INSERT INTO statements_done (key, reply) VALUES (?, ?)", (key, encode_reply(reply).decode()))
    except BaseException:
        if db.in_transaction:  # some failures end the whole transaction, and the savepoint with it
            db.execute("ROLLBACK TO one_statement")
        raise
    finally:
        if db.in_transaction:
            db.execute("RELEASE one_statement")
    return reply


def _run(db: sqlite3.Connection, message: Message[Any]) -> Any:
    declared = statement_of(message)
    values = {name: _bound(name, value) for name, value in declared.values(message).items()}
    text = in_sqlite(declared)
    if _NOTHING.fullmatch(text):
        raise StorageError(f"{type(message).__name__}: the statement is empty", kind=ErrorKind.QUERY_INVALID)
    cursor = db.execute(text, values)
    columns = [name for name, *_ in cursor.description or ()]
    rows = cursor.fetchall()
    # SQLite has fewer types than Python: a bool comes back as a number, a date as a text.
    return declared.reply(cursor.rowcount, columns, rows, strict=False)


def _check_text(name: str, value: str) -> None:
    if (fault := text_fault(value)) is not None:
        raise ValueError(f"{name}: {fault}")


def _bound(name: str, value: Any) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (dict, list, tuple, msgspec.Struct)):
        for each in value if isinstance(value, (list, tuple)) else ():
            if isinstance(each, str):
                _check_text(name, each)
        return encode_reply(value).decode()
    if isinstance(value, str):
        _check_text(name, value)
    return value


def _own_fault(error: Exception, message: Message[Any], kind: ErrorKind) -> ActorError:
    """The refusal of one statement; raises what is the database's fault."""
    if isinstance(error, SpecInvalid):
        return error
    if isinstance(error, sqlite3.OperationalError):
        if (error.sqlite_errorcode & 0xFF) in _DISK_FAULTS:
            raise error
        kind = ErrorKind.QUERY_INVALID
    elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, (*_VALUE_FAULTS, sqlite3.ProgrammingError)):
        raise error
    return StorageError(f"{type(message).__name__}: {error}", kind=kind, cause=error)

"""The user's own statements on PostgreSQL."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from ....messages.codec import encode_reply
from ....messages.errors import ActorError, CodecError, ErrorKind, SpecInvalid, StorageError
from ....messages.message import Message, reply_type_of
from ....messages.statements import ReadStatement, Statement, WriteStatement, statement_of
from ..backend import Attempt, Guard
from ..plan import check_fence, stale, text_fault
from .connection import Connection, is_row_fault
from .writing import CHECK_NOW, HOLD_LOCKS, KNOW_LOCKS, RAISE_TOKENS, marking_doubt

__all__ = ["read_statement", "write_statements"]

_CLAIM: Final = (
    "INSERT INTO statements_done (key) SELECT key FROM unnest(%s::text[]) AS key ORDER BY key "
    "ON CONFLICT (key) DO NOTHING RETURNING key"
)
_KNOWN: Final = "SELECT key, reply FROM statements_done WHERE key = ANY(%s::text[])"
_REMEMBER: Final = (
    "UPDATE statements_done SET reply = given.reply::json FROM unnest(%s::text[], %s::text[]) AS given (key, reply) "
    "WHERE statements_done.key = given.key"
)
_UNCLAIM: Final = "DELETE FROM statements_done WHERE key = ANY(%s::text[])"
_PRUNE: Final = "DELETE FROM statements_done WHERE done_at < now() - interval '1 day'"


def read_statement(db: Connection, message: ReadStatement[Any]) -> Any:
    """Run a statement in a transaction that may not write.

    Raises:
        StorageError: `storage.query.invalid`, `storage.row.invalid` or `storage.postgres.denied`.
        psycopg.Error: It is not the statement that is at fault.
    """
    try:
        _values(statement_of(message), message)
        with db.pipeline():
            db.execute("BEGIN READ ONLY")
            cursor = _execute(db, message)
            db.execute("COMMIT")
        return _reply(cursor, message)
    except psycopg.Error as error:
        if is_own_fault(error) or error.sqlstate == "25006":  # it would have written
            raise own_fault(error, message) from error
        raise
    except (ValueError, CodecError) as error:
        if isinstance(error, SpecInvalid):
            raise
        text = f"{type(message).__name__}: {error}"
        raise StorageError(text, kind=ErrorKind.QUERY_INVALID, cause=error) from error


@dataclass(slots=True)
class _Batch:
    """Statements, and what has become of each, by place."""

    messages: Sequence[WriteStatement[Any]]
    keys: list[str]
    outcomes: dict[int, Any] = field(default_factory=dict)
    replies: dict[str, str] = field(default_factory=dict)
    """What is remembered under each key of those that were run, as JSON."""
    fences: dict[str, int] = field(default_factory=dict)
    prunes: bool = False

    def open(self) -> list[int]:
        """The places of those that have no outcome yet."""
        return [place for place in range(len(self.messages)) if place not in self.outcomes]


def write_statements(
    db: Connection, messages: Sequence[WriteStatement[Any]], guard: Guard, attempt: Attempt
) -> list[Any]:
    """Run statements in one transaction and return the reply of each, or its `StorageError` or `CodecError`.

    Args:
        db: A connection in autocommit mode.
        messages: The statements.
        guard: Called right before the commit is sent.
        attempt: Which one it is.

    Raises:
        psycopg.Error: The transaction failed; nothing of it was kept, unless `attempt.in_doubt` is set.
    """
    batch = _batch_of(messages, attempt)
    with marking_doubt(db, attempt):
        try:
            outcomes = _in_one_go(db, batch, guard)
        except (psycopg.Error, StorageError, CodecError) as error:
            if isinstance(error, psycopg.Error) and not is_own_fault(error):
                raise
            db.rollback()
            outcomes = _one_by_one(db, batch, guard)
    return [outcomes[place] for place in range(len(messages))]


def is_own_fault(error: psycopg.Error) -> bool:
    """Whether the statement is at fault, with its values or with its text."""
    if error.sqlstate is None:  # psycopg did not know how to send a value
        return isinstance(error, (psycopg.ProgrammingError, psycopg.DataError))
    return is_row_fault(error) or error.sqlstate.startswith(("42", "0A", "21"))


def own_fault(error: psycopg.Error, message: Message[Any]) -> StorageError:
    """The refusal of one statement."""
    text = f"{type(message).__name__}: {error.diag.message_primary or error}"
    if error.sqlstate == "42501":
        kind = ErrorKind.POSTGRES_DENIED
    else:
        by_value = error.sqlstate is None or is_row_fault(error)
        kind = ErrorKind.ROW_INVALID if by_value else ErrorKind.QUERY_INVALID
    return StorageError(text, kind=kind, cause=error)


def _batch_of(messages: Sequence[WriteStatement[Any]], attempt: Attempt) -> _Batch:
    batch = _Batch(messages, [attempt.key_of(message) for message in messages], prunes=attempt.prunes)
    for place, message in enumerate(messages):
        fence = message.fence
        try:
            _values(statement_of(message), message)
            if (fault := text_fault(message.key)) is not None:
                raise ValueError(f"key: {fault}")
            if fence is None:
                continue
            check_fence(fence)
        except SpecInvalid as error:
            batch.outcomes[place] = error
            continue
        except (ValueError, CodecError) as error:
            text = f"{type(message).__name__}: {error}"
            batch.outcomes[place] = StorageError(text, kind=ErrorKind.ROW_INVALID, cause=error)
            continue
        highest = batch.fences.get(fence.lock, 0)
        if fence.token < highest:
            batch.outcomes[place] = stale(fence, highest)
        else:
            batch.fences[fence.lock] = fence.token
    batch.fences = dict(sorted(batch.fences.items()))
    return batch


def _in_one_go(db: Connection, batch: _Batch, guard: Guard) -> dict[int, Any]:
    """Claim the keys, run what is new, remember the replies and commit: three round trips for all of them."""
    with db.pipeline():
        db.execute("BEGIN")
        outcomes, fresh, unclaimed = _claim(db, batch)  # reads answers, so it is a round trip
        cursors = {place: _execute(db, batch.messages[place]) for place in fresh}
    replies = {place: _noted(_reply(cursor, batch.messages[place]), batch, place) for place, cursor in cursors.items()}
    with db.pipeline():
        _settle(db, batch, unclaimed)
        guard()
        db.execute("COMMIT")
    return _with_repeated(batch, {**outcomes, **replies})


def _one_by_one(db: Connection, batch: _Batch, guard: Guard) -> dict[int, Any]:
    """The same where one is refused: each has a savepoint."""
    batch.replies.clear()
    with db.transaction():
        outcomes, fresh, unclaimed = _claim(db, batch)
        replies: dict[int, Any] = {}
        for place in fresh:
            message = batch.messages[place]
            try:
                with db.transaction():
                    reply = _noted(_reply(_execute(db, message), message), batch, place)
                    db.execute(CHECK_NOW)
                    replies[place] = reply
            except (StorageError, CodecError) as error:
                outcomes[place] = error
            except psycopg.Error as error:
                if not is_own_fault(error):
                    raise
                outcomes[place] = own_fault(error, message)
        unclaimed += [batch.keys[place] for place in fresh if place not in replies]
        _settle(db, batch, unclaimed)
        guard()
    return _with_repeated(batch, {**outcomes, **replies})


def _claim(db: Connection, batch: _Batch) -> tuple[dict[int, Any], list[int], list[str]]:
    """Hold the locks and the keys.

    Returns:
        what has an outcome without being run; the places of what is to be run; the keys to be given back.
    """
    outcomes, places = dict(batch.outcomes), batch.open()
    first: dict[str, int] = {}
    for place in places:
        first.setdefault(batch.keys[place], place)
    held: dict[str, int] = {}
    if batch.fences:
        db.execute(KNOW_LOCKS, (list(batch.fences),))
        held = dict(db.execute(HOLD_LOCKS, (list(batch.fences),)))
    ours = {key for (key,) in db.execute(_CLAIM, (list(first),))}
    known: dict[str, Any] = dict(db.execute(_KNOWN, (list(first),)))
    outcomes |= {
        place: _as_before(known.get(batch.keys[place]), batch.messages[place])
        for place in places
        if batch.keys[place] not in ours
    }
    fresh, unclaimed = [], []
    for key, place in first.items():
        fence = batch.messages[place].fence
        if key not in ours:
            continue
        if fence is not None and fence.token < held.get(fence.lock, 0):
            outcomes[place] = stale(fence, held[fence.lock])
            unclaimed.append(key)
        else:
            fresh.append(place)
    return outcomes, fresh, unclaimed


def _noted(reply: Any, batch: _Batch, place: int) -> Any:
    """The reply, once it is known that it can be remembered; raises `CodecError`."""
    batch.replies[batch.keys[place]] = encode_reply(reply).decode()
    return reply


def _as_before(reply: Any, message: WriteStatement[Any]) -> Any:
    """The reply of the first time; or the refusal of a message whose reply is another one under the same key."""
    try:
        return msgspec.convert(reply, reply_type_of(message))
    except msgspec.ValidationError as error:
        text = f"{type(message).__name__}: key {message.key!r}: {error}"
        return StorageError(text, kind=ErrorKind.ROW_INVALID, cause=error)


def _settle(db: Connection, batch: _Batch, unclaimed: list[str]) -> None:
    if batch.replies:
        db.execute(_REMEMBER, (list(batch.replies), list(batch.replies.values())))
    if unclaimed:
        db.execute(_UNCLAIM, (unclaimed,))
    if batch.fences:
        db.execute(RAISE_TOKENS, (list(batch.fences), list(batch.fences.values())))
    if batch.prunes:
        db.execute(_PRUNE)


def _with_repeated(batch: _Batch, outcomes: dict[int, Any]) -> dict[int, Any]:
    """Of several with one key in the batch the first was run, and the others are answered alike."""
    by_key = {batch.keys[place]: (place, outcome) for place, outcome in outcomes.items() if place not in batch.outcomes}
    for place in batch.open():
        if place in outcomes:
            continue
        first, outcome = by_key[batch.keys[place]]
        message = batch.messages[place]
        if not isinstance(outcome, ActorError) and type(message) is not type(batch.messages[first]):
            outcome = _as_before(msgspec.to_builtins(outcome, str_keys=True), message)
        outcomes[place] = outcome
    return outcomes


def _execute(db: Connection, message: Message[Any]) -> psycopg.Cursor[Any]:
    declared = statement_of(message)
    return db.execute(_composed(declared), _values(declared, message))


def _reply(cursor: psycopg.Cursor[Any], message: Message[Any]) -> Any:
    if cursor.pgresult is not None and cursor.pgresult.status == psycopg.pq.ExecStatus.EMPTY_QUERY:
        raise StorageError(f"{type(message).__name__}: the statement is empty", kind=ErrorKind.QUERY_INVALID)
    columns = [column.name for column in cursor.description or ()]
    rows = cursor.fetchall() if columns else []
    return statement_of(message).reply(cursor.rowcount, columns, rows)


@lru_cache(maxsize=1024)
def _composed(declared: Statement) -> bytes | sql.Composed:
    if not declared.identifiers:
        return declared.text.encode()
    names = {name: sql.Identifier(*parts) for name, parts in declared.identifiers.items()}
    return sql.SQL(declared.text).format(**names)  # pyright: ignore[reportArgumentType]  # text of the user's program


def _values(declared: Statement, message: Message[Any]) -> dict[str, Any]:
    return {name: _bound(name, value) for name, value in declared.values(message).items()}


def _bound(name: str, value: Any) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, (dict, msgspec.Struct)):
        return encode_reply(value).decode()
    if isinstance(value, str) and (fault := text_fault(value)) is not None:
        raise ValueError(f"{name}: {fault}")
    return value

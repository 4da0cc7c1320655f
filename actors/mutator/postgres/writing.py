"""How a batch of notifications is written to PostgreSQL: in one transaction, one round trip unless a row is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from ....messages.errors import StorageError
from ..backend import Attempt, Guard, StoreOutcome
from ..plan import Plan, Row, row_invalid, stale
from .connection import Connection, is_row_fault

__all__ = ["CHECK_NOW", "HOLD_LOCKS", "KNOW_LOCKS", "RAISE_TOKENS", "marking_doubt", "store_plan"]

_TABLE: Final = (
    "INSERT INTO notifs (receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen, written_by) "
)
_ONCE: Final = "ON CONFLICT (nid) DO NOTHING RETURNING nid"

_ONE: Final = _TABLE + "VALUES (%s, %s, %s::json, %s, %s, to_timestamp(%s), %s, %s) " + _ONCE

# Arrays in binary: a fifth of the client's work, and two thirds of the whole, of a row of parameters for each.
_UNNEST: Final = (
    "SELECT receiver_info, nid, action_data::json, actioner_info, action_type, to_timestamp(fired_at), is_seen, %s "
    "FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::boolean[]"
)
_NAMES: Final = "receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen"
_MANY: Final = f"{_TABLE}{_UNNEST}) WITH ORDINALITY AS given ({_NAMES}, place) ORDER BY place {_ONCE}"
_FENCED: Final = (
    f"{_TABLE}{_UNNEST}, %b::text[], %b::bigint[]) WITH ORDINALITY AS given ({_NAMES}, fence, presented, place) "
    "LEFT JOIN fences ON lock = fence WHERE fence IS NULL OR presented >= token "
    f"ORDER BY place {_ONCE}"
)

# A lock's row is there and held before anything is written under it, so that of two who write at the same time the
# second sees the first one's token.
KNOW_LOCKS: Final = (
    "INSERT INTO fences (lock, token) SELECT lock, 0 FROM unnest(%s::text[]) AS lock ORDER BY lock "
    "ON CONFLICT (lock) DO NOTHING"
)
HOLD_LOCKS: Final = "SELECT lock, token FROM fences WHERE lock = ANY(%s::text[]) ORDER BY lock FOR UPDATE"
RAISE_TOKENS: Final = (
    "UPDATE fences SET token = given.token FROM unnest(%s::text[], %s::bigint[]) AS given (lock, token) "
    "WHERE fences.lock = given.lock AND fences.token < given.token"
)

CHECK_NOW: Final = "SET CONSTRAINTS ALL IMMEDIATE"
"""Within a savepoint: else what a deferred constraint refuses would fail the commit, and all rows with it."""
_OURS: Final = "SELECT nid FROM notifs WHERE nid = ANY(%s::text[]) AND written_by = %s"


def store_plan(db: Connection, plan: Plan, guard: Guard, attempt: Attempt) -> list[StoreOutcome]:
    """Write a batch and tell the outcome of each event.

    Args:
        db: A connection in autocommit mode.
        plan: The batch.
        guard: Called right before the commit is sent.
        attempt: Which one it is; `in_doubt` is set while the commit's outcome is not known.

    Raises:
        psycopg.Error: The transaction failed; nothing of it was kept, unless `attempt.in_doubt` is set.
    """
    before = attempt.in_doubt
    refused: dict[int, StorageError] = {}
    with marking_doubt(db, attempt):
        try:
            added, held = _in_one_trip(db, plan, guard, attempt.key)
        except psycopg.Error as error:
            if not is_row_fault(error):
                raise
            db.rollback()
            added, held = _row_by_row(db, plan, guard, attempt.key, refused)
    attempt.in_doubt = before
    earlier: set[str] = set()
    if before:
        nids = [row.nid for row in plan.rows.values()]
        earlier = {nid for (nid,) in db.execute(_OURS, (nids, attempt.key))} - added
    attempt.in_doubt = False
    return _outcomes(plan, added, earlier, held, refused)


@contextmanager
def marking_doubt(db: Connection, attempt: Attempt) -> Iterator[None]:
    """Set `attempt.in_doubt` while a transaction may be committed without our hearing of it."""
    before, attempt.in_doubt = attempt.in_doubt, True
    try:
        yield
    except BaseException as error:
        # The server said no, or was not asked: then the outcome is known.
        attempt.in_doubt = before or (isinstance(error, psycopg.Error) and error.sqlstate is None) or db.broken
        raise
    attempt.in_doubt = False


def _in_one_trip(db: Connection, plan: Plan, guard: Guard, key: int) -> tuple[set[str], Mapping[str, int]]:
    rows = list(plan.rows.values())
    if not plan.fences:
        guard()
        return (_insert(db, rows, key) if rows else set()), {}
    locks, tokens = list(plan.fences), list(plan.fences.values())
    added: psycopg.Cursor[Any] | None = None
    with db.pipeline():
        db.execute("BEGIN")
        db.execute(KNOW_LOCKS, (locks,))
        held = db.execute(HOLD_LOCKS, (locks,))
        if rows:
            added = db.execute(_FENCED, _columns(rows, key, fenced=True))
        db.execute(RAISE_TOKENS, (locks, tokens))
        guard()
        db.execute("COMMIT")
    return {nid for (nid,) in added} if added is not None else set(), dict(held)


def _row_by_row(
    db: Connection, plan: Plan, guard: Guard, key: int, refused: dict[int, StorageError]
) -> tuple[set[str], Mapping[str, int]]:
    """One transaction in which rows are divided until those that are refused stand alone."""
    locks, tokens = list(plan.fences), list(plan.fences.values())
    with db.transaction():
        held: dict[str, int] = {}
        if locks:
            db.execute(KNOW_LOCKS, (locks,))
            held = dict(db.execute(HOLD_LOCKS, (locks,)))
            db.execute(RAISE_TOKENS, (locks, tokens))
        rows = [(place, row) for place, row in plan.rows.items() if not _is_stale(row, held)]
        added = _divide(db, rows, key, plan, refused)
        guard()
    return added, held


def _divide(
    db: Connection, rows: Sequence[tuple[int, Row]], key: int, plan: Plan, refused: dict[int, StorageError]
) -> set[str]:
    if not rows:
        return set()
    try:
        with db.transaction():  # a savepoint: there is a transaction already
            added = _insert(db, [row for _, row in rows], key)
            db.execute(CHECK_NOW)
            return added
    except psycopg.Error as error:
        if not is_row_fault(error):
            raise
        if len(rows) == 1:
            ((place, _),) = rows
            text = error.diag.message_primary or str(error)
            refused[place] = row_invalid(plan.events[place].message, text)
            return set()
    half = len(rows) // 2
    return _divide(db, rows[:half], key, plan, refused) | _divide(db, rows[half:], key, plan, refused)


def _insert(db: Connection, rows: Sequence[Row], key: int) -> set[str]:
    found = db.execute(_ONE, (*rows[0][:7], key)) if len(rows) == 1 else db.execute(_MANY, _columns(rows, key))
    return {nid for (nid,) in found}


def _columns(rows: Sequence[Row], key: int, *, fenced: bool = False) -> list[Any]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return [key, *columns] if fenced else [key, *columns[:7]]


def _is_stale(row: Row, held: Mapping[str, int]) -> bool:
    return row.lock is not None and row.token is not None and row.token < held.get(row.lock, 0)


def _outcomes(
    plan: Plan, added: set[str], earlier: set[str], held: Mapping[str, int], refused: Mapping[int, StorageError]
) -> list[StoreOutcome]:
    """Of several events with the id of a row that was added, the first that could be stored has added it.

    `earlier` are the rows that an earlier attempt of the same write had added.
    """
    outcomes: list[StoreOutcome] = []
    for place, event in enumerate(plan.events):
        known = plan.refused.get(place) or refused.get(place)
        if known is not None:
            outcomes.append(known)
            continue
        nid, fence = event.message.id, event.fence
        if nid in earlier:
            earlier.discard(nid)
            outcomes.append(True)
        elif fence is not None and fence.token < held.get(fence.lock, 0):
            outcomes.append(stale(fence, held[fence.lock]))
        else:
            outcomes.append(nid in added)
            added.discard(nid)
    return outcomes

"""Bringing a database's schema up to date: numbered steps, each applied once, none ever edited.

What was applied stands in the table `migrations`, with a digest of the step's text. A step that was edited
afterwards, or a database that is ahead of this program, is refused instead of guessed at.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...messages.errors import ErrorKind, StorageError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Args:
        number: Its place, from 1 without gaps.
        name: What it does.
        statements: SQL, each one statement.
    """

    number: int
    name: str
    statements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Tells whether the text is still what was applied."""
        return hashlib.sha256("\0".join((self.name, *self.statements)).encode()).hexdigest()


SQLITE: Final[tuple[Migration, ...]] = (
    Migration(
        1,
        "notifications, one row for each id",
        (
            """
            CREATE TABLE notifs (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                receiver_info TEXT NOT NULL,
                nid TEXT NOT NULL UNIQUE CHECK (nid <> ''),
                action_data TEXT NOT NULL,
                actioner_info TEXT NOT NULL,
                action_type TEXT NOT NULL,
                fired_at TIMESTAMP NOT NULL CHECK (typeof(fired_at) = 'integer' AND fired_at >= 0),
                is_seen BOOLEAN NOT NULL DEFAULT FALSE CHECK (is_seen IN (FALSE, TRUE))
            )
            """,
            "CREATE INDEX notifs_fired_at ON notifs (fired_at)",
            "CREATE INDEX notifs_receiver_info ON notifs (receiver_info, is_seen, fired_at)",
        ),
    ),
    Migration(
        2,
        "the highest fencing token seen of each lock",
        (
            """
            CREATE TABLE fences (
                lock TEXT PRIMARY KEY,
                token INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
)
"""The schema of the SQLite store. Append; never edit."""

_TABLE = """
    CREATE TABLE IF NOT EXISTS migrations (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
"""


def migrate_sqlite(db: sqlite3.Connection, steps: Sequence[Migration] = SQLITE) -> list[int]:
    """Apply the steps that are missing, all in one transaction: either the schema is up to date, or as it was.

    Two programs that start at the same time wait for each other, and the second finds nothing left to do.

    Args:
        db: A connection in autocommit mode.
        steps: All steps there are, in order.

    Returns:
        The numbers of the steps that were applied.

    Raises:
        StorageError: `storage.migration.failed`: a step failed, was edited since, or is not known here.
        sqlite3.Error: The database cannot be written at all.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(_TABLE)
        applied = {
            number: (name, digest) for number, name, digest in db.execute("SELECT number, name, digest FROM migrations")
        }
        _refuse_unknown(applied, steps)
        missing = [step for step in steps if step.number not in applied]
        for step in missing:
            _apply(db, step)
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return [step.number for step in missing]


def _refuse_unknown(applied: dict[int, tuple[str, str]], steps: Sequence[Migration]) -> None:
    known = {step.number: step for step in steps}
    for number, (name, digest) in sorted(applied.items()):
        if number not in known:
            raise _failed(f"the database has migration {number} ({name}), which this program does not know")
        if known[number].digest != digest:
            raise _failed(f"migration {number} ({name}) was edited after it had been applied")


def _apply(db: sqlite3.Connection, step: Migration) -> None:
    try:
        for statement in step.statements:
            db.execute(statement)
        db.execute(
            "INSERT INTO migrations (number, name, digest) VALUES (?, ?, ?)", (step.number, step.name, step.digest)
        )
    except sqlite3.Error as error:
        raise _failed(f"migration {step.number} ({step.name}): {error}", error) from error


def _failed(text: str, cause: sqlite3.Error | None = None) -> StorageError:
    return StorageError(text, kind=ErrorKind.MIGRATION_FAILED, cause=cause)

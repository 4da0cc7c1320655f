"""The schema of the SQLite store, and bringing a file up to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from .migrations import Migration, migration_failed, missing_steps, saying_where, script

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
    Migration(
        3,
        "the replies of statements that were run, by their idempotency keys",
        (
            """
            CREATE TABLE statements_done (
                key TEXT PRIMARY KEY,
                reply TEXT NOT NULL,
                done_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
            ) WITHOUT ROWID
            """,
            "CREATE INDEX statements_done_at ON statements_done (done_at)",
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
        StorageError: `storage.migration.failed`: a step failed, was edited since, or is not known here; or the table
            of what was applied is somebody else's.
        sqlite3.Error: The database cannot be written at all.
    """
    ((_, _, path), *_) = db.execute("PRAGMA database_list")
    db.execute("BEGIN IMMEDIATE")
    try:
        with saying_where(path or ":memory:"):
            db.execute(_TABLE)
            missing = missing_steps(_applied(db), steps)
            for step in missing:
                _apply(db, step)
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return [step.number for step in missing]


def _applied(db: sqlite3.Connection) -> dict[int, tuple[str, str]]:
    try:
        found = db.execute("SELECT number, name, digest FROM migrations").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # the file's fault, not the statement's
            raise
        raise migration_failed(f"the table migrations is another program's: {error}", error) from error
    return {number: (name, digest) for number, name, digest in found}


def _apply(db: sqlite3.Connection, step: Migration) -> None:
    try:
        for statement in step.statements:
            db.execute(statement)
        db.execute(
            "INSERT INTO migrations (number, name, digest) VALUES (?, ?, ?)", (step.number, step.name, step.digest)
        )
    except sqlite3.Error as error:
        raise migration_failed(f"migration {step.number} ({step.name}): {error}", error) from error


def sqlite_script(steps: Sequence[Migration] = SQLITE) -> str:
    """The steps as a script for the ``sqlite3`` shell."""
    record = "INSERT INTO migrations (number, name, digest) VALUES ({number}, '{name}', '{digest}')"
    return script(steps, [_TABLE], record, begin="BEGIN IMMEDIATE")

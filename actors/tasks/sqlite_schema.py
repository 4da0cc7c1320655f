"""The schema of the task queues in SQLite: numbered steps, each applied once, none ever edited.

The tables may share a file with other stores: all names begin with ``task_``, the table of applied steps as well.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from ...messages.errors import ErrorKind, StorageError

__all__ = ["migrate"]

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # `score` orders the tasks of a state; see `engine.py` for what it is in each. `token` counts attempts.
        """
        CREATE TABLE task_tasks (
            queue TEXT NOT NULL,
            id TEXT NOT NULL,
            state TEXT NOT NULL,
            score REAL,
            msg BLOB NOT NULL,
            token INTEGER NOT NULL DEFAULT 0,
            pending_since INTEGER,
            unique_key TEXT,
            grp TEXT,
            set_id TEXT,
            result BLOB,
            PRIMARY KEY (queue, id)
        )
        """,
        "CREATE INDEX task_tasks_order ON task_tasks (queue, state, score)",
        "CREATE INDEX task_tasks_groups ON task_tasks (queue, grp, set_id, score) WHERE state = 'aggregating'",
        "CREATE TABLE task_queues (name TEXT PRIMARY KEY, paused_at REAL) WITHOUT ROWID",
        "CREATE TABLE task_locks (key TEXT PRIMARY KEY, id TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID",
        """
        CREATE TABLE task_counts (
            queue TEXT NOT NULL,
            day TEXT NOT NULL,
            processed INTEGER NOT NULL,
            failed INTEGER NOT NULL,
            PRIMARY KEY (queue, day)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE task_sets (
            queue TEXT NOT NULL,
            id TEXT NOT NULL,
            deadline REAL NOT NULL,
            PRIMARY KEY (queue, id)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE task_cancels (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, at REAL NOT NULL)",
        "CREATE TABLE task_servers (id TEXT PRIMARY KEY, info BLOB NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID",
        """
        CREATE TABLE task_leaders (
            name TEXT PRIMARY KEY, holder TEXT NOT NULL, expires_at REAL NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE task_schedulers (
            id TEXT PRIMARY KEY, entries BLOB NOT NULL, expires_at REAL NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE task_enqueued (
            number INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT NOT NULL, task TEXT NOT NULL, at REAL NOT NULL
        )
        """,
        "CREATE INDEX task_enqueued_entry ON task_enqueued (entry, number)",
    ),
    (
        # The line of each limit. `task` is empty for the instant from which one more may begin, and a blank for the
        # end of the line.
        """
        CREATE TABLE task_limits (
            name TEXT NOT NULL,
            task TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (name, task)
        ) WITHOUT ROWID
        """,
    ),
)
"""Append; never edit."""


def migrate(db: sqlite3.Connection) -> None:
    """Apply the steps that are missing, in one transaction. Programs that start together wait for each other.

    Args:
        db: a connection in autocommit mode.

    Raises:
        StorageError: ``storage.migration.failed``: a newer program has changed the schema, or a step failed.
        sqlite3.Error: the database cannot be written at all.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("CREATE TABLE IF NOT EXISTS task_migrations (number INTEGER PRIMARY KEY)")
        ((applied,),) = db.execute("SELECT coalesce(max(number), 0) FROM task_migrations")
        if applied > len(STEPS):
            raise StorageError(
                f"the task queues are at version {applied} of their schema, and this program knows {len(STEPS)}",
                kind=ErrorKind.MIGRATION_FAILED,
            )
        for number, statements in enumerate(STEPS[applied:], applied + 1):
            _apply(db, number, statements)
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _apply(db: sqlite3.Connection, number: int, statements: tuple[str, ...]) -> None:
    try:
        for statement in statements:
            db.execute(statement)
        db.execute("INSERT INTO task_migrations (number) VALUES (?)", (number,))
    except sqlite3.Error as error:
        raise StorageError(
            f"migration {number} of the task queues: {error}", kind=ErrorKind.MIGRATION_FAILED, cause=error
        ) from error

"""The schema of the PostgreSQL store, and bringing a database up to it."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

import psycopg

from ....messages.errors import StorageError
from ..migrations import Migration, migration_failed, missing_steps, saying_where, script
from .connection import Target

__all__ = ["POSTGRES", "bring_up_to_date", "migrate_postgres", "postgres_script"]

POSTGRES: Final[tuple[Migration, ...]] = (
    Migration(
        1,
        "notifications, one row for each id",
        (
            # `written_by` is drawn for each write: after a commit whose answer was lost it tells which rows are ours.
            """
            CREATE TABLE notifs (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                receiver_info TEXT NOT NULL,
                nid TEXT NOT NULL UNIQUE CHECK (nid <> ''),
                action_data JSON NOT NULL,
                actioner_info TEXT NOT NULL,
                action_type TEXT NOT NULL,
                fired_at TIMESTAMPTZ NOT NULL,
                is_seen BOOLEAN NOT NULL DEFAULT FALSE,
                written_by BIGINT NOT NULL
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
                token BIGINT NOT NULL
            )
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
                reply JSON,
                done_at TIMESTAMPTZ NOT NULL DEFAULT now()
            )
            """,
            "CREATE INDEX statements_done_at ON statements_done (done_at)",
        ),
    ),
)
"""Append; never edit."""

ADVISORY_LOCK: Final = 0x756E64657273  # "unders"
"""Held by who migrates; of several programs that start at once, one does and the others find nothing left to do."""

TIMEOUT: Final = 30.0
"""Seconds that all of it may take."""

LOCK_TIMEOUT: Final = "20s"
"""How long to wait for the tables and for another program's migration."""

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS understudy_migrations (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
"""


def migrate_postgres(db: psycopg.Connection, steps: Sequence[Migration] = POSTGRES) -> list[int]:
    """Apply the steps that are missing, all in one transaction: either the schema is up to date, or as it was.

    A database that is up to date is only read, so a user without the right to change the schema can start.

    Args:
        db: A connection in autocommit mode.
        steps: All steps there are, in order.

    Returns:
        The numbers of the steps that were applied.

    Raises:
        StorageError: `storage.migration.failed`: a step failed, was edited since, or is not known here; or the table
            of what was applied is somebody else's.
        psycopg.Error: The database cannot be reached, or not be written at all.
    """
    with saying_where(f"postgresql://{db.info.host}:{db.info.port}/{db.info.dbname}"):
        if not missing_steps(_applied(db), steps):
            return []
        with db.transaction():
            db.execute("SELECT set_config('lock_timeout', %s, TRUE)", (LOCK_TIMEOUT,))
            db.execute("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            db.execute(_TABLE)
            missing = missing_steps(_applied(db), steps)
            for step in missing:
                _apply(db, step)
        return [step.number for step in missing]


def bring_up_to_date(target: Target) -> list[int]:
    """Connect to a database and apply the steps that are missing.

    Raises:
        StorageError: `storage.postgres.unavailable`, `storage.postgres.denied` or `storage.migration.failed`.
    """
    failed: StorageError
    with target.connect() as db:
        db.deadline = monotonic() + TIMEOUT
        try:
            return migrate_postgres(db)
        except psycopg.Error as error:
            failed = target.error(error, "the schema cannot be brought up to date: ")
    raise failed


def postgres_script(steps: Sequence[Migration] = POSTGRES) -> str:
    """The steps as a script for ``psql``."""
    record = "INSERT INTO understudy_migrations (number, name, digest) VALUES ({number}, '{name}', '{digest}')"
    return script(steps, [f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})", _TABLE], record)


def _applied(db: psycopg.Connection) -> dict[int, tuple[str, str]]:
    if db.execute("SELECT to_regclass('understudy_migrations')").fetchone() == (None,):
        return {}
    try:
        found = db.execute("SELECT number, name, digest FROM understudy_migrations").fetchall()
    except (psycopg.errors.UndefinedColumn, psycopg.errors.WrongObjectType) as error:
        text = f"the table understudy_migrations is another program's: {error.diag.message_primary}"
        raise migration_failed(text, error) from error
    return {number: (name, digest) for number, name, digest in found}


def _apply(db: psycopg.Connection, step: Migration) -> None:
    try:
        for statement in step.statements:
            db.execute(statement.encode())
        db.execute(
            "INSERT INTO understudy_migrations (number, name, digest) VALUES (%s, %s, %s)",
            (step.number, step.name, step.digest),
        )
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P", "42501")):
            raise  # it is not the step that is wrong
        raise migration_failed(f"migration {step.number} ({step.name}): {error}", error) from error

"""Bringing a store's schema up to date by command: whichever store a URL names, and without an actor system."""

from __future__ import annotations

from ...messages.errors import ErrorKind, StorageError
from ..embedded import Embedded
from ..service import missing_client, open_by_scheme
from .opening import sqlite_path

__all__ = ["migrate", "script"]


class _Done:
    """What came of a URL. `open_by_scheme` opens what has an end; this has none."""

    def __init__(self, applied: list[tuple[int, str]], script: str = "") -> None:
        self.applied = applied
        self.script = script

    def close(self) -> None:
        """Nothing is open."""


def migrate(url: str) -> list[tuple[int, str]]:
    """Apply the steps that a store's schema is behind; safe while other processes do the same.

    Args:
        url: as the mutator's.

    Returns:
        the number and the name of each step that was applied.

    Raises:
        UrlInvalid: there is no such store.
        StorageError: it cannot be reached, or a step failed; the schema is as it was then.
    """
    return open_by_scheme(
        url,
        {
            "sqlite": lambda rest, *_: _Done(_migrate_sqlite(rest)),
            "postgresql": lambda rest, *_: _Done(_migrate_postgres(f"postgresql://{rest}")),
        },
        Embedded(),
        lambda: 0.0,
        service="store",
    ).applied


def script(url: str) -> str:
    """All steps of a store's schema as a script for the database's own shell; nothing is connected to.

    Args:
        url: as the mutator's; only its scheme counts.

    Raises:
        UrlInvalid: there is no such store.
    """
    return open_by_scheme(
        url,
        {"sqlite": lambda *_: _Done([], _sqlite_script()), "postgresql": lambda *_: _Done([], _postgres_script())},
        Embedded(),
        lambda: 0.0,
        service="store",
    ).script


def _migrate_sqlite(rest: str) -> list[tuple[int, str]]:
    import sqlite3

    from .sqlite_migrations import SQLITE, migrate_sqlite

    path = sqlite_path(rest)
    try:
        db = sqlite3.connect(path, timeout=30.0, isolation_level=None)
        try:
            applied = migrate_sqlite(db)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}", kind=ErrorKind.SQLITE_UNAVAILABLE, cause=error) from error
    return [(step.number, step.name) for step in SQLITE if step.number in applied]


def _sqlite_script() -> str:
    from .sqlite_migrations import sqlite_script

    return sqlite_script()


def _migrate_postgres(url: str) -> list[tuple[int, str]]:
    try:
        from .postgres.connection import Target
        from .postgres.migrations import POSTGRES, bring_up_to_date
    except ImportError as error:
        raise missing_client("store", "postgresql", "postgres") from error

    applied = bring_up_to_date(Target(url))
    return [(step.number, step.name) for step in POSTGRES if step.number in applied]


def _postgres_script() -> str:
    try:
        from .postgres.migrations import postgres_script
    except ImportError as error:
        raise missing_client("store", "postgresql", "postgres") from error

    return postgres_script()

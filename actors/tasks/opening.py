"""Which engine a URL names. An engine is imported when a URL asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ...messages.errors import UrlInvalid
from ..embedded import Embedded
from ..service import open_by_scheme
from .engine import TaskEngine

__all__ = ["DEFAULT_URL", "VARIABLE", "open_engine"]

VARIABLE: Final = "UNDERSTUDY_TASKS_URL"
DEFAULT_URL: Final = "sqlite:///understudy.db"


def open_engine(url: str, embedded: Embedded | None = None, clock: Callable[[], float] = time.monotonic) -> TaskEngine:
    """Connect to the queues that a URL names.

    Args:
        url: ``sqlite:///file.db`` (four slashes for an absolute path), or ``sqlite:///:memory:`` for queues that last
            as long as the system.
        embedded: the system's embedded servers; None: there is no system.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such engine.
        StorageError: it cannot be opened.
    """
    return open_by_scheme(url, {"sqlite": _sqlite}, embedded or Embedded(), clock, service="tasks")


def _sqlite(rest: str, embedded: Embedded, clock: Callable[[], float]) -> TaskEngine:
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    path = unquote(path)
    if host or not slash or not path or "?" in path:
        raise UrlInvalid("tasks: write sqlite:///file.db, sqlite:////absolute/file.db or sqlite:///:memory:")
    from .sqlite import SharedSqliteEngine, SqliteEngine
    from .sqlite_file import MEMORY

    if path == MEMORY:
        return embedded.server("tasks", MEMORY, SharedSqliteEngine, SharedSqliteEngine.end)
    return SqliteEngine(path)

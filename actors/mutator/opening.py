"""Which store a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...messages.errors import UrlInvalid
from ..embedded import Embedded
from ..service import Opener, missing_client, open_by_scheme
from .backend import StoreBackend


def open_backend(
    url: str,
    embedded: Embedded,
    clock: Callable[[], float],
    *,
    hurried: Callable[[], bool] = lambda: False,
) -> StoreBackend:
    """Connect to the store that a URL names, and bring its schema up to date.

    Args:
        url: ``sqlite:///file.db`` (four slashes for an absolute path), ``sqlite:///:memory:`` for one that lasts
            as long as the system, or ``postgresql://user:password@host:port/database?option=value``.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.
        hurried: says whether somebody waits for the end of what is being done.

    Raises:
        UrlInvalid: there is no such store.
        StorageError: it cannot be opened; a server that cannot be reached is looked for again when it is needed.
    """
    postgres = partial(_postgres, hurried=hurried)
    openers: dict[str, Opener[StoreBackend]] = {"sqlite": _sqlite, "postgresql": postgres}
    return open_by_scheme(url, openers, embedded, clock, service="store")


def sqlite_path(rest: str) -> str:
    """The path that a SQLite URL names.

    Args:
        rest: the URL's part after ``sqlite://``.

    Raises:
        UrlInvalid: it names none.
    """
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    path = unquote(path)
    if host or not slash or not path or "?" in path:
        raise UrlInvalid("store: write sqlite:///file.db, sqlite:////absolute/file.db or sqlite:///:memory:")
    return path


def _sqlite(rest: str, embedded: Embedded, clock: Callable[[], float]) -> StoreBackend:
    path = sqlite_path(rest)
    from .sqlite import MEMORY, SharedSqliteStore, SqliteStore

    if path == MEMORY:
        return embedded.server("store", MEMORY, SharedSqliteStore, SharedSqliteStore.end)
    return SqliteStore(path)


def _postgres(
    rest: str, embedded: Embedded, clock: Callable[[], float], *, hurried: Callable[[], bool]
) -> StoreBackend:
    try:
        from .postgres.store import PostgresStore
    except ImportError as error:
        raise missing_client("store", "postgresql", "postgres") from error
    return PostgresStore(f"postgresql://{rest}", hurried=hurried)

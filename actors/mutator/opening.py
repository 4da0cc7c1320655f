"""Which store a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable

from ...messages.errors import UrlInvalid
from ..embedded import Embedded
from ..service import open_by_scheme
from .backend import StoreBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> StoreBackend:
    """Connect to the store that a URL names, and bring its schema up to date.

    Args:
        url: ``sqlite:///file.db`` (four slashes for an absolute path), or ``sqlite:///:memory:`` for one that lasts
            as long as the system.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such store.
        StorageError: it cannot be opened.
    """
    return open_by_scheme(url, {"sqlite": _sqlite}, embedded, clock, service="store")


def _sqlite(rest: str, embedded: Embedded, clock: Callable[[], float]) -> StoreBackend:
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    path = unquote(path)
    if host or not slash or not path or "?" in path:
        raise UrlInvalid("store: write sqlite:///file.db, sqlite:////absolute/file.db or sqlite:///:memory:")
    from .sqlite import MEMORY, SharedSqliteStore, SqliteStore

    if path == MEMORY:
        return embedded.server("store", MEMORY, SharedSqliteStore, SharedSqliteStore.end)
    return SqliteStore(path)

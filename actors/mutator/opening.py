"""Which store a URL names."""

from __future__ import annotations

from collections.abc import Callable

from ...messages.errors import UrlInvalid
from ..embedded import Embedded
from ..service import open_by_scheme
from .backend import StoreBackend
from .sqlite import MEMORY, SqliteStore


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
    if path == MEMORY:
        return embedded.server("store", MEMORY, _Shared, _Shared.end)
    return SqliteStore(path)


class _Shared(SqliteStore):
    """The store in memory: it is gone with its one connection, so all actors of the system use that one."""

    def __init__(self) -> None:
        super().__init__(MEMORY)

    def close(self) -> None:
        """One of its actors has ended; the others go on."""

    def end(self) -> None:
        """The system has stopped."""
        super().close()

"""Which cache a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable

from ..embedded import Embedded
from ..service import open_by_scheme
from .backend import CacheBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
    """Connect to the cache that a URL names.

    Args:
        url: ``memory://``, or ``memory://name`` for another one in the same system.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such cache.
    """
    return open_by_scheme(url, {"memory": _memory}, embedded, clock, service="cache")


def _memory(name: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
    from .memory import MemoryCache, MemoryStore

    return MemoryCache(embedded.server("cache", name, lambda: MemoryStore(clock)))

"""Which cache a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..embedded import Embedded
from ..redis_url import REDIS_SCHEMES, RedisUrl
from ..service import Opener, missing_client, open_by_scheme
from .backend import CacheBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
    """Connect to the cache that a URL names.

    Args:
        url: ``memory://``, or ``memory://name`` for another one in the same system; or a Redis, as `redis_url` says.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such cache.
    """
    openers: dict[str, Opener[CacheBackend]] = {"memory": _memory}
    openers.update({scheme: partial(_redis, scheme) for scheme in REDIS_SCHEMES})
    return open_by_scheme(url, openers, embedded, clock, service="cache")


def _memory(name: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
    from .memory import MemoryCache, MemoryStore

    return MemoryCache(embedded.server("cache", name, lambda: MemoryStore(clock)))


def _redis(scheme: str, rest: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
    wanted = RedisUrl.of(scheme, rest, "cache")
    try:
        from .redis import RedisCache
    except ImportError as error:
        raise missing_client("cache", scheme, "redis") from error
    return RedisCache(wanted)

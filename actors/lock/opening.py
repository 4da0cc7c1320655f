"""Which lock service a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...messages.caller import wall_clock
from ..embedded import Embedded
from ..redis_url import REDIS_SCHEMES, RedisUrl
from ..service import Opener, missing_client, open_by_scheme
from .backend import LockBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> LockBackend:
    """Connect to the lock service that a URL names.

    Args:
        url: ``memory://``, or ``memory://name`` for another one in the same system; or a Redis, as `redis_url` says;
            or a database, ``postgresql://…`` as libpq takes it.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such lock service.
    """
    openers: dict[str, Opener[LockBackend]] = {"memory": _memory}
    openers.update({scheme: partial(_redis, scheme) for scheme in REDIS_SCHEMES})
    openers.update({scheme: partial(_postgres, scheme) for scheme in ("postgresql", "postgres")})
    return open_by_scheme(url, openers, embedded, clock, service="lock")


def _memory(name: str, embedded: Embedded, clock: Callable[[], float]) -> LockBackend:
    from .memory import MemoryLock, MemoryLocks

    return MemoryLock(embedded.server("lock", name, lambda: MemoryLocks(clock, _first_token())))


def _redis(scheme: str, rest: str, embedded: Embedded, clock: Callable[[], float]) -> LockBackend:
    wanted = RedisUrl.of(scheme, rest, "lock")
    try:
        from .redis import RedisLock
    except ImportError as error:
        raise missing_client("lock", scheme, "redis") from error
    return RedisLock(wanted, clock)


def _postgres(scheme: str, rest: str, embedded: Embedded, clock: Callable[[], float]) -> LockBackend:
    try:
        from .postgres import PostgresLock
    except ImportError as error:
        raise missing_client("lock", scheme, "postgres") from error
    return PostgresLock(f"postgresql://{rest}", clock)


def _first_token() -> int:
    """A token above all that an earlier process can have given out: a store on disk still remembers those.

    Milliseconds since 1970 with room for 1,024 tokens in each; below 2**53, so that every reader of JSON can hold it.
    """
    return int(wall_clock.get()() * 1000) << 10

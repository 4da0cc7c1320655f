"""Which lock service a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable

from ...messages.caller import wall_clock
from ..embedded import Embedded
from ..service import open_by_scheme
from .backend import LockBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> LockBackend:
    """Connect to the lock service that a URL names.

    Args:
        url: ``memory://``, or ``memory://name`` for another one in the same system.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such lock service.
    """
    return open_by_scheme(url, {"memory": _memory}, embedded, clock, service="lock")


def _memory(name: str, embedded: Embedded, clock: Callable[[], float]) -> LockBackend:
    from .memory import MemoryLock, MemoryLocks

    return MemoryLock(embedded.server("lock", name, lambda: MemoryLocks(clock, _first_token())))


def _first_token() -> int:
    """A token above all that an earlier process can have given out: a store on disk still remembers those.

    Milliseconds since 1970 with room for 1,024 tokens in each; below 2**53, so that every reader of JSON can hold it.
    """
    return int(wall_clock.get()() * 1000) << 10

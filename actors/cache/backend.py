"""What the cache actor needs from a cache, whichever it is.

A backend takes operations many at a time, so that one over a network can send them as one pipeline. The
operations are the cache's messages themselves, and each has an outcome of its own: one that fails does not
touch the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from ...messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)

Operation: TypeAlias = CacheGet | CacheSet | CacheAppend | CacheItems | CacheDelete | CacheExpire | CacheRemaining

Outcome: TypeAlias = Any
"""What the operation's message says that it is answered with, or the `CacheError` that it is refused with."""

DEFAULT_LIST_LIMIT: Final = 1_000
"""How many items a list holds when an append does not say."""


class CacheBackend(Protocol):
    """A connection to a cache."""

    def run(self, operations: Sequence[Operation], timeout: float | None = None) -> list[Outcome]:
        """Carry operations out in order and return the outcome of each, in the same order.

        Args:
            operations: What to do.
            timeout: Seconds that it may take; None leaves it to the backend.

        An append is atomic: it adds its item unless the list knows the id, drops the oldest items above the
        limit, and keeps the expiry that the list has. An id is known while its item is in the list, and after
        that for as many items as the limit again, so that a late repetition does not come back as news.

        An outcome may be a `CacheError`: `cache.value.wrong_type` when the key holds a list where a value is
        needed or the other way round; `cache.request.invalid` when the value cannot be written as JSON or a
        number cannot be, or when a key is no UTF-8; `cache.closed`. Of a server also `cache.unavailable`, when it was
        not reached in time and what became of the operation is not known; `cache.denied`; `cache.full`;
        `cache.failed`.
        """
        ...

    def close(self) -> None:
        """End the connection. What is cached stays as long as the cache keeps it. Idempotent."""
        ...

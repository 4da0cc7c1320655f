"""The cache actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from ...messages.errors import CacheError
from ..embedded import Embedded
from ..handlers import handles
from ..service import ServiceActor
from .backend import CacheBackend, Operation
from .opening import open_backend

__all__ = ["Cache"]


class Cache(ServiceActor[CacheBackend]):
    """Keeps values and bounded lists until they expire.

    It answers `CacheGet`, `CacheSet`, `CacheAppend`, `CacheItems`, `CacheDelete`, `CacheExpire` and
    `CacheRemaining`, in the order in which they came; a `CacheError` if one cannot be done.

    Args:
        url: which cache; None takes ``UNDERSTUDY_CACHE_URL``, or else ``memory://``, a cache in this system's memory
            that outlives this actor.
    """

    variable: ClassVar[str] = "UNDERSTUDY_CACHE_URL"
    default_url: ClassVar[str] = "memory://"
    refusals = (CacheError,)

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
        return open_backend(url, embedded, clock)

    def _run(self, operation: Operation) -> Any:
        (outcome,) = self._backend.run([operation])
        if isinstance(outcome, CacheError):
            raise outcome
        return outcome

    @handles
    def get(self, message: CacheGet) -> Any:
        """Read a value."""
        return self._run(message)

    @handles
    def set(self, message: CacheSet) -> None:
        """Write a value."""
        self._run(message)

    @handles
    def append(self, message: CacheAppend) -> bool:
        """Append to a list; whether the item was added."""
        return bool(self._run(message))

    @handles
    def items(self, message: CacheItems) -> list[Any]:
        """Read a list."""
        items: list[Any] = self._run(message)
        return items

    @handles
    def delete(self, message: CacheDelete) -> bool:
        """Forget an entry; whether there was one."""
        return bool(self._run(message))

    @handles
    def expire(self, message: CacheExpire) -> bool:
        """Set an entry's expiry; whether there is one."""
        return bool(self._run(message))

    @handles
    def remaining(self, message: CacheRemaining) -> float | None:
        """In how many seconds an entry expires."""
        seconds: float | None = self._run(message)
        return seconds

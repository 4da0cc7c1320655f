"""What the lock actor needs from a lock service, whichever it is.

A lease is not mutual exclusion: its holder may be stalled past its end and not know. So each lease carries a
fencing token that only grows, and what the lock guards refuses an older token than it has seen.

A backend is one client's connection to the service. It has no thread of its own for time passing: `tick` is
called when `tick` said so. Answers come by callback, on any thread, perhaps before `acquire` returned; a
callback must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Protocol, TypeAlias

import msgspec

from ...messages.errors import ErrorKind, LockError


class Lease(msgspec.Struct, frozen=True):
    """A lock, held for a while.

    Args:
        resource: What is locked.
        owner: Who holds it, for people to read.
        token: The fencing token: greater than that of every lease before it.
        expires_at: When it ends unless renewed, in seconds of the backend's monotonic clock.
    """

    resource: str
    owner: str
    token: int
    expires_at: float


Answer: TypeAlias = Callable[[Lease | LockError], None]
"""Told once what became of an acquire: the lease, or why not (`lock.timeout`, `lock.closed`; of a server also
`lock.unavailable`, `lock.denied`, `lock.failed`)."""

Lost: TypeAlias = Callable[[Lease], None]
"""Told once when a lease ended although nobody released it."""


class Acquire(msgspec.Struct, frozen=True):
    """A wish for a lock.

    Args:
        resource: What to lock.
        owner: Who will hold it, for people to read.
        request_id: Names this wish: asking again with the same id cannot make two leases of it.
        ttl: Seconds that the lease lasts from when it is granted.
        wait: Seconds to wait in line for it; 0 to have it now or not at all.

    Raises:
        LockError: `lock.request.invalid` for an empty name or id, or a time that cannot be.
    """

    resource: str
    owner: str
    request_id: str
    ttl: float
    wait: float = 0.0

    def __post_init__(self) -> None:
        for name in ("resource", "request_id"):
            if not getattr(self, name):
                raise LockError(f"acquire: {name} is empty", kind=ErrorKind.LOCK_REQUEST_INVALID)
        check_ttl(self.ttl)
        if not (isfinite(self.wait) and self.wait >= 0):
            raise LockError(
                f"acquire: wait={self.wait!r} must be finite and not below 0 seconds",
                kind=ErrorKind.LOCK_REQUEST_INVALID,
            )


def check_ttl(ttl: float) -> None:
    """Refuse a lease that would never begin or never end.

    Raises:
        LockError: `lock.request.invalid`.
    """
    if not (isfinite(ttl) and ttl > 0):
        raise LockError(f"ttl={ttl!r} must be finite and above 0 seconds", kind=ErrorKind.LOCK_REQUEST_INVALID)


class LockBackend(Protocol):
    """A connection to a lock service.

    One that stands for a server raises also `lock.unavailable` when it was not reached in time, `lock.denied`, and
    `lock.failed`.
    """

    def acquire(self, wish: Acquire, answer: Answer, lost: Lost, timeout: float | None = None) -> None:
        """Ask for a lock; who asked first gets it first.

        A second wish with the id of one that is waiting or held joins it: both are answered with the same
        lease, and the later one's `lost` is told. Never raises.

        Args:
            wish: What is asked for.
            answer: Told what became of it.
            lost: Told if the lease that was granted ends without a release.
            timeout: Seconds that asking may take, without the wait; None leaves it to the backend.
        """
        ...

    def withdraw(self, resource: str, request_id: str) -> bool:
        """Leave the line; the answer is never given. False when no such wish is waiting."""
        ...

    def renew(self, resource: str, token: int, ttl: float, timeout: float | None = None) -> Lease:
        """Let a lease last for `ttl` seconds from now; for `timeout` see `acquire`.

        Raises:
            LockError: `lock.lease.lost` when it has ended; `lock.token.stale` when another has it by now;
                `lock.not_held`; `lock.request.invalid`; `lock.closed`.
        """
        ...

    def release(self, resource: str, token: int, timeout: float | None = None) -> bool:
        """End a lease; who waits next gets the lock. For `timeout` see `acquire`.

        Returns:
            False when it was released before: a release may be repeated.

        Raises:
            LockError: `lock.lease.lost` when it had ended before; `lock.token.stale` when another has had it
                since; `lock.not_held`; `lock.closed`.
        """
        ...

    def holder(self, resource: str, timeout: float | None = None) -> Lease | None:
        """Who holds the lock now, if anybody. For `timeout` see `acquire`.

        Raises:
            LockError: `lock.closed`.
        """
        ...

    def tick(self) -> float | None:
        """End the leases and the waits whose time has come, and hand locks on.

        Returns:
            When to call it next, in seconds of the monotonic clock; None while nothing can run out. `acquire`
            and `renew` may bring that forward: ask again with `next_tick`.
        """
        ...

    def next_tick(self) -> float | None:
        """When `tick` has to be called next."""
        ...

    def close(self) -> None:
        """End the connection: who waits is answered with `lock.closed`, leases go on. Idempotent.

        Whether a holder is still told that it lost its lease depends on who notices it.
        """
        ...

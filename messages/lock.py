"""Locks: leases with fencing tokens.

A lease is not mutual exclusion: its holder may be held up until it has run out. So every acquisition has a
token that only grows, and what the lock protects refuses a token older than one it has seen.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from .message import Message
from .registry import register

Seconds: TypeAlias = Annotated[float, Meta(gt=0)]
Token: TypeAlias = Annotated[int, Meta(ge=1)]


class Fence(Message[None]):
    """Under which lock something is done: its name, and the token of the acquisition."""

    lock: str
    token: Token


class Lease(Message[None]):
    """A lock that is held."""

    name: str
    owner: str
    token: Token
    """Grows with every acquisition of this lock, whoever acquires it."""
    seconds: Seconds
    """How long it is held unless it is renewed, counted from the answer's sending."""

    @property
    def fence(self) -> Fence:
        """What to put into a message whose work this lease protects."""
        return Fence(self.name, self.token)


@register("lock.acquire")
class AcquireLock(Message[Lease]):
    """Acquire a lock; a `LockError` of kind `lock.timeout` if it did not become free in time."""

    name: str
    owner: str
    """Who wants it. It is not reentrant: a second acquisition by the same owner waits as any other."""
    lease: Seconds = 30.0
    """For how many seconds."""
    wait: Annotated[float, Meta(ge=0)] = 0.0
    """How many seconds to wait for it; first come, first served."""
    request_id: str = ""
    """Asking again with the same one cannot acquire twice; made up if empty."""
    notify: str = ""
    """The path of the actor that holds it, if one does: it is told `LeaseLost` if the lease is lost, and the lock is
    given back when that actor is gone for good, or when its next incarnation has begun, which knows nothing of it. One
    that asks for it again in its `on_start`, with the same `request_id`, takes the lease over."""
    watchdog: bool = False
    """Renew it at every third of the lease until it is released or lost, or the actor named by `notify` is gone."""


@register("lock.renew")
class RenewLock(Message[Lease]):
    """Hold a lock for longer; a `LockError` if this token does not hold it any more."""

    name: str
    token: Token
    lease: Seconds = 30.0
    """For how many seconds from now."""


@register("lock.release")
class ReleaseLock(Message[bool]):
    """Give a lock back; answered with False if this token had given it back before.

    A `LockError` if the lease had been lost meanwhile: what was done under it may have been done by two.
    """

    name: str
    token: Token


@register("lock.holder")
class LockHolder(Message[Lease | None]):
    """Ask who holds a lock; the lease's `seconds` are those that remain."""

    name: str


@register("lock.lost")
class LeaseLost(Message[None]):
    """Told to a holder whose lease ran out: stop the work."""

    name: str
    token: Token

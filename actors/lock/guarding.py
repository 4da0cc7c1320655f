"""What the lock actor keeps of leases whose holder it knows, or which it renews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ...messages.lock import AcquireLock, Lease
from ...messages.message import Message
from ..ref import ActorRef
from .backend import Lease as Granted

__all__ = ["RENEWAL", "RETRY", "Guard", "Guarded", "Guards", "HolderRestarted", "Look"]

LOOKS_PER_LEASE = 3
"""A lease is renewed, and its holder looked after, at every third of it."""

RENEWAL: Final = 0.5
"""Seconds that the renewal of a lease may take: others wait for the actor meanwhile, and it is tried again."""
RETRY: Final = 2.0
"""Seconds after which renewals are tried again where a server did not answer one of them in time."""


class Guarded(Message[None]):
    """A lease was granted that is to be looked after."""

    lease: Any
    wanted: Any
    holder: Any


class Look(Message[None]):
    """Time to renew a lease, and to see whether its holder is still the same."""

    name: str
    token: int


class HolderRestarted(Message[None]):
    """An actor that may hold leases has another incarnation."""

    path: str


@dataclass(slots=True, eq=False)
class Guard:
    """A lease that is looked after.

    Args:
        lease: What was granted.
        wanted: What was asked for.
        holder: The actor that holds it, and which of its lives does.
    """

    lease: Granted
    wanted: AcquireLock
    holder: tuple[ActorRef[Any], int] | None

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return self.wanted.lease / LOOKS_PER_LEASE

    @property
    def holder_is_new(self) -> bool:
        """Whether another incarnation has taken the holder's place."""
        return self.holder is not None and self.holder[0].incarnation != self.holder[1]


class Guards:
    """The leases that are looked after, by lock. They are handed on from incarnation to incarnation."""

    def __init__(self) -> None:
        self._guards: dict[str, Guard] = {}

    def add(self, guard: Guard) -> None:
        """Look after a lease, in the place of an earlier one of the same lock."""
        self._guards[guard.lease.resource] = guard

    def find(self, name: str, token: int) -> Guard | None:
        """The guard of a lease."""
        guard = self._guards.get(name)
        return guard if guard is not None and guard.lease.token == token else None

    def take(self, name: str, token: int) -> Guard | None:
        """Take the guard of a lease away: it is over."""
        guard = self.find(name, token)
        if guard is not None:
            del self._guards[name]
        return guard

    def of(self, holder: ActorRef[Any]) -> list[Guard]:
        """Those of an actor."""
        return [guard for guard in self._guards.values() if guard.holder is not None and guard.holder[0] == holder]

    def has(self, path: str) -> bool:
        """Whether the actor of that path holds any; any thread may ask."""
        return any(guard.holder is not None and guard.holder[0].path == path for guard in self.all())

    def all(self) -> list[Guard]:
        """All of them."""
        return list(self._guards.values())


def shown(lease: Granted, now: float) -> Lease:
    """A lease as it is told: with the seconds that remain."""
    return Lease(lease.resource, lease.owner, lease.token, max(0.0, lease.expires_at - now))

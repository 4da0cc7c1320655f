"""The lock actor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from ...messages.errors import LockError, MailboxError
from ...messages.lock import AcquireLock, Lease, LeaseLost, LockHolder, ReleaseLock, RenewLock
from ...messages.message import Message
from .. import execution
from ..embedded import Embedded
from ..handlers import handles
from ..request import Request
from ..service import ServiceActor
from ..timers import Timer
from . import backend as service
from .opening import open_backend

__all__ = ["Lock"]


class Tick(Message[None]):
    """Time to see whose lease or wait has run out."""


class Lock(ServiceActor[service.LockBackend]):
    """Hands out locks in the order in which they were asked for.

    It answers `AcquireLock`, `RenewLock`, `ReleaseLock` and `LockHolder`; a `LockError` if one cannot be done. An
    `AcquireLock` whose asker stopped waiting gets no lock.

    Args:
        url: which lock service; None takes ``UNDERSTUDY_LOCK_URL``, or else ``memory://``, locks in this system's
            memory that outlive this actor.
    """

    variable: ClassVar[str] = "UNDERSTUDY_LOCK_URL"
    default_url: ClassVar[str] = "memory://"
    refusals = (LockError,)

    _timer: Timer | None = None

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> service.LockBackend:
        return open_backend(url, embedded, clock)

    def on_start(self) -> None:
        """Open the connection, and go on watching over the leases that an earlier incarnation granted."""
        super().on_start()
        self._wake_in_time()

    @handles
    def acquire(self, message: AcquireLock) -> None:
        """Acquire a lock, now or within the time that the asker waits; answered later."""
        wish = service.Acquire(
            resource=message.name,
            owner=message.owner,
            request_id=message.request_id or self._cell.runtime.new_urn(),
            ttl=message.lease,
            wait=message.wait,
        )
        request = self.defer_reply()
        self._backend.acquire(wish, partial(self._granted, request), partial(self._lost, message.notify))
        self._wake_in_time()

    @handles
    def renew(self, message: RenewLock) -> Lease:
        """Hold a lock for longer."""
        lease = self._backend.renew(message.name, message.token, message.lease)
        self._wake_in_time()
        return self._shown(lease)

    @handles
    def release(self, message: ReleaseLock) -> bool:
        """Give a lock back; False if it had been given back before."""
        released = self._backend.release(message.name, message.token)
        self._wake_in_time()
        return released

    @handles
    def holder(self, message: LockHolder) -> Lease | None:
        """Who holds a lock."""
        lease = self._backend.holder(message.name)
        return None if lease is None else self._shown(lease)

    @handles
    def tick(self, message: Tick) -> None:
        """End what has run out, and hand locks on."""
        self._timer = None
        self._backend.tick()
        self._wake_in_time()

    def _shown(self, lease: service.Lease) -> Lease:
        left = max(0.0, lease.expires_at - self._cell.runtime.clock())
        return Lease(lease.resource, lease.owner, lease.token, left)

    def _wake_in_time(self) -> None:
        """See to it that `tick` is handled when the next lease or wait runs out."""
        due = self._backend.next_tick()
        if due is None:
            return
        if self._timer is not None:
            # A timer that is early is left alone, and set anew when it has come: a lock that is taken and given
            # back a thousand times a second must not leave a thousand timers behind.
            if self._timer.due <= due:
                return
            self._timer.cancel()
        self._timer = self.after(max(0.0, due - self._cell.runtime.clock()), Tick())

    # --- called by the backend, perhaps on another thread ----------------------------------------------------

    def _granted(self, request: Request[AcquireLock], answer: service.Lease | LockError) -> None:
        if isinstance(answer, LockError):
            self._answer(request, answer)
        elif not self._answer(request, self._shown(answer)):
            self._give_back(answer)
        elif execution.current.get() is not self._cell:
            self._post(Tick())  # the lease that has just begun may end before anything else does

    def _give_back(self, lease: service.Lease) -> None:
        """Nobody waits for this lease any more: the next one in line shall have the lock."""
        try:
            self._backend.release(lease.resource, lease.token)
        except LockError:
            return  # it has ended by itself, or the connection has

    def _lost(self, notify: str, lease: service.Lease) -> None:
        if not notify:
            return
        try:
            self.lookup(notify).tell(LeaseLost(lease.resource, lease.token))
        except MailboxError:
            # Whoever cannot be told finds out at the next renewal, and what it writes is refused.
            self._cell.runtime.events.dead_letter(notify, LeaseLost(lease.resource, lease.token), "closed")

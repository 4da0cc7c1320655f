"""The lock actor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from math import inf
from typing import Any, ClassVar

from ...messages.errors import ActorError, ErrorKind, LockError, UnknownActor
from ...messages.lock import AcquireLock, Lease, LeaseLost, LockHolder, ReleaseLock, RenewLock
from ...messages.message import Message
from ...messages.redact import repr_of
from .. import execution
from ..embedded import Embedded
from ..events import ActorRestarted
from ..handlers import handles
from ..ref import ActorRef
from ..request import Request
from ..service import ServiceActor
from ..timers import Timer
from ..watching import Terminated
from . import backend as service
from .guarding import RENEWAL, RETRY, Guard, Guarded, Guards, HolderRestarted, Look, shown
from .opening import open_backend

__all__ = ["Lock"]


class Tick(Message[None]):
    """Time to see whose lease or wait has run out."""


class Lock(ServiceActor[service.LockBackend]):
    """Hands out locks in the order in which they were asked for.

    It answers `AcquireLock`, `RenewLock`, `ReleaseLock` and `LockHolder`; a `LockError` if one cannot be done. An
    `AcquireLock` whose asker stopped waiting gets no lock.

    A lease that names its holder (`notify`) is given back as soon as that actor is gone or has been restarted, unless
    its next incarnation has asked for it again, under the same request id, before its start was over; one with a
    `watchdog` is renewed at every third of its time. While a server cannot be reached, requests are answered with
    `lock.unavailable`; the actor starts without it, too.

    Args:
        url: which lock service; None takes ``UNDERSTUDY_LOCK_URL``, or else ``memory://``, locks in this system's
            memory that outlive this actor.
    """

    variable: ClassVar[str] = "UNDERSTUDY_LOCK_URL"
    default_url: ClassVar[str] = "memory://"
    refusals = (LockError,)
    _trusted: ClassVar[bool] = True
    """Who asks without a deadline waits for the server in any case, and may as well run the handler that does."""

    _timer: Timer | None = None
    _not_renewed_at = -inf
    """When a server did not answer a renewal in time."""
    _unsubscribe: Callable[[], None] = staticmethod(lambda: None)

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> service.LockBackend:
        return open_backend(url, embedded, clock)

    def on_start(self) -> None:
        """Open the connection, and go on watching over the leases that an earlier incarnation granted."""
        super().on_start()
        self._life, self._numbers = self._cell.runtime.new_urn(), count(1)
        self._guards = self._handed_on("guards", Guards)
        self._unsubscribe = self._cell.runtime.events.subscribe(ActorRestarted, self._restarted)
        for guard in self._guards.all():
            self._look_after(guard)
            self._post(HolderRestarted(guard.holder[0].path if guard.holder is not None else ""))
        self._wake_in_time()

    def _disconnect(self) -> None:
        self._unsubscribe()
        super()._disconnect()

    @handles
    def acquire(self, message: AcquireLock) -> None:
        """Acquire a lock, now or within the time that the asker waits; answered later."""
        self._check(message)
        holder = self._holder(message)
        wish = service.Acquire(
            resource=message.name,
            owner=message.owner,
            request_id=message.request_id or f"{self._life}.{next(self._numbers)}",
            ttl=message.lease,
            wait=message.wait,
        )
        request = self.defer_reply()
        self._backend.acquire(
            wish,
            partial(self._granted, request, holder),
            partial(self._lost, message.notify),
            self._time_left([request]),
        )
        self._wake_in_time()

    @handles
    def renew(self, message: RenewLock) -> Lease:
        """Hold a lock for longer."""
        self._check(message)
        lease = self._backend.renew(message.name, message.token, message.lease, self._patience())
        self._wake_in_time()
        return shown(lease, self._cell.runtime.clock())

    @handles
    def release(self, message: ReleaseLock) -> bool:
        """Give a lock back; False if it had been given back before."""
        self._check(message)
        released = self._backend.release(message.name, message.token, self._patience())
        self._forget(message.name, message.token)
        self._wake_in_time()
        return released

    @handles
    def holder(self, message: LockHolder) -> Lease | None:
        """Who holds a lock."""
        self._check(message)
        lease = self._backend.holder(message.name, self._patience())
        return None if lease is None else shown(lease, self._cell.runtime.clock())

    @handles
    def tick(self, message: Tick) -> None:
        """End what has run out, and hand locks on."""
        self._timer = None
        self._backend.tick()
        self._wake_in_time()

    def _refusal(self, message: Message[Any], fault: str) -> ActorError:
        return LockError(f"{type(message).__name__}: {fault}", kind=ErrorKind.LOCK_REQUEST_INVALID)

    # --- leases that are looked after -------------------------------------------------------------------------

    @handles
    def guarded(self, message: Guarded) -> None:
        """Look after a lease that has just been granted."""
        lease: service.Lease = message.lease
        guard = Guard(lease, message.wanted, message.holder)
        if guard.holder_is_new:  # it was restarted while it waited
            self._give_back(lease)
            return
        self._guards.add(guard)
        self._look_after(guard)
        self._wake_in_time()

    @handles
    def look(self, message: Look) -> None:
        """Renew a lease; or give it back, if its holder is not the one that acquired it any more."""
        guard = self._guards.find(message.name, message.token)
        if guard is None:
            return
        if guard.holder_is_new:
            self._end(guard)
            return
        pause = guard.every
        if guard.wanted.watchdog:
            try:
                if not self._renew(guard):
                    pause = min(pause, RETRY)
            except LockError:
                self._forget(message.name, message.token)
                return
            self._wake_in_time()
        if guard.lease.expires_at > self._cell.runtime.clock():
            self.after(pause, message)
        else:
            self._forget(message.name, message.token)

    @handles
    def holder_gone(self, message: Terminated) -> None:
        """Give back what an actor held that is gone."""
        for guard in self._guards.of(message.ref):
            self._end(guard)

    @handles
    def holder_restarted(self, message: HolderRestarted) -> None:
        """Give back what an incarnation held that has ended; what its successor has asked for anew is its own."""
        for guard in self._guards.all():
            if guard.holder_is_new and guard.holder is not None and guard.holder[0].path == message.path:
                self._end(guard)

    def _renew(self, guard: Guard) -> bool:
        """Renew a lease, unless the server does not answer now; whether that was done.

        It is tried again; if the lease runs out meanwhile, its holder is told as always. Of many leases one alone tries
        whether the server is back: each waits for it, and everybody else waits for them.

        Raises:
            LockError: there is nothing left to renew.
        """
        clock = self._cell.runtime.clock
        if clock() < self._not_renewed_at + min(guard.every, RETRY):
            return False
        lease, wanted = guard.lease, guard.wanted
        try:
            guard.lease = self._backend.renew(lease.resource, lease.token, wanted.lease, min(guard.every, RENEWAL))
        except LockError as error:
            if error.kind not in (ErrorKind.LOCK_UNAVAILABLE, ErrorKind.LOCK_CLOSED, ErrorKind.LOCK_FAILED):
                raise
            if error.kind is ErrorKind.LOCK_UNAVAILABLE:
                self._not_renewed_at = clock()
            return False
        return True

    def _holder(self, message: AcquireLock) -> tuple[ActorRef[Any], int] | None:
        """The actor that will hold it, and which of its lives it is in; None if it is none of this system's."""
        if not message.notify:
            return None
        try:
            ref = self.lookup(message.notify)
        except UnknownActor as unknown:
            raise self._refusal(message, f"notify={repr_of(message.notify)}: {unknown}") from unknown
        return ref, ref.incarnation

    def _look_after(self, guard: Guard) -> None:
        if guard.holder is not None:
            self.watch(guard.holder[0])
        self.after(guard.every, Look(guard.lease.resource, guard.lease.token))

    def _forget(self, name: str, token: int) -> None:
        """The lease is over; its holder is watched only as long as it has another."""
        guard = self._guards.take(name, token)
        if guard is not None and guard.holder is not None and not self._guards.of(guard.holder[0]):
            self.unwatch(guard.holder[0])

    def _end(self, guard: Guard) -> None:
        self._forget(guard.lease.resource, guard.lease.token)
        self._give_back(guard.lease)
        self._wake_in_time()

    # --- time ---------------------------------------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Seconds within which what is being handled is to be answered."""
        current = self._cell.current
        return self._time_left([current]) if isinstance(current, Request) else None

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

    def _granted(
        self,
        request: Request[AcquireLock],
        holder: tuple[ActorRef[Any], int] | None,
        answer: service.Lease | LockError,
    ) -> None:
        if isinstance(answer, LockError):
            self._answer(request, answer)
        elif not self._answer(request, shown(answer, self._cell.runtime.clock())):
            self._give_back(answer)
        elif holder is not None or request.message.watchdog:
            self._post(Guarded(answer, request.message, holder))
        elif execution.current.get() is not self._cell:
            self._post(Tick())  # the lease that has just begun may end before anything else does

    def _restarted(self, event: ActorRestarted) -> None:
        if self._guards.has(event.path):
            self._post(HolderRestarted(event.path))

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
        except ActorError:
            # Whoever cannot be told finds out at the next renewal, and what it writes is refused.
            self._cell.runtime.events.dead_letter(notify, LeaseLost(lease.resource, lease.token), "closed")

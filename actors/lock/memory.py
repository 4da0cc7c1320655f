"""Locks between the actors of one process.

`MemoryLocks` is the lock service, `MemoryLock` a client's connection to it. They are two things so that
leases outlive the actor that handed them out: when it falls, nobody else gets a lock that is still held.
"""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from msgspec.structs import replace

from ...messages.errors import ErrorKind, LockError
from .backend import Acquire, Answer, Lease, Lost, check_ttl

ENDINGS_KEPT = 10_000
"""Resources whose last lease is remembered, to tell a late release what happened to its lease."""


@dataclass(slots=True, eq=False)
class _Wish:
    """A wish that waits in line, or that was granted."""

    client: MemoryLock
    wish: Acquire
    answers: list[Answer]
    lost: Lost
    deadline: float
    state: Literal["waiting", "granted", "over"] = "waiting"
    lease: Lease | None = None


@dataclass(slots=True)
class _Resource:
    """A resource that is held: by whom, and who is in line, by request id. Forgotten when nobody is."""

    held: _Wish | None = None
    line: OrderedDict[str, _Wish] = field(default_factory=OrderedDict)


_Calls = list[Callable[[], None]]
_Due = tuple[float, int, _Wish]


class MemoryLocks:
    """The lock service. Safe to use from any thread; callbacks are made after its own lock is let go.

    Args:
        clock: Seconds, monotonic.
        first_token: The first fencing token. Whoever remembers tokens for longer than this process lives (a
            store) needs one greater than every token of the process before.
    """

    def __init__(self, clock: Callable[[], float], first_token: int = 1) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._token = first_token - 1
        self._resources: dict[str, _Resource] = {}
        self._endings: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        # When each wait and each lease ends. What was answered, renewed or released meanwhile is found to be
        # out of date only later, so the heap is made anew when most of it is.
        self._due: list[_Due] = []
        self._order = 0
        self._live = 0

    def acquire(self, client: MemoryLock, wish: Acquire, answer: Answer, lost: Lost) -> None:
        """See `LockBackend.acquire`."""
        calls: _Calls = []
        with self._lock:
            if client.closed:
                calls.append(partial(answer, _closed()))
            else:
                now = self.clock()
                self._run_out(now, calls)
                self._admit(_Wish(client, wish, [answer], lost, now + wish.wait), now, calls)
        _make(calls)

    def withdraw(self, resource: str, request_id: str) -> bool:
        """See `LockBackend.withdraw`."""
        with self._lock:
            found = self._resources.get(resource)
            if found is None or request_id not in found.line:
                return False
            self._drop(found.line[request_id])
            return True

    def renew(self, resource: str, token: int, ttl: float) -> Lease:
        """See `LockBackend.renew`."""
        check_ttl(ttl)
        calls: _Calls = []
        try:
            with self._lock:
                now = self.clock()
                self._run_out(now, calls)
                held = self._held(resource, token)
                held.lease = lease = replace(_lease(held), expires_at=now + ttl)
                self._at(lease.expires_at, held)
                return lease
        finally:
            _make(calls)

    def release(self, resource: str, token: int) -> bool:
        """See `LockBackend.release`."""
        calls: _Calls = []
        try:
            with self._lock:
                now = self.clock()
                self._run_out(now, calls)
                if self._endings.get(resource) == (token, True):
                    return False
                self._end(self._held(resource, token), released=True)
                self._hand_on(resource, now, calls)
                return True
        finally:
            _make(calls)

    def holder(self, resource: str) -> Lease | None:
        """See `LockBackend.holder`."""
        with self._lock:
            found = self._resources.get(resource)
            lease = found.held.lease if found and found.held else None
            return lease if lease and lease.expires_at > self.clock() else None

    def tick(self) -> float | None:
        """See `LockBackend.tick`."""
        calls: _Calls = []
        with self._lock:
            self._run_out(self.clock(), calls)
            due = self._next_due()
        _make(calls)
        return due

    def next_tick(self) -> float | None:
        """See `LockBackend.next_tick`."""
        with self._lock:
            return self._next_due()

    def leave(self, client: MemoryLock) -> None:
        """Take a client's wishes out of every line; what it was granted stays until released or run out."""
        calls: _Calls = []
        with self._lock:
            client.closed = True
            for resource in self._resources.values():
                for waiting in [each for each in resource.line.values() if each.client is client]:
                    self._drop(waiting)
                    calls.extend(partial(answer, _closed()) for answer in waiting.answers)
        _make(calls)

    # What follows is called with the lock held; callbacks are collected, to be made without it.

    def _admit(self, new: _Wish, now: float, calls: _Calls) -> None:
        resource = self._resources.setdefault(new.wish.resource, _Resource())
        known = resource.line.get(new.wish.request_id)
        if known is None and resource.held and resource.held.wish.request_id == new.wish.request_id:
            known = resource.held
        if known is not None:
            known.client, known.lost = new.client, new.lost
            if known.lease is None:
                known.answers.extend(new.answers)
            else:
                calls.extend(partial(answer, known.lease) for answer in new.answers)
        elif resource.held is not None and new.wish.wait == 0:
            calls.extend(partial(answer, _timeout(new.wish, resource.held)) for answer in new.answers)
        else:
            self._live += 1
            if resource.held is None:
                self._grant(resource, new, now, calls)
            else:
                resource.line[new.wish.request_id] = new
                self._at(new.deadline, new)

    def _grant(self, resource: _Resource, wish: _Wish, now: float, calls: _Calls) -> None:
        self._token += 1
        resource.held, wish.state = wish, "granted"
        wish.lease = lease = Lease(wish.wish.resource, wish.wish.owner, self._token, now + wish.wish.ttl)
        self._at(lease.expires_at, wish)
        calls.extend(partial(answer, lease) for answer in wish.answers)

    def _hand_on(self, name: str, now: float, calls: _Calls) -> None:
        """Grant a free lock to the first in line who still waits: when time is noticed late, some do not."""
        resource = self._resources[name]
        following = next((wish for wish in resource.line.values() if wish.deadline > now), None)
        if following is not None:
            del resource.line[following.wish.request_id]
            self._grant(resource, following, now, calls)
        elif not resource.line:
            del self._resources[name]

    def _end(self, held: _Wish, *, released: bool) -> None:
        lease = _lease(held)
        held.state = "over"
        self._live -= 1
        self._resources[lease.resource].held = None
        self._endings[lease.resource] = (lease.token, released)
        self._endings.move_to_end(lease.resource)
        if len(self._endings) > ENDINGS_KEPT:
            self._endings.popitem(last=False)

    def _drop(self, waiting: _Wish) -> None:
        waiting.state = "over"
        self._live -= 1
        del self._resources[waiting.wish.resource].line[waiting.wish.request_id]

    def _run_out(self, now: float, calls: _Calls) -> None:
        while self._due and self._due[0][0] <= now:
            due = heapq.heappop(self._due)
            wish = due[2]
            if not _current(due):
                continue
            if wish.state == "granted":
                self._end(wish, released=False)
                calls.append(partial(wish.lost, _lease(wish)))
                self._hand_on(wish.wish.resource, now, calls)
            else:
                self._drop(wish)
                resource = self._resources[wish.wish.resource]
                calls.extend(partial(answer, _timeout(wish.wish, resource.held)) for answer in wish.answers)
                if resource.held is None and not resource.line:
                    del self._resources[wish.wish.resource]

    def _held(self, resource: str, token: int) -> _Wish:
        """Find a lease by its token, or say what has become of it."""
        found = self._resources.get(resource)
        if found and found.held and _lease(found.held).token == token:
            return found.held
        last, released = self._endings.get(resource, (0, True))
        if token == last and not released:
            kind, fate = ErrorKind.LEASE_LOST, "ran out"
        elif token < last or (found and found.held and token < _lease(found.held).token):
            kind, fate = ErrorKind.LOCK_TOKEN_STALE, "is older than the latest lease"
        else:
            kind, fate = ErrorKind.LOCK_NOT_HELD, "is not held"
        raise LockError(f"lock {resource!r}: the lease with token {token} {fate}", kind=kind)

    def _at(self, when: float, wish: _Wish) -> None:
        if len(self._due) > 2 * self._live + 64:
            self._due = [due for due in self._due if _current(due)]
            heapq.heapify(self._due)
        self._order += 1
        heapq.heappush(self._due, (when, self._order, wish))

    def _next_due(self) -> float | None:
        while self._due and not _current(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None


class MemoryLock:
    """A connection to `MemoryLocks`; a backend of the lock actor.

    Args:
        locks: The lock service to connect to.
    """

    def __init__(self, locks: MemoryLocks) -> None:
        self._locks = locks
        self.closed = False

    def acquire(self, wish: Acquire, answer: Answer, lost: Lost, timeout: float | None = None) -> None:
        """See `LockBackend.acquire`."""
        self._locks.acquire(self, wish, answer, lost)

    def withdraw(self, resource: str, request_id: str) -> bool:
        """See `LockBackend.withdraw`."""
        return self._locks.withdraw(resource, request_id)

    def renew(self, resource: str, token: int, ttl: float, timeout: float | None = None) -> Lease:
        """See `LockBackend.renew`."""
        self._require_open()
        return self._locks.renew(resource, token, ttl)

    def release(self, resource: str, token: int, timeout: float | None = None) -> bool:
        """See `LockBackend.release`."""
        self._require_open()
        return self._locks.release(resource, token)

    def holder(self, resource: str, timeout: float | None = None) -> Lease | None:
        """See `LockBackend.holder`."""
        self._require_open()
        return self._locks.holder(resource)

    def tick(self) -> float | None:
        """See `LockBackend.tick`."""
        return self._locks.tick()

    def next_tick(self) -> float | None:
        """See `LockBackend.next_tick`."""
        return self._locks.next_tick()

    def close(self) -> None:
        """See `LockBackend.close`."""
        self._locks.leave(self)

    def _require_open(self) -> None:
        if self.closed:
            raise _closed()


def _lease(wish: _Wish) -> Lease:
    assert wish.lease is not None, "only a granted wish is asked for its lease"
    return wish.lease


def _current(due: _Due) -> bool:
    """Whether this is still when its wish ends."""
    when, _, wish = due
    if wish.state == "granted":
        return _lease(wish).expires_at == when
    return wish.state == "waiting" and wish.deadline == when


def _closed() -> LockError:
    return LockError("the connection to the locks is closed", kind=ErrorKind.LOCK_CLOSED)


def _timeout(wish: Acquire, holder: _Wish | None) -> LockError:
    whose = repr(holder.wish.owner) if holder else "nobody"
    return LockError(
        f"lock {wish.resource!r}: {whose} holds it, {wish.owner!r} did not get it within {wish.wait} s",
        kind=ErrorKind.LOCK_TIMEOUT,
    )


def _make(calls: _Calls) -> None:
    for call in calls:
        call()

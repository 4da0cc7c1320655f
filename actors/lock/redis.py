"""Locks in Redis, for actors of many processes.

All that is done to a lock is one script (see `scripts`), and each may be sent again: a wish has an id, a release and
a renewal name their token. Who waits in line is told over Redis's own messages when its turn has come, and looks by
itself every second, since those messages may be lost; who does not look for ten seconds has left the line.

What a lost Redis means: a lock is a lease, and a server that comes back without its data, or a replica that took over
before it had the last writes, knows of no holder and may grant the lock to a second one. Their tokens still grow, so
what the lock guards refuses the first one as soon as the second has written. Where two must never work at once, use the
PostgreSQL backend.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from ...messages.errors import ErrorKind, LockError
from ..redis_keys import beside, in_slot
from ..redis_link import RedisLink, ServerDenied, ServerLost, is_denial, slot_of
from ..redis_url import RedisUrl
from .backend import Acquire, Answer, Lease, Lost, check_ttl
from .listening import Listener
from .scripts import LOCK

LOOK_EVERY: Final = 1.0
"""Seconds between two looks of one who waits, at most."""
GOODBYE: Final = 0.5
"""Seconds that a connection which is closed may take to leave its lines."""
MAX_SECONDS: Final = 1e9


@dataclass(slots=True, eq=False)
class _Waiting:
    """A wish that has no answer yet."""

    wish: Acquire
    answers: list[Answer]
    lost: Lost
    deadline: float
    look_at: float
    in_line: bool = False


@dataclass(slots=True, eq=False)
class _Held:
    """A lease that was granted to this client."""

    lease: Lease
    request_id: str
    lost: Lost


class RedisLock:
    """A connection to locks in Redis; a backend of the lock actor. Safe to use from any thread.

    Args:
        url: Which Redis.
        clock: Seconds, monotonic: this client's own time.
        server_clock: Seconds that take the place of the server's time, for tests; all clients must share them.
    """

    def __init__(
        self, url: RedisUrl, clock: Callable[[], float], server_clock: Callable[[], float] | None = None
    ) -> None:
        self._link = RedisLink(url)
        self._url = url
        self._clock = clock
        self._server_clock = server_clock
        self._client = uuid.uuid4().hex
        self._channel = f"{url.prefix}understudy:lock:{self._client}".encode()
        self._calls = itertools.count(1)
        self._own = f"{url.prefix}understudy:lock:".encode()
        self._keys = lru_cache(maxsize=1024)(self._keys_of)
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._held: dict[str, _Held] = {}
        self._unknown: dict[tuple[str, str], float] = {}
        self._listener = Listener(self._link, self._channel, self._told)

    # --- the contract ------------------------------------------------------------------------------------

    def acquire(self, wish: Acquire, answer: Answer, lost: Lost, timeout: float | None = None) -> None:
        """See `LockBackend.acquire`."""
        self._run_out()
        key = (wish.resource, wish.request_id)
        now = self._clock()
        with self._lock:
            self._unknown.pop(key, None)
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = _Waiting(wish, [answer], lost, now + wish.wait, now)
            else:
                waiting.answers.append(answer)
                waiting.lost = lost
        try:
            self._ask(waiting, wish.wait, timeout)
        except LockError as error:
            if error.kind is ErrorKind.LOCK_UNAVAILABLE:
                with self._lock:  # it may have been granted: nobody would hold it then
                    self._unknown[key] = now
            self._refuse(key, error)

    def withdraw(self, resource: str, request_id: str) -> bool:
        """See `LockBackend.withdraw`."""
        with self._lock:
            if self._waiting.pop((resource, request_id), None) is None:
                return False
            self._unknown[resource, request_id] = self._clock()
        self._forget_unknown()
        return True

    def renew(self, resource: str, token: int, ttl: float, timeout: float | None = None) -> Lease:
        """See `LockBackend.renew`."""
        check_ttl(ttl)
        self._run_out()
        asked = self._clock()
        code, *rest = self._do(resource, "renew", token, b"%d" % next(self._calls), _ms(ttl), timeout=timeout)
        if code != b"G":
            raise self._fate(resource, token, code)
        lease = Lease(resource, rest[2].decode(), token, asked + rest[1] / 1000)
        with self._lock:
            held = self._held.get(resource)
            if held is not None and held.lease.token == token:
                held.lease = lease
        return lease

    def release(self, resource: str, token: int, timeout: float | None = None) -> bool:
        """See `LockBackend.release`."""
        self._run_out()
        code, *_ = self._do(resource, "release", token, f"{self._client} {next(self._calls)}", timeout=timeout)
        with self._lock:
            held = self._held.get(resource)
            if held is not None and held.lease.token == token:
                del self._held[resource]
        if code in (b"1", b"0"):
            return bool(code == b"1")
        raise self._fate(resource, token, code)

    def holder(self, resource: str, timeout: float | None = None) -> Lease | None:
        """See `LockBackend.holder`."""
        self._run_out()
        asked = self._clock()
        code, *rest = self._do(resource, "holder", timeout=timeout)
        if code != b"G":
            return None
        return Lease(resource, rest[2].decode(), int(rest[0]), asked + int(rest[1]) / 1000)

    def tick(self) -> float | None:
        """See `LockBackend.tick`."""
        self._run_out()
        now = self._clock()
        with self._lock:
            due = {
                key[0]: None
                for key, waiting in self._waiting.items()
                if waiting.in_line and min(waiting.look_at, waiting.deadline) <= now
            }
        for resource in due:
            if not self._look(resource):
                break  # the server is lost: one who waits for it is enough
        with self._lock:
            late = [key for key, waiting in self._waiting.items() if waiting.in_line and waiting.deadline <= now]
        for key in late:
            self._give_up(key)
        self._forget_unknown()
        return self.next_tick()

    def next_tick(self) -> float | None:
        """See `LockBackend.next_tick`."""
        with self._lock:
            times = [held.lease.expires_at for held in self._held.values()]
            if not self._waiting and not self._unknown:
                return min(times, default=None)
            times += [min(each.deadline, each.look_at) for each in self._waiting.values() if each.in_line]
            times += [since + LOOK_EVERY for since in self._unknown.values()]
        return min(times, default=None)

    def check(self) -> None:
        """See `Server.check`."""
        try:
            self._link.check()
        except (ServerLost, ServerDenied) as error:
            raise _error(error) from error.__cause__

    def close(self) -> None:
        """See `LockBackend.close`."""
        if self._link.closed:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._held.clear()
        try:
            for each in waiting.values():
                self._do(each.wish.resource, "forget", each.wish.request_id, timeout=GOODBYE)
        except LockError:
            pass  # who does not look any more leaves the line by itself
        self._listener.close()
        self._link.close()
        for each in waiting.values():
            for answer in each.answers:
                answer(_closed())

    # --- asking and looking ------------------------------------------------------------------------------

    def _ask(self, waiting: _Waiting, wait: float, timeout: float | None = None) -> None:
        wish = waiting.wish
        asked = self._clock()
        code, *rest = self._do(
            wish.resource,
            "ask",
            wish.request_id,
            wish.owner,
            _ms(wish.ttl),
            _ms(wait) if wait else 0,
            self._channel,
            timeout=timeout,
        )
        if code == b"G":
            self._grant(wish.resource, wish.request_id, wish.owner, int(rest[0]), asked + int(rest[1]) / 1000)
        elif code == b"W":
            waiting.look_at = asked + _until_look(rest[0])
            waiting.in_line = True
            self._listener.start()
        else:
            self._refuse((wish.resource, wish.request_id), _timeout(wish, rest[0].decode()))

    def _told(self, resource: str | None) -> None:
        """The server says that somebody's turn has come; None: such a message may have been lost."""
        with self._lock:
            names = {key[0]: None for key in self._waiting if resource is None or key[0] == resource}
        for name in names:
            self._look(name)

    def _look(self, resource: str) -> bool:
        """See how those fare who wait for a resource; False if that cannot be seen now."""
        asked = self._clock()
        with self._lock:
            mine = [each for key, each in self._waiting.items() if key[0] == resource and each.in_line]
            for each in mine:
                each.look_at = asked + LOOK_EVERY
        if not mine:
            return True
        try:
            answers = self._do(resource, "poll", self._channel, *[each.wish.request_id for each in mine])
            for waiting, (code, *rest) in zip(mine, answers, strict=True):
                wish = waiting.wish
                if code == b"G":
                    self._grant(resource, wish.request_id, wish.owner, int(rest[0]), asked + int(rest[1]) / 1000)
                elif code == b"W":
                    waiting.look_at = asked + _until_look(rest[0])
                elif waiting.deadline > asked and self._is_waiting(waiting):
                    self._ask(waiting, waiting.deadline - asked)  # the server has forgotten it
        except LockError as error:
            if error.kind in (ErrorKind.LOCK_UNAVAILABLE, ErrorKind.LOCK_CLOSED):
                return False
            for waiting in mine:
                self._refuse((resource, waiting.wish.request_id), _again(error))
        return True

    def _give_up(self, key: tuple[str, str]) -> None:
        """The time to wait has passed: leave the line, unless the turn has come at this very moment."""
        resource, request_id = key
        asked = self._clock()
        with self._lock:
            waiting = self._waiting.get(key)
        if waiting is None:
            return
        try:
            code, *rest = self._do(resource, "leave", request_id)
        except LockError as error:
            with self._lock:
                self._unknown[key] = asked
            self._refuse(key, error)
            return
        if code == b"G":
            self._grant(resource, request_id, waiting.wish.owner, int(rest[0]), asked + int(rest[1]) / 1000)
        else:
            self._refuse(key, _timeout(waiting.wish, rest[0].decode()))

    def _forget_unknown(self) -> None:
        """Give back what may have been granted when nobody got the answer any more."""
        now = self._clock()
        with self._lock:
            due = list(self._unknown)
        for key in due:
            try:
                self._do(key[0], "forget", key[1])
            except LockError:
                with self._lock:
                    if key in self._unknown:
                        self._unknown[key] = now
                return
            with self._lock:
                self._unknown.pop(key, None)

    # --- what becomes of a wish --------------------------------------------------------------------------

    def _is_waiting(self, waiting: _Waiting) -> bool:
        with self._lock:
            return self._waiting.get((waiting.wish.resource, waiting.wish.request_id)) is waiting

    def _grant(self, resource: str, request_id: str, owner: str, token: int, ends: float) -> None:
        lease = Lease(resource, owner, token, ends)
        with self._lock:
            waiting = self._waiting.pop((resource, request_id), None)
            if waiting is None:
                return  # answered before
            self._held[resource] = _Held(lease, request_id, waiting.lost)
        for answer in waiting.answers:
            answer(lease)

    def _refuse(self, key: tuple[str, str], error: LockError) -> None:
        with self._lock:
            waiting = self._waiting.pop(key, None)
        if waiting is not None:
            for number, answer in enumerate(waiting.answers):
                answer(_again(error) if number else error)

    def _run_out(self) -> None:
        """Tell of the leases that have ended. By this client's clock that is a little before the server's does it."""
        if not self._held:
            return
        now = self._clock()
        with self._lock:
            over = [held for held in self._held.values() if held.lease.expires_at <= now]
            for held in over:
                del self._held[held.lease.resource]
        for held in over:
            held.lost(held.lease)

    def _fate(self, resource: str, token: int, code: bytes) -> LockError:
        kind, fate = {
            b"L": (ErrorKind.LEASE_LOST, "ran out"),
            b"S": (ErrorKind.LOCK_TOKEN_STALE, "is older than the latest lease"),
        }.get(code, (ErrorKind.LOCK_NOT_HELD, "is not held"))
        if kind is ErrorKind.LEASE_LOST:
            with self._lock:
                held = self._held.get(resource)
                lost = held if held is not None and held.lease.token == token else None
                if lost is not None:
                    del self._held[resource]
            if lost is not None:
                lost.lost(lost.lease)
        return LockError(f"lock {resource!r}: the lease with token {token} {fate}", kind=kind)

    # --- sending -----------------------------------------------------------------------------------------

    def _do(self, resource: str, verb: str, *arguments: bytes | str | int, timeout: float | None = None) -> list[Any]:
        """Run the script and return its answer; whoever of this client's got the lock by it is told."""
        try:
            slot, *keys, name = self._keys(resource)
            texts = [part.encode() if type(part) is str else part for part in arguments]
        except UnicodeEncodeError as error:
            raise LockError(f"{verb}: {error}", kind=ErrorKind.LOCK_REQUEST_INVALID, cause=error) from error
        server_now = b"" if self._server_clock is None else b"%d" % round(self._server_clock() * 1000)
        asked = self._clock()
        until = time.monotonic() + (self._url.timeout if timeout is None else timeout)
        try:
            command = ("EVALSHA", LOCK, 4, *keys, verb, server_now, name, *texts)
            (reply,) = self._link.insist([command], until, slot)
        except (ServerLost, ServerDenied) as error:
            raise _closed() if self._link.closed else _error(error) from error.__cause__
        if isinstance(reply, Exception):
            kind = ErrorKind.LOCK_DENIED if is_denial(reply) or "NOPERM" in str(reply) else ErrorKind.LOCK_FAILED
            raise LockError(f"lock {resource!r}: {reply}", kind=kind, cause=reply)
        if type(reply) is bytes:
            return reply.split()
        answer, promoted = reply
        if promoted is not None:
            request_id, token, left, owner = promoted
            self._grant(resource, request_id.decode(), owner.decode(), int(token), asked + left / 1000)
        return list(answer)

    def _keys_of(self, resource: str) -> tuple[Any, ...]:
        """The slot of a lock's keys, for a Cluster; its keys; its name."""
        clustered = self._link.clustered
        name = resource.encode()
        key = self._own + name
        slot = slot_of(key) if clustered else 0
        return (
            slot,
            key,
            beside(key, b"line", clustered=clustered),
            beside(key, b"wishes", clustered=clustered),
            b"%stoken{%s}" % (self._own, in_slot(slot)) if clustered else self._own + b":tokens",
            name,
        )


def _ms(seconds: float) -> int:
    return max(1, round(min(seconds, MAX_SECONDS) * 1000))


def _until_look(left: int) -> float:
    """Seconds until one who waits looks again: when the lease that it waits for has run out, if not before."""
    return min(LOOK_EVERY, max(1, left) / 1000)


def _closed() -> LockError:
    return LockError("the connection to the locks is closed", kind=ErrorKind.LOCK_CLOSED)


def _error(error: ServerLost | ServerDenied) -> LockError:
    kind = ErrorKind.LOCK_UNAVAILABLE if isinstance(error, ServerLost) else ErrorKind.LOCK_DENIED
    return LockError(str(error), kind=kind)


def _again(error: LockError) -> LockError:
    """The same error for another asker: it is raised on another thread."""
    return LockError(str(error), kind=error.kind, cause=error.__cause__)


def _timeout(wish: Acquire, owner: str) -> LockError:
    whose = repr(owner) if owner else "nobody"
    return LockError(
        f"lock {wish.resource!r}: {whose} holds it, {wish.owner!r} did not get it within {wish.wait} s",
        kind=ErrorKind.LOCK_TIMEOUT,
    )

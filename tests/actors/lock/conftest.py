"""What the lock's contract tests run against: one entry in `LOCKS` for each backend."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count

import pytest

from understudy.actors.lock.backend import Acquire, Lease, LockBackend
from understudy.actors.lock.memory import MemoryLock, MemoryLocks
from understudy.messages.errors import LockError


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _memory(clock: Clock, _request: pytest.FixtureRequest) -> Callable[[], LockBackend]:
    locks = MemoryLocks(clock)
    return lambda: MemoryLock(locks)


def _redis(clock: Clock, request: pytest.FixtureRequest) -> Callable[[], LockBackend]:
    """Time is the test's here, too: the server is told what time it is."""
    url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    from understudy.actors.lock.redis import RedisLock
    from understudy.actors.redis_url import RedisUrl

    wanted = RedisUrl.of("redis", f"{url.partition('://')[2]}?prefix={prefix}", "lock")
    return lambda: RedisLock(wanted, clock, clock)


def _postgres(clock: Clock, request: pytest.FixtureRequest) -> Callable[[], LockBackend]:
    url = request.getfixturevalue("postgres_url")
    from understudy.actors.lock.postgres import PostgresLock

    return lambda: PostgresLock(url, clock)


LOCKS: Mapping[str, Callable[[Clock, pytest.FixtureRequest], Callable[[], LockBackend]]] = {
    "memory": _memory,
    "postgres": _postgres,
    "redis": _redis,
}


BOUND_TO_THEIR_CONNECTION = {"postgres"}
"""Where a lease ends with the connection that it was granted to."""


class Client:
    """One connection, with the words that the tests are written in."""

    def __init__(self, backend: LockBackend, clock: Clock, ids: Iterator[int], *, bound: bool = False) -> None:
        self.backend, self.clock, self._ids, self.bound = backend, clock, ids, bound
        self.lost: list[Lease] = []

    def ask(
        self, resource: str = "r", owner: str = "ada", ttl: float = 10.0, wait: float = 0.0, id_: str = ""
    ) -> list[Lease | LockError]:
        """Ask for a lock; the list gets the answer when there is one."""
        answers: list[Lease | LockError] = []
        wish = Acquire(resource, owner, id_ or f"request {next(self._ids)}", ttl, wait)
        self.backend.acquire(wish, answers.append, self.lost.append)
        return answers

    def take(self, resource: str = "r", owner: str = "ada", ttl: float = 10.0, id_: str = "") -> Lease:
        """Ask for a lock that is free."""
        (lease,) = self.ask(resource, owner, ttl, 0.0, id_)
        assert isinstance(lease, Lease)
        return lease

    def pass_time(self, seconds: float) -> None:
        """Let time pass, calling `tick` when the backend wants it."""
        end = self.clock.now + seconds
        due = self.backend.next_tick()
        while due is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            due = self.backend.tick()
            assert due is None or due > self.clock.now, "a tick that is due at once would be called for ever"
        self.clock.now = end


@pytest.fixture(params=sorted(LOCKS))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Client]]:
    """Opens connections to one lock service that nobody else uses."""
    clock, ids, opened = Clock(), count(1), list[Client]()
    backend = LOCKS[request.param](clock, request)

    def open_one() -> Client:
        opened.append(Client(backend(), clock, ids, bound=request.param in BOUND_TO_THEIR_CONNECTION))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()

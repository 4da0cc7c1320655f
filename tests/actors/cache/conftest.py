"""What the cache's contract tests run against: one entry in `CACHES` for each backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from understudy.actors.cache.backend import CacheBackend, Operation
from understudy.actors.cache.memory import MemoryCache, MemoryStore
from understudy.messages.errors import CacheError


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class RedisClock(Clock):
    """Lets time pass in Redis, where it cannot be set: every key that a test has written has less time left then."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._now = 1_000.0
        self._client, self._prefix = client, prefix

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        passed = round((value - self._now) * 1000)
        self._now = value
        for key in self._client.scan_iter(match=f"{self._prefix}*"):
            left = self._client.pttl(key)
            if left >= 0:
                # What a test takes to run is not time that passes: what is left is whole seconds.
                self._client.pexpire(key, max(0, round(left / 500) * 500 - passed))


def _memory(_request: pytest.FixtureRequest) -> Cache:
    clock = Clock()
    store = MemoryStore(clock)
    return Cache(clock, lambda: MemoryCache(store))


def _redis(request: pytest.FixtureRequest) -> Cache:
    url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    import redis

    from understudy.actors.cache.redis import RedisCache
    from understudy.actors.redis_url import RedisUrl

    client = redis.Redis.from_url(url)
    request.addfinalizer(client.close)
    wanted = RedisUrl.of("redis", f"{url.partition('://')[2]}?prefix={prefix}", "cache")
    return Cache(RedisClock(client, prefix), lambda: RedisCache(wanted))


class Cache(NamedTuple):
    """A cache that nobody else uses: its time, and what opens a connection."""

    clock: Clock
    connect: Callable[[], CacheBackend]


CACHES: Mapping[str, Callable[[pytest.FixtureRequest], Cache]] = {"memory": _memory, "redis": _redis}


class Client:
    """One connection, with the words that the tests are written in."""

    def __init__(self, backend: CacheBackend, clock: Clock) -> None:
        self.backend, self.clock = backend, clock

    def __call__(self, operation: Operation) -> Any:
        """Carry one operation out; a refusal is returned as its kind."""
        (outcome,) = self.backend.run([operation])
        return str(outcome.kind) if isinstance(outcome, CacheError) else outcome


@pytest.fixture(params=sorted(CACHES))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Client]]:
    """Opens connections to one cache that nobody else uses."""
    opened = list[Client]()
    clock, connection = CACHES[request.param](request)

    def open_one() -> Client:
        opened.append(Client(connection(), clock))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def cache(connect: Callable[[], Client]) -> Client:
    return connect()

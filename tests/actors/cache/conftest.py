"""What the cache's contract tests run against: one entry in `CACHES` for each backend."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

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


def _memory(clock: Clock) -> Callable[[], CacheBackend]:
    store = MemoryStore(clock)
    return lambda: MemoryCache(store)


CACHES: Mapping[str, Callable[[Clock], Callable[[], CacheBackend]]] = {"memory": _memory}


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
    clock, opened = Clock(), list[Client]()
    backend = CACHES[request.param](clock)

    def open_one() -> Client:
        opened.append(Client(backend(), clock))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def cache(connect: Callable[[], Client]) -> Client:
    return connect()

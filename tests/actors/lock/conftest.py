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


def _memory(clock: Clock) -> Callable[[], LockBackend]:
    locks = MemoryLocks(clock)
    return lambda: MemoryLock(locks)


LOCKS: Mapping[str, Callable[[Clock], Callable[[], LockBackend]]] = {"memory": _memory}


class Client:
    """One connection, with the words that the tests are written in."""

    def __init__(self, backend: LockBackend, clock: Clock, ids: Iterator[int]) -> None:
        self.backend, self.clock, self._ids = backend, clock, ids
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
    backend = LOCKS[request.param](clock)

    def open_one() -> Client:
        opened.append(Client(backend(), clock, ids))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()

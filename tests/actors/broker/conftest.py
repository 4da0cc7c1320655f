"""What the broker's contract tests run against: one entry in `BROKERS` for each backend."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import count

import pytest

from understudy.actors.broker.backend import BrokerBackend, Delivery, Publication, Subscription
from understudy.actors.broker.memory import MemoryBroker, MemoryServer
from understudy.actors.broker.topology import Binding, Exchange, Queue
from understudy.messages.broker import HeaderValue
from understudy.messages.errors import BrokerError

PATIENCE = 10.0
"""Seconds after which a broker that should have answered counts as hung; no test waits for it to pass."""


def _memory() -> Callable[[], BrokerBackend]:
    server = MemoryServer()
    return lambda: MemoryBroker(server)


BROKERS: Mapping[str, Callable[[], Callable[[], BrokerBackend]]] = {"memory": _memory}


class Consumer:
    """A consumer that keeps what it is given."""

    def __init__(self, backend: BrokerBackend, queue_name: str, tag: str, prefetch: int) -> None:
        self.backend, self.tag = backend, tag
        self.deliveries: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.cancellations: queue.SimpleQueue[BrokerError] = queue.SimpleQueue()
        backend.consume(Subscription(queue_name, tag, prefetch, self.deliveries.put, self.cancellations.put))

    def next(self) -> Delivery:
        return self.deliveries.get(timeout=PATIENCE)

    def take(self, number: int) -> list[Delivery]:
        return [self.next() for _ in range(number)]

    def idle(self) -> bool:
        return self.deliveries.empty()


class Client:
    """One connection, with the words that the tests are written in."""

    def __init__(self, backend: BrokerBackend) -> None:
        self.backend = backend
        self._tags = count(1)

    def queue(self, name: str, *bindings: tuple[str, str], **options: int) -> None:
        """Declare a queue and bind it to (exchange, routing key)s."""
        self.backend.declare_queue(Queue(name, **options))  # type: ignore[arg-type]
        for exchange, key in bindings:
            self.backend.bind(Binding(name, exchange, key))

    def exchange(self, name: str, type_: str) -> None:
        self.backend.declare_exchange(Exchange(name, type_))  # type: ignore[arg-type]

    def publish(
        self,
        exchange: str,
        key: str,
        *bodies: bytes,
        headers: Mapping[str, HeaderValue] | None = None,
    ) -> list[str]:
        """Publish bodies (their text is their id too); tell what became of each: a kind, or 'confirmed'."""
        outcomes: dict[int, str] = {}
        done = threading.Event()

        def report(position: int, error: BrokerError | None) -> None:
            assert position not in outcomes, "a publication was reported twice"
            outcomes[position] = "confirmed" if error is None else str(error.kind)
            if len(outcomes) == len(bodies):
                done.set()

        self.backend.publish(
            [Publication(exchange, key, body, body.decode(), headers or {}) for body in bodies], report
        )
        assert done.wait(PATIENCE), "the broker never said what became of a publication"
        return [outcomes[position] for position in range(len(bodies))]

    def consume(self, queue_name: str, prefetch: int = 100) -> Consumer:
        return Consumer(self.backend, queue_name, f"tag-{next(self._tags)}", prefetch)


@pytest.fixture(params=sorted(BROKERS))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Client]]:
    """Opens connections to one broker that nobody else uses."""
    opened: list[Client] = []
    backend = BROKERS[request.param]()

    def open_one() -> Client:
        opened.append(Client(backend()))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()

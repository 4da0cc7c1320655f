"""What the broker's contract tests run against: one entry in `BROKERS` for each backend."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count

import pytest

from understudy.actors.broker.backend import BrokerBackend, Delivery, Publication, Subscription
from understudy.actors.broker.memory import MemoryBroker, MemoryServer
from understudy.actors.broker.topology import Binding, Exchange, Queue
from understudy.messages.broker import HeaderValue
from understudy.messages.errors import BrokerError

PATIENCE = 60.0
"""Seconds after which a broker that should have answered counts as hung; no test waits for it to pass."""


def _memory(request: pytest.FixtureRequest) -> Callable[[], BrokerBackend]:
    server = MemoryServer()
    return lambda: MemoryBroker(server)


def _rabbitmq(request: pytest.FixtureRequest) -> Callable[[], BrokerBackend]:
    from understudy.actors.broker.rabbitmq.backend import RabbitBroker
    from understudy.actors.broker.rabbitmq.ledger import Ledger
    from understudy.actors.broker.rabbitmq.url import parse_url

    url: str = request.getfixturevalue("amqp_url")
    address, ledger = parse_url("amqp", url.removeprefix("amqp://")), Ledger()
    return lambda: RabbitBroker(address, ledger)


def _redis(request: pytest.FixtureRequest) -> Callable[[], BrokerBackend]:
    from understudy.actors.broker.redis_pubsub import RedisBroker, RedisServer
    from understudy.actors.redis_url import RedisUrl

    url: str = request.getfixturevalue("redis_url")
    prefix: str = request.getfixturevalue("redis_prefix")
    server = RedisServer(RedisUrl.of("redis", f"{url.removeprefix('redis://')}?prefix={prefix}", "broker"))
    request.addfinalizer(server.close)
    assert server.wait_until_it_listens()
    return lambda: RedisBroker(server)


BROKERS: Mapping[str, Callable[[pytest.FixtureRequest], Callable[[], BrokerBackend]]] = {
    "memory": _memory,
    "rabbitmq": _rabbitmq,
    "redis": _redis,
}


FULL_AT = range(10)
"""How many more messages than its max_length a queue may take before it refuses: a quorum queue of RabbitMQ tells
its publishers a moment after it is full."""


def eventually(true: Callable[[], bool]) -> None:
    """Wait for what a server does soon after it has said so; it cannot tell when."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)


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

    def fill(self, queue_name: str) -> int:
        """Publish into a queue, one after the other, until one is refused; returns how many it took."""
        taken = 0
        while (outcome := self.publish("", queue_name, str(taken).encode())) == ["confirmed"]:
            taken += 1
            assert taken < 1_000, "the queue has no end"
        assert outcome == ["broker.publish.nacked"]
        return taken

    def consume(self, queue_name: str, prefetch: int = 100) -> Consumer:
        return Consumer(self.backend, queue_name, f"tag-{next(self._tags)}", prefetch)


@pytest.fixture(params=sorted(BROKERS))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Client]]:
    """Opens connections to one broker that nobody else uses."""
    opened: list[Client] = []
    backend = BROKERS[request.param](request)

    def open_one() -> Client:
        opened.append(Client(backend()))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a slow machine is not taken for a dead one."""
    monkeypatch.setattr("understudy.actors.broker.rabbitmq.operations.STEP_TIMEOUT", PATIENCE)


@pytest.fixture(autouse=True)
def no_client_stays() -> Iterator[None]:
    """A client that is closed leaves no thread behind, which would try for ever to connect."""
    yield
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith(("rabbitmq ", "redis b"))])

"""A consumer that is asked for before RabbitMQ is there is one consumer, and gets everything."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from understudy.actors.broker.backend import Delivery, Subscription
from understudy.actors.broker.rabbitmq import operations
from understudy.actors.broker.rabbitmq.backend import RabbitBroker
from understudy.actors.broker.rabbitmq.operations import Steps
from understudy.actors.broker.topology import Queue
from understudy.messages.errors import BrokerError

from .conftest import PATIENCE, eventually
from .rabbit import Collector, Outcomes, connected, numbered


@pytest.fixture
def other(amqp_url: str) -> Iterator[RabbitBroker]:
    """Somebody else's client, by which the queue is there and counted."""
    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("early"))
        yield broker


@pytest.fixture(autouse=True)
def waits_for_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, a request waits here for the connection."""
    monkeypatch.setattr(operations, "PATIENCE", PATIENCE)


class Early(threading.Thread):
    """Begins to consume, and waits until it does."""

    def __init__(self, broker: RabbitBroker) -> None:
        super().__init__(daemon=True)
        self.broker = broker
        self.start()

    def run(self) -> None:
        self._collector = Collector(self.broker, "early", prefetch=10)

    def collector(self) -> Collector:
        self.join(PATIENCE)
        return self._collector

    def waits(self) -> bool:
        return bool(self.broker._operations._waiting)


def assert_there_is_one(collector: Collector, other: RabbitBroker) -> None:
    """RabbitMQ knows of one consumer, and that one gets every message."""
    outcomes = Outcomes()
    other.publish(numbered("early", range(40)), outcomes.reporter())
    outcomes.wait(40)
    collector.wait_for(map(str, range(40)))
    assert other.counts("early").consumers == 1


def test_before_the_first_connection(other: RabbitBroker, amqp_url: str, new_proxy: Callable[[str], Any]) -> None:
    proxy = new_proxy(amqp_url)
    proxy.stall()
    with connected(proxy.url) as broker:
        early = Early(broker)
        eventually(early.waits)
        proxy.heal()
        assert_there_is_one(early.collector(), other)


def test_while_the_connection_is_lost(other: RabbitBroker, amqp_url: str, new_proxy: Callable[[str], Any]) -> None:
    proxy = new_proxy(amqp_url)
    with connected(proxy.url) as broker:
        broker.counts("early")
        proxy.refuse()
        proxy.reset()
        eventually(lambda: broker._consuming.connection is None)
        early = Early(broker)
        eventually(early.waits)
        proxy.heal()
        assert_there_is_one(early.collector(), other)


def test_while_what_was_declared_is_declared_again(
    other: RabbitBroker, amqp_url: str, new_proxy: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is there, and not yet in use: neither the request nor the recovery may start it twice."""
    proxy = new_proxy(amqp_url)
    with connected(proxy.url) as broker:
        broker.declare_queue(Queue("early"))
        rebuild = broker.topology.rebuild
        begun: list[BrokerError | None] = []
        collectors: list[Collector] = []

        class AtOnce:
            """What a collector needs, on the loop's own thread, where nobody may wait."""

            ack = broker.ack

            def consume(self, subscription: Subscription) -> None:
                broker._consumers.begin(subscription, begun.append)

        def meanwhile() -> Steps[None]:
            yield from rebuild()
            collectors.append(Collector(AtOnce(), "early", prefetch=10))

        monkeypatch.setattr(broker.topology, "rebuild", meanwhile)
        proxy.reset()
        eventually(lambda: bool(begun))
        assert begun == [None]
        assert_there_is_one(collectors[0], other)


def test_cancelled_before_it_began_it_never_does(
    other: RabbitBroker, amqp_url: str, new_proxy: Callable[[str], Any]
) -> None:
    """Whoever waits for its beginning is told, and no channel stays open for it."""
    proxy = new_proxy(amqp_url)
    proxy.stall()
    with connected(proxy.url) as broker:
        errors: list[BrokerError | None] = []
        nothing: Callable[[Delivery], None] = lambda _: None  # noqa: E731
        subscription = Subscription("early", "tag", 10, nothing, lambda _: None)
        broker._loop.submit(lambda: broker._consumers.begin(subscription, errors.append))
        assert broker.cancel("tag")
        proxy.heal()
        eventually(lambda: bool(errors))
        assert errors[0] is not None
        assert errors[0].kind == "broker.consumer.cancelled"
        assert other.counts("early").consumers == 0

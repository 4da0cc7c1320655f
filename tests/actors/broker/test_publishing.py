"""The broker contract: declaring, routing, and what a publisher is told."""

from collections.abc import Callable
from typing import Any

import pytest

from understudy.actors.broker.topology import Binding, Exchange, Queue
from understudy.messages.broker import HeaderValue
from understudy.messages.errors import BrokerError

from .conftest import FULL_AT, eventually


def bodies(consumer: Any, number: int) -> list[bytes]:
    return [delivery.publication.body for delivery in consumer.take(number)]


def test_fanout_gives_a_copy_to_every_queue_and_ignores_the_key(client: Any) -> None:
    client.exchange("SavageEx", "fanout")
    client.queue("one", ("SavageEx", ""))
    client.queue("two", ("SavageEx", "a key"))
    assert client.publish("SavageEx", "another key", b"a", b"b") == ["confirmed", "confirmed"]
    assert bodies(client.consume("one"), 2) == [b"a", b"b"]
    assert bodies(client.consume("two"), 2) == [b"a", b"b"]


def test_direct_takes_the_exact_key_only(client: Any) -> None:
    client.exchange("orders", "direct")
    client.queue("paid", ("orders", "paid"))
    assert client.publish("orders", "paid", b"a") == ["confirmed"]
    assert client.publish("orders", "pai", b"b") == ["broker.unroutable"]
    assert client.publish("orders", "paid", b"c") == ["confirmed"]
    assert bodies(client.consume("paid"), 2) == [b"a", b"c"]


def test_topic_takes_what_the_pattern_matches(client: Any) -> None:
    client.queue("one", ("amq.topic", "*.created"))
    client.queue("all", ("amq.topic", "#"))
    client.publish("amq.topic", "event.created", b"a")
    client.publish("amq.topic", "event.user.created", b"b")
    client.publish("amq.topic", "user.created", b"c")
    assert bodies(client.consume("one"), 2) == [b"a", b"c"]
    assert bodies(client.consume("all"), 3) == [b"a", b"b", b"c"]


def test_headers_match_all_or_any(client: Any) -> None:
    client.queue("all")
    client.queue("any")
    wanted: dict[str, HeaderValue] = {"colour": "red", "size": 1}
    client.backend.bind(Binding("all", "amq.headers", "", {"x-match": "all", **wanted}))
    client.backend.bind(Binding("any", "amq.headers", "", {"x-match": "any", **wanted}))
    assert client.publish("amq.headers", "", b"one", headers={"colour": "red"}) == ["confirmed"]
    assert client.publish("amq.headers", "", b"both", headers={"size": 1, "colour": "red"}) == ["confirmed"]
    assert client.publish("amq.headers", "", b"none", headers={"size": "1"}) == ["broker.unroutable"]
    assert bodies(client.consume("all"), 1) == [b"both"]
    assert bodies(client.consume("any"), 2) == [b"one", b"both"]


def test_the_default_exchange_goes_to_the_queue_named_by_the_key(client: Any) -> None:
    client.queue("letters")
    assert client.publish("", "letters", b"a") == ["confirmed"]
    assert client.publish("", "nowhere", b"b") == ["broker.unroutable"]
    assert bodies(client.consume("letters"), 1) == [b"a"]


def test_a_queue_bound_twice_gets_one_copy(client: Any) -> None:
    client.queue("one", ("amq.topic", "#"), ("amq.topic", "a.*"), ("amq.topic", "#"))
    client.publish("amq.topic", "a.b", b"first")
    client.publish("amq.topic", "a.b", b"second")
    assert bodies(client.consume("one"), 2) == [b"first", b"second"]


def test_publishing_to_an_exchange_that_nobody_declared_is_reported(client: Any) -> None:
    assert client.publish("nowhere", "", b"a") == ["broker.exchange.unknown"]


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(client: Any) -> None:
    client.queue("small", max_length=2)
    taken = client.fill("small")
    assert taken - 2 in FULL_AT
    consumer = client.consume("small")
    for delivery in consumer.take(taken):
        assert client.backend.ack(delivery)
    eventually(lambda: client.publish("", "small", b"d") == ["confirmed"])
    assert bodies(consumer, 1) == [b"d"]


def test_declaring_the_same_again_is_free(client: Any) -> None:
    client.exchange("SavageEx", "fanout")
    client.queue("TestOnion", ("SavageEx", ""))
    client.publish("SavageEx", "", b"a")
    client.exchange("SavageEx", "fanout")
    client.queue("TestOnion", ("SavageEx", ""))
    assert bodies(client.consume("TestOnion"), 1) == [b"a"]


def test_declaring_an_exchange_differently_names_the_argument(client: Any) -> None:
    client.exchange("SavageEx", "fanout")
    with pytest.raises(BrokerError, match="'SavageEx' exists with type='fanout', declared with type='topic'") as caught:
        client.exchange("SavageEx", "topic")
    assert caught.value.kind == "broker.exchange.mismatch"
    with pytest.raises(BrokerError, match="durable"):
        client.backend.declare_exchange(Exchange("SavageEx", "fanout", durable=False))


def test_declaring_a_queue_differently_names_every_argument_that_differs(client: Any) -> None:
    client.queue("TestOnion")
    with pytest.raises(
        BrokerError, match=r"max_length=100000, .*max_length=5; delivery_limit=3, .*delivery_limit=1"
    ) as caught:
        client.queue("TestOnion", max_length=5, delivery_limit=1)
    assert caught.value.kind == "broker.queue.mismatch"


def test_what_a_later_declaration_leaves_open_is_as_the_first_one_said(client: Any) -> None:
    client.queue("TestOnion", max_length=5)
    client.queue("TestOnion")
    client.queue("TestOnion", delivery_limit=3)
    assert client.fill("TestOnion") - 5 in FULL_AT


def test_a_binding_needs_its_exchange_and_its_queue(client: Any) -> None:
    client.queue("there")
    with pytest.raises(BrokerError) as caught:
        client.backend.bind(Binding("there", "missing"))
    assert caught.value.kind == "broker.exchange.unknown"
    with pytest.raises(BrokerError) as caught:
        client.backend.bind(Binding("missing", "amq.fanout"))
    assert caught.value.kind == "broker.queue.unknown"
    with pytest.raises(BrokerError) as caught:
        client.backend.bind(Binding("there", ""))
    assert caught.value.kind == "broker.declaration.invalid"


def test_names_of_the_brokers_own_are_refused(client: Any) -> None:
    with pytest.raises(BrokerError) as caught:
        client.exchange("amq.mine", "fanout")
    assert caught.value.kind == "broker.declaration.invalid"


@pytest.mark.parametrize(
    ("declare", "arguments"),
    [
        (Exchange, {"name": "x" * 256}),
        (Exchange, {"name": "é" * 128}),
        (Exchange, {"name": "\ud800"}),
        (Exchange, {"name": "x", "type": "round"}),
        (Queue, {"name": ""}),
        (Queue, {"name": "x" * 300}),
        (Queue, {"name": "q", "max_length": 0}),
        (Queue, {"name": "q", "delivery_limit": -1}),
        (Binding, {"queue": "q", "exchange": "x", "routing_key": "k" * 256}),
        (Binding, {"queue": "q", "exchange": "x", "arguments": {"x-match": "some"}}),
    ],
)
def test_what_cannot_be_declared_is_refused_before_it_reaches_the_broker(
    declare: Callable[..., object], arguments: dict[str, Any]
) -> None:
    with pytest.raises(BrokerError) as caught:
        declare(**arguments)
    assert caught.value.kind == "broker.declaration.invalid"


def test_a_name_may_have_255_bytes() -> None:
    assert Exchange("x" * 255).name == "x" * 255


def test_a_closed_connection_refuses_everything(client: Any) -> None:
    client.queue("q")
    client.backend.close()
    client.backend.close()
    assert client.publish("", "q", b"a") == ["broker.closed"]
    calls: list[tuple[Callable[..., object], tuple[object, ...]]] = [
        (client.exchange, ("x", "fanout")),
        (client.queue, ("other",)),
        (client.consume, ("q",)),
        (client.backend.dead_letters, ("q", 1)),
        (client.backend.counts, ("q",)),
    ]
    for call, arguments in calls:
        with pytest.raises(BrokerError) as caught:
            call(*arguments)
        assert caught.value.kind == "broker.closed"

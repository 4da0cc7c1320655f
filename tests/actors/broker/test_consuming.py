"""The broker contract: delivering, settling, redelivering and giving up."""

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy.actors.broker.backend import Delivery, Subscription
from understudy.messages.broker import QueueCounts
from understudy.messages.errors import BrokerError

from .conftest import PATIENCE, eventually


def texts(deliveries: list[Delivery]) -> str:
    return "".join(delivery.publication.body.decode() for delivery in deliveries)


def letters(client: Any, *bodies: str, **options: int) -> None:
    client.queue("letters", **options)
    assert set(client.publish("", "letters", *(body.encode() for body in bodies))) <= {"confirmed"}


def test_messages_wait_for_a_consumer_and_come_in_order(client: Any) -> None:
    letters(client, *"abc")
    assert client.backend.counts("letters") == QueueCounts(ready=3, unsettled=0, dead=0, consumers=0)
    consumer = client.consume("letters")
    client.publish("", "letters", b"d")
    assert texts(consumer.take(4)) == "abcd"


def test_a_delivery_carries_what_was_published(client: Any) -> None:
    client.exchange("SavageEx", "fanout")
    client.queue("TestOnion", ("SavageEx", ""))
    client.publish("SavageEx", "a.key", b'{"pid": 200.4}', headers={"trace": "abc", "hop": 1})
    delivery = client.consume("TestOnion").next()
    assert (delivery.queue, delivery.attempt, delivery.redelivered) == ("TestOnion", 1, False)
    published = delivery.publication
    assert (published.exchange, published.routing_key) == ("SavageEx", "a.key")
    assert (published.body, published.message_id) == (b'{"pid": 200.4}', '{"pid": 200.4}')
    assert (published.content_type, published.persistent) == ("application/json", True)
    assert published.headers == {"trace": "abc", "hop": 1}


def test_prefetch_bounds_what_a_consumer_holds(client: Any) -> None:
    letters(client, *"abcd")
    consumer = client.consume("letters", prefetch=2)
    first, _ = consumer.take(2)
    assert client.backend.counts("letters") == QueueCounts(ready=2, unsettled=2, dead=0, consumers=1)
    assert consumer.idle()
    client.backend.ack(first)
    assert texts([consumer.next()]) == "c"


def test_consumers_of_a_queue_take_turns(client: Any) -> None:
    client.queue("letters")
    one, two = client.consume("letters"), client.consume("letters")
    client.publish("", "letters", *(text.encode() for text in "abcd"))
    assert {texts(one.take(2)), texts(two.take(2))} == {"ac", "bd"}


def test_an_acknowledged_message_is_gone(client: Any) -> None:
    letters(client, "a")
    consumer = client.consume("letters")
    delivery = consumer.next()
    assert client.backend.ack(delivery) is True
    assert client.backend.ack(delivery) is False
    assert client.backend.requeue(delivery) is False
    assert client.backend.counts("letters") == QueueCounts(ready=0, unsettled=0, dead=0, consumers=1)


def test_a_requeued_message_comes_again_before_later_ones(client: Any) -> None:
    letters(client, *"abc")
    consumer = client.consume("letters", prefetch=1)
    assert client.backend.requeue(consumer.next()) is True
    again = consumer.next()
    assert (texts([again]), again.attempt, again.redelivered) == ("a", 2, True)
    client.backend.ack(again)
    assert texts([consumer.next()]) == "b"


def test_after_the_limit_a_message_becomes_a_dead_letter(client: Any) -> None:
    letters(client, "poison", "good", delivery_limit=3)
    consumer = client.consume("letters", prefetch=1)
    attempts = []
    for _ in range(4):
        delivery = consumer.next()
        assert texts([delivery]) == "poison"
        attempts.append((delivery.attempt, delivery.final))
        client.backend.requeue(delivery)
    assert attempts == [(1, False), (2, False), (3, False), (4, True)]
    assert texts([consumer.next()]) == "good"
    (letter,) = client.backend.dead_letters("letters", 10)
    assert (letter.queue, letter.attempts, letter.reason) == ("letters", 4, "delivery_limit")
    assert (letter.body, letter.message_id) == (b"poison", "poison")


def test_with_no_redelivery_allowed_the_first_failure_is_the_last(client: Any) -> None:
    letters(client, "poison", delivery_limit=0)
    client.backend.requeue(client.consume("letters").next())
    assert client.backend.counts("letters").dead == 1


def test_a_rejected_message_is_a_dead_letter_at_once(client: Any) -> None:
    letters(client, "broken")
    assert client.backend.reject(client.consume("letters").next()) is True
    (letter,) = client.backend.dead_letters("letters", 10)
    assert (letter.attempts, letter.reason) == (1, "rejected")


def test_dead_letters_are_replayed_with_their_attempts_at_zero(client: Any) -> None:
    letters(client, *"abc", delivery_limit=0)
    consumer = client.consume("letters")
    for delivery in consumer.take(3):
        client.backend.reject(delivery)
    assert [letter.message_id for letter in client.backend.dead_letters("letters", 2)] == [
        "a",
        "b",
    ]
    assert client.backend.replay_dead_letters("letters", ["b", "unknown"]) == 1
    again = consumer.next()
    assert (texts([again]), again.attempt, again.redelivered) == ("b", 1, True)
    assert client.backend.replay_dead_letters("letters", None) == 2
    assert texts(consumer.take(2)) == "ac"
    assert client.backend.dead_letters("letters", 10) == []


def test_dead_letters_are_purged(client: Any) -> None:
    letters(client, *"abc")
    for delivery in client.consume("letters").take(3):
        client.backend.reject(delivery)
    assert client.backend.purge_dead_letters("letters", ["a", "c"]) == 2
    assert client.backend.purge_dead_letters("letters", None) == 1
    assert client.backend.counts("letters").dead == 0


def test_cancelling_a_consumer_gives_back_what_it_held_in_order(client: Any) -> None:
    letters(client, *"abcdef")
    first = client.consume("letters", prefetch=4)
    held = first.take(4)
    client.backend.ack(held[1])
    assert texts([first.next()]) == "e"
    assert client.backend.cancel(first.tag) is True
    assert client.backend.cancel(first.tag) is False
    assert client.backend.ack(held[0]) is False
    again = client.consume("letters").take(5)
    assert texts(again) == "acdef"
    assert [delivery.redelivered for delivery in again] == [True, True, True, True, False]
    assert [delivery.attempt for delivery in again] == [1, 1, 1, 1, 1]


def test_closing_a_connection_gives_back_what_its_consumers_held(connect: Callable[[], Any]) -> None:
    fallen, understudy = connect(), connect()
    letters(fallen, *"abc")
    held = fallen.consume("letters").take(3)
    waiting = understudy.consume("letters")
    fallen.backend.close()
    assert texts(waiting.take(3)) == "abc"
    assert fallen.backend.ack(held[0]) is False


def test_connections_share_topology_and_messages(connect: Callable[[], Any]) -> None:
    publisher, consumer = connect(), connect()
    publisher.exchange("SavageEx", "fanout")
    consumer.queue("TestOnion", ("SavageEx", ""))
    assert publisher.publish("SavageEx", "", b"a") == ["confirmed"]
    assert texts([consumer.consume("TestOnion").next()]) == "a"


def test_a_delivery_settles_only_on_the_connection_it_came_by(connect: Callable[[], Any]) -> None:
    mine, other = connect(), connect()
    letters(mine, "a")
    delivery = mine.consume("letters").next()
    other.consume("letters")
    assert other.backend.ack(delivery) is False
    assert mine.backend.ack(delivery) is True


def test_a_consumer_that_cannot_take_a_delivery_is_cancelled_and_told(client: Any) -> None:
    letters(client, *"ab")
    told: queue.SimpleQueue[BrokerError] = queue.SimpleQueue()

    def fail(delivery: Delivery) -> None:
        raise RuntimeError("no room")

    client.backend.consume(Subscription("letters", "broken", 10, fail, told.put))
    error = told.get(timeout=PATIENCE)
    assert error.kind == "broker.consumer.cancelled"
    assert isinstance(error.__cause__, RuntimeError)
    assert texts(client.consume("letters").take(2)) == "ab"
    assert told.empty()


def test_a_consumer_may_settle_while_it_is_being_called(client: Any) -> None:
    client.queue("letters")
    seen: list[bytes] = []
    done = threading.Event()

    def work(delivery: Delivery) -> None:
        seen.append(delivery.publication.body)
        client.backend.ack(delivery)
        if len(seen) == 500:
            done.set()

    client.backend.consume(Subscription("letters", "quick", 1, work, lambda error: None))
    assert client.publish("", "letters", *(b"x" for _ in range(500))) == ["confirmed"] * 500
    assert done.wait(PATIENCE)
    eventually(lambda: client.backend.counts("letters") == QueueCounts(ready=0, unsettled=0, dead=0, consumers=1))
    assert len(seen) == 500


def test_what_cannot_be_consumed_is_refused(client: Any) -> None:
    client.queue("letters")
    consumer = client.consume("letters")
    for name, tag, prefetch, kind in (
        ("missing", "tag", 1, "broker.queue.unknown"),
        ("letters", consumer.tag, 1, "broker.consumer.invalid"),
        ("letters", "tag", 0, "broker.consumer.invalid"),
    ):
        with pytest.raises(BrokerError) as caught:
            client.backend.consume(Subscription(name, tag, prefetch, lambda delivery: None, lambda error: None))
        assert caught.value.kind == kind

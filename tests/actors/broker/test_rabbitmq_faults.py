"""The RabbitMQ backend when the server, or the way to it, fails."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pika import exceptions

from understudy.actors.broker.backend import Publication
from understudy.actors.broker.rabbitmq import backend, link, operations, publishing
from understudy.actors.broker.rabbitmq.operations import Steps
from understudy.actors.broker.rabbitmq.url import parse_url
from understudy.actors.broker.topology import Binding, Exchange, Queue
from understudy.messages.errors import BrokerError

from ...servers.shared import with_options
from .conftest import PATIENCE, eventually
from .rabbit import Collector, Outcomes, connected, numbered

pytestmark = pytest.mark.timeout(600)  # servers are started here, several to a test; seconds, but for a slow machine

LONG = 240.0
"""Seconds for what includes a server's start."""

HEALING = 5.0
"""Seconds after which a client must be connected again once the way is free."""


def test_the_time_limits_of_connecting_add_up_to_less_than_healing_may_take() -> None:
    """An attempt that began just before the way was free, the delay after it, and an attempt that succeeds."""
    attempt = parse_url("amqp", "localhost").connection_timeout + link.GRACE
    assert attempt + link.LONGEST_DELAY < HEALING


@pytest.mark.parametrize("kind", [exceptions.ProbableAuthenticationError, exceptions.ProbableAccessDeniedError])
@pytest.mark.parametrize(
    ("reason", "means"),
    [
        (exceptions.StreamLostError("Connection reset by peer"), "broker.unavailable"),
        (exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost nosuch not found"), "broker.refused"),
    ],
)
def test_a_connection_that_is_lost_while_it_is_made_was_not_refused(
    kind: type[Exception], reason: Exception, means: str
) -> None:
    """Although pika calls it a probable refusal, by how far it had come."""
    error = link._translate(kind(repr(reason)), parse_url("amqp", "localhost"))
    assert error.kind == means


def test_a_publisher_is_answered_a_little_before_its_deadline() -> None:
    assert backend.in_time(1.0) == 0.9
    assert backend.in_time(30.0) == 30.0 - publishing.MARGIN
    assert backend.in_time(0.0) == 0.0


def test_a_server_killed_while_publishing_loses_nothing_that_it_confirmed(private_rabbitmq: Any) -> None:
    """And what it had not confirmed is published again: everything is confirmed in the end, and there."""
    number = 6_000
    with connected(private_rabbitmq.url) as broker:
        broker.declare_queue(Queue("killed"))
        outcomes = Outcomes()
        for start in range(0, number, 1_000):
            broker.publish(numbered("killed", range(start, start + 1_000), 200), outcomes.reporter(start))
            if start == 2_000:
                outcomes.wait(1_000)
                private_rabbitmq.kill()
        private_rabbitmq.start()
        outcomes.wait(number, LONG)
        assert set(outcomes.kinds.values()) == {"confirmed"}
        Collector(broker, "killed").wait_for(map(str, range(number)), LONG)


def test_a_consumer_goes_on_after_the_servers_death_and_what_it_held_comes_again(private_rabbitmq: Any) -> None:
    with connected(private_rabbitmq.url) as broker:
        broker.declare_exchange(Exchange("fleeting", "fanout", durable=False))
        broker.declare_queue(Queue("held"))
        broker.bind(Binding("held", "fleeting"))
        collector = Collector(broker, "held")
        broker.publish(numbered("held", range(10)), Outcomes().reporter())
        collector.wait_for(map(str, range(10)))
        private_rabbitmq.kill()
        eventually(lambda: broker._consuming.connection is None)
        with pytest.raises(BrokerError) as caught:
            broker.counts("held")
        assert caught.value.kind == "broker.unavailable"
        private_rabbitmq.start()
        outcomes = Outcomes()
        broker.publish(numbered("held", range(10, 20)), outcomes.reporter())
        collector.wait_for(map(str, range(20)), LONG)
        outcomes.wait(10)
        # An exchange that does not outlive the server is there again, with its binding.
        again = Outcomes()
        broker.publish([Publication("fleeting", "", b"", "fan")], again.reporter())
        again.wait(1)
        assert again.kinds == {0: "confirmed"}
        collector.wait_for(["fan"])


def test_a_publisher_hears_within_its_deadline_whether_its_message_was_sent(private_rabbitmq: Any) -> None:
    with connected(private_rabbitmq.url) as broker:
        broker.declare_queue(Queue("paused"))
        sent, unsent = Outcomes(), Outcomes()
        private_rabbitmq.pause()
        broker.publish(numbered("paused", [1]), sent.reporter(), [time.monotonic() + 1.0])
        sent.wait(1)
        assert sent.kinds == {0: "broker.publish.unknown"}
        private_rabbitmq.kill()
        eventually(lambda: broker._publishing.connection is None)
        broker.publish(numbered("paused", [2]), unsent.reporter(), [time.monotonic() + 0.5])
        unsent.wait(1)
        assert unsent.kinds == {0: "broker.unavailable"}
        private_rabbitmq.start()
        # The first was kept, and is published again under its id; the second was never sent.
        eventually(lambda: works(broker, "paused"))
        collector = Collector(broker, "paused")
        collector.wait_for(["1"], LONG)
        broker.publish(numbered("paused", [3]), Outcomes().reporter())
        collector.wait_for(["1", "3"])
        assert set(collector.seen) == {"1", "3"}


@pytest.mark.parametrize("short", ["memory", "disk"])
def test_an_alarm_is_back_pressure_and_passes(private_rabbitmq: Any, short: str) -> None:
    """Publishers get the code, at once or by their deadline; consumers go on; afterwards everything does."""
    with connected(private_rabbitmq.url) as broker:
        broker.declare_queue(Queue(f"{short} alarm"))
        collector = Collector(broker, f"{short} alarm")
        getattr(private_rabbitmq, f"raise_{short}_alarm")()
        try:
            first = Outcomes()
            broker.publish(numbered(f"{short} alarm", [1]), first.reporter(), [time.monotonic() + 1.0])
            eventually(lambda: broker._publisher._blocked)
            refused = Outcomes()
            broker.publish(numbered(f"{short} alarm", [2, 3]), refused.reporter(), [time.monotonic() + 30.0] * 2)
            assert refused.kinds == {0: "broker.blocked", 1: "broker.blocked"}
            first.wait(1)
            assert first.kinds[0] in ("broker.publish.unknown", "confirmed")
            assert broker.counts(f"{short} alarm").consumers == 1
        finally:
            getattr(private_rabbitmq, f"clear_{short}_alarm")()
        collector.wait_for(["1"], LONG)
        eventually(lambda: not broker._publisher._blocked)
        after = Outcomes()
        broker.publish(numbered(f"{short} alarm", [2, 3]), after.reporter())
        after.wait(2)
        assert set(after.kinds.values()) == {"confirmed"}
        collector.wait_for(["1", "2", "3"])


def test_a_server_that_blocks_for_too_long_is_left_and_found_again(
    private_rabbitmq: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that it reads nothing from any more is given up; closing never hangs."""
    with connected(with_options(private_rabbitmq.url, blocked_connection_timeout=1)) as broker:
        broker.declare_queue(Queue("blocked"))
        outcomes, again = Outcomes(), Outcomes()
        down = broker._publishing._down

        def lost(error: BrokerError) -> None:
            down(error)
            broker.publish(numbered("blocked", [10]), again.reporter(len(again.kinds)))

        monkeypatch.setattr(broker._publishing, "_down", lost)
        private_rabbitmq.raise_memory_alarm()
        try:
            broker.publish(numbered("blocked", range(10)), outcomes.reporter())
            again.wait(1)
            assert again.kinds[0] == "broker.blocked"
        finally:
            private_rabbitmq.clear_memory_alarm()
        outcomes.wait(10, LONG)
        Collector(broker, "blocked").wait_for(map(str, range(10)))


FAULTS: Mapping[str, Callable[[Any], object]] = {
    "reset": lambda proxy: proxy.reset(),
    "stall": lambda proxy: proxy.stall(),
    "cut": lambda proxy: proxy.cut_replies(200),
    "trickle": lambda proxy: proxy.trickle(),
    "refuse": lambda proxy: (proxy.refuse(), proxy.reset()),
}


def test_ten_thousand_messages_through_a_faulty_way_are_each_done_once(
    amqp_url: str, new_proxy: Callable[[str], Any]
) -> None:
    """Whatever fails on the way, and for how long; connected again soon after it is free."""
    chance = random.Random(20_240)
    proxy = new_proxy(with_options(amqp_url, connection_timeout=3))
    total, step = 10_000, 100
    with connected(proxy.url) as broker:
        broker.declare_queue(Queue("way"))
        collector, outcomes = Collector(broker, "way"), Outcomes()
        for start in range(0, total, step):
            broker.publish(numbered("way", range(start, start + step), 100), outcomes.reporter(start))
            if start % 1_000 == 0:
                fault = list(FAULTS)[start // 1_000 % len(FAULTS)]
                outcomes.wait(start - step)
                FAULTS[fault](proxy)
                time.sleep(chance.uniform(0.1, 1.5))  # how long it lasts
                proxy.heal()
                eventually(lambda: works(broker, "way"))
        outcomes.wait(total, LONG)
        assert set(outcomes.kinds.values()) == {"confirmed"}
        collector.wait_for(map(str, range(total)), LONG)
        eventually(lambda: broker.counts("way").ready == broker.counts("way").unsettled == 0)
        assert {message_id: times for message_id, times in collector.seen.items() if times != 1} == {}


@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_a_way_that_is_silent_for_long_is_given_up_and_found_again(
    amqp_url: str, new_proxy: Callable[[str], Any], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a heartbeat and the steps of connecting may take; soon after it is free, it is in use."""
    monkeypatch.setattr(operations, "STEP_TIMEOUT", 5.0)
    monkeypatch.setattr(publishing, "NO_ANSWER", 2.0)  # for what still answers heartbeats
    proxy = new_proxy(amqp_url)
    with connected(with_options(proxy.url, heartbeat=1, connection_timeout=2)) as broker:
        broker.declare_queue(Queue("silent"))
        outcomes = Outcomes()
        FAULTS[fault](proxy)
        broker.publish(numbered("silent", range(100)), outcomes.reporter())
        with pytest.raises(BrokerError) as caught:
            broker.counts("silent")
        assert caught.value.kind == "broker.unavailable"
        eventually(lambda: broker._publishing.connection is None)
        proxy.heal()
        eventually(lambda: works(broker, "silent"))
        outcomes.wait(100)
        assert set(outcomes.kinds.values()) == {"confirmed"}


@pytest.mark.parametrize("lost", ["consuming", "both"])
def test_a_client_that_is_closed_while_its_server_goes_away_leaves_nothing_running(
    private_rabbitmq: Any, lost: str
) -> None:
    """Its channel is told of the loss before the connection is: what follows from that must not end the end."""
    with connected(private_rabbitmq.url) as broker:
        broker.declare_queue(Queue("closing"))
        Collector(broker, "closing")
        links = [broker._consuming, broker._publishing] if lost == "both" else [broker._consuming]
        channel = next(iter(broker._consumers._consumers.values())).channel
        told = threading.Event()

        def lose() -> None:
            # As the server's death does: pika calls the channel's callbacks first, then the connection's.
            channel.add_on_close_callback(lambda *_: told.set())
            for link in links:
                link.drop("lost")

        private_rabbitmq.pause()
        closing = threading.Thread(target=broker.close)
        closing.start()
        eventually(lambda: not broker._consumers._consumers)
        broker._loop.submit(lose)
        closing.join(PATIENCE)
        assert told.is_set()
        assert not closing.is_alive()
        private_rabbitmq.resume()


def test_what_waits_for_an_exchange_that_cannot_be_looked_for_is_answered_at_the_end(amqp_url: str) -> None:
    """Where looking fails on the spot the loop goes on: the end comes, and everyone hears of it."""
    with connected(amqp_url) as broker:
        broker.declare_exchange(Exchange("late", "fanout"))
        broker._loop.submit(broker._operations.close)
        outcomes = Outcomes()
        broker.publish([Publication("late", "", b"", "1"), Publication("late", "", b"", "2")], outcomes.reporter())
        broker.close()
        outcomes.wait(2)
        assert set(outcomes.kinds.values()) == {"broker.closed"}


def works(broker: Any, queue: str) -> bool:
    """Whether requests are answered."""
    try:
        broker.counts(queue)
    except BrokerError:
        return False
    return True


def test_a_consumer_whose_queue_is_deleted_is_told_and_may_begin_again(amqp_url: str) -> None:
    """The queue is declared again, with its bindings, by whoever had declared it."""
    with connected(amqp_url) as broker, connected(amqp_url) as other:
        broker.declare_exchange(Exchange("events", "topic"))
        broker.declare_queue(Queue("doomed", delivery_limit=7))
        broker.bind(Binding("doomed", "events", "a.*"))
        collector = Collector(broker, "doomed")

        def deleting() -> Steps[None]:
            yield lambda channel, then: channel.queue_delete("doomed", callback=then)

        other._operations.perform("delete", deleting)
        error = collector.wait_cancelled()
        assert error.kind == "broker.consumer.cancelled"
        broker.consume(collector.subscription)
        outcomes = Outcomes()
        broker.publish([Publication("events", "a.b", b"", "m1")], outcomes.reporter())
        outcomes.wait(1)
        assert outcomes.kinds == {0: "confirmed"}
        collector.wait_for(["m1"])


def test_an_exchange_that_somebody_deleted_is_declared_again_with_its_bindings(amqp_url: str) -> None:
    """By the next publication to it; one that this client never declared is unknown."""
    with connected(amqp_url) as broker, connected(amqp_url) as other:
        broker.declare_exchange(Exchange("events", "topic"))
        broker.declare_queue(Queue("bound"))
        broker.bind(Binding("bound", "events", "a.*"))
        collector = Collector(broker, "bound")
        outcomes = Outcomes()
        broker.publish([Publication("events", "a.b", b"", "m0")], outcomes.reporter())
        outcomes.wait(1)

        def deleting() -> Steps[None]:
            yield lambda channel, then: channel.exchange_delete("events", callback=then)

        other._operations.perform("delete", deleting)
        for number in range(1, 4):
            broker.publish([Publication("events", "a.b", b"", f"m{number}")], outcomes.reporter(number))
            outcomes.wait(number + 1)
        assert set(outcomes.kinds.values()) == {"confirmed"}
        collector.wait_for(["m0", "m1", "m2", "m3"])
        unknown = Outcomes()
        broker.publish([Publication("never", "a.b", b"", "m")], unknown.reporter())
        unknown.wait(1)
        assert unknown.kinds == {0: "broker.exchange.unknown"}


def test_of_a_batch_as_much_is_taken_as_may_wait(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is told so, in its order; and one that can never be taken, why."""
    monkeypatch.setattr(publishing, "BACKLOG_BYTES", 1_000)
    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("q"))
        outcomes = Outcomes()
        broker.publish(numbered("q", range(15), 100), outcomes.reporter())
        outcomes.wait(15)
        assert [outcomes.kinds[place] for place in range(15)] == ["confirmed"] * 10 + ["broker.publish.backlog"] * 5
        large = Outcomes()
        broker.publish([Publication("", "q", b"x" * 1_001, "large")], large.reporter())
        large.wait(1)
        assert large.kinds == {0: "broker.publish.backlog"}
        assert "1,001 bytes is more than may wait" in str(large.errors[0])


def test_a_channel_closed_without_its_connection_ends_only_its_consumer(amqp_url: str) -> None:
    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("q"))
        victim, other = Collector(broker, "q", "victim"), Collector(broker, "q", "other")
        connection = broker._consuming.connection
        channel = broker._consumers._consumers["victim"].channel
        broker._loop.submit(lambda: channel.basic_ack(4711))  # what AMQP answers by closing the channel
        assert victim.wait_cancelled().kind == "broker.consumer.cancelled"
        assert broker._consuming.connection is connection
        broker.publish(numbered("q", range(3)), Outcomes().reporter())
        other.wait_for("012")
        broker.consume(victim.subscription)
        assert not other.cancelled

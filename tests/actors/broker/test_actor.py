"""The broker actor beside notifications: topology, publishing, and actors that subscribe to a queue."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.handlers import handles
from understudy.messages import (
    BindQueue,
    BrokerError,
    CountQueue,
    DeadLetters,
    DeclareExchange,
    DeclareQueue,
    Delivered,
    Message,
    Publish,
    Published,
    PurgeDeadLetters,
    QueueCounts,
    Refusal,
    Subscribe,
    UnknownActor,
    Unsubscribe,
)
from understudy.supervisors.system import ActorSystem
from understudy.testing import FaultPlan, SimulatedDispatcher


class Reader(Actor):
    """Handles deliveries; what `handle` raises is what its handler raises."""

    def __init__(self, seen: list[Delivered], handle: Callable[[Delivered], None] = lambda delivered: None) -> None:
        super().__init__()
        self.seen, self.handle = seen, handle

    @handles
    def delivered(self, message: Delivered) -> None:
        self.seen.append(message)
        self.handle(message)


@pytest.fixture
def faults() -> FaultPlan:
    return FaultPlan()


@pytest.fixture
def simulation(faults: FaultPlan) -> SimulatedDispatcher:
    return SimulatedDispatcher(1, faults=faults)


@pytest.fixture
def system(simulation: SimulatedDispatcher) -> Iterator[ActorSystem]:
    with ActorSystem("shop", dispatcher=simulation, intensity=1_000) as running:
        yield running


@pytest.fixture
def broker(system: ActorSystem) -> Any:
    return system.spawn(Broker, "memory://", name="broker")


def kind_of(broker: Any, message: Message[Any]) -> str:
    with pytest.raises(BrokerError) as caught:
        broker.ask(message)
    assert caught.value.actor == "broker"
    return str(caught.value.kind)


def test_a_body_goes_by_exchange_and_binding_to_its_subscriber(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    seen: list[Delivered] = []
    system.spawn(Reader, seen, name="reader")
    broker.ask(DeclareExchange("events", "topic"))
    broker.ask(DeclareQueue("mine"))
    broker.ask(BindQueue("mine", "events", "user.*"))
    assert broker.ask(Subscribe("mine", "reader", "a tag")) == "a tag"
    sent = Publish(
        "events", "user.1", b"\x00\xff", "m1", headers={"trace": "t"}, content_type="application/octet-stream"
    )
    assert broker.ask(sent) == Published("m1", "events", "user.1")
    simulation.run_until_idle()
    assert seen == [
        Delivered(
            queue="mine",
            tag="a tag",
            attempt=1,
            redelivered=False,
            exchange="events",
            routing_key="user.1",
            body=b"\x00\xff",
            message_id="m1",
            headers={"trace": "t"},
            content_type="application/octet-stream",
        )
    ]
    assert broker.ask(CountQueue("mine")) == QueueCounts(ready=0, unsettled=0, dead=0, consumers=1)


def test_ids_and_tags_are_made_up_where_none_is_given(system: ActorSystem, broker: Any) -> None:
    system.spawn(Reader, [], name="reader")
    broker.ask(DeclareQueue("q"))
    one, other = broker.ask(Publish("", "q", b"")), broker.ask(Publish("", "q", b""))
    assert len({one.message_id, other.message_id, ""}) == 3
    tags = {broker.ask(Subscribe("q", "reader")), broker.ask(Subscribe("q", "reader"))}
    assert len(tags) == 2
    assert broker.ask(CountQueue("q")).consumers == 2


def test_what_cannot_be_done_is_answered_with_its_code(system: ActorSystem, broker: Any) -> None:
    system.spawn(Reader, [], name="reader")
    assert kind_of(broker, Publish("nowhere", "", b"")) == "broker.exchange.unknown"
    assert kind_of(broker, Publish("", "nowhere", b"")) == "broker.unroutable"
    assert kind_of(broker, BindQueue("nowhere", "amq.topic")) == "broker.queue.unknown"
    assert kind_of(broker, BindQueue("q", "amq.headers", arguments={"x-match": "some"})) == "broker.declaration.invalid"
    assert kind_of(broker, CountQueue("nowhere")) == "broker.queue.unknown"
    assert kind_of(broker, Subscribe("nowhere", "reader")) == "broker.queue.unknown"
    assert kind_of(broker, DeclareExchange("x" * 300)) == "broker.declaration.invalid"
    assert kind_of(broker, Publish("", "k" * 300, b"")) == "broker.declaration.invalid"
    broker.ask(DeclareQueue("small", max_length=1))
    assert kind_of(broker, DeclareQueue("small", max_length=2)) == "broker.queue.mismatch"
    broker.ask(Publish("", "small", b""))
    assert kind_of(broker, Publish("", "small", b"")) == "broker.publish.nacked"
    with pytest.raises(UnknownActor):
        broker.ask(Subscribe("small", "nobody"))
    assert broker.incarnation == 1


def test_a_delivery_whose_handler_refuses_comes_again_and_ends_as_a_dead_letter(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    def refuse(delivered: Delivered) -> None:
        raise Refusal("not for me")

    seen: list[Delivered] = []
    system.spawn(Reader, seen, refuse, name="reader")
    broker.ask(DeclareQueue("q", delivery_limit=2))
    broker.ask(Subscribe("q", "reader"))
    broker.ask(Publish("", "q", b"body", "m1"))
    simulation.run_until_idle()
    assert [(each.attempt, each.redelivered) for each in seen] == [(1, False), (2, True), (3, True)]
    (letter,) = broker.ask(DeadLetters("q"))
    assert (letter.message_id, letter.attempts, letter.body) == ("m1", 3, b"body")
    assert broker.ask(PurgeDeadLetters("q", ["m1"])) == 1


def test_a_delivery_whose_handler_crashes_comes_again_to_the_understudy(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    def crash_once(delivered: Delivered) -> None:
        if delivered.attempt == 1:
            raise RuntimeError("stage fright")

    seen: list[Delivered] = []
    reader = system.spawn(Reader, seen, crash_once, name="reader")
    broker.ask(DeclareQueue("q"))
    broker.ask(Subscribe("q", "reader"))
    broker.ask(Publish("", "q", b"", "m1"))
    simulation.run_until_idle()
    assert [each.attempt for each in seen] == [1, 2]
    assert reader.incarnation == 2
    assert broker.ask(CountQueue("q")) == QueueCounts(ready=0, unsettled=0, dead=0, consumers=1)


@pytest.mark.parametrize("faults", [FaultPlan().slow(10.0, "reader")])
def test_prefetch_bounds_what_a_subscriber_has_waiting(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    seen: list[Delivered] = []
    system.spawn(Reader, seen, name="reader")
    broker.ask(DeclareQueue("q"))
    broker.ask(Subscribe("q", "reader", prefetch=2))
    for number in range(5):
        broker.ask(Publish("", "q", b"", str(number)))
    simulation.run_until_idle()
    assert broker.ask(CountQueue("q")) == QueueCounts(ready=3, unsettled=2, dead=0, consumers=1)
    simulation.advance(10)
    assert [each.message_id for each in seen] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("faults", [FaultPlan().slow(10.0, "first")])
def test_a_subscriber_that_is_gone_leaves_its_messages_to_another(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    first, second = list[Delivered](), list[Delivered]()
    leaving = system.spawn(Reader, first, name="first")
    broker.ask(DeclareQueue("q"))
    broker.ask(Subscribe("q", "first"))
    for number in range(3):
        broker.ask(Publish("", "q", b"", str(number)))
    simulation.run_until_idle()
    leaving.stop()
    simulation.run_until_idle()
    counts = broker.ask(CountQueue("q"))
    assert (counts.unsettled, counts.consumers, counts.dead) == (0, 0, 0)
    system.spawn(Reader, second, name="second")
    broker.ask(Subscribe("q", "second"))
    simulation.run_until_idle()
    assert {each.message_id for each in first + second} == {"0", "1", "2"}


def test_unsubscribing_ends_it(system: ActorSystem, broker: Any) -> None:
    system.spawn(Reader, [], name="reader")
    broker.ask(DeclareQueue("q"))
    broker.ask(Subscribe("q", "reader", "tag"))
    assert broker.ask(Unsubscribe("tag")) is True
    assert broker.ask(Unsubscribe("tag")) is False
    assert broker.ask(CountQueue("q")).consumers == 0


@pytest.mark.parametrize("faults", [FaultPlan().crash("broker", message=Publish)])
def test_subscriptions_survive_the_brokers_fall(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    seen: list[Delivered] = []
    system.spawn(Reader, seen, name="reader")
    system.spawn(Reader, [], name="leaving")
    broker.ask(DeclareQueue("q"))
    broker.ask(Subscribe("q", "reader", "tag"))
    broker.tell(Publish("", "q", b"", "lost with the crash"))
    simulation.run_until_idle()
    assert broker.incarnation == 2
    broker.ask(Publish("", "q", b"", "m1"))
    simulation.run_until_idle()
    assert [each.message_id for each in seen] == ["m1"]


@pytest.mark.parametrize("faults", [FaultPlan().crash("broker", message=Publish)])
def test_a_subscriber_that_left_while_the_broker_was_away_is_forgotten(
    system: ActorSystem, broker: Any, simulation: SimulatedDispatcher
) -> None:
    leaving = system.spawn(Reader, [], name="leaving")
    broker.ask(DeclareQueue("q"))
    broker.ask(Subscribe("q", "leaving", "tag"))
    simulation.run_until_idle()
    broker.tell(Publish("", "q", b""))
    leaving.stop()
    simulation.run_until_idle()
    assert broker.ask(CountQueue("q")).consumers == 0
    assert broker.incarnation == 2

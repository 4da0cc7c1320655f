"""A server that accepts connections, or had accepted one, and says nothing: callers hear of it in their time."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.broker.rabbitmq import operations, publishing
from understudy.actors.broker.rabbitmq.operations import Steps
from understudy.actors.broker.topology import Queue
from understudy.actors.events import ActorCrashed, ActorRestarted
from understudy.actors.handlers import handles
from understudy.messages import (
    ActorError,
    BrokerError,
    CountQueue,
    DeclareQueue,
    Delivered,
    Message,
    NotifData,
    ProduceNotif,
    Publish,
    SendRpcMessage,
    Subscribe,
)
from understudy.supervisors.system import ActorSystem

from ...servers.shared import with_options
from .conftest import PATIENCE, eventually
from .rabbit import Collector, Outcomes, connected, numbered

NOTIF = NotifData(id="n", receiver_info="1", action_data=1, actioner_info="2", fired_at=1)
REQUESTS: list[Message[Any]] = [
    DeclareQueue("q"),
    Subscribe("q", "reader"),
    CountQueue("q"),
    Publish("never seen", "", b""),
    ProduceNotif(notif_data=NOTIF, exchange_name="never seen"),
    SendRpcMessage("", "q", b""),
]
IN_TIME = 2.0


class Reader(Actor):
    @handles
    def delivered(self, message: Delivered) -> None:
        pass


def kind_of(system: ActorSystem, message: Message[Any]) -> str:
    """What an asker with little time is told; its own time-out would be actor.mailbox.timeout."""
    with pytest.raises(ActorError) as caught:
        system.ask("broker", message, timeout=IN_TIME)
    return str(caught.value.kind)


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem("shop") as running:
        running.spawn(Reader, name="reader")
        yield running


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_a_server_that_falls_silent_is_unavailable_to_whoever_asks_it(
    system: ActorSystem, amqp_url: str, new_proxy: Callable[[str], Any], request_: Message[Any]
) -> None:
    """Whatever is asked, within the asker's deadline, which is shorter than any time limit of the connection."""
    proxy = new_proxy(amqp_url)
    system.spawn(Broker, proxy.url, name="broker")
    system.ask("broker", DeclareQueue("q"), timeout=PATIENCE)
    system.ask("broker", Publish("", "q", b""), timeout=PATIENCE)
    proxy.stall()
    assert kind_of(system, request_) == "broker.unavailable"
    proxy.heal()
    assert system.ask("broker", CountQueue("q"), timeout=PATIENCE).ready == 1


def test_a_server_that_accepts_and_never_speaks_is_unavailable(system: ActorSystem) -> None:
    """Also to the first who asks, while the first attempt to connect is under way."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/?connection_timeout=60"
        system.spawn(Broker, url, name="broker")
        assert kind_of(system, CountQueue("q")) == "broker.unavailable"
        assert kind_of(system, Publish("", "q", b"")) == "broker.unavailable"


def test_what_there_is_no_room_for_because_nothing_is_answered_was_not_sent_to_an_unavailable_server(
    system: ActorSystem, amqp_url: str, new_proxy: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that were sent are unknown; those that wait behind them meet a server that does not answer."""
    monkeypatch.setattr(publishing, "WINDOW", 40)
    proxy = new_proxy(amqp_url)
    system.spawn(Broker, proxy.url, name="broker")
    system.ask("broker", DeclareQueue("q"), timeout=PATIENCE)
    system.ask("broker", Publish("", "q", b""), timeout=PATIENCE)
    proxy.stall()
    futures = [system.ask("broker", Publish("", "q", b""), block=False, timeout=4) for _ in range(60)]
    kinds = []
    for future in futures:
        with pytest.raises(BrokerError) as caught:
            future.get(timeout=PATIENCE)
        kinds.append(str(caught.value.kind))
    assert kinds == ["broker.publish.unknown"] * 40 + ["broker.unavailable"] * 20


def test_a_connection_on_which_somebody_waited_in_vain_is_given_up(
    amqp_url: str, new_proxy: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before its heartbeats are missed, and though whoever had asked is gone."""
    monkeypatch.setattr(operations, "STEP_TIMEOUT", 2.0)
    proxy = new_proxy(with_options(amqp_url, heartbeat=600))
    with ActorSystem("shop") as system:
        system.spawn(Broker, proxy.url, name="broker")
        system.ask("broker", DeclareQueue("q"), timeout=PATIENCE)
        backend: Any = system.lookup("broker")._cell.actor._backend
        lost = threading.Event()
        down = backend._consuming._down

        def told(error: BrokerError) -> None:
            lost.set()
            down(error)

        monkeypatch.setattr(backend._consuming, "_down", told)
        proxy.stall()
        with pytest.raises(BrokerError):
            system.ask("broker", CountQueue("q"), timeout=1)
        assert lost.wait(PATIENCE)


# --- a server that answers, and a queue that does not: it has no leader, after a kill at the wrong moment ---------


def unanswered() -> Steps[None]:
    yield lambda channel, then: None


def test_what_alone_is_not_answered_fails_alone(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stays, and with it its consumers: the server answers others."""
    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("q"))
        collector = Collector(broker, "q")
        connection = broker._consuming.connection
        monkeypatch.setattr(operations, "STEP_TIMEOUT", 1.0)
        with pytest.raises(BrokerError, match="has not answered this") as caught:
            broker._operations.perform("look at queue 'young'", unanswered)
        assert caught.value.kind == "broker.unavailable"
        monkeypatch.setattr(operations, "STEP_TIMEOUT", PATIENCE)
        broker.publish(numbered("q", range(3)), Outcomes().reporter())
        collector.wait_for("012")
        assert broker.counts("q").consumers == 1
        assert broker._consuming.connection is connection


def test_a_queue_that_does_not_answer_keeps_no_other_from_being_declared_again(
    amqp_url: str, new_proxy: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reconnect; and a consumer whose start was not answered is started again until it is."""
    proxy = new_proxy(amqp_url)
    with connected(proxy.url) as broker:
        for name in ("young", "q"):
            broker.declare_queue(Queue(name))
        collectors = [Collector(broker, name, name) for name in ("young", "q")]
        declare, restored = broker.topology.declare_queue, broker._consumers._consume
        tries: list[str] = []

        def declaring(queue: Queue) -> Steps[None]:
            yield from unanswered() if queue.name == "young" else declare(queue)

        def consume(consumer: Any, channel: Any, then: Any) -> None:
            tries.append(consumer.subscription.tag)
            if tries.count("young") != 1 or consumer.subscription.tag != "young":
                restored(consumer, channel, then)

        monkeypatch.setattr(broker.topology, "declare_queue", declaring)
        monkeypatch.setattr(broker._consumers, "_consume", consume)
        monkeypatch.setattr(operations, "STEP_TIMEOUT", 2.0)
        proxy.reset()
        eventually(lambda: tries.count("young") >= 2)
        monkeypatch.setattr(operations, "STEP_TIMEOUT", PATIENCE)
        for collector, name in zip(collectors, ("young", "q"), strict=True):
            broker.publish(numbered(name, range(3)), Outcomes().reporter())
            collector.wait_for("012")


def test_a_connection_on_which_only_heartbeats_come_is_kept(system: ActorSystem, amqp_url: str) -> None:
    """The one to publish on and the one to consume on. With a heartbeat of a second, pika looks every six."""
    crashes: list[ActorCrashed] = []
    system.events.subscribe(ActorCrashed, crashes.append)
    broker = system.spawn(Broker, with_options(amqp_url, heartbeat=1), name="broker")
    broker.ask(DeclareQueue("q"), timeout=PATIENCE)
    broker.ask(Subscribe("q", "reader"), timeout=PATIENCE)
    ends = threading.Event()
    system.events.subscribe(ActorRestarted, lambda event: ends.set())
    assert not ends.wait(14.0), [str(crash.error) for crash in crashes]
    assert broker.ask(CountQueue("q"), timeout=PATIENCE).consumers == 1

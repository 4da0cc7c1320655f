"""Request and reply through the broker, in memory and over RabbitMQ."""

from collections.abc import Callable
from typing import Any

import pytest

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.handlers import handles
from understudy.messages import (
    BrokerError,
    CountQueue,
    DeclareQueue,
    Delivered,
    QueueCounts,
    RpcReply,
    SendRpcMessage,
    Subscribe,
)
from understudy.supervisors.child import Child
from understudy.supervisors.supervisor import Supervisor
from understudy.supervisors.system import ActorSystem

from ...servers.shared import with_options
from .conftest import PATIENCE, eventually

SCHEMES = ["memory", "rabbitmq", "redis"]


class Doubler(Actor):
    """Replies with the body twice; fails on the first delivery of what it is told to."""

    def __init__(self, fails_on: bytes = b"") -> None:
        super().__init__()
        self.fails_on = fails_on

    @handles
    def delivered(self, message: Delivered) -> RpcReply | None:
        assert message.reply_to
        assert message.correlation_id
        if message.body == self.fails_on and message.attempt == 1:
            raise RuntimeError("stage fright")
        if message.body == b"silence":
            return None
        return RpcReply(message.body * 2, {"attempt": message.attempt}, "text/plain")


@pytest.fixture(params=SCHEMES)
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url')}?prefix={request.getfixturevalue('redis_prefix')}"
    return "memory://" if request.param == "memory" else request.getfixturevalue("amqp_url")


def requester(system: ActorSystem, url: str, fails_on: bytes = b"") -> Any:
    broker = system.spawn(Broker, url, name="broker")
    system.spawn(Doubler, fails_on, name="doubler")
    broker.ask(DeclareQueue("double"), timeout=PATIENCE)
    broker.ask(Subscribe("double", "doubler"), timeout=PATIENCE)
    return broker


def test_a_request_is_answered_with_the_reply_of_its_consumer(url: str) -> None:
    with ActorSystem("shop") as system:
        broker = requester(system, url)
        futures = [
            broker.ask(SendRpcMessage("", "double", str(number).encode()), block=False, timeout=PATIENCE)
            for number in range(100)
        ]
        for number, future in enumerate(futures):
            assert future.get(timeout=PATIENCE) == RpcReply(str(number).encode() * 2, {"attempt": 1}, "text/plain")
        idle = QueueCounts(ready=0, unsettled=0, dead=0, consumers=1)
        eventually(lambda: broker.ask(CountQueue("double"), timeout=PATIENCE) == idle)


def test_a_request_that_crashes_its_consumer_is_answered_by_the_understudy(url: str) -> None:
    with ActorSystem("shop", intensity=10) as system:
        broker = requester(system, url, b"x")
        reply = broker.ask(SendRpcMessage("", "double", b"x"), timeout=PATIENCE)
        assert (reply.body, reply.headers) == (b"xx", {"attempt": 2})


def test_a_request_that_nothing_takes_is_told_so(url: str) -> None:
    with ActorSystem("shop") as system:
        broker = requester(system, url)
        for message, kind in (
            (SendRpcMessage("", "nowhere", b""), "broker.unroutable"),
            (SendRpcMessage("nowhere", "", b""), "broker.exchange.unknown"),
        ):
            with pytest.raises(BrokerError) as caught:
                broker.ask(message, timeout=PATIENCE)
            assert caught.value.kind == kind


def test_a_request_without_a_reply_is_told_so_within_its_deadline(url: str) -> None:
    with ActorSystem("shop") as system:
        broker = requester(system, url)
        with pytest.raises(BrokerError) as caught:  # else it would be the asker's own time-out
            broker.ask(SendRpcMessage("", "double", b"silence"), timeout=2)
        assert caught.value.kind == "broker.rpc.timeout"


def test_two_processes_worth_of_clients_ask_each_other(amqp_url: str) -> None:
    """The one that asks need not be the one that consumes."""
    with ActorSystem("one") as one, ActorSystem("two") as two:
        requester(one, amqp_url)
        asker = two.spawn(Broker, amqp_url, name="broker")
        assert asker.ask(SendRpcMessage("", "double", b"ab"), timeout=PATIENCE).body == b"abab"


def test_requests_go_on_after_the_way_was_broken(amqp_url: str, new_proxy: Callable[[str], Any]) -> None:
    """The queue for replies went with its connection; there is another one."""
    proxy = new_proxy(amqp_url)
    with ActorSystem("shop") as system:
        broker = requester(system, proxy.url)
        assert broker.ask(SendRpcMessage("", "double", b"a"), timeout=PATIENCE).body == b"aa"
        proxy.reset()

        def answered() -> bool:
            try:
                reply: RpcReply = broker.ask(SendRpcMessage("", "double", b"b"), timeout=3)
            except BrokerError:
                return False
            return reply.body == b"bb"

        eventually(answered)


def test_a_broker_that_falls_while_its_server_is_away_starts_its_consumers_when_that_is_back(
    private_rabbitmq: Any,
) -> None:
    """Its supervisor's restarts are not used up by the outage."""

    class Fragile(Broker):
        @handles
        def fall(self, message: RpcReply) -> None:
            raise RuntimeError("told to")

    tree = Supervisor(
        "top",
        children=[
            Child(Doubler, name="doubler"),
            Child(Fragile, name="broker", args=(with_options(private_rabbitmq.url),)),
        ],
    )
    with ActorSystem("shop", tree) as system:
        system.ask("top/broker", DeclareQueue("double"), timeout=PATIENCE)
        system.ask("top/broker", Subscribe("double", "top/doubler"), timeout=PATIENCE)
        private_rabbitmq.kill()
        system.tell("top/broker", RpcReply(b""))
        eventually(lambda: system.lookup("top/broker").incarnation == 2)
        private_rabbitmq.start()

        def answered() -> bool:
            try:
                reply: RpcReply = system.ask("top/broker", SendRpcMessage("", "double", b"c"), timeout=3)
            except BrokerError:
                return False
            return reply.body == b"cc"

        eventually(answered)
        assert system.lookup("top/broker").incarnation == 2

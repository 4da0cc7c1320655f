"""The broker over Redis pub/sub beyond the contract: between processes, and when Redis is away or sends rubbish."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from understudy.actors.broker.actor import Broker
from understudy.actors.broker.redis_pubsub import CHANNEL, RedisBroker, RedisServer
from understudy.actors.broker.topology import Binding, Exchange, Queue
from understudy.actors.redis_url import RedisUrl
from understudy.messages import BindQueue, BrokerError, DeclareExchange, DeclareQueue, Publish, SendRpcMessage
from understudy.messages.errors import ErrorKind
from understudy.supervisors.system import ActorSystem

from .conftest import eventually
from .rabbit import Collector, Outcomes, numbered
from .test_rpc import requester


@pytest.fixture
def processes(redis_url: str, redis_prefix: str) -> Iterator[Callable[[], RedisBroker]]:
    """Makes clients that share nothing but Redis, as those of two processes do."""
    servers: list[RedisServer] = []

    def make(url: str = redis_url) -> RedisBroker:
        wanted = RedisUrl.of("redis", f"{url.removeprefix('redis://')}?prefix={redis_prefix}", "broker")
        servers.append(RedisServer(wanted))
        assert servers[-1].wait_until_it_listens()
        return RedisBroker(servers[-1])

    yield make
    for server in servers:
        server.close()


def outcomes_of(broker: RedisBroker, *publications: Any, deadline: float | None = None) -> list[str]:
    outcomes = Outcomes()
    broker.publish(publications, outcomes.reporter(), [deadline] * len(publications))
    outcomes.wait(len(publications))
    return [outcomes.kinds[position] for position in range(len(publications))]


def test_a_message_reaches_the_queues_of_every_process_that_listens(processes: Any) -> None:
    here, there = processes(), processes()
    for broker in (here, there):
        broker.declare_exchange(Exchange("SavageEx", "fanout"))
        broker.declare_queue(Queue("TestOnion"))
        broker.bind(Binding("TestOnion", "SavageEx"))
    one, other = Collector(here, "TestOnion"), Collector(there, "TestOnion")
    sent = numbered("TestOnion", range(500))
    assert set(outcomes_of(here, *sent)) == {"confirmed"}
    for collector in (one, other):
        collector.wait_for(map(str, range(500)))
        assert set(collector.seen.values()) == {1}


def test_a_message_for_another_process_alone_is_confirmed_when_that_one_listens(processes: Any) -> None:
    here = processes()
    assert outcomes_of(here, *numbered("far", [1])) == ["broker.unroutable"]
    there = processes()
    there.declare_queue(Queue("far"))
    collector = Collector(there, "far")
    assert outcomes_of(here, *numbered("far", [2])) == ["confirmed"]
    collector.wait_for(["2"])
    assert set(collector.seen) == {"2"}


def test_what_is_no_message_is_dropped_and_the_next_one_comes(
    processes: Any, redis_url: str, redis_prefix: str
) -> None:
    here, there = processes(), processes()
    here.declare_queue(Queue("q"))
    collector = Collector(here, "q")
    channel = f"{redis_prefix}{CHANNEL}"
    with redis.Redis.from_url(redis_url) as client:
        for rubbish in (b"", b"\0\xff", b"{}", b"[" * 100_000, b'{"sender": 1}', b'{"sender":"x","publication":{}}'):
            assert client.publish(channel, rubbish) == 2
        too_long = b'{"sender":"x","publication":{"exchange":"%s","routing_key":"q","body":""}}' % (b"x" * 300)
        assert client.publish(channel, too_long) == 2
    assert outcomes_of(there, *numbered("q", [1])) == ["confirmed"]
    collector.wait_for(["1"])


def test_while_redis_is_away_publishers_get_a_code_in_time_and_afterwards_messages_flow_again(
    processes: Any, private_redis: Any
) -> None:
    here, there = processes(private_redis.url), processes(private_redis.url)
    there.declare_queue(Queue("q"))
    collector = Collector(there, "q")
    private_redis.kill()
    begun = time.monotonic()
    (kind,) = outcomes_of(here, *numbered("q", [1]), deadline=begun + 1.0)
    assert kind in ("broker.unavailable", "broker.publish.unknown")
    assert time.monotonic() - begun < 1.0
    with pytest.raises(BrokerError) as caught:
        here.check()
    assert caught.value.kind is ErrorKind.BROKER_UNAVAILABLE
    private_redis.start()

    def flows() -> bool:
        return outcomes_of(here, *numbered("q", [2])) == ["confirmed"] and "2" in collector.seen

    eventually(flows)
    here.check()


def test_a_paused_redis_holds_nobody_past_the_deadline(processes: Any, private_redis: Any) -> None:
    here = processes(private_redis.url)
    here.declare_queue(Queue("q"))
    assert outcomes_of(here, *numbered("q", [0])) == ["confirmed"]
    private_redis.pause()
    (kind,) = outcomes_of(here, *numbered("q", [1]), deadline=time.monotonic() + 0.5)
    assert kind == "broker.publish.unknown"
    private_redis.resume()
    eventually(lambda: outcomes_of(here, *numbered("q", [2])) == ["confirmed"])


@pytest.mark.parametrize("message", [DeclareQueue("q"), DeclareExchange("e", "fanout"), BindQueue("q", "e")])
def test_a_user_whom_redis_refuses_declares_nothing(system: ActorSystem, private_redis: Any, message: Any) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("requirepass", "right")
        try:
            broker: Any = system.spawn(Broker, private_redis.url.replace("://", "://:wrong-hunter2@"), name="broker")
            with pytest.raises(BrokerError) as caught:
                broker.ask(message, timeout=60)
            assert caught.value.kind == "broker.refused"
            assert "hunter2" not in f"{caught.value!r} {caught.value.response.to_json()!r}"
        finally:
            client.config_set("requirepass", "")


def test_the_broker_actor_asks_and_replies_between_two_systems(redis_url: str, redis_prefix: str) -> None:
    url = f"{redis_url}?prefix={redis_prefix}"
    with ActorSystem("one") as one, ActorSystem("two") as two:
        requester(one, url)
        asker = two.spawn(Broker, url, name="broker")
        asker.ask(DeclareQueue("own"), timeout=60)
        asker.ask(Publish("", "own", b"x"), timeout=60)

        def answered() -> bool:
            try:
                return bool(asker.ask(SendRpcMessage("", "double", b"ab"), timeout=2).body == b"abab")
            except BrokerError:  # the other one does not listen yet
                return False

        eventually(answered)

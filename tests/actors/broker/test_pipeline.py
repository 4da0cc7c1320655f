"""The notification pipeline: published, stored, cached, acknowledged, whoever falls on the way."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.cache.actor import Cache
from understudy.actors.cache.memory import MemoryCache
from understudy.actors.events import ActorCrashed, DeadLetter
from understudy.actors.handlers import handles
from understudy.actors.mailbox import Mailbox
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    ActionType,
    ActorError,
    AllNotifs,
    BrokerError,
    CacheAppend,
    CacheError,
    CacheItems,
    CacheRemaining,
    CacheSet,
    CodecError,
    ConsumeNotif,
    CountNotifs,
    CountQueue,
    DeadLetters,
    DeclareQueue,
    ErrorKind,
    HandlerFailed,
    Message,
    NotifById,
    NotifData,
    ProduceNotif,
    Publish,
    Published,
    QueueCounts,
    ReplayDeadLetters,
    StopConsuming,
    StoreNotifEvent,
    UnknownActor,
    UnwatchNotifs,
    WatchNotifs,
)
from understudy.supervisors.child import Child
from understudy.supervisors.supervisor import Supervisor
from understudy.supervisors.system import ActorSystem
from understudy.testing import FaultPlan, SimulatedDispatcher

BROKER, MUTATOR, CACHE = "notifications/broker", "notifications/mutator", "notifications/cache"
EXCHANGE, QUEUE, TAG = "SavageEx", "TestOnion", "cons_tag0"

CONSUME = ConsumeNotif(
    queue=QUEUE,
    exchange_name=EXCHANGE,
    tag=TAG,
    redis_cache_exp=100_000,
    cache_on_redis=True,
    store_in_db=True,
)
IDLE = QueueCounts(ready=0, unsettled=0, dead=0, consumers=1)


def notif(nid: str, receiver: str = "1", **values: Any) -> NotifData:
    given_ = {"action_data": {"pid": 200.4}, "actioner_info": "2", "fired_at": 1714316645}
    return NotifData(id=nid, receiver_info=receiver, **{**given_, **values})


def produce(nid: str, receiver: str = "1", **values: Any) -> ProduceNotif:
    return ProduceNotif(notif_data=notif(nid, receiver, **values), exchange_name=EXCHANGE)


class Pipeline:
    """A tree of broker, mutator and cache on virtual time, and what the tests want to know of it."""

    def __init__(self, simulation: SimulatedDispatcher, system: ActorSystem) -> None:
        self.simulation, self.system = simulation, system
        self.dead: list[DeadLetter] = []
        self.crashes: list[str] = []
        system.events.subscribe(DeadLetter, self.dead.append)
        system.events.subscribe(ActorCrashed, lambda event: self.crashes.append(event.path))

    def ask(self, path: str, message: Message[Any]) -> Any:
        return self.system.ask(path, message, timeout=None)

    def look(self, path: str, message: Message[Any]) -> Any:
        """Ask until no fault of the plan strikes the question."""
        while True:
            try:
                return self.ask(path, message)
            except HandlerFailed:
                continue

    def consume(self, **options: Any) -> None:
        fields = {name: getattr(CONSUME, name) for name in CONSUME.__struct_fields__}
        assert self.ask(BROKER, ConsumeNotif(**{**fields, **options})) == options.get("tag", TAG)

    def publish(self, *ids: str) -> None:
        for nid in ids:
            assert self.ask(BROKER, produce(nid)) == Published(nid, EXCHANGE, "")

    def counts(self) -> Any:
        return self.look(BROKER, CountQueue(QUEUE))

    def settle(self) -> None:
        """Let everything come to its end."""
        self.simulation.run_until_idle()
        self.simulation.advance(600)

    def stored(self) -> list[str]:
        return [row.nid for row in self.look(MUTATOR, AllNotifs(to=10_000, page_size=10_000))]

    def cached(self, receiver: str = "1") -> list[str]:
        return [item["id"] for item in self.look(CACHE, CacheItems(f"notif_owner:{receiver}"))]


@contextmanager
def pipeline(
    seed: int = 0,
    faults: FaultPlan | None = None,
    strategy: Any = "one_for_one",
    shutdown: Any = 5.0,
    mutators: Mailbox | None = None,
    **broker: Any,
) -> Iterator[Pipeline]:
    simulation = SimulatedDispatcher(seed, faults=faults)
    tree = Supervisor(
        "notifications",
        strategy=strategy,
        intensity=1_000,
        children=[
            Child(Mutator, name="mutator", args=("sqlite:///:memory:",), mailbox=mutators),
            Child(Cache, name="cache", args=("memory://",)),
            Child(Broker, name="broker", args=("memory://",), kwargs=broker, shutdown=shutdown),
        ],
    )
    with ActorSystem("shop", tree, dispatcher=simulation) as system:
        yield Pipeline(simulation, system)


@pytest.fixture
def line() -> Iterator[Pipeline]:
    with pipeline() as running:
        yield running


def refusal(line: Pipeline, path: str, message: Message[Any]) -> ActorError:
    with pytest.raises(ActorError) as caught:
        line.ask(path, message)
    return caught.value


# --- the way of a notification -----------------------------------------------------------------------------------


def test_a_notification_is_stored_and_cached_and_then_acknowledged(line: Pipeline) -> None:
    line.consume(redis_cache_exp=300)
    assert line.ask(BROKER, produce("unqie-id0")) == Published("unqie-id0", EXCHANGE, "")
    line.simulation.run_until_idle()
    row = line.ask(MUTATOR, NotifById("unqie-id0"))
    assert (row.receiver_info, row.actioner_info, row.action_data) == ("1", "2", {"pid": 200.4})
    assert (row.fired_at, row.action_type, row.is_seen) == (1714316645, ActionType.PRODUCT_PURCHASED, False)
    (item,) = line.ask(CACHE, CacheItems("notif_owner:1"))
    assert item == {
        "id": "unqie-id0",
        "receiver_info": "1",
        "action_data": {"pid": 200.4},
        "actioner_info": "2",
        "action_type": "ProductPurchased",
        "fired_at": 1714316645,
        "is_seen": False,
    }
    assert line.ask(CACHE, CacheRemaining("notif_owner:1")) == 300
    assert line.counts() == IDLE


def test_encoding_and_decoding_may_be_background_work(line: Pipeline) -> None:
    line.consume(local_spawn=False)
    sent = ProduceNotif(notif_data=notif("a"), exchange_name=EXCHANGE, local_spawn=False)
    assert line.ask(BROKER, sent) == Published("a", EXCHANGE, "")
    line.settle()
    assert line.stored() == line.cached() == ["a"]
    wrong = ProduceNotif(notif_data=notif("b", fired_at=-1), exchange_name=EXCHANGE, local_spawn=False)
    assert refusal(line, BROKER, wrong).kind == "codec.field.invalid"
    mismatch = ProduceNotif(notif_data=notif("b"), exchange_name=EXCHANGE, exchange_type="direct", local_spawn=False)
    assert refusal(line, BROKER, mismatch).kind == "broker.exchange.mismatch"
    line.ask(BROKER, Publish(EXCHANGE, "", b"{not json", "poison"))
    line.settle()
    assert [letter.message_id for letter in line.ask(BROKER, DeadLetters(QUEUE))] == ["poison"]
    assert line.crashes == []


def test_a_notification_without_a_queue_is_given_back_to_its_producer(line: Pipeline) -> None:
    error = refusal(line, BROKER, produce("a"))
    assert isinstance(error, BrokerError)
    assert (error.kind, error.message_id) == ("broker.unroutable", "a")
    assert (error.actor, error.message_type) == (BROKER, "ProduceNotif")
    assert error.response.retryable


def test_either_side_may_start_first(line: Pipeline) -> None:
    """The producer declares the exchange, then the consumer queue and binding; or all of it the consumer."""
    refusal(line, BROKER, produce("a"))
    line.consume()
    line.publish("a")
    line.settle()
    assert line.stored() == line.cached() == ["a"]


def test_what_is_published_while_nobody_consumes_waits(line: Pipeline) -> None:
    line.consume()
    assert line.ask(BROKER, StopConsuming(TAG)) is True
    assert line.ask(BROKER, StopConsuming(TAG)) is False
    line.publish("a", "b")
    assert line.counts() == QueueCounts(ready=2, unsettled=0, dead=0, consumers=0)
    line.consume()
    line.settle()
    assert sorted(line.stored()) == ["a", "b"]


def test_the_same_wish_to_consume_again_is_no_second_consumer(line: Pipeline) -> None:
    line.consume()
    line.consume()
    assert line.counts().consumers == 1
    error = refusal(line, BROKER, ConsumeNotif(queue="other", exchange_name=EXCHANGE, tag=TAG))
    assert error.kind == "broker.consumer.invalid"
    assert line.counts().consumers == 1


@pytest.mark.parametrize(
    ("options", "stored", "cached"),
    [
        ({"store_in_db": False}, [], ["a"]),
        ({"cache_on_redis": False}, ["a"], []),
        ({"redis_cache_exp": 0}, ["a"], []),
        ({"store_in_db": False, "cache_on_redis": False}, [], []),
    ],
)
def test_only_what_is_wanted_is_done(line: Pipeline, options: Any, stored: list[str], cached: list[str]) -> None:
    line.consume(**options)
    line.publish("a")
    line.simulation.run_until_idle()
    assert (line.stored(), line.cached()) == (stored, cached)
    assert line.counts() == IDLE


@pytest.mark.parametrize("wanted", ["mutator", "cache"])
def test_consuming_needs_the_actors_that_it_asks(wanted: str) -> None:
    names: dict[str, Any] = {wanted: "nobody"}
    with pipeline(**names) as line:
        error = refusal(line, BROKER, CONSUME)
        assert isinstance(error, UnknownActor)
        assert refusal(line, BROKER, CountQueue(QUEUE)).kind == "broker.queue.unknown"


def test_an_exchange_routes_by_its_type(line: Pipeline) -> None:
    line.consume(exchange_name="amq.topic", exchange_type="topic", routing_key="user.*")
    topic = {"exchange_name": "amq.topic", "exchange_type": "topic"}
    line.ask(BROKER, ProduceNotif(notif_data=notif("a"), routing_key="user.1", **topic))  # type: ignore[arg-type]
    other = ProduceNotif(notif_data=notif("b"), routing_key="admin.1", **topic)  # type: ignore[arg-type]
    assert refusal(line, BROKER, other).kind == "broker.unroutable"
    line.settle()
    assert line.stored() == ["a"]


def test_the_default_exchange_goes_straight_to_the_queue(line: Pipeline) -> None:
    line.consume(exchange_name="")
    line.ask(BROKER, ProduceNotif(notif_data=notif("a"), exchange_name="", routing_key=QUEUE))
    line.settle()
    assert line.stored() == ["a"]


def test_an_exchange_of_another_type_is_refused_and_nothing_else_breaks(line: Pipeline) -> None:
    line.consume()
    wrong = ProduceNotif(notif_data=notif("a"), exchange_name=EXCHANGE, exchange_type="topic")
    error = refusal(line, BROKER, wrong)
    assert error.kind == "broker.exchange.mismatch"
    assert "type='fanout', declared with type='topic'" in str(error)
    line.publish("b")
    line.settle()
    assert line.stored() == ["b"]


def test_a_redelivery_adds_no_second_row_and_no_second_cache_entry(line: Pipeline) -> None:
    line.consume()
    line.publish("a", "b", "a")
    line.settle()
    assert sorted(line.stored()) == sorted(line.cached()) == ["a", "b"]


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"action_data": float("nan")}, "codec.number.not_finite"),
        ({"action_data": object()}, "codec.value.unserialisable"),
        ({"action_data": "x" * 2**20}, "codec.body.too_large"),
        ({"fired_at": "yesterday"}, "codec.field.invalid"),
        ({"fired_at": -1}, "codec.field.invalid"),
        ({"action_type": "Unheard"}, "codec.field.invalid"),
    ],
)
def test_a_notification_that_no_consumer_could_read_is_not_published(line: Pipeline, wrong: Any, kind: str) -> None:
    line.consume()
    error = refusal(line, BROKER, produce("a", **wrong))
    assert isinstance(error, CodecError)
    assert error.kind == kind
    assert line.crashes == []
    line.publish("b")
    line.settle()
    assert line.stored() == ["b"]


def test_a_body_that_is_no_notification_is_a_dead_letter_after_exactly_the_limit(
    line: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    line.consume()
    with caplog.at_level(logging.ERROR, "understudy.broker"):
        line.ask(BROKER, Publish(EXCHANGE, "", b"{not json", "poison"))
        line.publish("a")
        line.settle()
    assert line.stored() == ["a"]
    (letter,) = line.ask(BROKER, DeadLetters(QUEUE))
    assert (letter.message_id, letter.attempts, letter.reason) == ("poison", 4, "delivery_limit")
    assert letter.body == b"{not json"
    (record,) = [each for each in caplog.records if each.name == "understudy.broker"]
    logged = json.loads(record.getMessage())
    assert (logged["code"], logged["kind"]) == ("0xFFFE", "broker.message.dead_lettered")
    assert (logged["message_id"], logged["cause"]["kind"]) == ("poison", "codec.body.invalid")


def test_a_dead_letter_can_be_replayed_when_its_cause_is_gone(line: Pipeline) -> None:
    line.consume(delivery_limit=0)
    line.ask(CACHE, CacheSet("notif_owner:1", "in the way"))
    line.publish("a")
    line.settle()
    assert line.counts() == QueueCounts(ready=0, unsettled=0, dead=1, consumers=1)
    assert line.stored() == ["a"]
    line.ask(CACHE, CacheSet("notif_owner:1", "still", expires=0.5))
    line.simulation.advance(1)
    assert line.ask(BROKER, ReplayDeadLetters(QUEUE)) == 1
    line.settle()
    assert line.counts() == IDLE
    assert line.stored() == ["a"]


def test_a_hundred_poison_notifications_among_a_thousand() -> None:
    """The poison ends as dead letters, once each; the rest is done."""
    with pipeline() as line:
        line.consume(prefetch=50)
        for number in range(1_000):
            if number % 10 == 7:
                line.ask(BROKER, Publish(EXCHANGE, "", b'{"id": 1}', f"poison {number}"))
            else:
                line.publish(f"id {number}")
        line.settle()
        letters = line.ask(BROKER, DeadLetters(QUEUE, limit=1_000))
        assert sorted(letter.message_id for letter in letters) == sorted(f"poison {n}" for n in range(7, 1_000, 10))
        assert {letter.attempts for letter in letters} == {4}
        good = sorted(f"id {number}" for number in range(1_000) if number % 10 != 7)
        assert sorted(line.stored()) == sorted(line.cached()) == good


# --- those who fall ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("falls", [Mutator, Cache, Broker])
@pytest.mark.parametrize("at", [1, 5, 11])
def test_whoever_falls_nothing_is_lost(falls: type[Actor], at: int) -> None:
    faults = FaultPlan().crash(actor=falls, at=at)
    with pipeline(faults=faults) as line:
        line.system.tell(BROKER, CONSUME)
        sent = [produce(f"id {number}") for number in range(20)]
        pending = [line.system.ask(BROKER, each, block=False, timeout=None) for each in sent]
        line.settle()
        confirmed = [future.get().message_id for future in pending if not failed(future)]
        assert len(line.crashes) <= 1
        if falls is Broker:
            line.consume()
            line.settle()
        assert sorted(line.stored()) == sorted(line.cached())
        assert set(confirmed) <= set(line.stored())
        assert line.counts() == IDLE


def failed(future: Any) -> bool:
    try:
        future.get(timeout=0)
    except ActorError:
        return True
    return False


def test_a_restarted_broker_goes_on_consuming_by_itself() -> None:
    faults = FaultPlan().crash(BROKER, message=Publish)
    with pipeline(faults=faults) as line:
        line.consume()
        assert refusal(line, BROKER, Publish(EXCHANGE, "", b"", "crash")).kind == "actor.handler.failed"
        line.publish("a")
        line.settle()
        assert line.crashes == [BROKER]
        assert line.stored() == line.cached() == ["a"]
        assert line.ask(BROKER, StopConsuming(TAG)) is True


def test_what_a_fallen_broker_had_not_acknowledged_is_delivered_to_its_understudy() -> None:
    """The mutator is held up, so that ten deliveries are under way when the broker falls."""
    faults = FaultPlan().slow(20.0, MUTATOR, message=StoreNotifEvent).crash(BROKER, message=Publish)
    with pipeline(faults=faults) as line:
        line.consume()
        line.publish(*(f"id {number}" for number in range(10)))
        line.simulation.run_until_idle()
        refusal(line, BROKER, Publish(EXCHANGE, "", b"", "crash"))
        line.settle()
        assert sorted(line.stored()) == sorted(line.cached()) == sorted(f"id {number}" for number in range(10))
        assert line.counts() == IDLE


def test_a_broker_that_is_killed_leaves_its_deliveries_to_its_understudy() -> None:
    """The cache's crash takes the broker with it, by force, while the mutator is still at work for it."""
    faults = FaultPlan().slow(20.0, MUTATOR, message=StoreNotifEvent).crash(CACHE, message=CacheRemaining)
    with pipeline(faults=faults, strategy="rest_for_one", shutdown="brutal_kill") as line:
        line.consume()
        line.publish("a", "b", "c")
        line.simulation.run_until_idle()
        assert line.counts().unsettled == 3
        refusal(line, CACHE, CacheRemaining("notif_owner:1"))
        line.settle()
        assert line.system.lookup(BROKER).incarnation == 2
        assert sorted(line.stored()) == ["a", "b", "c"]
        assert line.counts() == IDLE


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_mutator_that_crashes_on_the_first_stores_is_given_them_again(strategy: str) -> None:
    with pipeline(faults=FaultPlan().crash(MUTATOR, message=StoreNotifEvent, times=2), strategy=strategy) as line:
        line.consume()
        line.publish("a", "b", "c")
        line.settle()
        assert sorted(line.stored()) == ["a", "b", "c"]
        assert sorted(line.cached()) == ["a", "b", "c"]
        assert line.counts() == IDLE


def test_one_that_brings_the_mutator_down_each_time_falls_alone() -> None:
    """The others of its batch are not given up with it."""

    class Fragile(Mutator):
        def store(self, requests: Any) -> None:
            if any(request.message.message.id == "poison" for request in requests):
                raise RuntimeError("I cannot bear it")
            super().store(requests)

    simulation = SimulatedDispatcher(3)
    tree = Supervisor(
        "notifications",
        intensity=1_000,
        children=[
            Child(Fragile, name="mutator", args=("sqlite:///:memory:",)),
            Child(Cache, name="cache"),
            Child(Broker, name="broker"),
        ],
    )
    with ActorSystem("shop", tree, dispatcher=simulation) as system:
        line = Pipeline(simulation, system)
        line.consume()
        ids = [f"id {number}" for number in range(40)]
        line.publish(*ids[:20], "poison", *ids[20:])
        line.settle()
        assert sorted(line.stored()) == sorted(ids)
        (letter,) = line.ask(BROKER, DeadLetters(QUEUE))
        assert (letter.message_id, letter.attempts) == ("poison", 4)


def test_a_store_that_is_never_answered_is_asked_again() -> None:
    with pipeline(faults=FaultPlan().drop(MUTATOR, message=StoreNotifEvent)) as line:
        line.consume()
        line.publish("a")
        line.settle()
        assert line.stored() == line.cached() == ["a"]
        assert line.counts() == IDLE


def test_a_store_that_is_handled_twice_adds_one_row() -> None:
    faults = FaultPlan().duplicate(MUTATOR, message=StoreNotifEvent).duplicate(CACHE, message=CacheAppend)
    with pipeline(faults=faults) as line:
        line.consume()
        line.publish("a")
        line.settle()
        assert line.stored() == line.cached() == ["a"]


def test_a_full_mailbox_on_the_way_is_waited_out_and_not_counted_as_a_failure() -> None:
    faults = FaultPlan().slow(1.0, MUTATOR, message=StoreNotifEvent, times=5)
    with pipeline(faults=faults, mutators=Mailbox(capacity=2)) as line:
        line.consume(delivery_limit=0)
        line.publish(*(f"id {number}" for number in range(50)))
        line.settle()
        assert len(line.stored()) == len(line.cached()) == 50
        assert line.counts() == IDLE


def test_an_actor_that_is_away_for_a_while_is_waited_for() -> None:
    """The cache is terminated, and started again after ten seconds."""
    with pipeline() as line:
        supervisor: Any = line.system.lookup("notifications")
        line.consume(delivery_limit=0)
        supervisor.terminate_child("cache")
        line.publish("a", "b")
        line.simulation.advance(10)
        assert line.counts().unsettled == 2
        supervisor.restart_child("cache")
        line.settle()
        assert sorted(line.stored()) == sorted(line.cached()) == ["a", "b"]
        assert line.counts() == IDLE


def test_an_actor_that_stays_away_makes_dead_letters_in_the_end() -> None:
    with pipeline() as line:
        supervisor: Any = line.system.lookup("notifications")
        line.consume(delivery_limit=1)
        supervisor.terminate_child("cache")
        line.publish("a")
        line.settle()
        assert line.counts() == QueueCounts(ready=0, unsettled=0, dead=1, consumers=1)
        supervisor.restart_child("cache")
        assert line.ask(BROKER, ReplayDeadLetters(QUEUE)) == 1
        line.settle()
        assert line.stored() == line.cached() == ["a"]


@pytest.mark.parametrize("prefetch", [1, 100])
def test_an_outage_of_minutes_makes_no_dead_letters(prefetch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are in hand at once: it is no delivery's fault, and each is done when it is over."""
    away = True
    run = MemoryCache.run

    def unavailable(cache: MemoryCache, operations: Any, timeout: float | None = None) -> Any:
        if away:
            return [CacheError("it is away", kind=ErrorKind.CACHE_UNAVAILABLE) for _ in operations]
        return run(cache, operations, timeout)

    monkeypatch.setattr(MemoryCache, "run", unavailable)
    ids = [str(number) for number in range(20)]
    with pipeline() as line:
        line.consume(prefetch=prefetch, delivery_limit=2)
        line.publish(*ids)
        line.simulation.run_until_idle()
        line.simulation.advance(800)
        assert line.counts().dead == 0
        away = False
        line.settle()
        assert line.counts() == IDLE
        assert sorted(line.stored()) == sorted(line.cached()) == sorted(ids)


def test_a_consumer_that_the_broker_ends_is_started_again(line: Pipeline) -> None:
    line.consume()
    actor = line.system.lookup(BROKER)._cell.actor
    consumption = actor._running[TAG]
    assert actor._backend.cancel(TAG)
    consumption._cancelled(BrokerError("the queue has moved", kind=ErrorKind.CONSUMER_CANCELLED))
    line.publish("a")
    line.simulation.run_until_idle()
    assert line.counts() == QueueCounts(ready=1, unsettled=0, dead=0, consumers=0)
    line.simulation.advance(1)
    assert line.stored() == ["a"]
    assert line.counts() == IDLE
    consumption._cancelled(BrokerError("and again", kind=ErrorKind.CONSUMER_CANCELLED))
    assert line.ask(BROKER, StopConsuming(TAG)) is True
    line.settle()
    assert line.counts().consumers == 0


SEEDS = st.integers(0, 2**32)
CRASHES = st.lists(st.tuples(st.sampled_from([BROKER, MUTATOR, CACHE]), st.integers(1, 80)), max_size=10, unique=True)


@settings(max_examples=15, deadline=None)
@given(
    SEEDS,
    CRASHES,
    st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]),
    st.integers(1, 12),
    st.booleans(),
)
def test_every_confirmed_notification_is_stored_and_cached_once(
    seed: int, crashes: list[tuple[str, int]], strategy: str, prefetch: int, local_spawn: bool
) -> None:
    """Whatever falls, in whichever order things happen: none is lost, none comes twice, and none is given up."""
    faults = FaultPlan()
    for path, at in crashes:
        faults.crash(path, at=at)
    with pipeline(seed, faults, strategy) as line:
        line.system.tell(BROKER, DeclareQueue(QUEUE, delivery_limit=100))
        wish = ConsumeNotif(
            queue=QUEUE,
            exchange_name=EXCHANGE,
            tag=TAG,
            redis_cache_exp=100_000,
            cache_on_redis=True,
            store_in_db=True,
            prefetch=prefetch,
            local_spawn=local_spawn,
        )
        unconfirmed = {f"id {number}" for number in range(15)}
        for _ in range(30):  # the producer goes on until the broker has confirmed each
            line.system.tell(BROKER, wish)
            pending = {
                nid: line.system.ask(BROKER, produce(nid, receiver=nid[-1]), block=False, timeout=None)
                for nid in sorted(unconfirmed)
            }
            line.simulation.run_until(lambda pending=pending: all(f.done for f in pending.values()))  # type: ignore[misc]
            unconfirmed = {nid for nid, future in pending.items() if failed(future)}
            if not unconfirmed:
                break
        assert not unconfirmed
        line.settle()
        ids = sorted(f"id {number}" for number in range(15))
        assert sorted(line.stored()) == ids
        assert sorted(nid for receiver in range(10) for nid in line.cached(str(receiver))) == ids
        assert line.counts() == IDLE


# --- live subscribers --------------------------------------------------------------------------------------------


class Screen(Actor):
    """A live subscriber."""

    def __init__(self, shown: list[str]) -> None:
        super().__init__()
        self.shown = shown

    @handles
    def show(self, message: NotifData) -> None:
        self.shown.append(message.id)


def test_live_subscribers_are_told_what_is_for_them(line: Pipeline) -> None:
    everything: list[str] = []
    mine: list[str] = []
    line.system.spawn(Screen, everything, name="everything")
    line.system.spawn(Screen, mine, name="mine")
    line.consume()
    line.ask(BROKER, WatchNotifs("everything"))
    line.ask(BROKER, WatchNotifs("mine", receiver_info="7"))
    line.ask(BROKER, produce("a", receiver="7"))
    line.ask(BROKER, produce("b", receiver="77"))
    line.settle()
    assert (everything, mine) == (["a", "b"], ["a"])
    assert line.ask(BROKER, UnwatchNotifs("mine")) is True
    assert line.ask(BROKER, UnwatchNotifs("mine")) is False
    line.ask(BROKER, produce("c", receiver="7"))
    line.settle()
    assert (everything, mine) == (["a", "b", "c"], ["a"])


def test_live_subscribers_are_told_once_although_storing_is_tried_again() -> None:
    with pipeline(faults=FaultPlan().crash(MUTATOR, message=StoreNotifEvent, times=2)) as line:
        shown: list[str] = []
        line.system.spawn(Screen, shown, name="screen")
        line.consume()
        line.ask(BROKER, WatchNotifs("screen"))
        line.publish("a")
        line.settle()
        assert (shown, line.stored()) == (["a"], ["a"])


def test_live_subscribers_survive_the_brokers_fall() -> None:
    with pipeline(faults=FaultPlan().crash(BROKER, message=Publish)) as line:
        shown: list[str] = []
        line.system.spawn(Screen, shown, name="screen")
        line.consume()
        line.ask(BROKER, WatchNotifs("screen"))
        refusal(line, BROKER, Publish(EXCHANGE, "", b""))
        line.publish("a")
        line.settle()
        assert shown == ["a"]


def test_a_live_subscriber_that_is_gone_is_forgotten(line: Pipeline) -> None:
    screen = line.system.spawn(Screen, [], name="screen")
    line.consume()
    line.ask(BROKER, WatchNotifs("screen"))
    screen.stop()
    line.publish("a")
    line.settle()
    assert line.stored() == ["a"]
    assert [letter for letter in line.dead if isinstance(letter.message, NotifData)] == []


def test_only_an_actor_that_there_is_can_watch(line: Pipeline) -> None:
    assert isinstance(refusal(line, BROKER, WatchNotifs("nobody")), UnknownActor)


# --- counting ----------------------------------------------------------------------------------------------------


def test_counts_by_receiver(line: Pipeline) -> None:
    line.consume()
    for nid, receiver in (("a", "1"), ("b", "10"), ("c", "1")):
        line.ask(BROKER, produce(nid, receiver))
    line.settle()
    assert line.ask(MUTATOR, CountNotifs("1")) == 2
    assert line.ask(MUTATOR, CountNotifs()) == 3
    assert line.cached("1") == ["a", "c"]


def test_a_told_notification_that_cannot_be_published_is_a_dead_letter_of_the_system(line: Pipeline) -> None:
    line.system.tell(BROKER, produce("a"))
    line.settle()
    (letter,) = line.dead
    assert (letter.path, letter.reason) == (BROKER, "refused")
    assert isinstance(letter.message, ProduceNotif)

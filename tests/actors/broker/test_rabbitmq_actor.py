"""The broker actor on RabbitMQ: poison, outages, and what callers and the tree see of them."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.broker.rabbitmq.backend import RabbitBroker
from understudy.actors.cache.actor import Cache
from understudy.actors.events import ActorCrashed, ActorRestarted
from understudy.actors.handlers import handles
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    ActorError,
    BrokerError,
    CodecError,
    ConsumeNotif,
    CountNotifs,
    CountQueue,
    DeadLetters,
    DeclareQueue,
    Delivered,
    EncryptionError,
    NotifData,
    ProduceNotif,
    Publish,
    PurgeDeadLetters,
    Refusal,
    ReplayDeadLetters,
    Subscribe,
)
from understudy.messages.codec import decode, encode
from understudy.supervisors.child import Child
from understudy.supervisors.supervisor import Supervisor
from understudy.supervisors.system import ActorSystem

from ...servers.shared import with_options
from .conftest import PATIENCE, eventually

pytestmark = pytest.mark.timeout(600)  # servers are started here; seconds, but for a slow machine

BROKER, MUTATOR = "notifications/broker", "notifications/mutator"


class Choosy(Mutator):
    """Refuses what is poison, and counts how often it was asked."""

    asked: ClassVar[Counter[str]] = Counter()
    cured = False

    def store(self, requests: Any) -> None:
        good = []
        for request in requests:
            notif = request.message.message
            Choosy.asked[notif.id] += 1
            if notif.action_data == "poison" and not Choosy.cured:
                request.fail(Refusal("it is poison"))
            else:
                good.append(request)
        if good:
            super().store(good)


@contextmanager
def pipeline(url: str, store: str = "sqlite:///:memory:", limit: int | None = None) -> Iterator[ActorSystem]:
    Choosy.asked, Choosy.cured = Counter(), False
    tree = Supervisor(
        "notifications",
        children=[
            Child(Choosy, name="mutator", args=(store,)),
            Child(Cache, name="cache"),
            Child(Broker, name="broker", args=(url,)),
        ],
    )
    with ActorSystem("shop", tree) as system:
        wish = ConsumeNotif(
            queue="TestOnion",
            exchange_name="SavageEx",
            tag="cons_tag0",
            redis_cache_exp=300,
            cache_on_redis=True,
            store_in_db=True,
            delivery_limit=limit,
        )
        system.ask(BROKER, wish, timeout=PATIENCE)
        yield system


def produced(number: int, data: Any = None) -> ProduceNotif:
    notif = NotifData(
        id=str(number), receiver_info=str(number % 50), action_data=data, actioner_info="2", fired_at=1714316645
    )
    return ProduceNotif(notif_data=notif, exchange_name="SavageEx")


@pytest.mark.parametrize(("total", "every"), [(10_000, 100)])
def test_poison_ends_among_the_dead_letters_once_each_after_exactly_the_limit(
    amqp_url: str, tmp_path: Any, total: int, every: int
) -> None:
    """A hundred poisonous notifications among ten thousand; the others are stored."""
    poison = {str(number) for number in range(0, total, every)}
    with pipeline(amqp_url, f"sqlite:///{tmp_path}/store.db", limit=3) as system:
        pending = [
            system.ask(BROKER, produced(number, "poison" if str(number) in poison else None), block=False, timeout=300)
            for number in range(total)
        ]
        for future in pending:
            future.get(timeout=300)
        wait_for(lambda: system.ask(BROKER, CountQueue("TestOnion"), timeout=PATIENCE).dead >= len(poison))
        wait_for(lambda: system.ask(MUTATOR, CountNotifs(), timeout=PATIENCE) >= total - len(poison))
        wait_for(lambda: system.ask(BROKER, CountQueue("TestOnion"), timeout=PATIENCE).unsettled == 0)
        letters = system.ask(BROKER, DeadLetters("TestOnion", 1_000), timeout=PATIENCE)
        assert sorted(letter.message_id for letter in letters) == sorted(poison)
        assert {(letter.attempts, letter.reason) for letter in letters} == {(4, "delivery_limit")}
        assert {letter.exchange for letter in letters} == {"SavageEx"}
        assert system.ask(MUTATOR, CountNotifs(), timeout=PATIENCE) == total - len(poison)
        assert {Choosy.asked[message_id] for message_id in poison} == {4}
        # They are put back when the cause is mended, and are then done like any other.
        Choosy.cured = True
        assert system.ask(BROKER, ReplayDeadLetters("TestOnion"), timeout=PATIENCE) == len(poison)
        wait_for(lambda: system.ask(MUTATOR, CountNotifs(), timeout=PATIENCE) == total)
        assert system.ask(BROKER, PurgeDeadLetters("TestOnion"), timeout=PATIENCE) == 0


def test_of_fuzzed_notifications_each_is_stored_or_a_dead_letter_and_everybody_lives(
    amqp_url: str, tmp_path: Any
) -> None:
    """Ten thousand: a notification in which some bytes were changed, removed or put in, or nothing but noise."""
    chance = random.Random(20261201)
    bodies = [fuzzed(chance, number) for number in range(10_000)]
    readable, unreadable = set(), set()
    for number, body in enumerate(bodies):
        try:
            readable.add(decode(body, NotifData).id)
        except (CodecError, EncryptionError):
            unreadable.add(str(number))
    assert len(readable) > 1_000
    assert len(unreadable) > 5_000
    with pipeline(amqp_url, f"sqlite:///{tmp_path}/store.db", limit=0) as system:
        crashes: list[ActorCrashed] = []
        system.events.subscribe(ActorCrashed, crashes.append)
        pending = [
            system.ask(BROKER, Publish("SavageEx", "", body, message_id=str(number)), block=False, timeout=300)
            for number, body in enumerate(bodies)
        ]
        for future in pending:
            future.get(timeout=300)

        def is_done() -> bool:
            counted = system.ask(BROKER, CountQueue("TestOnion"), timeout=PATIENCE)
            return (counted.ready, counted.unsettled) == (0, 0)

        wait_for(is_done)
        dead = {letter.message_id for letter in system.ask(BROKER, DeadLetters("TestOnion", 20_000), timeout=PATIENCE)}
        assert dead == unreadable
        assert system.ask(MUTATOR, CountNotifs(), timeout=PATIENCE) == len(readable)
        assert crashes == []


def fuzzed(chance: random.Random, number: int) -> bytes:
    """A notification that something was done to."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.choice([0, 1, 30, 3_000]))
    body = bytearray(encode(produced(number, {"text": "x" * chance.randrange(40)}).notif_data))
    for _ in range(chance.choice([0, 1, 1, 1, 2, 5])):
        place = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                body[place] = chance.randrange(256)
            case 1:
                del body[place : place + chance.randrange(1, 9)]
            case 2:
                body[place:place] = chance.choice(
                    [b"\0", b"\\u0000", b"\xff", b"{}", b"null", b'"', b"1e999", b"\xed\xa0\x80"]
                )
            case _:
                body += body[place:]
    return bytes(body)


class Refuser(Actor):
    """Takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    @handles
    def take(self, _message: Delivered) -> None:
        self.refused += 1
        raise Refusal("never")


def test_a_replay_ends_though_another_consumer_refuses_the_letters_again_at_once(amqp_url: str) -> None:
    """Each that is there when it begins is put back once."""
    number = 50
    with ActorSystem("consumes") as consumes, ActorSystem("manages") as manages:
        broker, manager = (
            consumes.spawn(Broker, amqp_url, name="broker"),
            manages.spawn(Broker, amqp_url, name="broker"),
        )
        broker.ask(DeclareQueue("q", delivery_limit=0), timeout=PATIENCE)
        refuser = consumes.spawn(Refuser, name="refuser")
        broker.ask(Subscribe("q", "refuser", tag="refuses"), timeout=PATIENCE)
        for each in range(number):
            broker.ask(Publish("", "q", b"x", message_id=str(each)), timeout=PATIENCE)
        wait_for(lambda: broker.ask(CountQueue("q"), timeout=PATIENCE).dead == number)
        assert manager.ask(ReplayDeadLetters("q"), timeout=PATIENCE) == number
        wait_for(lambda: broker.ask(CountQueue("q"), timeout=PATIENCE).dead == number)
        assert refuser.proxy().refused.get() == 2 * number


def test_publishing_goes_on_while_dead_letters_are_put_back(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes."""
    begun, go_on = threading.Event(), threading.Event()
    replay = RabbitBroker.replay_dead_letters

    def slowly(backend: RabbitBroker, *arguments: Any) -> int:
        begun.set()
        assert go_on.wait(PATIENCE)
        return replay(backend, *arguments)

    monkeypatch.setattr(RabbitBroker, "replay_dead_letters", slowly)
    with ActorSystem("manages") as system:
        broker = system.spawn(Broker, amqp_url, name="broker")
        broker.ask(DeclareQueue("q"), timeout=PATIENCE)
        replayed = broker.ask(ReplayDeadLetters("q"), block=False, timeout=PATIENCE)
        assert begun.wait(PATIENCE)
        broker.ask(Publish("", "q", b""), timeout=PATIENCE)
        assert broker.ask(CountQueue("q"), timeout=PATIENCE).ready == 1
        assert not replayed.done
        go_on.set()
        assert replayed.get(timeout=PATIENCE) == 0


def wait_for(true: Any) -> None:
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_lost_server_is_a_restart_of_the_connection_and_a_code_for_each_caller(private_rabbitmq: Any) -> None:
    """Nobody waits past the deadline; the broker actor lives on; when the server is back, so is everything."""
    with pipeline(with_options(private_rabbitmq.url)) as system:
        crashed: list[str] = []
        restarted: list[str] = []
        system.events.subscribe(ActorCrashed, lambda event: crashed.append(event.path))
        system.events.subscribe(ActorRestarted, lambda event: restarted.append(event.path))
        system.ask(BROKER, produced(1), timeout=PATIENCE)
        private_rabbitmq.kill()
        eventually(lambda: crashed != [])
        for message in (produced(2), Publish("", "TestOnion", b""), DeclareQueue("other"), CountQueue("TestOnion")):
            with pytest.raises(ActorError) as caught:  # else it would be the asker's own time-out
                system.ask(BROKER, message, timeout=2)
            assert isinstance(caught.value, BrokerError)
            assert caught.value.kind == "broker.unavailable"
        kept = system.ask(BROKER, produced(3), block=False, timeout=60)  # time enough for the server to come back
        private_rabbitmq.start()
        kept.get(timeout=60)
        eventually(lambda: f"{BROKER}/connection" in restarted)
        wait_for(lambda: system.ask(MUTATOR, CountNotifs(), timeout=PATIENCE) >= 2)
        assert set(crashed) == {f"{BROKER}/connection"}
        assert system.lookup(BROKER).incarnation == 1


def test_a_broker_that_starts_before_its_server_begins_to_work_when_that_is_there(private_rabbitmq: Any) -> None:
    private_rabbitmq.kill()
    with ActorSystem(
        "shop", Supervisor("top", children=[Child(Broker, name="broker", args=(with_options(private_rabbitmq.url),))])
    ) as s:
        with pytest.raises(BrokerError) as caught:
            s.ask("top/broker", DeclareQueue("early"), timeout=PATIENCE)
        assert caught.value.kind == "broker.unavailable"
        private_rabbitmq.start()

        def declared() -> bool:
            try:
                s.ask("top/broker", DeclareQueue("early"), timeout=PATIENCE)
            except BrokerError:
                return False
            return True

        eventually(declared)
        s.ask("top/broker", Publish("", "early", b"x"), timeout=PATIENCE)

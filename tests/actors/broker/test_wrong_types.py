"""Requests to the broker that were made with values of wrong types: each is refused by itself, with a code.

A message's fields are checked where it comes from a wire. Made here it holds what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.broker.validation import fault_of
from understudy.actors.handlers import handles
from understudy.messages import (
    ActorError,
    BindQueue,
    ConsumeNotif,
    CountQueue,
    CryptoConfig,
    DeadLetters,
    DeclareExchange,
    DeclareQueue,
    Delivered,
    ErrorKind,
    Message,
    NotifData,
    ProduceNotif,
    Publish,
    Published,
    PurgeDeadLetters,
    ReplayDeadLetters,
    RpcReply,
    SendRpcMessage,
    StopConsuming,
    Subscribe,
    Unsubscribe,
    UnwatchNotifs,
    WatchNotifs,
)
from understudy.supervisors.system import ActorSystem

PATIENCE = 60.0
WRONG: list[Any] = [
    None, 5, -1, 1.5, float("nan"), True, "text", "", "\ud800", "\0", b"bytes", object(), [], {}, {"a": []}, [5], int,
    CountQueue("q"), 2**70, bytearray(b"x"),
]  # fmt: skip
"""What a field may be given that takes something else; a field that takes one of them is given it, too."""

NOTIF = NotifData(id="n", receiver_info="1", action_data=1, actioner_info="2", fired_at=1)
RIGHT: dict[type[Message[Any]], dict[str, Any]] = {
    DeclareExchange: {"name": "ex"},
    DeclareQueue: {"name": "q"},
    BindQueue: {"queue": "q", "exchange": "ex"},
    Publish: {"exchange": "", "routing_key": "q", "body": b"x"},
    Subscribe: {"queue": "q", "to": "reader", "tag": "t"},
    Unsubscribe: {"tag": "t"},
    ProduceNotif: {"notif_data": NOTIF, "exchange_name": "notifs"},
    ConsumeNotif: {"queue": "n", "exchange_name": "notifs", "tag": "c"},
    StopConsuming: {"tag": "c"},
    WatchNotifs: {"to": "reader"},
    UnwatchNotifs: {"to": "reader"},
    CountQueue: {"queue": "q"},
    DeadLetters: {"queue": "q"},
    ReplayDeadLetters: {"queue": "q"},
    PurgeDeadLetters: {"queue": "q"},
}


class Reader(Actor):
    @handles
    def delivered(self, message: Delivered) -> None:
        pass

    @handles
    def live(self, message: NotifData) -> None:
        pass


@pytest.fixture(params=["memory://", "amqp_url", "redis_url"])
def system(request: pytest.FixtureRequest) -> Iterator[ActorSystem]:
    url: str = request.param
    if url == "redis_url":
        url = f"{request.getfixturevalue('redis_url')}?prefix={request.getfixturevalue('redis_prefix')}"
    elif url == "amqp_url":
        url = request.getfixturevalue("amqp_url")
    with ActorSystem("shop") as system:
        system.spawn(Reader, name="reader")
        broker = system.spawn(Broker, url, name="broker")
        broker.ask(DeclareQueue("q"), timeout=PATIENCE)
        broker.ask(DeclareExchange("ex"), timeout=PATIENCE)
        yield system


def outcome(future: Any) -> str:
    """The kind of a refusal, or "done"."""
    try:
        future.get(timeout=PATIENCE)
    except ActorError as error:
        return str(orjson.loads(error.response.to_json())["kind"])
    return "done"


def test_a_wrong_value_is_refused_with_a_code_and_harms_nobody(system: ActorSystem) -> None:
    """Every field of every request, with every kind of value; what comes with it in one batch is done."""
    broker = system.lookup("broker")
    for message_type, right in RIGHT.items():
        for name in message_type.__struct_fields__:
            wrong = [message_type(**{**right, name: value}) for value in WRONG]
            futures = [broker.ask(each, block=False, timeout=PATIENCE) for each in wrong]
            before = broker.ask(Publish("", "q", b"good"), block=False, timeout=PATIENCE)
            for message, future in zip(wrong, futures, strict=True):
                what = outcome(future)
                refused = what.startswith(("broker.", "codec.", "crypter.", "actor.name.unknown"))
                assert what == "done" or refused, f"{message!r}: {what}"
                assert what not in ("broker.unavailable", "broker.failed", "broker.closed"), f"{message!r}: {what}"
            assert isinstance(before.get(timeout=PATIENCE), Published)
            # What was started in between, with a value that will do, ends here.
            broker.ask(Unsubscribe("t"), timeout=PATIENCE)
            broker.ask(StopConsuming("c"), timeout=PATIENCE)
    assert broker.incarnation == 1


DECLARATION, CONSUMER, MESSAGE, FIELD = (
    ErrorKind.DECLARATION_INVALID, ErrorKind.CONSUMER_INVALID, ErrorKind.MESSAGE_INVALID, ErrorKind.FIELD_INVALID,
)  # fmt: skip
wrong: Any = 5
OBVIOUS: list[tuple[Message[Any], ErrorKind]] = [
    (ProduceNotif(notif_data=wrong, exchange_name="x"), FIELD),
    (ProduceNotif(notif_data=NOTIF, exchange_name="x", encryption_config=wrong), FIELD),
    (ProduceNotif(notif_data=msgspec.structs.replace(NOTIF, id=""), exchange_name="x"), FIELD),
    (ProduceNotif(notif_data=msgspec.structs.replace(NOTIF, id="a\0b"), exchange_name="x"), FIELD),
    (ProduceNotif(notif_data=msgspec.structs.replace(NOTIF, receiver_info="a\0b"), exchange_name="x"), FIELD),
    (ProduceNotif(notif_data=msgspec.structs.replace(NOTIF, fired_at=wrong - 6), exchange_name="x"), FIELD),
    (ProduceNotif(notif_data=NOTIF, exchange_name=wrong), DECLARATION),
    (ProduceNotif(notif_data=NOTIF, exchange_name="x", exchange_type=wrong), DECLARATION),
    (Subscribe(wrong, "reader"), CONSUMER),
    (Subscribe("q", wrong), CONSUMER),
    (Subscribe("q", "reader", wrong), CONSUMER),
    (Subscribe("q", "reader", prefetch=0), CONSUMER),
    (Unsubscribe(wrong), CONSUMER),
    (ConsumeNotif(queue="q", exchange_name="x", tag=wrong), CONSUMER),
    (ConsumeNotif(queue="q", exchange_name="x", tag="t", decryption_config=wrong), CONSUMER),
    (ConsumeNotif(queue="q", exchange_name="x", tag="t", prefetch=0), CONSUMER),
    (ConsumeNotif(queue="q", exchange_name="x", tag="t", delivery_limit=-1), DECLARATION),
    (ConsumeNotif(queue=wrong, exchange_name="x", tag="t"), DECLARATION),
    (WatchNotifs(wrong), CONSUMER),
    (DeclareQueue("q", max_length=0), DECLARATION),
    (DeclareQueue("q", durable=wrong), DECLARATION),
    (BindQueue("q", "ex", arguments={"h": wrong, wrong: 1}), DECLARATION),
    (Publish(wrong, "q", b""), DECLARATION),
    (Publish("", "q", wrong), MESSAGE),
    (Publish("", "q", b"", headers=wrong), MESSAGE),
    (Publish("", "q", b"", headers={"h": b"x"}), MESSAGE),  # type: ignore[dict-item]
    (Publish("", "q", b"", content_type=wrong), MESSAGE),
    (SendRpcMessage("", "q", wrong), MESSAGE),
    (DeadLetters("q", -1), MESSAGE),
    (PurgeDeadLetters("q", "abc"), MESSAGE),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("system", ["memory://"], indirect=True)
def test_a_wrong_request_has_the_kind_of_what_cannot_be_done_with_it(system: ActorSystem) -> None:
    """The same whichever backend there is: the actor looks before it goes to work."""
    broker = system.lookup("broker")
    for message, kind in OBVIOUS:
        with pytest.raises(ActorError) as caught:
            broker.ask(message, timeout=PATIENCE)
        assert caught.value.kind == kind, caught.value
        assert not caught.value.response.retryable
        assert caught.value.message_type == type(message).__name__
        assert caught.value.actor == "broker"
    assert broker.incarnation == 1


class Clumsy(Actor):
    """Replies with what is no body; with the last attempt, with one."""

    @handles
    def delivered(self, message: Delivered) -> RpcReply:
        return RpcReply(wrong if message.attempt == 1 else b"well")


@pytest.mark.parametrize("system", ["memory://"], indirect=True)
def test_a_reply_that_cannot_be_sent_is_a_failure_of_its_consumer(system: ActorSystem) -> None:
    """The request is delivered again; the broker actor lives on."""
    broker = system.lookup("broker")
    system.spawn(Clumsy, name="clumsy")
    broker.ask(Subscribe("q", "clumsy"), timeout=PATIENCE)
    assert broker.ask(SendRpcMessage("", "q", b"x"), timeout=PATIENCE).body == b"well"
    assert broker.incarnation == 1


def test_no_secret_is_shown_by_a_refusal() -> None:
    keys: Any = [CryptoConfig("s3cr3t", "a", "b")]
    error = fault_of(ConsumeNotif(queue="q", exchange_name="x", tag="t", decryption_config=keys))
    assert error is not None
    assert b"s3cr3t" not in error.response.to_json()

"""Bad input gets a coded error, and nothing else breaks: twelve kinds of it, sent to a running system.

A teller reads bodies off a wire, asks the account that they are for, and writes the reply. Whatever is fed to it, who
sent it gets an error with a code, no incarnation ends, and the next customer is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, Message, handles
from understudy.actors.events import ActorCrashed, ActorRestarted, ActorStopped
from understudy.messages import MAX_BODY, CodecError, WireRegistry, decode_named, encode_named, encode_reply
from understudy.messages.errors import AskCycle, ErrorCode, ErrorKind, NameTaken, StartFailed, UnknownActor

from .bank import Account, Recorder

registry = WireRegistry()


@registry.register("pay")
class Pay(Message[int]):
    """Put an amount into somebody's account; the reply is the balance."""

    amount: float
    to: str = "account"
    note: Any = None


@registry.register("show")
class Show(Message[Any]):
    """Show something that the vault holds."""

    what: str
    to: str = "vault"


class Incoming(Message[bytes]):
    """What came off the wire."""

    body: bytes
    limit: int = MAX_BODY


class AskYourself(Message[None]):
    """Make the mistake of asking oneself."""


class Teller(Actor):
    """Between the wire and the accounts."""

    refusals = (CodecError, UnknownActor, AskCycle)

    def __init__(self, system: ActorSystem) -> None:
        super().__init__()
        self.system = system

    @handles
    def incoming(self, message: Incoming) -> bytes:
        order: Any = decode_named(message.body, registry=registry, max_body=message.limit)
        return encode_reply(self.system.ask(order.to, order, timeout=60))

    @handles
    def ask_yourself(self, message: AskYourself) -> None:
        self.actor_ref.ask(message)


class Vault(Actor):
    """Holds what no wire can carry."""

    @handles
    def show(self, message: Show) -> Any:
        return {"socket": object(), "nan": float("nan"), "number": 1}[message.what]


class Payee(Account):
    """Takes payments."""

    @handles
    def pay(self, message: Pay) -> int:
        self.balance += int(message.amount)
        return self.balance


class Broke(Actor):
    """Cannot be made."""

    def __init__(self) -> None:
        super().__init__()
        raise ValueError("no money")


class Bank:
    """A system with a teller, and how to talk to it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.account: ActorRef[Payee] = system.spawn(Payee, name="account")
        self.teller = system.spawn(Teller, system, name="teller")
        self.vault = system.spawn(Vault, name="vault")
        self.recorder = Recorder(system)

    def receive(self, body: bytes, limit: int = MAX_BODY) -> bytes:
        """Let the teller have a body."""
        return self.system.ask("teller", Incoming(body, limit), timeout=60)


@pytest.fixture(name="served")
def new_served_bank(bank: ActorSystem) -> Iterator[Bank]:
    """A bank whose customers are served before and after."""
    served = Bank(bank)
    assert served.receive(encode_named(Pay(5), registry=registry)) == b"5"
    yield served
    assert served.receive(encode_named(Pay(7), registry=registry)) == b"12"


def body_of(size: int) -> bytes:
    """A good body of exactly that many bytes."""
    frame = len(encode_named(Pay(1, note=""), registry=registry))
    body = encode_named(Pay(1, note="x" * (size - frame)), registry=registry, max_body=size)
    assert len(body) == size
    return body


Attempt = Callable[[Bank], object]

TWELVE: dict[str, tuple[Attempt, type[ActorError], ErrorCode, ErrorKind]] = {
    "a message of an unknown type": (
        lambda bank: bank.receive(b'{"type":"stael","data":{}}'),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.TYPE_UNKNOWN,
    ),
    "a wrong field type": (
        lambda bank: bank.receive(b'{"type":"pay","data":{"amount":"5"}}'),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.FIELD_INVALID,
    ),
    "an unknown field": (
        lambda bank: bank.receive(b'{"type":"pay","data":{"amount":5,"currency":"EUR"}}'),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.FIELD_UNKNOWN,
    ),
    "a body of 1 MiB + 1": (
        lambda bank: bank.receive(body_of(MAX_BODY + 1)),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.BODY_TOO_LARGE,
    ),
    "a nesting of 10**6": (
        # It is longer than a body may be; how deep it is counts where the bound on its length is raised.
        lambda bank: bank.receive(b'{"type":"pay","data":' + b"[" * 10**6 + b"]" * 10**6 + b"}", limit=3 * 10**6),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.BODY_TOO_DEEP,
    ),
    "NaN": (
        lambda bank: bank.receive(b'{"type":"pay","data":{"amount":NaN}}'),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.BODY_INVALID,
    ),
    "bad UTF-8": (
        lambda bank: bank.receive(b'{"type":"pay","data":{"amount":5,"note":"\xff\xfe"}}'),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.BODY_NOT_UTF8,
    ),
    "a constructor that raises": (
        lambda bank: bank.system.spawn(Broke, name="broke"),
        StartFailed,
        ErrorCode.SUPERVISION,
        ErrorKind.CHILD_START_FAILED,
    ),
    "a duplicate name": (
        lambda bank: bank.system.spawn(Payee, name="account"),
        NameTaken,
        ErrorCode.SUPERVISION,
        ErrorKind.NAME_TAKEN,
    ),
    "an unknown name": (
        lambda bank: bank.receive(b'{"type":"pay","data":{"amount":5,"to":"acount"}}'),
        UnknownActor,
        ErrorCode.MAILBOX_CHANNEL,
        ErrorKind.NAME_UNKNOWN,
    ),
    "an ask to oneself": (
        lambda bank: bank.teller.ask(AskYourself(), timeout=60),
        AskCycle,
        ErrorCode.MAILBOX_CHANNEL,
        ErrorKind.ASK_CYCLE,
    ),
    "a reply that cannot be serialised": (
        lambda bank: bank.receive(b'{"type":"show","data":{"what":"socket"}}'),
        CodecError,
        ErrorCode.CODEC,
        ErrorKind.VALUE_UNSERIALISABLE,
    ),
}


def test_there_are_twelve() -> None:
    """As many as were promised."""
    assert len(TWELVE) == 12


@pytest.mark.parametrize("what", TWELVE)
def test_bad_input_gets_a_coded_error_and_nothing_else_breaks(served: Bank, what: str) -> None:
    """The error can be written as one line of JSON; no actor crashed, restarted or stopped for it."""
    attempt, error, code, kind = TWELVE[what]
    with pytest.raises(error) as caught:
        attempt(served)
    response = caught.value.response
    assert (response.code, response.kind) == (code, kind)
    line = response.to_json()
    assert b"\n" not in line
    assert msgspec.json.decode(line)["code"] == code.hex
    assert [type(event) for event in served.recorder.events if _is_trouble(event)] == []
    assert [ref.incarnation for ref in (served.account, served.teller, served.vault)] == [1, 1, 1]


def _is_trouble(event: object) -> bool:
    if isinstance(event, ActorStopped):
        return event.path != "broke"
    return isinstance(event, (ActorCrashed, ActorRestarted))


@pytest.mark.parametrize("what", TWELVE)
def test_bad_input_is_answered_in_the_same_way_again_and_again(served: Bank, what: str) -> None:
    """Nothing of it stays behind."""
    attempt, error, _, _ = TWELVE[what]
    for _ in range(3):
        with pytest.raises(error):
            attempt(served)
    assert sorted(cell.path for cell in served.system.cells()) == ["account", "teller", "vault"]


def test_a_body_of_exactly_one_mebibyte_is_read(served: Bank) -> None:
    """The bound is what it says."""
    assert served.receive(body_of(MAX_BODY)) == b"6"
    served.account.ask(Pay(-1))


def test_a_nesting_of_a_million_is_refused_by_its_length_first(served: Bank) -> None:
    """With the bound as it is by default it is not even looked at."""
    with pytest.raises(CodecError) as caught:
        served.receive(b'{"type":"pay","data":' + b"[" * 10**6 + b"]" * 10**6 + b"}")
    assert caught.value.kind == ErrorKind.BODY_TOO_LARGE


@pytest.mark.parametrize("body", [b"[" * 10**6, b"[" * 500_000 + b"]" * 500_000, b'{"data":' * 100_000])
def test_a_deep_nesting_that_is_short_enough_does_not_exhaust_the_stack(served: Bank, body: bytes) -> None:
    """It is refused as too deep, or as no JSON."""
    with pytest.raises(CodecError) as caught:
        served.receive(body)
    assert caught.value.kind in (ErrorKind.BODY_TOO_DEEP, ErrorKind.BODY_INVALID)


def test_nan_is_not_written_either(served: Bank) -> None:
    """Neither in a reply nor in a message."""
    with pytest.raises(CodecError) as caught:
        served.receive(b'{"type":"show","data":{"what":"nan"}}')
    assert caught.value.kind == ErrorKind.NUMBER_NOT_FINITE
    with pytest.raises(CodecError):
        encode_named(Pay(float("nan")), registry=registry)


def test_a_reply_that_can_be_written_is(served: Bank) -> None:
    """The same way."""
    assert served.receive(b'{"type":"show","data":{"what":"number"}}') == b"1"

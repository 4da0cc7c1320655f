"""Messages as JSON and back: what fits, and what is refused with which error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
import orjson
import pytest

from understudy.messages import (
    CodecError,
    ErrorKind,
    Message,
    WireRegistry,
    decode,
    decode_named,
    decode_reply,
    encode,
    encode_named,
    encode_reply,
)

T = TypeVar("T")
registry = WireRegistry()


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


class Inner(Message[None]):
    value: int


@registry.register("bank.deposit")
class Deposit(Message[int]):
    amount: int
    note: str = ""


@registry.register("codec.nested")
class Nested(Message[Inner]):
    inner: Inner
    inners: list[Inner] = msgspec.field(default_factory=list)
    by_name: dict[str, Inner] = msgspec.field(default_factory=dict)


class Anything(Message[Any]):
    value: Any


class Rich(Message[None]):
    at: datetime
    id: UUID
    price: Decimal
    raw: bytes
    colour: Colour
    points: list[Point]
    numbers: set[int]
    by_number: dict[int, str]
    pair: tuple[int, str]


class Renamed(Message[None]):
    from_: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(default=0, name="from")


class Generous(Message[T], Generic[T]):
    value: T


class Fussy(Message[None]):
    value: int

    def __post_init__(self) -> None:
        if self.value == 1:
            raise ValueError("one is not enough")
        if self.value == 2:
            raise KeyError("two")


class Deep(Message["Deep | None"]):
    value: Any


def refusal(action: Any, *arguments: Any, **options: Any) -> CodecError:
    """The codec's error that this ends in."""
    with pytest.raises(CodecError) as caught:
        action(*arguments, **options)
    return caught.value


def test_a_body_is_the_fields_alone() -> None:
    """Both sides know the type."""
    assert encode(Deposit(5, "rent")) == b'{"amount":5,"note":"rent"}'
    assert decode(b'{"amount":5,"note":"rent"}', Deposit) == Deposit(5, "rent")


def test_an_envelope_names_the_type() -> None:
    """Who reads it need not know what comes."""
    body = encode_named(Deposit(5), registry=registry)
    assert orjson.loads(body) == {"type": "bank.deposit", "data": {"amount": 5, "note": ""}}
    assert decode_named(body, registry=registry) == Deposit(5)


def test_defaults_may_be_left_out() -> None:
    """A field with a default is optional on the wire as well."""
    assert decode(b'{"amount":5}', Deposit) == Deposit(5)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_buffer(kind: Any) -> None:
    """As clients hand them out."""
    assert decode(kind(b'{"amount":5}'), Deposit) == Deposit(5)


def test_types_beyond_json_are_written_and_read_back() -> None:
    """Dates, UUIDs, decimals, bytes, enums, dataclasses, sets, tuples and keys that are numbers."""
    message = Rich(
        at=datetime(2024, 4, 28, 15, 4, 5, 123456, UTC),
        id=UUID("12345678-1234-5678-1234-567812345678"),
        price=Decimal("9.90"),
        raw=b"\x00\xff",
        colour=Colour.RED,
        points=[Point(1, 2)],
        numbers={1},
        by_number={1: "one"},
        pair=(1, "x"),
    )
    assert decode(encode(message), Rich) == message


def test_a_field_may_have_another_name_on_the_wire() -> None:
    """Such as one that is a keyword in Python."""
    assert encode(Renamed(3)) == b'{"from":3}'
    assert decode(b'{"from":3}', Renamed) == Renamed(3)


def test_a_generic_message_is_read_with_its_parameter() -> None:
    """`Generous[int]` holds an int and nothing else."""
    assert decode(b'{"value":3}', Generous[int]) == Generous(3)
    assert refusal(decode, b'{"value":"3"}', Generous[int]).field == "value"


def test_a_key_twice_takes_the_last() -> None:
    """As every JSON reader of Python does."""
    assert decode(b'{"amount":1,"amount":2}', Deposit) == Deposit(2)


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b'{"amount":"5"}', ErrorKind.FIELD_INVALID, "amount"),
        (b'{"amount":5.0}', ErrorKind.FIELD_INVALID, "amount"),
        (b'{"amount":true}', ErrorKind.FIELD_INVALID, "amount"),
        (b'{"amount":null}', ErrorKind.FIELD_INVALID, "amount"),
        (b"{}", ErrorKind.FIELD_MISSING, "amount"),
        (b'{"amount":5,"amuont":6}', ErrorKind.FIELD_UNKNOWN, "amuont"),
        (b"[]", ErrorKind.FIELD_INVALID, ""),
        (b"5", ErrorKind.FIELD_INVALID, ""),
        (b"null", ErrorKind.FIELD_INVALID, ""),
        (b"", ErrorKind.BODY_INVALID, ""),
        (b"{", ErrorKind.BODY_INVALID, ""),
        (b"amount=5", ErrorKind.BODY_INVALID, ""),
        (b'{"amount":5}x', ErrorKind.BODY_INVALID, ""),
        (b'{"amount":NaN}', ErrorKind.BODY_INVALID, ""),
        (b'{"amount":-Infinity}', ErrorKind.BODY_INVALID, ""),
        (b'{"amount":5,"note":"\\ud800"}', ErrorKind.BODY_INVALID, ""),
        (b'{"amount":5,"note":"\xff"}', ErrorKind.BODY_NOT_UTF8, ""),
        (b'{"amount":5,"note":"\xed\xa0\x80"}', ErrorKind.BODY_NOT_UTF8, ""),
        (b'\xff\xfe{\x00"\x00', ErrorKind.BODY_NOT_UTF8, ""),
    ],
)
def test_a_body_that_does_not_fit_is_refused_by_kind_and_field(body: bytes, kind: ErrorKind, field: str) -> None:
    """Nothing is converted silently, nothing is ignored."""
    error = refusal(decode, body, Deposit)
    assert (error.kind, error.field) == (kind, field)
    assert str(error).startswith("Deposit: ")
    assert error.message_type == "Deposit"


def test_a_missing_field_is_named_before_an_unknown_one_is_suggested() -> None:
    """A misspelt field is both; the unknown one comes with the name that was meant."""
    assert str(refusal(decode, b'{"amuont":5}', Deposit)).endswith("did you mean 'amount'?")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"inner":{"value":"x"}}', "inner.value"),
        (b'{"inner":{}}', "inner.value"),
        (b'{"inner":{"value":1,"odd":2}}', "inner.odd"),
        (b'{"inner":{"value":1},"inners":[{"value":1},{"value":"x"}]}', "inners[1].value"),
        (b'{"inner":{"value":1},"by_name":{"k":{"value":"x"}}}', "by_name[...].value"),
    ],
)
def test_an_error_names_the_path_to_the_field(body: bytes, field: str) -> None:
    """However deep it lies."""
    error = refusal(decode, body, Nested)
    assert error.field == field
    assert field in str(error)


@pytest.mark.parametrize(("value", "told"), [(1, "one is not enough"), (2, "KeyError: 'two'")])
def test_what_a_message_checks_itself_is_an_error_of_the_codec(value: int, told: str) -> None:
    """Whatever its `__post_init__` raises."""
    error = refusal(decode, b'{"value":%d}' % value, Fussy)
    assert error.kind is ErrorKind.FIELD_INVALID
    assert told in str(error)


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"[]", ErrorKind.BODY_INVALID, ""),
        (b'"bank.deposit"', ErrorKind.BODY_INVALID, ""),
        (b"null", ErrorKind.BODY_INVALID, ""),
        (b"{}", ErrorKind.FIELD_MISSING, "type"),
        (b'{"type":"bank.deposit"}', ErrorKind.FIELD_MISSING, "data"),
        (b'{"data":{}}', ErrorKind.FIELD_MISSING, "type"),
        (b'{"type":"bank.deposit","data":{"amount":1},"id":1}', ErrorKind.FIELD_UNKNOWN, "id"),
        (b'{"type":5,"data":{}}', ErrorKind.FIELD_INVALID, "type"),
        (b'{"type":null,"data":{}}', ErrorKind.FIELD_INVALID, "type"),
        (b'{"type":["bank.deposit"],"data":{}}', ErrorKind.FIELD_INVALID, "type"),
        (b'{"type":"bank.depsit","data":{}}', ErrorKind.TYPE_UNKNOWN, ""),
        (b'{"type":"os.system","data":{}}', ErrorKind.TYPE_UNKNOWN, ""),
        (b'{"type":"bank.deposit","data":{"amount":"5"}}', ErrorKind.FIELD_INVALID, "amount"),
        (b'{"type":"bank.deposit","data":[5]}', ErrorKind.FIELD_INVALID, ""),
    ],
)
def test_an_envelope_that_does_not_fit_is_refused(body: bytes, kind: ErrorKind, field: str) -> None:
    """Only registered types can be made, from nothing but their fields."""
    error = refusal(decode_named, body, registry=registry)
    assert (error.kind, error.field) == (kind, field)


def test_a_type_without_a_wire_name_cannot_be_sent() -> None:
    """It is refused where it is written, not where it would be read."""
    assert refusal(encode_named, Inner(1), registry=registry).kind is ErrorKind.TYPE_UNREGISTERED


@pytest.mark.parametrize("value", [object(), 1j, lambda: 1, [1, {"a": object()}], Message])
def test_a_value_that_is_no_json_is_refused_with_its_field(value: object) -> None:
    """In a message, in an envelope, as a reply."""
    own = WireRegistry()
    own.register("codec.anything")(Anything)
    for error in (
        refusal(encode, Anything(value)),
        refusal(encode_named, Anything(value), registry=own),
    ):
        assert (error.kind, error.field) == (ErrorKind.VALUE_UNSERIALISABLE, "value")
    assert refusal(encode_reply, value).kind is ErrorKind.VALUE_UNSERIALISABLE


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    """UTF-8 has no way of writing it, in a text or in a key."""
    assert refusal(encode, Deposit(1, text)).kind is ErrorKind.VALUE_UNSERIALISABLE
    assert refusal(encode, Anything({text: 1})).kind is ErrorKind.VALUE_UNSERIALISABLE


def test_a_reply_is_read_as_the_type_that_the_message_asks_for() -> None:
    """The message knows it."""
    assert decode_reply(encode_reply(12), Deposit) == 12
    assert decode_reply(encode_reply(Inner(3)), Nested) == Inner(3)
    assert decode_reply(encode_reply(None), Deep) is None
    assert decode_reply(encode_reply({"a": [1]}), Anything) == {"a": [1]}


@pytest.mark.parametrize("reply", ["12", 1.5, None, [12]])
def test_a_reply_of_another_type_is_refused(reply: object) -> None:
    """An actor that answers with something else is found out where it is read."""
    error = refusal(decode_reply, encode_reply(reply), Deposit)
    assert error.kind is ErrorKind.FIELD_INVALID
    assert str(error).startswith("reply to Deposit: ")


def test_a_reply_may_have_keys_that_are_numbers() -> None:
    """They become texts, as JSON wants."""
    assert encode_reply({1: {2: "x"}}) == b'{"1":{"2":"x"}}'


def test_a_foreign_object_that_fails_while_it_is_read_is_refused() -> None:
    """A dataclass whose attribute is missing, say."""
    point = Point(1, 2)
    del point.y
    error = refusal(encode, Anything({"p": point, "q": object()}))
    assert error.kind is ErrorKind.VALUE_UNSERIALISABLE


def test_the_error_about_a_body_does_not_hold_the_body() -> None:
    """It may be secret, and it may be a megabyte."""
    error = refusal(decode, b'{"amount": 5, "note": "hunter2"', Deposit)
    assert "hunter2" not in str(error.response.to_json())
    assert error.__cause__ is None
    assert error.__suppress_context__

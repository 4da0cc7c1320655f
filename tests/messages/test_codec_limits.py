"""Size, depth and numbers: refused at the limit, not beyond it, with an error and never a crash."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from understudy.messages import (
    MAX_BODY,
    CodecError,
    ErrorKind,
    Message,
    WireRegistry,
    decode,
    decode_named,
    encode,
    encode_named,
    encode_reply,
)


class Anything(Message[Any]):
    value: Any


class Measured(Message[None]):
    number: float
    whole: int = 0
    note: str | None = None


registry = WireRegistry()
registry.register("limits.anything")(Anything)


def refusal(action: Any, *arguments: Any, **options: Any) -> CodecError:
    """The codec's error that this ends in."""
    with pytest.raises(CodecError) as caught:
        action(*arguments, **options)
    return caught.value


def repr_of_size(value: bytes | int) -> str:
    """A short name for an example, which may be a megabyte long."""
    if isinstance(value, int):
        return f"{value.bit_length()} bits"
    return f"{value[:12]!r} and {len(value)} bytes"


def nested(levels: int) -> list[Any]:
    """A list in a list in a list: as many lists as levels."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def text_of_size(size: int) -> bytes:
    """A body of exactly this many bytes."""
    return b'{"value":"' + b"x" * (size - 12) + b'"}'


# --- size ---------------------------------------------------------------------------------------------------


def test_a_body_of_exactly_one_mebibyte_is_read_and_written() -> None:
    """The limit belongs to what is allowed."""
    body = text_of_size(MAX_BODY)
    assert len(body) == 1_048_576
    assert encode(decode(body, Anything)) == body


def test_a_body_of_one_byte_more_is_refused_before_it_is_parsed() -> None:
    """Even if it is no JSON at all: nobody looks."""
    for body in (text_of_size(MAX_BODY + 1), b"\xff" * (MAX_BODY + 1)):
        error = refusal(decode, body, Anything)
        assert error.kind is ErrorKind.BODY_TOO_LARGE
        assert "1,048,577 bytes" in str(error)


def test_a_message_of_one_byte_more_is_not_written() -> None:
    """Else it would be refused at the other end."""
    assert refusal(encode, Anything("x" * (MAX_BODY - 11))).kind is ErrorKind.BODY_TOO_LARGE


def test_the_envelope_counts() -> None:
    """The limit is for the body, whatever it holds."""
    around = len(encode_named(Anything(""), registry=registry))
    body = encode_named(Anything("x" * (MAX_BODY - around)), registry=registry)
    assert len(body) == MAX_BODY
    assert refusal(encode_named, Anything("x" * (MAX_BODY - around + 1)), registry=registry).kind is (
        ErrorKind.BODY_TOO_LARGE
    )


def test_the_limit_can_be_set() -> None:
    """Higher or lower, for either direction."""
    assert refusal(decode, b'{"value":1}', Anything, max_body=10).kind is ErrorKind.BODY_TOO_LARGE
    assert decode(b'{"value":1}', Anything, max_body=11) == Anything(1)
    assert refusal(encode, Anything(1), max_body=10).kind is ErrorKind.BODY_TOO_LARGE
    big = text_of_size(MAX_BODY + 1)
    assert encode(decode(big, Anything, max_body=MAX_BODY + 1), max_body=MAX_BODY + 1) == big


def test_bytes_are_counted_and_not_elements() -> None:
    """A buffer of wider elements is as long as its bytes."""
    wide = memoryview(text_of_size(16)).cast("Q")
    assert len(wide) == 2
    assert refusal(decode, wide, Anything, max_body=15).kind is ErrorKind.BODY_TOO_LARGE


# --- depth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 200, 254, 255, 500, 800])
def test_deep_values_are_written_and_read_back(levels: int) -> None:
    """Beyond what the quick writer manages, too."""
    message = Anything(nested(levels))
    body = encode(message)
    assert body.count(b"[") == levels
    assert encode(decode(body, Anything)) == body


def test_a_body_of_1024_levels_is_read_and_one_more_refused() -> None:
    """The message itself is the first level."""
    assert isinstance(decode(b'{"value":' + b"[" * 1023 + b"]" * 1023 + b"}", Anything).value, list)
    error = refusal(decode, b'{"value":' + b"[" * 1024 + b"]" * 1024 + b"}", Anything)
    assert error.kind is ErrorKind.BODY_TOO_DEEP


class Nested(Message[None]):
    inner: Nested | None = None


def from_below(frames: int, action: Callable[[], Any]) -> Any:
    """What the action comes to for a caller with so many frames on the stack."""
    return action() if frames == 0 else from_below(frames - 1, action)


@pytest.mark.parametrize("frames", [0, 100, 500, 800])
def test_how_deep_a_value_may_be_does_not_depend_on_who_calls(frames: int) -> None:
    """The stack's limit is shared with the caller; what 900 levels need is not."""
    deep = Anything(nested(900))
    body = from_below(frames, lambda: encode(deep))
    assert body.count(b"[") == 900
    assert from_below(frames, lambda: decode(body, Anything)) == deep
    records = b'{"inner":' * 899 + b"{}" + b"}" * 899
    record = from_below(frames, lambda: decode(records, Nested))
    levels = 0
    while record is not None:
        record, levels = record.inner, levels + 1
    assert levels == 900


@pytest.mark.parametrize("levels", [1024, 2000, 10**6])
def test_a_value_nested_too_deeply_is_not_written(levels: int) -> None:
    """A coded error, not a RecursionError, nor the end of the process."""
    deep = nested(levels)
    for action, argument in ((encode, Anything(deep)), (encode_reply, deep), (encode_reply, {"a": deep})):
        if levels > 1024 or action is encode:
            assert refusal(action, argument).kind is ErrorKind.BODY_TOO_DEEP


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10**6,
        b"[" * 500_000 + b"]" * 500_000,
        b'{"a":' * 200_000,
        b'{"value":' + b"[" * 10**6,
        b'{"value":"]]]]",' + b'"x":[' * 150_000,
    ],
    ids=repr_of_size,
)
def test_a_body_nested_too_deeply_is_not_read(body: bytes) -> None:
    """Whole or cut off, in arrays or objects."""
    assert refusal(decode, body, Anything).kind is ErrorKind.BODY_TOO_DEEP
    assert refusal(decode_named, body, registry=registry).kind is ErrorKind.BODY_TOO_DEEP


def test_brackets_in_texts_are_not_levels() -> None:
    """A broken body with many brackets in its texts is broken, and not deep."""
    assert refusal(decode, b'{"value":"' + b"[" * 5000 + b'\\"["', Anything).kind is ErrorKind.BODY_INVALID


def test_a_value_that_contains_itself_is_not_written() -> None:
    """It has no end."""
    around: list[Any] = []
    around.append({"again": around})
    assert refusal(encode, Anything(around)).kind is ErrorKind.BODY_TOO_DEEP
    assert refusal(encode_reply, around).kind is ErrorKind.BODY_TOO_DEEP


@pytest.mark.parametrize(
    "body",
    [b'"' + b'\\"' * 500_000, b'"' * 1_000_001, b'{"' * 500_000, b"-" * MAX_BODY, b"9" * 1_000_000],
    ids=repr_of_size,
)
def test_finding_out_why_a_body_is_broken_takes_linear_time(body: bytes) -> None:
    """Quadratic work on a megabyte would run into the suite's time limit."""
    assert refusal(decode, body, Anything).kind is not ErrorKind.BODY_TOO_LARGE


# --- numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_not_written(number: float) -> None:
    """JSON cannot say it, and null is something else."""
    error = refusal(encode, Measured(number))
    assert (error.kind, error.field) == (ErrorKind.NUMBER_NOT_FINITE, "number")
    assert refusal(encode_reply, number).kind is ErrorKind.NUMBER_NOT_FINITE


def test_a_number_that_is_not_finite_is_found_anywhere() -> None:
    """In fields of any type, in lists and dicts, beside fields that are null."""
    error = refusal(encode, Anything({"a": None, "b": [1, {"c": (2.0, math.nan)}]}))
    assert (error.kind, error.field) == (ErrorKind.NUMBER_NOT_FINITE, "value.b[1].c[1]")
    deep = refusal(encode, Anything([math.nan, nested(500)]))
    assert (deep.kind, deep.field) == (ErrorKind.NUMBER_NOT_FINITE, "value[0]")
    named = refusal(encode_named, Anything(math.nan), registry=registry)
    assert named.kind is ErrorKind.NUMBER_NOT_FINITE


def test_null_is_written_where_it_is_meant() -> None:
    """None is not taken for NaN, and neither is the text."""
    assert encode(Measured(1.5)) == b'{"number":1.5,"whole":0,"note":null}'
    assert encode(Anything([None, "null", 1.5, {"a": None}])) == b'{"value":[null,"null",1.5,{"a":null}]}'


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**100, -(10**5000)], ids=repr_of_size)
def test_an_integer_beyond_64_bits_is_not_written(number: int) -> None:
    """Other readers would round it."""
    error = refusal(encode, Anything([number]))
    assert (error.kind, error.field) == (ErrorKind.NUMBER_OUT_OF_RANGE, "value[0]")
    assert refusal(encode_reply, number).kind is ErrorKind.NUMBER_OUT_OF_RANGE


@pytest.mark.parametrize("number", [2**64 - 1, 2**63, -(2**63), 10**18])
def test_integers_of_64_bits_are_written_and_read_back(number: int) -> None:
    """Signed or unsigned."""
    assert decode(encode(Anything([number, -1])), Anything).value == [number, -1]


@pytest.mark.parametrize(
    "number",
    [b"18446744073709551616", b"-9223372036854775809", b"1" + b"0" * 100, b"9" * 5000, b"1e999", b"-1e400"],
    ids=repr_of_size,
)
def test_a_number_beyond_64_bits_is_not_read(number: bytes) -> None:
    """Not as the float nearest to it, and not as infinity; whatever the field's type."""
    for body in (b'{"value":%b}', b'{"value":["text \\" 1",{"a": %b }]}'):
        assert refusal(decode, body % number, Anything).kind is ErrorKind.NUMBER_OUT_OF_RANGE
    assert refusal(decode, b'{"number":%b}' % number, Measured).kind is ErrorKind.NUMBER_OUT_OF_RANGE


@pytest.mark.parametrize(
    "value",
    [
        b'"99999999999999999999999999"',
        b'["\\"99999999999999999999", {"99999999999999999999": 1}]',
        b"0.1234567890123456789012345",
        b"12345678901234567890.5",
        b"1e22",
        b"10000000000000000000000e-3",
        b"18446744073709551615",
        b"-9223372036854775808",
    ],
)
def test_long_runs_of_digits_that_are_no_such_integer_are_read(value: bytes) -> None:
    """In texts, keys and fractions, or just within the limit."""
    decode(b'{"value":' + value + b"}", Anything)

"""For any message: what is written can be read, and is what was written; what is read never breaks the reader."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.messages import (
    ActionType,
    CodecError,
    Message,
    NotifData,
    ProduceNotif,
    decode,
    decode_named,
    encode,
    encode_named,
    encode_reply,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
without_nul = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner) | st.builds(object)
    ),
    max_leaves=20,
)


class Anything(Message[Any]):
    value: Any


notifications = st.builds(
    NotifData,
    id=st.text(without_nul, min_size=1, max_size=255),
    receiver_info=st.text(without_nul),
    action_data=values,
    actioner_info=st.text(without_nul),
    action_type=st.sampled_from(ActionType),
    fired_at=st.integers(0, 253_402_300_799),
    is_seen=st.booleans(),
)


@given(values)
def test_any_json_value_comes_back_as_it_was(value: object) -> None:
    """With the types that it had: no integer becomes a float."""
    back = decode(encode(Anything(value)), Anything).value
    assert back == value
    assert json.dumps(back, sort_keys=True) == json.dumps(value, sort_keys=True)


@given(notifications)
def test_any_notification_comes_back_as_it_was(notification: NotifData) -> None:
    """Alone, and inside another message, in an envelope."""
    assert decode(encode(notification), NotifData) == notification
    produce = ProduceNotif(notif_data=notification, exchange_name="SavageEx")
    assert decode_named(encode_named(produce)) == produce


@given(wild)
def test_writing_any_value_gives_what_json_readers_agree_on_or_an_error(value: object) -> None:
    """No NaN as null, no rounded integer, no other exception than the codec's."""
    with suppress(CodecError):
        body = encode_reply(value)
        assert encode_reply(json.loads(body)) == body


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")) | values.map(encode_reply))
def test_reading_any_bytes_gives_a_message_or_an_error_of_the_codec(body: bytes) -> None:
    """Whatever a peer sends."""
    for read in (lambda: decode(body, NotifData), lambda: decode_named(body), lambda: decode(body, Anything)):
        with suppress(CodecError):
            read()


@given(values)
def test_what_is_read_is_what_another_reader_reads(value: object) -> None:
    """Python's own, on whatever Python's own has written."""
    body = b'{"value":' + json.dumps(value).encode() + b"}"
    assert decode(body, Anything).value == json.loads(body)["value"]


@given(st.integers())
def test_an_integer_is_read_exactly_or_refused(number: int) -> None:
    """Never as a float."""
    try:
        back = decode(b'{"value":%d}' % number, Anything).value
    except CodecError:
        assert not -(2**63) <= number < 2**64
    else:
        assert (type(back), back) == (int, number)

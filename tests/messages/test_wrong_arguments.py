"""What the functions of this room do with arguments of a wrong type: an error with a code, that names the argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from understudy import ErrorResponse, Message
from understudy.messages import (
    ActorError,
    CodecError,
    ErrorKind,
    FileError,
    WireRegistry,
    decode,
    decode_named,
    decode_reply,
    encode,
    encode_named,
    encode_reply,
    entry_of,
    read_lines,
    reply_type_of,
)

from ..naming import shown

R = TypeVar("R")


class Deposit(Message[int]):
    amount: int = 0


class Get(Message[R], Generic[R]):
    what: R


NO_BODY = [None, 5, "text", object(), [], {}, int, Deposit, Deposit()]
NO_TYPE = [None, 5, "text", object(), [], int, list[int], Message, Deposit(), b"{}"]
NO_MESSAGE = [None, 5, "text", object(), [], int, Deposit, b"{}"]
NO_SIZE = [None, "5", 1.5, True, object(), -1]
NO_REGISTRY: list[object] = [None, 5, "text", WireRegistry, {}]

registry = WireRegistry()
registry.register("deposit")(Deposit)
BODY, NAMED = b'{"amount":1}', b'{"type":"deposit","data":{"amount":1}}'


def refused(argument: str, value: object, call: Callable[[], object]) -> CodecError:
    with pytest.raises(CodecError) as caught:
        call()
    error = caught.value
    assert error.kind == ErrorKind.ARGUMENT_INVALID, error
    assert error.field == argument
    assert argument in str(error)
    assert len(str(error)) < 600
    assert error.response.to_json()
    return error


@pytest.mark.parametrize("body", NO_BODY, ids=shown)
def test_what_is_no_body_is_not_read(body: Any) -> None:
    """A text among them: whoever has one says how it is to be encoded."""
    for call in (
        lambda: decode(body, Deposit),
        lambda: decode_named(body, registry=registry),
        lambda: decode_reply(body, Deposit),
    ):
        error = refused("body", body, call)
        assert ("encode" in str(error)) == isinstance(body, str)


@pytest.mark.parametrize("wanted", NO_TYPE, ids=shown)
def test_what_is_no_message_type_is_not_made(wanted: Any, tmp_path: Path) -> None:
    """Neither a type that is no message's, nor Message itself, nor a message; before a file is opened."""
    refused("message_type", wanted, lambda: decode(BODY, wanted))
    refused("message_type", wanted, lambda: decode_reply(b"1", wanted))
    refused("message_type", wanted, lambda: read_lines(tmp_path / "none", wanted))


@pytest.mark.parametrize("message", NO_MESSAGE, ids=shown)
def test_what_is_no_message_is_not_written_as_one(message: Any) -> None:
    """A reply may be anything; a message is one."""
    refused("message", message, lambda: encode(message))
    refused("message", message, lambda: encode_named(message, registry=registry))


@pytest.mark.parametrize("size", NO_SIZE, ids=shown)
def test_what_is_no_number_of_bytes_is_no_limit(size: Any, tmp_path: Path) -> None:
    """In none of the functions."""
    calls: list[Callable[[], object]] = [
        lambda: encode(Deposit(), max_body=size),
        lambda: encode_named(Deposit(), registry=registry, max_body=size),
        lambda: encode_reply(1, max_body=size),
        lambda: decode(BODY, Deposit, max_body=size),
        lambda: decode_named(NAMED, registry=registry, max_body=size),
        lambda: decode_reply(b"1", Deposit, max_body=size),
        lambda: read_lines(tmp_path / "none", Deposit, max_body=size),
    ]
    for call in calls:
        refused("max_body", size, call)


@pytest.mark.parametrize("other", NO_REGISTRY, ids=shown)
def test_what_is_no_registry_knows_no_names(other: Any) -> None:
    """Nor can it be another one's parent."""
    refused("registry", other, lambda: encode_named(Deposit(), registry=other))
    refused("registry", other, lambda: decode_named(NAMED, registry=other))
    if other is not None:
        refused("parent", other, lambda: WireRegistry(other))


@pytest.mark.parametrize("path", [None, 5, [], object(), 1.5, "a\0b", Path("a\0b")], ids=shown)
def test_what_is_no_path_is_no_file_to_read(path: Any) -> None:
    """An open file's number among them, which would be somebody else's file; and what no system can open."""
    with pytest.raises(FileError, match="path") as caught:
        read_lines(path, Deposit)
    assert caught.value.kind == ErrorKind.FILE_UNREADABLE


@pytest.mark.parametrize("name", [None, 5, [], {}, object(), Deposit], ids=shown)
def test_what_is_no_name_is_not_known(name: Any) -> None:
    """Even if it cannot be looked up at all."""
    with pytest.raises(CodecError) as caught:
        registry.type_of(name)
    assert caught.value.kind == ErrorKind.TYPE_UNKNOWN
    assert caught.value.response.to_json()
    assert name not in registry
    assert entry_of(name) is None
    if name is not Deposit:
        assert reply_type_of(name) is None


@pytest.mark.parametrize("junk", [None, 5, [], {}, object(), Deposit, b"x", Deposit()], ids=shown)
def test_an_error_response_can_be_built_of_anything(junk: Any) -> None:
    """It is made where something has failed already, so it must not fail."""
    response = ErrorResponse.from_exception(
        junk, kind=junk, method=junk, actor=junk, incarnation=junk, message_type=junk, message_id=junk
    )
    assert decode(encode(response), ErrorResponse) == response
    assert response.to_json()
    assert response.to_problem()
    error = ActorError(
        junk, kind=junk, method=junk, target=junk, verb=junk, actor=junk, message_type=junk, message_id=junk, cause=junk
    )
    assert decode(encode(error.response), ErrorResponse) == error.response
    assert error.response.to_json()


def test_a_parametrised_message_type_is_one() -> None:
    """The parameter is kept to."""
    assert decode(b'{"what":1}', Get[int]) == Get(1)
    with pytest.raises(CodecError) as caught:
        decode(b'{"what":"x"}', Get[int])
    assert caught.value.kind == ErrorKind.FIELD_INVALID

"""What type checkers make of messages.

`make check` runs mypy over this file: each `assert_type` is a claim that it verifies, and each `type: ignore[code]`
is a mistake that it must find, since an ignore without an error is an error itself. The suite runs it too.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, assert_type

import msgspec
import pytest

from understudy.messages import (
    AcquireLock,
    CacheGet,
    CodecError,
    CountNotifs,
    Lease,
    Message,
    NotifById,
    NotifRow,
    WireRegistry,
    decode,
    decode_reply,
    encode_reply,
)

R = TypeVar("R")
T = TypeVar("T")
registry = WireRegistry()


@registry.register("typing.deposit")
class Deposit(Message[int]):
    amount: int
    tags: list[str] = msgspec.field(default_factory=list)


class Get(Message[T], Generic[T]):
    default: T


class Renamed(Message[None], kw_only=True):
    from_: int = msgspec.field(default=0, name="from")
    to: int


def ask(message: Message[R], reply: object) -> R:
    """Answer as an actor would: through the codec, so that the type is checked at run time too."""
    return decode_reply(encode_reply(reply), type(message))


def test_the_reply_type_is_inferred_from_the_message() -> None:
    """The asker writes no type, and gets one."""
    assert_type(ask(Deposit(5), 12), int)
    assert_type(ask(Get("x"), "y"), str)
    assert_type(ask(CountNotifs(), 3), int)
    assert_type(ask(NotifById("id"), None), NotifRow | None)
    assert_type(ask(CacheGet("key"), 1), Any)
    lease = {"name": "l", "owner": "me", "token": 1, "seconds": 2.0}
    assert_type(ask(AcquireLock("l", "me"), lease), Lease)


def test_messages_are_covariant_in_their_reply() -> None:
    """Who takes messages with any reply takes this one."""
    anything: Message[object] = Deposit(5)
    number: Message[float] = Deposit(5)
    assert anything == number


def test_registering_keeps_the_type() -> None:
    """The decorated class is the class."""
    assert_type(Deposit(5), Deposit)
    assert_type(decode(b'{"amount":5}', Deposit), Deposit)


def test_wrong_arguments_are_found_by_the_checker() -> None:
    """As for a dataclass: types, names and number of the fields."""
    Deposit("five")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Renamed(from_=1, to=2)
    with pytest.raises(TypeError):
        Deposit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        Deposit(5, amuont=6)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(AttributeError):
        Deposit(5).amount = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_wrong_use_of_a_reply_is_found_by_the_checker() -> None:
    """The reply to a deposit is no text."""
    with pytest.raises(CodecError):
        _text: str = ask(Deposit(5), "12")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

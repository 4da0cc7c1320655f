"""What a message is, and which reply it asks for."""

from __future__ import annotations

from types import NoneType
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from understudy.messages import Message, reply_type_of

T = TypeVar("T")


class Deposit(Message[int]):
    amount: int
    note: str = ""


class LargeDeposit(Deposit):
    approved_by: str = ""


class Get(Message[T], Generic[T]):
    key: str
    default: T


class GetName(Get[str]):
    pass


class Pairs(Message[dict[str, T]], Generic[T]):
    count: int


class Silent(Message[None]):
    pass


class Bare(Message):  # type: ignore[type-arg]  # the point of a test
    pass


class Later(Message["Defined"]):
    pass


class Never(Message["Undefined"]):  # type: ignore[name-defined]  # the point of a test
    pass


class Defined(Message[None]):
    pass


class Mixin:
    """A plain class among the bases of a message."""


class Mixed(Mixin, Message[float]):
    pass


def test_fields_are_given_by_position_or_name() -> None:
    """A message is declared and made like a dataclass."""
    assert Deposit(5, "rent") == Deposit(amount=5, note="rent")


def test_a_message_cannot_be_changed() -> None:
    """It may be handed from thread to thread: nobody can change it on the way."""
    with pytest.raises(AttributeError):
        Deposit(5).amount = 6  # type: ignore[misc]


def test_a_subclass_of_a_message_cannot_be_changed_either() -> None:
    """Being frozen is inherited, without saying it again."""
    with pytest.raises(AttributeError):
        LargeDeposit(5).approved_by = "me"  # type: ignore[misc]


def test_equal_messages_have_equal_hashes() -> None:
    """A message can be a key, if its fields can."""
    assert hash(Deposit(5)) == hash(Deposit(5))
    assert len({Deposit(5), Deposit(5), Deposit(6)}) == 2


def test_unknown_fields_are_refused_in_subclasses() -> None:
    """Strictness is inherited as well."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"amount": 1, "amuont": 2}, LargeDeposit)


def test_every_name_is_free_for_a_field() -> None:
    """The base has no public attribute that a field could hide."""
    assert [name for name in dir(Message) if not name.startswith("_")] == []


@pytest.mark.parametrize(
    ("message_type", "reply"),
    [
        (Deposit, int),
        (LargeDeposit, int),
        (Get[str], str),
        (GetName, str),
        (Pairs[int], dict[str, int]),
        (Message[list[int]], list[int]),
        (Silent, NoneType),
        (Later, Defined),
        (Mixed, float),
        (Message[Any], Any),
    ],
)
def test_the_reply_type_is_what_was_declared(message_type: object, reply: object) -> None:
    """Directly, through a base class, through a type parameter, and by a name defined later."""
    assert reply_type_of(message_type) == reply


def test_a_message_knows_its_reply_type_as_its_class_does() -> None:
    """The helper takes messages too."""
    assert reply_type_of(Deposit(5)) is int


@pytest.mark.parametrize("message_type", [Bare, Get, Never, Message, int, 5, [], {"a": 1}, None])
def test_an_unknown_reply_type_is_none(message_type: object) -> None:
    """Nothing declared, a parameter still open, a name that does not exist, or no message at all."""
    assert reply_type_of(message_type) is None

"""Fields of messages that were made here: nothing checks them but who looks."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from msgspec import Meta

from understudy import Message
from understudy.messages import CacheSet, StoreNotifEvent
from understudy.messages.fields import field_fault

from ..naming import shown

T = TypeVar("T")


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Message[None]):
    number: int = 0


class Order(Message[int], kw_only=True):
    text: str = ""
    name: Annotated[str, Meta(min_length=1, max_length=3)] = "x"
    whole: int = 0
    count: Annotated[int, Meta(ge=0, le=9)] = 0
    seconds: Annotated[float, Meta(gt=0)] | None = None
    flag: bool = False
    colour: Colour = Colour.RED
    way: Literal["up", "down"] = "up"
    inner: Inner | None = None
    request: Message[Any] | None = None
    anything: Any = None
    many: list[int] | None = None


GOOD: list[tuple[str, Any]] = [
    ("text", ""), ("text", Colour.RED), ("name", "abc"), ("whole", -(2**70)), ("count", 9), ("seconds", 1),
    ("seconds", 0.5), ("seconds", None), ("seconds", float("inf")), ("flag", True), ("colour", "blue"),
    ("colour", Colour.BLUE), ("way", "down"), ("inner", Inner()), ("inner", None), ("request", Inner()),
    ("anything", object()), ("many", 5),
]  # fmt: skip
BAD: list[tuple[str, Any, str]] = [
    ("text", 5, "a text"),
    ("text", b"x", "a text"),
    ("text", None, "a text"),
    ("name", "", "a text of 1 to 3 characters"),
    ("name", "abcd", "a text of 1 to 3 characters"),
    ("whole", 1.0, "a whole number"),
    ("whole", True, "a whole number"),
    ("count", -1, "a whole number, at least 0, at most 9"),
    ("count", 10, "a whole number, at least 0, at most 9"),
    ("seconds", 0, "a number, above 0"),
    ("seconds", True, "a number, above 0"),
    ("seconds", float("nan"), "a number, above 0"),
    ("seconds", "1", "a number, above 0"),
    ("flag", 1, "True or False"),
    ("colour", "green", "'red' or 'blue'"),
    ("colour", [], "'red' or 'blue'"),
    ("way", "left", "'down' or 'up'"),
    ("way", [], "'down' or 'up'"),
    ("inner", Order(), "a message Inner"),
    ("inner", {"number": 1}, "a message Inner"),
    ("request", Inner, "a message"),
]


@pytest.mark.parametrize(("name", "value"), GOOD, ids=shown)
def test_what_fits_has_no_fault(name: str, value: Any) -> None:
    """A whole number is a number, an enumeration's value is one of it; lists are left to who uses them."""
    assert field_fault(Order(**{name: value})) is None


@pytest.mark.parametrize(("name", "value", "wanted"), BAD, ids=shown)
def test_what_does_not_fit_is_named_with_what_would(name: str, value: Any, wanted: str) -> None:
    """And shown, in bounded length."""
    fault = field_fault(Order(**{name: value}))
    assert fault is not None
    assert fault.startswith(f"{name}={value!r}"[:100])
    assert wanted in fault
    assert len(fault) < 300


def test_the_services_messages_are_looked_at_as_they_are_declared() -> None:
    """Two that are easily made wrong."""
    assert field_fault(CacheSet(5, 1)) == "key=5: give a text"  # type: ignore[arg-type]
    missing: Any = None
    assert field_fault(StoreNotifEvent(message=missing)) == "message=None: give a message NotifData"


def test_only_the_fields_of_a_base_may_be_looked_at() -> None:
    """What a user adds to it is the user's."""

    class Derived(Inner):
        further: Any = None

    wrong: Any = "x"
    assert field_fault(Derived(number=wrong), Inner) is not None
    assert field_fault(Derived(further=wrong), Inner) is None


class Open(Message[None], Generic[T]):
    what: T


def test_what_cannot_be_read_is_not_looked_at() -> None:
    """An open type, and an annotation that names a class within a function."""

    class Hidden(Message[None]):
        what: Within = None  # type: ignore[name-defined]  # noqa: F821 -- that is the point

    assert field_fault(Open(object())) is None
    assert field_fault(Hidden()) is None

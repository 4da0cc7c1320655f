"""The cache contract: values, lists, expiry, and operations that fail alone."""

from collections.abc import Callable
from typing import Any

import pytest

from understudy.messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from understudy.messages.errors import CacheError


@pytest.mark.parametrize("value", [1, 200.4, "é", True, None, [], [1, {"a": [None]}], {"pid": 200.4}, ""])
def test_a_value_comes_back_as_it_was_written(cache: Any, value: object) -> None:
    assert cache(CacheSet("key", value)) is None
    assert cache(CacheGet("key")) == value


def test_nothing_is_none(cache: Any) -> None:
    assert cache(CacheGet("key")) is None
    assert cache(CacheItems("key")) == []
    assert cache(CacheRemaining("key")) is None
    assert cache(CacheDelete("key")) is False
    assert cache(CacheExpire("key", 1)) is False


def test_what_is_handed_out_is_a_copy(cache: Any) -> None:
    value = {"list": [1]}
    cache(CacheSet("key", value))
    value["list"].append(2)
    cache(CacheGet("key"))["list"].append(3)
    assert cache(CacheGet("key")) == {"list": [1]}


def test_a_value_is_forgotten_when_it_expires(cache: Any) -> None:
    cache(CacheSet("key", "value", expires=10))
    cache.clock.now += 9
    assert cache(CacheGet("key")) == "value"
    assert cache(CacheRemaining("key")) == pytest.approx(1, abs=0.2)
    cache.clock.now += 1
    assert cache(CacheGet("key")) is None


def test_writing_a_value_sets_its_expiry_anew(cache: Any) -> None:
    cache(CacheSet("key", "old", expires=10))
    cache.clock.now += 9
    cache(CacheSet("key", "new", expires=10))
    cache.clock.now += 9
    assert cache(CacheGet("key")) == "new"
    cache(CacheSet("key", "for good"))
    cache.clock.now += 1_000
    assert cache(CacheGet("key")) == "for good"
    assert cache(CacheRemaining("key")) is None


def test_an_expiry_can_be_set_and_taken_away(cache: Any) -> None:
    cache(CacheSet("key", "value"))
    assert cache(CacheExpire("key", 5)) is True
    assert cache(CacheRemaining("key")) == pytest.approx(5, abs=0.2)
    assert cache(CacheExpire("key", None)) is True
    cache.clock.now += 5
    assert cache(CacheGet("key")) == "value"
    cache(CacheExpire("key", 5))
    cache.clock.now += 5
    assert cache(CacheExpire("key", 5)) is False


def test_a_deleted_key_is_gone(cache: Any) -> None:
    cache(CacheSet("value", 1))
    cache(CacheAppend("list", 1))
    assert (cache(CacheDelete("value")), cache(CacheDelete("list"))) == (True, True)
    assert (cache(CacheGet("value")), cache(CacheItems("list"))) == (None, [])


def test_items_are_kept_in_the_order_of_appending(cache: Any) -> None:
    for item in ({"id": 1}, "two", 3.0, None):
        assert cache(CacheAppend("list", item)) is True
    assert cache(CacheItems("list")) == [{"id": 1}, "two", 3.0, None]
    assert cache(CacheItems("list", last=2)) == [3.0, None]
    assert cache(CacheItems("list", last=9)) == [{"id": 1}, "two", 3.0, None]


def test_an_item_of_a_known_id_is_not_added_again(cache: Any) -> None:
    assert cache(CacheAppend("list", "first", item_id="a")) is True
    assert cache(CacheAppend("list", "again", item_id="a")) is False
    assert cache(CacheAppend("other", "first", item_id="a")) is True
    assert cache(CacheItems("list")) == ["first"]


def test_items_without_an_id_may_be_equal(cache: Any) -> None:
    cache(CacheAppend("list", 1))
    cache(CacheAppend("list", 1))
    assert cache(CacheItems("list")) == [1, 1]


def test_a_list_is_bounded_and_the_oldest_go_first(cache: Any) -> None:
    for number in range(10):
        cache(CacheAppend("list", number, item_id=str(number), limit=3))
    assert cache(CacheItems("list")) == [7, 8, 9]


def test_a_late_repetition_of_a_dropped_item_is_not_news(cache: Any) -> None:
    for number in range(6):
        cache(CacheAppend("list", number, item_id=str(number), limit=3))
    assert cache(CacheAppend("list", 0, item_id="0", limit=3)) is False
    assert cache(CacheItems("list")) == [3, 4, 5]


def test_appending_keeps_the_expiry_that_the_list_has(cache: Any) -> None:
    cache(CacheAppend("list", 1, expires=300))
    cache.clock.now += 200
    cache(CacheAppend("list", 2, expires=300))
    cache(CacheAppend("list", 3))
    assert cache(CacheRemaining("list")) == pytest.approx(100, abs=0.2)
    cache.clock.now += 100
    assert cache(CacheItems("list")) == []


def test_a_list_that_has_expired_starts_anew(cache: Any) -> None:
    cache(CacheAppend("list", 1, item_id="a", expires=300))
    cache.clock.now += 300
    assert cache(CacheAppend("list", 1, item_id="a", expires=300)) is True
    assert cache(CacheRemaining("list")) == pytest.approx(300, abs=0.2)


def test_a_value_is_no_list_and_a_list_no_value(cache: Any) -> None:
    cache(CacheSet("value", [1]))
    cache(CacheAppend("list", 1))
    assert cache(CacheAppend("value", 2)) == "cache.value.wrong_type"
    assert cache(CacheItems("value")) == "cache.value.wrong_type"
    assert cache(CacheGet("list")) == "cache.value.wrong_type"
    assert cache(CacheSet("list", "written over")) is None
    assert cache(CacheGet("list")) == "written over"


def test_an_operation_that_fails_does_not_touch_the_others(cache: Any) -> None:
    outcomes = cache.backend.run(
        [
            CacheSet("value", 1),
            CacheAppend("value", 2),
            CacheSet("other", object()),
            CacheAppend("list", float("nan")),
            CacheGet("value"),
            CacheItems("list"),
        ]
    )
    shown = [outcome.kind if isinstance(outcome, CacheError) else outcome for outcome in outcomes]
    assert shown == [
        None,
        "cache.value.wrong_type",
        "cache.request.invalid",
        "cache.request.invalid",
        1,
        [],
    ]
    assert "key 'other': " in str(outcomes[2])


@pytest.mark.parametrize("expires", [1e15, 1e300, 1e306, 1.7e308])
def test_an_expiry_beyond_all_times_is_as_good_as_none(cache: Any, expires: float) -> None:
    """It is a finite number of seconds, whatever a millisecond's count of it would be."""
    cache(CacheSet("key", "value", expires=expires))
    cache(CacheAppend("list", 1, expires=expires))
    assert cache(CacheExpire("key", expires)) is True
    cache.clock.now += 1_000
    assert cache(CacheGet("key")) == "value"
    assert cache(CacheItems("list")) == [1]


@pytest.mark.parametrize("expires", [0, -1, float("inf"), float("nan")])
def test_an_expiry_that_cannot_be_is_refused(cache: Any, expires: float) -> None:
    assert cache(CacheSet("key", 1, expires=expires)) == "cache.request.invalid"
    assert cache(CacheAppend("key", 1, expires=expires)) == "cache.request.invalid"
    assert cache(CacheExpire("key", expires)) == "cache.request.invalid"
    assert cache(CacheAppend("key", 1, limit=0)) == "cache.request.invalid"
    assert cache(CacheGet("key")) is None


HOSTILE = [
    "",
    "a\r\nSET b 1\r\n",
    "\0",
    "{}",
    "a}b{",
    "{tag}:1",
    "k" * 300,
    "é" * 10_000,
    "*3",
    "$-1",
    "key:understudy:ids",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_may_be_a_key_a_value_an_item_and_an_id(cache: Any, text: str) -> None:
    assert cache(CacheSet(text, text)) is None
    assert cache(CacheGet(text)) == text
    assert cache(CacheGet("b")) is None
    assert cache(CacheDelete(text)) is True
    assert cache(CacheAppend(text, {text: text}, item_id=text or "-")) is True
    assert cache(CacheAppend(text, text, item_id=text or "-")) is False
    assert cache(CacheItems(text)) == [{text: text}]


def test_what_is_no_unicode_is_refused(cache: Any) -> None:
    for operation in (CacheSet("key", "\ud800"), CacheAppend("key", "\ud800")):
        assert cache(operation) == "cache.request.invalid"
    assert cache(CacheGet("key")) is None


def test_a_batch_is_carried_out_in_its_order(cache: Any) -> None:
    operations = [CacheSet("key", 1), CacheGet("key"), CacheSet("key", 2), CacheGet("key"), CacheDelete("key")]
    assert cache.backend.run([*operations, CacheGet("key"), CacheDelete("key")]) == [
        None,
        1,
        None,
        2,
        True,
        None,
        False,
    ]


def test_what_is_cached_outlives_the_connection(connect: Callable[[], Any]) -> None:
    fallen, understudy = connect(), connect()
    fallen(CacheSet("key", 1))
    fallen.backend.close()
    fallen.backend.close()
    assert fallen(CacheGet("key")) == "cache.closed"
    assert understudy(CacheGet("key")) == 1

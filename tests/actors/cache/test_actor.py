"""The cache actor."""

from collections.abc import Iterator
from typing import Any

import pytest

from understudy.actors.cache.actor import Cache
from understudy.messages import (
    CacheAppend,
    CacheDelete,
    CacheError,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from understudy.supervisors.system import ActorSystem
from understudy.testing import SimulatedDispatcher


@pytest.fixture
def simulation() -> SimulatedDispatcher:
    return SimulatedDispatcher(1)


@pytest.fixture
def cache(simulation: SimulatedDispatcher) -> Iterator[Any]:
    with ActorSystem("shop", dispatcher=simulation) as system:
        yield system.spawn(Cache, "memory://", name="cache")


def test_each_message_has_its_answer(cache: Any) -> None:
    assert cache.ask(CacheSet("value", {"a": 1}, expires=10)) is None
    assert cache.ask(CacheGet("value")) == {"a": 1}
    assert cache.ask(CacheAppend("list", 1, item_id="a")) is True
    assert cache.ask(CacheAppend("list", 1, item_id="a")) is False
    assert cache.ask(CacheItems("list")) == [1]
    assert cache.ask(CacheExpire("list", 20)) is True
    assert cache.ask(CacheRemaining("list")) == 20
    assert cache.ask(CacheDelete("list")) is True


def test_time_is_the_systems(cache: Any, simulation: SimulatedDispatcher) -> None:
    cache.ask(CacheSet("value", 1, expires=300))
    simulation.advance(299)
    assert cache.ask(CacheGet("value")) == 1
    simulation.advance(1)
    assert cache.ask(CacheGet("value")) is None


def test_a_refusal_has_a_code_and_says_where(cache: Any) -> None:
    cache.ask(CacheSet("value", 1))
    with pytest.raises(CacheError, match="key 'value' holds a value, not a list") as caught:
        cache.ask(CacheAppend("value", 2))
    error = caught.value
    assert (error.response.code, error.kind) == (0xFFFF, "cache.value.wrong_type")
    assert (error.actor, error.incarnation, error.message_type) == ("cache", 1, "CacheAppend")
    assert error.method == "test_a_refusal_has_a_code_and_says_where.cache.ask"
    assert cache.ask(CacheGet("value")) == 1

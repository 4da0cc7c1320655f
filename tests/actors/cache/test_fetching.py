"""`CacheFetch`: a value that is missing is made once, however many ask for it, in however many processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from understudy import Actor, ActorSystem, handles
from understudy.actors.cache.actor import Cache
from understudy.actors.cache.flights import claim_of
from understudy.messages import (
    ActorError,
    CacheAppend,
    CacheDelete,
    CacheError,
    CacheFetch,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
    Message,
    UnknownActor,
)

PATIENCE = 60.0


class Make(Message[Any]):
    what: Any


class Maker(Actor):
    """Makes what it is told to, when the gate is open."""

    dispatcher = "thread"

    def __init__(self, gate: threading.Event, made: list[Any]) -> None:
        super().__init__()
        self.gate, self.made = gate, made

    @handles
    def make(self, message: Make) -> Any:
        self.gate.wait(PATIENCE)
        self.made.append(message.what)
        if isinstance(message.what, Exception):
            raise message.what
        return message.what


class Crash(Message[None]):
    """Fall."""


class Falling(Cache):
    """A cache that falls when it is told to."""

    @handles
    def fall(self, message: Crash) -> None:
        raise RuntimeError("as ordered")


class Stage:
    """A system with a cache and a maker."""

    def __init__(self, system: ActorSystem, url: str) -> None:
        self.gate, self.made = threading.Event(), list[Any]()
        self.cache: Any = system.spawn(Falling, url, name="cache")
        self.maker = system.spawn(Maker, self.gate, self.made, name="maker")

    def fetch(self, what: Any = "value", **options: Any) -> Any:
        wanted = CacheFetch("key", "maker", Make(what), **options)
        return self.cache.ask(wanted, block=False, timeout=PATIENCE)


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    server, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    return f"{server}?prefix={prefix}"


@pytest.fixture
def stage(system: ActorSystem, url: str) -> Iterator[Stage]:
    stage = Stage(system, url)
    yield stage
    stage.gate.set()


def test_a_value_is_made_once_for_all_who_miss_it(stage: Stage) -> None:
    futures = [stage.fetch(expires=60) for _ in range(50)]
    assert stage.cache.ask(CacheGet("other")) is None, "others are answered meanwhile"
    stage.gate.set()
    assert [future.get(timeout=PATIENCE) for future in futures] == ["value"] * 50
    assert stage.fetch("another").get(timeout=PATIENCE) == "value"
    assert stage.made == ["value"]
    assert 0 < stage.cache.ask(CacheRemaining("key")) <= 60


def test_the_makers_error_is_everybodys_answer_and_is_not_kept(stage: Stage) -> None:
    futures = [stage.fetch(ValueError("as ordered")) for _ in range(3)]
    stage.gate.set()
    for future in futures:
        with pytest.raises(ActorError, match="as ordered"):
            future.get(timeout=PATIENCE)
    assert stage.fetch("value").get(timeout=PATIENCE) == "value"
    assert len(stage.made) == 2


def test_none_is_an_answer_that_is_not_kept(stage: Stage) -> None:
    stage.gate.set()
    assert stage.fetch(None).get(timeout=PATIENCE) is None
    assert stage.fetch("value").get(timeout=PATIENCE) == "value"


def test_what_is_no_json_is_refused(stage: Stage) -> None:
    stage.gate.set()
    with pytest.raises(CacheError) as caught:
        stage.fetch(float("nan")).get(timeout=PATIENCE)
    assert caught.value.kind == "cache.request.invalid"
    assert stage.fetch("value").get(timeout=PATIENCE) == "value"


def test_a_maker_that_there_is_not_is_said(stage: Stage) -> None:
    with pytest.raises(UnknownActor):
        stage.cache.ask(CacheFetch("key", "nobody", Make(1)))
    stage.gate.set()
    assert stage.fetch("value").get(timeout=PATIENCE) == "value"


def test_a_maker_that_takes_too_long_does_not_hold_up_for_ever(stage: Stage) -> None:
    with pytest.raises(ActorError) as caught:
        stage.fetch(patience=0.2).get(timeout=PATIENCE)
    assert caught.value.kind == "cache.fetch.timeout"
    stage.gate.set()
    assert stage.fetch("value").get(timeout=PATIENCE) == "value"


def test_what_a_fallen_cache_was_having_made_its_understudy_has_made_at_once(stage: Stage) -> None:
    """The claim of the one that fell does not hold it up, nor does what comes of its wish confuse anybody."""
    lost = stage.fetch("first")
    stage.cache.tell(Crash())
    with pytest.raises(ActorError):
        lost.get(timeout=PATIENCE)
    second = stage.fetch("second")
    stage.gate.set()
    assert second.get(timeout=PATIENCE) == "second"
    assert stage.made == ["first", "second"]
    assert stage.cache.ask(CacheItems(claim_of("key"))) == []
    assert stage.cache.incarnation == 2


@pytest.mark.parametrize("end", ["falls", "stops"])
def test_what_a_cache_that_ended_was_having_made_another_process_may_make(
    redis_url: str, redis_prefix: str, end: str
) -> None:
    url = f"{redis_url}?prefix={redis_prefix}"
    with ActorSystem("one") as one, ActorSystem("two") as two:
        first, second = Stage(one, url), Stage(two, url)
        making = first.fetch("first", patience=10 * PATIENCE)
        first.cache.ask(CacheGet("other"))
        second.gate.set()
        waiting = second.fetch("second")
        second.cache.ask(CacheGet("other"))
        if end == "falls":
            first.cache.tell(Crash())
        else:
            first.cache.stop()
        with pytest.raises(ActorError):
            making.get(timeout=PATIENCE)
        assert waiting.get(timeout=PATIENCE) == "second"
        first.gate.set()


def test_who_has_made_a_value_gives_up_no_claim_but_its_own(stage: Stage) -> None:
    """Its own may have run out meanwhile, and another process may be at it."""
    making = stage.fetch("first")
    stage.cache.ask(CacheDelete(claim_of("key")))
    stage.cache.ask(CacheAppend(claim_of("key"), "another's", "maker", expires=60))
    stage.gate.set()
    assert making.get(timeout=PATIENCE) == "first"
    assert stage.cache.ask(CacheItems(claim_of("key"))) == ["another's"]


def test_another_process_does_not_make_it_a_second_time(redis_url: str, redis_prefix: str) -> None:
    url = f"{redis_url}?prefix={redis_prefix}"
    with ActorSystem("one") as one, ActorSystem("two") as two:
        first, second = Stage(one, url), Stage(two, url)
        making = first.fetch("first", expires=60)
        first.cache.ask(CacheGet("other"))
        waiting = second.fetch("second", expires=60)
        second.gate.set()
        second.cache.ask(CacheGet("other"))
        first.gate.set()
        assert making.get(timeout=PATIENCE) == waiting.get(timeout=PATIENCE) == "first"
        assert second.made == []


def test_a_process_that_died_while_making_it_is_replaced(redis_url: str, redis_prefix: str) -> None:
    url = f"{redis_url}?prefix={redis_prefix}"
    with ActorSystem("two") as two:
        second = Stage(two, url)
        second.gate.set()
        with ActorSystem("one") as one:
            first = Stage(one, url)
            making = first.fetch("first", patience=0.5)
            first.cache.ask(CacheGet("other"))
            first.cache.stop()
            with pytest.raises(ActorError):
                making.get(timeout=PATIENCE)
            first.gate.set()
        assert second.fetch("second").get(timeout=PATIENCE) == "second"


def test_a_cache_does_not_make_a_value_itself(stage: Stage) -> None:
    """It would wait for itself; it is said at once, whether the value is there or not."""
    for _ in range(2):
        with pytest.raises(CacheError, match=r"maker='cache'") as caught:
            stage.cache.ask(CacheFetch("key", "cache", CacheFetch("key", "maker", Make(1))), timeout=PATIENCE)
        assert caught.value.kind == "cache.request.invalid"
        assert not caught.value.response.retryable
        stage.cache.ask(CacheSet("key", 1))
    assert stage.cache.incarnation == 1

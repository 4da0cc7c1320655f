"""The cache in Redis beyond the contract: faults, full memory, refused users, hostile keys, batches sent twice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from understudy import ActorRef, ActorSystem
from understudy.actors.cache.actor import Cache
from understudy.actors.cache.backend import Operation
from understudy.actors.cache.redis import RedisCache
from understudy.actors.cache.scripts import BATCH
from understudy.actors.redis_url import RedisUrl
from understudy.messages import ActorError, CacheAppend, CacheDelete, CacheError, CacheGet, CacheItems, CacheSet

from ...servers.private import PrivateRedis
from ...servers.process import poll
from ...servers.proxy import FaultyProxy

OPERATIONS, WAVES = 10_000, 40
PATIENCE = 60.0


@pytest.fixture
def client(private_redis: PrivateRedis) -> Iterator[Any]:
    with redis.Redis.from_url(private_redis.url) as connection:
        connection.flushall()
        yield connection


def connection_lives(system: ActorSystem) -> int:
    return system.lookup("cache/connection").incarnation


# --- a server that fails ------------------------------------------------------------------------------------


def test_operations_through_a_network_that_fails_are_all_done_and_none_twice(
    system: ActorSystem, private_redis: PrivateRedis, client: Any, new_proxy: Callable[[str], FaultyProxy]
) -> None:
    """The items have no id: that each is there once is the batch's own doing."""
    proxy = new_proxy(private_redis.url)
    cache = system.spawn(Cache, proxy.url, name="cache")
    cache.ask(CacheSet("there", 1))
    chance = random.Random(20260101)
    faults: list[Callable[[], None]] = [
        proxy.reset,
        proxy.stall,
        proxy.trickle,
        lambda: proxy.cut_replies(chance.randrange(40)),
    ]
    size = OPERATIONS // WAVES
    for wave in range(WAVES):
        futures = [
            cache.ask(CacheAppend("list", wave * size + number, limit=OPERATIONS), block=False, timeout=PATIENCE)
            for number in range(size)
        ]
        faults[wave % len(faults)]()
        cache.tell(CacheSet("during", wave))
        time.sleep(chance.random() * 0.1)  # how long the fault lasts; nothing waits for it
        proxy.heal()
        healed = time.monotonic()
        assert all(future.get(timeout=PATIENCE) for future in futures)
        assert time.monotonic() - healed < 5
    items = [int(item) for item in client.lrange("list", 0, -1)]
    assert items == list(range(OPERATIONS))
    assert proxy.accepted > WAVES // 2


@pytest.mark.parametrize("loss", ["kill", "pause"])
def test_a_lost_server_is_answered_for_in_time_shows_as_a_restart_and_is_back_soon(
    system: ActorSystem, private_redis: PrivateRedis, client: Any, loss: str
) -> None:
    cache = system.spawn(Cache, private_redis.url, name="cache")
    cache.ask(CacheSet("key", 1))
    getattr(private_redis, loss)()
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(CacheError) as caught:
            cache.ask(CacheGet("key"), timeout=1.0)
        assert time.monotonic() - started < 1.0
        assert (caught.value.kind, caught.value.response.code) == ("cache.unavailable", 0xFFFF)
        assert caught.value.response.retryable
    poll(lambda: connection_lives(system) > 1, "restart of the connection")
    private_redis.start() if loss == "kill" else private_redis.resume()
    healed = time.monotonic()
    poll(lambda: answer_of(cache) == 1, "the cache")
    assert time.monotonic() - healed < 5
    assert cache.incarnation == 1


def answer_of(cache: ActorRef[Any]) -> Any:
    try:
        return cache.ask(CacheGet("key"), timeout=0.5)
    except ActorError as error:
        return error


def test_a_short_outage_within_the_deadline_is_only_a_delay(
    system: ActorSystem, private_redis: PrivateRedis, client: Any
) -> None:
    cache = system.spawn(Cache, private_redis.url, name="cache")
    cache.ask(CacheAppend("list", 0))
    private_redis.kill()
    future = cache.ask(CacheAppend("list", 1), block=False, timeout=PATIENCE)
    private_redis.start()
    assert future.get() is True
    assert cache.ask(CacheItems("list")) == [0, 1]


def test_a_cache_starts_without_its_server(system: ActorSystem, private_redis: PrivateRedis) -> None:
    private_redis.kill()
    cache = system.spawn(Cache, private_redis.url, name="cache")
    with pytest.raises(CacheError, match=r"127\.0\.0\.1") as caught:
        cache.ask(CacheSet("key", 1))
    assert caught.value.kind == "cache.unavailable"
    private_redis.start()
    poll(lambda: cache_works(cache), "the cache")


def cache_works(cache: ActorRef[Any]) -> bool:
    try:
        cache.ask(CacheSet("key", 1), timeout=1)
    except ActorError:
        return False
    return True


def test_an_actor_whose_server_does_not_answer_can_be_stopped(
    system: ActorSystem, private_redis: PrivateRedis, client: Any
) -> None:
    cache = system.spawn(Cache, private_redis.url, name="cache")
    cache.ask(CacheSet("key", 1))
    private_redis.pause()
    future = cache.ask(CacheGet("key"), block=False)
    started = time.monotonic()
    cache.stop()
    assert time.monotonic() - started < 5
    with pytest.raises(ActorError):
        future.get(timeout=1)


# --- batches that are sent again ----------------------------------------------------------------------------


def backend_of(url: str) -> RedisCache:
    return RedisCache(RedisUrl.of("redis", url.partition("://")[2], "cache"))


def test_a_batch_that_arrives_after_a_later_one_is_refused(private_redis: PrivateRedis, client: Any) -> None:
    """A network may hold back what was sent before a reset, and deliver it when its repetition is long done."""
    backend = backend_of(private_redis.url)
    script = backend._script([backend._step(CacheAppend("list", 1))], 0)
    late = [BATCH.text if part is BATCH else part for part in script]
    late[0] = "EVAL"
    backend._link.run([script], time.monotonic() + 5)
    backend.run([CacheAppend("list", 2)])
    with pytest.raises(redis.ResponseError, match="later batch"):
        client.execute_command(*late)
    assert backend.run([CacheItems("list")]) == [[1, 2]]
    backend.close()


def test_a_batch_that_is_sent_twice_is_answered_twice_and_done_once(private_redis: PrivateRedis, client: Any) -> None:
    backend = backend_of(private_redis.url)
    client.set("value", "1")
    operations: list[Operation] = [
        CacheAppend("list", 1),
        CacheAppend("list", 1, item_id="a"),
        CacheAppend("list", 2, item_id="a"),
        CacheDelete("gone"),
        CacheAppend("value", 1),
        CacheDelete("value"),
        CacheSet("value", 3),
        CacheGet("value"),
    ]
    script = backend._script([backend._step(operation) for operation in operations], 0)
    first, again = (backend._link.run([script], time.monotonic() + 5) for _ in range(2))
    assert first == again == [[b"110" + b"0W1NR", [b"3"], []]]
    assert backend.run([CacheItems("list")]) == [[1, 1]]
    backend.close()


def test_nothing_is_left_behind_by_lists_that_are_gone(private_redis: PrivateRedis, client: Any) -> None:
    backend = backend_of(private_redis.url)
    for ending in (CacheDelete("list"), CacheSet("list", 1)):
        backend.run([CacheAppend("list", 1, item_id="a"), ending, CacheDelete("list")])
    backend.run([CacheAppend("list", 1, item_id="a", expires=0.05)])
    poll(lambda: client.dbsize() == 1, "expiry of the list and its ids")
    (own,) = client.keys()
    assert 0 < client.pttl(own) <= 600_000
    backend.close()


def test_an_unknown_script_is_sent_with_its_text(private_redis: PrivateRedis, client: Any) -> None:
    backend = backend_of(private_redis.url)
    for number in range(2):
        client.script_flush()
        assert backend.run([CacheAppend("list", number)]) == [True]
    backend.close()


# --- a server that refuses ----------------------------------------------------------------------------------


def test_full_memory_is_said_and_passes(system: ActorSystem, private_redis: PrivateRedis, client: Any) -> None:
    cache = system.spawn(Cache, private_redis.url, name="cache")
    cache.ask(CacheSet("small", 1))
    client.config_set("maxmemory", client.info("memory")["used_memory"])
    try:
        futures = [cache.ask(CacheSet(f"big {number}", "x" * 100_000), block=False) for number in range(50)]
        with pytest.raises(CacheError, match="maxmemory") as caught:
            futures[-1].get()
        assert caught.value.kind == "cache.full"
        assert cache.ask(CacheGet("small")) == 1
        with pytest.raises(CacheError, match="maxmemory"):
            cache.ask(CacheAppend("list", 1))
    finally:
        client.config_set("maxmemory", 0)
    assert cache.ask(CacheAppend("list", 1)) is True


@pytest.mark.parametrize("user", ["default:wrong-hunter2@", "nobody:wrong-hunter2@"])
def test_wrong_credentials_are_said_without_telling_them(
    system: ActorSystem, private_redis: PrivateRedis, client: Any, user: str
) -> None:
    client.config_set("requirepass", "right")
    try:
        cache = system.spawn(Cache, private_redis.url.replace("://", f"://{user}"), name="cache")
        with pytest.raises(CacheError) as caught:
            cache.ask(CacheSet("key", 1))
        assert caught.value.kind == "cache.denied"
        assert "hunter2" not in f"{caught.value!r} {caught.value.response.to_json()!r}"
        right = system.spawn(Cache, private_redis.url.replace("://", "://default:right@"), name="right")
        right.ask(CacheSet("key", 1))
    finally:
        client.config_set("requirepass", "")


def test_a_user_without_rights_is_told_which_operation_it_may_not_do(
    system: ActorSystem, private_redis: PrivateRedis, client: Any
) -> None:
    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-set"])
    cache = system.spawn(Cache, private_redis.url.replace("://", "://reader:any@"), name="cache")
    with pytest.raises(CacheError, match="CacheSet") as caught:
        cache.ask(CacheSet("key", 1))
    assert caught.value.kind == "cache.denied"
    assert cache.ask(CacheGet("key")) is None


def test_a_database_that_there_is_not_is_refused(system: ActorSystem, private_redis: PrivateRedis) -> None:
    cache = system.spawn(Cache, private_redis.url.replace("/0", "/99"), name="cache")
    with pytest.raises(CacheError) as caught:
        cache.ask(CacheSet("key", 1))
    assert caught.value.kind == "cache.denied"


def test_what_another_program_wrote_is_no_value(private_redis: PrivateRedis, client: Any) -> None:
    client.set("text", b"\xff not JSON")
    client.hset("hash", "a", "b")
    backend = backend_of(private_redis.url)
    kinds = [outcome.kind for outcome in backend.run([CacheGet("text"), CacheGet("hash"), CacheAppend("hash", 1)])]
    assert kinds == ["cache.value.wrong_type"] * 3
    backend.close()


def test_a_large_batch_is_sent_in_parts(private_redis: PrivateRedis, client: Any) -> None:
    backend = backend_of(private_redis.url)
    value = "x" * 900_000
    assert backend.run([CacheSet(f"key {number}", value) for number in range(12)]) == [None] * 12
    assert client.get("key 11") == b'"' + value.encode() + b'"'
    backend.close()


def test_callers_of_many_threads_get_their_own_answers(
    system: ActorSystem, private_redis: PrivateRedis, client: Any
) -> None:
    cache = system.spawn(Cache, private_redis.url, name="cache")
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(100):
            cache.ask(CacheSet(f"{number}", turn))
            if cache.ask(CacheGet(f"{number}")) != turn:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

"""Locks in Redis beyond the contract: real time, faults, servers that are lost, lost data, holders that die."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from understudy import Actor, ActorRef, ActorSystem, handles
from understudy.actors.lock.actor import Lock
from understudy.actors.lock.backend import Acquire
from understudy.actors.lock.redis import RedisLock
from understudy.actors.redis_url import RedisUrl
from understudy.messages import (
    AcquireLock,
    ActorError,
    Lease,
    LeaseLost,
    LockError,
    LockHolder,
    ReleaseLock,
    RenewLock,
)

from ...servers.private import PrivateRedis
from ...servers.process import poll
from ...servers.proxy import FaultyProxy
from .failing_network import fail_now_and_then

PATIENCE = 60.0
CYCLES, THREADS = 5_000, 4


@pytest.fixture
def client(private_redis: PrivateRedis) -> Iterator[Any]:
    with redis.Redis.from_url(private_redis.url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def lock(system: ActorSystem, private_redis: PrivateRedis, client: Any) -> ActorRef[Any]:
    return system.spawn(Lock, private_redis.url, name="lock")


class Holder(Actor):
    def __init__(self, told: threading.Event) -> None:
        super().__init__()
        self.told = told

    @handles
    def lease_lost(self, message: LeaseLost) -> None:
        self.told.set()


def held(lock: ActorRef[Any], name: str = "r") -> str | None:
    """Who holds a lock; the kind of the error if that cannot be said."""
    try:
        lease = lock.ask(LockHolder(name), timeout=1)
    except ActorError as error:
        return str(error.kind)
    return None if lease is None else lease.owner


# --- time and holders ---------------------------------------------------------------------------------------


def test_a_waiter_of_another_process_gets_the_lock_at_once(lock: ActorRef[Any], private_redis: PrivateRedis) -> None:
    """It is told by Redis: it does not wait for its next look."""
    with ActorSystem("other") as other:
        theirs = other.spawn(Lock, private_redis.url, name="lock")
        delays = []
        for _ in range(20):
            lease = lock.ask(AcquireLock("r", "ada"))
            waiting = theirs.ask(AcquireLock("r", "bob", wait=60), block=False)
            poll(lambda: line_length(private_redis) == 1, "bob in line")
            released = time.monotonic()
            lock.ask(ReleaseLock("r", lease.token))
            token = waiting.get(timeout=PATIENCE).token
            delays.append(time.monotonic() - released)
            assert token > lease.token
            theirs.ask(ReleaseLock("r", token))
        assert sorted(delays)[10] < 0.5


def line_length(server: PrivateRedis) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.llen("understudy:lock:r:understudy:line"))


def test_a_lease_runs_out_is_told_and_is_handed_on(system: ActorSystem, lock: ActorRef[Any]) -> None:
    told = threading.Event()
    system.spawn(Holder, told, name="holder")
    lease = lock.ask(AcquireLock("r", "holder", lease=0.2, notify="holder"))
    waiting = lock.ask(AcquireLock("r", "bob", wait=10), block=False)
    assert told.wait(PATIENCE)
    assert waiting.get(timeout=PATIENCE).token > lease.token
    with pytest.raises(LockError) as caught:
        lock.ask(ReleaseLock("r", lease.token))
    assert caught.value.kind == "lock.lease.lost"


def test_a_watchdog_keeps_the_lock_and_a_dead_holder_gives_it_back(system: ActorSystem, lock: ActorRef[Any]) -> None:
    told = threading.Event()
    holder = system.spawn(Holder, told, name="holder")
    lock.ask(AcquireLock("r", "holder", lease=1.5, notify="holder", watchdog=True))
    refused = lock.ask(AcquireLock("r", "bob", wait=2.5), block=False)
    with pytest.raises(LockError) as caught:
        refused.get(timeout=PATIENCE)
    assert caught.value.kind == "lock.timeout"
    assert not told.is_set()
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
    holder.stop()
    assert waiting.get(timeout=1).owner == "bob"


def test_a_client_that_died_in_line_is_passed_over(lock: ActorRef[Any], private_redis: PrivateRedis) -> None:
    """Who does not look for ten seconds has left; here the server's clock is moved on for that."""
    now = [time.time()]
    url = RedisUrl.of("redis", private_redis.url.partition("://")[2], "lock")
    answers: dict[str, list[Any]] = {"ada": [], "dead": [], "bob": []}
    clients = {name: RedisLock(url, time.monotonic, lambda: now[0]) for name in answers}
    for name, client in clients.items():
        wish = Acquire("line", name, name, 600.0, 0.0 if name == "ada" else 600.0)
        client.acquire(wish, answers[name].append, lambda lease: None)
    clients["dead"]._listener.close()
    clients["dead"]._link.close()
    now[0] += 11
    clients["bob"]._look("line")
    clients["ada"].release("line", answers["ada"][0].token)
    poll(lambda: len(answers["bob"]) == 1, "bob's turn")
    assert isinstance(answers["bob"][0].token, int)
    for client in clients.values():
        client.close()


def test_tokens_grow_where_the_server_lost_its_data(lock: ActorRef[Any], client: Any) -> None:
    before = lock.ask(AcquireLock("r", "ada"))
    client.flushall()
    after = lock.ask(AcquireLock("r", "bob"))
    assert after.token > before.token
    with pytest.raises(LockError) as caught:
        lock.ask(ReleaseLock("r", before.token))
    assert caught.value.kind == "lock.token.stale"


def test_who_waits_when_the_server_loses_its_data_waits_on(lock: ActorRef[Any], client: Any) -> None:
    lock.ask(AcquireLock("r", "ada", lease=600))
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
    poll(lambda: client.llen("understudy:lock:r:understudy:line") == 1, "bob in line")
    client.flushall()
    assert waiting.get(timeout=PATIENCE).owner == "bob"


# --- a network and a server that fail -----------------------------------------------------------------------


def test_cycles_through_a_network_that_fails_are_all_done_by_one_at_a_time(
    system: ActorSystem, private_redis: PrivateRedis, client: Any, new_proxy: Callable[[str], FaultyProxy]
) -> None:
    """Ten thousand operations: each acquire has one lease, each release ends it, and nobody is left holding it."""
    proxy = new_proxy(private_redis.url)
    lock = system.spawn(Lock, proxy.url, name="lock")
    inside = {name: threading.Lock() for name in ("a", "b")}
    tokens: dict[str, list[int]] = {"a": [], "b": []}
    failures: list[BaseException] = []

    def insist(message: Any) -> Any:
        """As a careful caller does: the same request again, with the same id."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return lock.ask(message, timeout=5)
            except ActorError as error:
                if not error.response.retryable or time.monotonic() > deadline:
                    raise

    def work(number: int) -> None:
        try:
            name = "ab"[number % 2]
            for turn in range(CYCLES // THREADS):
                wanted = AcquireLock(name, f"{number}", lease=60, wait=60, request_id=f"{number}-{turn}")
                lease: Lease = insist(wanted)
                assert inside[name].acquire(blocking=False), "two were in"
                tokens[name].append(lease.token)
                inside[name].release()
                insist(ReleaseLock(name, lease.token))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    number = fail_now_and_then(
        proxy, threads, lambda: sum(map(len, tokens.values())), random.Random(20260102), longest_reply=40
    )
    assert failures == []
    for name, given in tokens.items():
        assert len(given) == CYCLES // 2
        assert given == sorted(set(given)), "tokens grow"
        assert held(lock, name) is None
        assert client.llen(f"understudy:lock:{name}:understudy:line") == 0
    assert number >= 20


@pytest.mark.parametrize("loss", ["kill", "pause"])
def test_a_lost_server_is_answered_for_in_time_and_is_back_soon(
    system: ActorSystem, lock: ActorRef[Any], private_redis: PrivateRedis, loss: str
) -> None:
    told = threading.Event()
    system.spawn(Holder, told, name="holder")
    lock.ask(AcquireLock("r", "holder", lease=1.0, notify="holder", watchdog=True))
    getattr(private_redis, loss)()
    for message in (AcquireLock("s", "bob"), LockHolder("r"), ReleaseLock("s", 1)):
        started = time.monotonic()
        with pytest.raises(ActorError) as caught:
            lock.ask(message, timeout=1.0)
        assert time.monotonic() - started < 1.1
        assert caught.value.kind in ("lock.unavailable", "actor.mailbox.timeout", "actor.mailbox.expired")
        assert caught.value.response.retryable
    assert told.wait(PATIENCE), "the holder is told that it cannot be sure of its lease any more"
    poll(lambda: system.lookup("lock/connection").incarnation > 1, "restart of the connection")
    private_redis.start() if loss == "kill" else private_redis.resume()
    healed = time.monotonic()
    poll(lambda: held(lock, "s") is None, "the lock")
    assert time.monotonic() - healed < 5
    assert lock.incarnation == 1
    lock.ask(AcquireLock("s", "bob", wait=5))


def test_an_acquire_whose_answer_was_lost_leaves_the_lock_to_others(
    system: ActorSystem, private_redis: PrivateRedis, client: Any, new_proxy: Callable[[str], FaultyProxy]
) -> None:
    """Redis granted it, nobody heard: once the network is well, it is given back, long before the lease is over."""
    proxy = new_proxy(private_redis.url)
    lock = system.spawn(Lock, proxy.url, name="lock")
    deadline = time.monotonic() + PATIENCE
    while client.hget("understudy:lock:r", "owner") != b"ada":
        assert time.monotonic() < deadline, "no grant"
        proxy.heal()
        poll(lambda: held(lock) is None, "a connection")
        proxy.cut_replies(0)  # the answer to this, unless the connection's own check comes first and loses it
        with pytest.raises(ActorError):
            lock.ask(AcquireLock("r", "ada", lease=600), timeout=2)
    proxy.heal()
    poll(lambda: client.hget("understudy:lock:r", "owner") is None, "the lock given back")
    assert lock.ask(AcquireLock("r", "bob")).owner == "bob"


def test_locks_are_handed_out_where_memory_is_full(lock: ActorRef[Any], client: Any) -> None:
    """They need next to none, and whoever clears up may need one for it."""
    client.config_set("maxmemory", 1)
    try:
        lease = lock.ask(AcquireLock("r", "ada"))
        waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
        lock.ask(ReleaseLock("r", lease.token))
        assert waiting.get(timeout=PATIENCE).token > lease.token
    finally:
        client.config_set("maxmemory", 0)


def test_what_the_server_refuses_is_said(lock: ActorRef[Any], client: Any) -> None:
    client.set("understudy:lock:r", "what somebody else wrote there")
    with pytest.raises(LockError, match="WRONGTYPE") as caught:
        lock.ask(AcquireLock("r", "ada"))
    assert caught.value.kind == "lock.failed"


def test_wrong_credentials_are_said_without_telling_them(
    system: ActorSystem, private_redis: PrivateRedis, client: Any
) -> None:
    client.config_set("requirepass", "right")
    try:
        lock = system.spawn(Lock, private_redis.url.replace("://", "://:wrong-hunter2@"), name="lock")
        with pytest.raises(LockError) as caught:
            lock.ask(AcquireLock("r", "ada"))
        assert caught.value.kind == "lock.denied"
        assert "hunter2" not in f"{caught.value!r} {caught.value.response.to_json()!r}"
    finally:
        client.config_set("requirepass", "")


@pytest.mark.parametrize("text", ["a\r\nSET b 1\r\n", "\0", "{}", "a}b{", "k" * 300, "é", "*3", "[1]", '"'])
def test_any_text_may_name_a_lock_an_owner_and_a_request(lock: ActorRef[Any], text: str) -> None:
    lease = lock.ask(AcquireLock(text, text, request_id=text))
    waiting = lock.ask(AcquireLock(text, f"2{text}", request_id=f"2{text}", wait=60), block=False)
    assert held(lock, text) == text
    lock.ask(ReleaseLock(text, lease.token))
    assert waiting.get(timeout=PATIENCE).owner == f"2{text}"


def test_a_name_that_is_no_unicode_is_refused(lock: ActorRef[Any]) -> None:
    with pytest.raises(LockError) as caught:
        lock.ask(AcquireLock("\ud800", "ada"))
    assert caught.value.kind == "lock.request.invalid"


def test_a_lock_is_remembered_for_as_long_as_its_lease(lock: ActorRef[Any], client: Any) -> None:
    """Redis forgets what is left lying; a lock that is held longer than that would be granted to a second one."""
    month = 30 * 24 * 3600.0

    def kept() -> float:
        return float(client.pttl("understudy:lock:r")) / 1000

    lease = lock.ask(AcquireLock("r", "ada", lease=month), timeout=PATIENCE)
    assert kept() > month
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False, timeout=PATIENCE)
    poll(lambda: client.llen("understudy:lock:r:understudy:line") == 1, "bob in line")
    assert kept() > month
    lock.ask(RenewLock("r", lease.token, lease=2 * month), timeout=PATIENCE)
    assert kept() > 2 * month
    lock.ask(ReleaseLock("r", lease.token), timeout=PATIENCE)
    lock.ask(RenewLock("r", waiting.get(timeout=PATIENCE).token, lease=2 * month), timeout=PATIENCE)
    assert kept() > 2 * month

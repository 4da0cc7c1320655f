"""Locks in PostgreSQL beyond the contract: sessions that die, holders that are stopped, a server that is lost."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from understudy import Actor, ActorSystem, Message, handles
from understudy.actors.lock.actor import Lock
from understudy.actors.lock.backend import Acquire, Lease
from understudy.actors.lock.postgres import PostgresLock
from understudy.messages import AcquireLock, ActorError, LeaseLost, LockError, LockHolder, ReleaseLock

from ...servers.private import PrivatePostgres
from ...servers.process import poll
from ...servers.proxy import FaultyProxy
from .failing_network import fail_now_and_then

PATIENCE = 60.0
CYCLES, THREADS = 5_000, 4
LEASE_IS_OVER = ("lock.lease.lost", "lock.token.stale", "lock.not_held")


class Client:
    """One connection in real time."""

    def __init__(self, url: str) -> None:
        self.backend = PostgresLock(url, time.monotonic)
        self.lost: list[Lease] = []
        self.asked = 0

    def ask(self, owner: str = "ada", ttl: float = 600.0, wait: float = 0.0) -> list[Any]:
        self.asked += 1
        answers: list[Any] = []
        wish = Acquire("r", owner, f"{owner}-{self.asked}", ttl, wait)
        self.backend.acquire(wish, answers.append, self.lost.append)
        return answers

    def end_session(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (self.backend._pid,))


@pytest.fixture
def connect(postgres_url: str) -> Iterator[Callable[[], Client]]:
    clients: list[Client] = []

    def one() -> Client:
        clients.append(Client(postgres_url))
        return clients[-1]

    yield one
    for client in clients:
        client.backend.close()


def test_a_stopped_holder_keeps_its_lock_past_its_lease(connect: Callable[[], Client]) -> None:
    """Where its client does not go on, nobody else gets in: that is what this backend is for."""
    stopped, other = connect(), connect()
    stopped.ask(ttl=0.05)
    time.sleep(0.1)  # time itself is what is tested
    (refused,) = other.ask("bob")
    assert refused.kind == "lock.timeout"
    stopped.backend.tick()
    assert len(stopped.lost) == 1
    assert isinstance(other.ask("bob")[0], Lease)


def test_a_lock_is_free_when_its_session_is_gone_and_the_holder_is_told(
    connect: Callable[[], Client], postgres_url: str
) -> None:
    holder, other = connect(), connect()
    (lease,) = holder.ask()
    waiting = other.ask("bob", wait=60)
    holder.end_session(postgres_url)
    poll(lambda: other.backend.tick() is not None and bool(waiting), "bob's turn")
    assert waiting[0].token > lease.token
    with pytest.raises(LockError):
        holder.backend.check()
    assert holder.lost == [lease]
    with pytest.raises(LockError) as caught:
        holder.backend.renew("r", lease.token, 5)
    assert caught.value.kind == "lock.lease.lost"
    with pytest.raises(LockError) as caught:
        holder.backend.release("r", lease.token)
    assert caught.value.kind == "lock.lease.lost"


def test_the_line_is_one_for_all_clients_and_the_dead_are_passed_over(
    connect: Callable[[], Client], postgres_url: str
) -> None:
    holder, *others = (connect() for _ in range(5))
    (lease,) = holder.ask()
    waiting = [other.ask(f"waiter {number}", wait=60) for number, other in enumerate(others)]
    others[1].end_session(postgres_url)
    holder.backend.release("r", lease.token)
    for number in (0, 2, 3):
        for other in (others[3], others[2], others[0]):
            other.backend.tick()
            time.sleep(0.11)  # one who waits looks every tenth of a second
            other.backend.tick()
        granted = [each for each, answers in enumerate(waiting) if answers]
        assert granted == [each for each in (0, 2, 3) if each <= number]
        others[number].backend.release("r", waiting[number][0].token)


def test_a_session_that_is_gone_takes_its_place_in_line_again(connect: Callable[[], Client], postgres_url: str) -> None:
    holder, other = connect(), connect()
    (lease,) = holder.ask()
    waiting = other.ask("bob", wait=60)
    other.end_session(postgres_url)
    poll(lambda: other.backend.tick() is not None and other.backend._db is not None, "a new session")
    holder.backend.release("r", lease.token)
    poll(lambda: other.backend.tick() is None or bool(waiting), "bob's turn")
    assert isinstance(waiting[0], Lease)


def test_a_session_that_was_left_in_the_middle_of_a_statement_is_given_up(connect: Callable[[], Client]) -> None:
    """As psycopg leaves it where the socket breaks in a moment in which libpq does not see it."""
    client = connect()
    (lease,) = client.ask()
    assert client.backend._db is not None
    client.backend._db.pgconn.send_query(b"SELECT 1")
    (another,) = client.ask("bob", wait=60)
    assert client.lost == [lease]
    assert another.token > lease.token
    assert client.backend.release("r", another.token)


class Fall(Message[None]):
    """Fall."""


class FallingLock(Lock):
    @handles
    def fall(self, message: Fall) -> None:
        raise RuntimeError("as ordered")


class Holder(Actor):
    def __init__(self, told: threading.Event) -> None:
        super().__init__()
        self.told = told

    @handles
    def lease_lost(self, message: LeaseLost) -> None:
        self.told.set()


def test_a_watchdog_keeps_the_lock_and_a_dead_holder_gives_it_back(system: ActorSystem, postgres_url: str) -> None:
    lock = system.spawn(Lock, postgres_url, name="lock")
    told = threading.Event()
    holder = system.spawn(Holder, told, name="holder")
    lock.ask(AcquireLock("r", "holder", lease=1.5, notify="holder", watchdog=True))
    with pytest.raises(LockError) as caught:
        lock.ask(AcquireLock("r", "bob", wait=2.5))
    assert caught.value.kind == "lock.timeout"
    assert not told.is_set()
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
    holder.stop()
    assert waiting.get(timeout=PATIENCE).owner == "bob"


class Telling(Actor):
    """Notes which of its leases were lost."""

    def __init__(self, lost: queue.SimpleQueue[LeaseLost]) -> None:
        super().__init__()
        self.lost = lost

    @handles
    def lease_lost(self, message: LeaseLost) -> None:
        self.lost.put(message)


@pytest.mark.parametrize("end", ["falls", "stops"])
def test_the_holders_are_told_when_the_lock_actor_ends(system: ActorSystem, postgres_url: str, end: str) -> None:
    """Its session is what the leases stand on: whoever holds one must not work on."""
    lock = system.spawn(FallingLock, postgres_url, name="lock")
    lost: queue.SimpleQueue[LeaseLost] = queue.SimpleQueue()
    for name in ("one", "two"):
        system.spawn(Telling, lost, name=name)
    tokens = {name: lock.ask(AcquireLock(name, name, lease=600, notify=name)).token for name in ("one", "two")}
    given_back = lock.ask(AcquireLock("three", "one", lease=600, notify="one"))
    lock.ask(ReleaseLock("three", given_back.token))
    if end == "falls":
        lock.tell(Fall())
    else:
        lock.stop()
    assert {(each.name, each.token) for each in (lost.get(timeout=PATIENCE), lost.get(timeout=PATIENCE))} == set(
        tokens.items()
    )
    if end == "falls":
        assert lock.ask(AcquireLock("one", "two", lease=600, notify="two", wait=PATIENCE)).token > tokens["one"]
    assert lost.empty()


@pytest.mark.parametrize("loss", ["kill", "pause"])
def test_a_lost_server_is_answered_for_in_time_and_is_back_soon(
    system: ActorSystem, private_postgres: PrivatePostgres, loss: str
) -> None:
    lock = system.spawn(Lock, private_postgres.url, name="lock")
    told = threading.Event()
    system.spawn(Holder, told, name="holder")
    lock.ask(AcquireLock("r", "holder", lease=1.0, notify="holder", watchdog=True))
    getattr(private_postgres, loss)()
    for message in (AcquireLock("s", "bob"), LockHolder("r"), ReleaseLock("s", 1)):
        started = time.monotonic()
        with pytest.raises(ActorError) as caught:
            lock.ask(message, timeout=1.0)
        assert time.monotonic() - started < 1.5
        assert caught.value.response.retryable
    assert told.wait(PATIENCE)
    poll(lambda: system.lookup("lock/connection").incarnation > 1, "restart of the connection")
    private_postgres.start() if loss == "kill" else private_postgres.resume()
    healed = time.monotonic()
    poll(lambda: is_free(lock, "s"), "the lock")
    assert time.monotonic() - healed < 5
    assert lock.incarnation == 1
    assert lock.ask(AcquireLock("r", "bob", wait=15)).owner == "bob"


def is_free(lock: Any, name: str) -> bool:
    try:
        return lock.ask(LockHolder(name), timeout=1) is None
    except ActorError:
        return False


def test_a_user_without_rights_gets_a_code_and_no_secret(system: ActorSystem, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS understudy_nobody")
        connection.execute("CREATE ROLE understudy_nobody LOGIN PASSWORD 'hunter2'")
        try:
            connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            parts = urlsplit(postgres_url)
            url = parts._replace(netloc=f"understudy_nobody:hunter2@{parts.hostname}:{parts.port}").geturl()
            lock = system.spawn(Lock, url, name="lock")
            with pytest.raises(LockError) as caught:
                lock.ask(AcquireLock("r", "ada"))
            assert caught.value.kind == "lock.denied"
            assert "hunter2" not in f"{caught.value!r} {caught.value.response.to_json()!r}"
            lock.stop()
        finally:
            connection.execute("DROP OWNED BY understudy_nobody")
            connection.execute("DROP ROLE understudy_nobody")


@pytest.mark.parametrize("text", ["a'; DROP TABLE understudy_locks --", "\0", "%s", "k" * 300, "é"])
def test_any_text_may_name_a_lock_and_an_owner(system: ActorSystem, postgres_url: str, text: str) -> None:
    lock = system.spawn(Lock, postgres_url, name="lock")
    lease = lock.ask(AcquireLock(text, text, request_id=text))
    assert (lease.name, lease.owner) == (text, text)
    assert lock.ask(ReleaseLock(text, lease.token)) is True


class Cycles:
    """Threads that acquire a lock and release it again and again, as careful callers do."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.noted: list[tuple[str, int]] = []
        self.kept: dict[int, bool] = {}
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(THREADS)]

    def insist(self, message: Any) -> Any:
        """The same request again, with the same id, as long as that can help."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.lock.ask(message, timeout=5)
            except ActorError as error:
                over = error.kind in LEASE_IS_OVER or not error.response.retryable
                if over or time.monotonic() > deadline:
                    raise

    def work(self, number: int) -> None:
        try:
            for turn in range(CYCLES // THREADS):
                wanted = AcquireLock("r", f"{number}", lease=60, wait=PATIENCE, request_id=f"{number}-{turn}")
                token = self.insist(wanted).token
                self.noted.append(("granted", token))
                self.noted.append(("releases", token))
                self.kept[token] = self.release(token)
        except BaseException as error:
            self.failures.append(error)

    def release(self, token: int) -> bool:
        """Whether the lock was held until now."""
        try:
            self.insist(ReleaseLock("r", token))
        except LockError as error:
            if error.kind not in LEASE_IS_OVER:
                raise
            return False
        return True

    def overlaps(self) -> int:
        """How often one was granted while another one was held that was kept until its release."""
        holding: set[int] = set()
        found = 0
        for what, token in self.noted:
            if what == "releases":
                holding.discard(token)
            elif self.kept[token]:
                found += bool(holding)
                holding.add(token)
        return found


@pytest.mark.timeout(900)  # a minute or two, but for a slow machine
def test_through_a_network_that_fails_every_wish_is_granted_and_no_two_hold_at_once(
    system: ActorSystem, postgres_url: str, new_proxy: Callable[[str], FaultyProxy]
) -> None:
    """Whoever could release its lease has held it all the time, so no two such times overlap.

    A session that broke took its lease along: that one's release says so.
    """
    proxy = new_proxy(postgres_url)
    lock = system.spawn(Lock, proxy.url, name="lock")
    cycles = Cycles(lock)
    for thread in cycles.threads:
        thread.start()
    number = fail_now_and_then(
        proxy, cycles.threads, lambda: len(cycles.kept), random.Random(20260103), longest_reply=400
    )
    assert cycles.failures == []
    assert len(cycles.kept) == CYCLES, "each has a token of its own"
    assert cycles.overlaps() == 0
    assert sum(cycles.kept.values()) > CYCLES // 2
    assert number >= 20
    assert lock.ask(LockHolder("r")) is None
    with psycopg.connect(postgres_url) as db:
        assert db.execute("SELECT count(*) FROM understudy_lock_line").fetchone() == (0,)

"""A PostgreSQL server that is killed, hangs or is gone: coded errors in time, nothing lost, nothing twice."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from understudy.actors.events import ActorCrashed, ActorRestarted, RestartScheduled, SupervisorGaveUp
from understudy.actors.handlers import handles
from understudy.actors.mutator.accessor import Accessor
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    ActorError,
    CountNotifs,
    Fence,
    Message,
    NotifData,
    SeenNotif,
    StorageError,
    StoreNotifEvent,
)
from understudy.supervisors.backoff import Backoff
from understudy.supervisors.child import Child
from understudy.supervisors.supervisor import Supervisor
from understudy.supervisors.system import ActorSystem

from ...servers.private import PrivatePostgres

Make = Callable[..., NotifData]
HEALED_WITHIN = 5.0


class Sabotage(Message[None]):
    """Crash."""


class Fragile(Mutator):
    @handles
    def sabotage(self, message: Sabotage) -> None:
        raise RuntimeError("told to")


@pytest.fixture
def server(private_postgres: PrivatePostgres) -> PrivatePostgres:
    """An empty server of this module's own."""
    with psycopg.connect(private_postgres.url, autocommit=True) as db:
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
    return private_postgres


@pytest.fixture
def system(server: PrivatePostgres) -> Iterator[ActorSystem]:
    """A mutator and an accessor under a supervisor with its defaults: three restarts in five seconds."""
    tree = Supervisor(
        "shop",
        [
            Child(Fragile, (server.url,), name="mutator", backoff=Backoff(0.1, 5.0)),
            Child(Accessor, (server.url,), name="accessor"),
        ],
    )
    with ActorSystem("test", tree) as running:
        yield running
        server.ensure_running()


@pytest.fixture
def mutator(system: ActorSystem) -> Any:
    return system.lookup("shop/mutator")


def count(server: PrivatePostgres) -> tuple[int, int]:
    """How many rows there are, and how many different ids."""
    with psycopg.connect(server.url) as db:
        found = db.execute("SELECT count(*), count(DISTINCT nid) FROM notifs").fetchone()
    assert found is not None
    return found[0], found[1]


def until_it_works(ask: Callable[[], object]) -> float:
    """Seconds until a request succeeds; the failures before have codes that say that it is worth while."""
    started = time.monotonic()
    while not _works(ask):
        assert time.monotonic() - started < 30
    return time.monotonic() - started


def _works(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except ActorError as error:
        if not error.response.retryable:
            raise
        return False
    return True


def test_what_was_acknowledged_while_the_server_was_killed_is_there_once(
    server: PrivatePostgres, system: ActorSystem, mutator: Any, make_notif: Make
) -> None:
    """Four threads store; three times the server is killed in the middle of it."""
    total, chance = 6_000, random.Random(7)
    stored, progress = [0], threading.Condition()

    def store(number: int) -> bool:
        added: bool = mutator.ask(StoreNotifEvent(message=make_notif(f"n{number}")), timeout=30)
        with progress:
            stored[0] += 1
            progress.notify_all()
        return added

    with ThreadPoolExecutor(64) as threads:
        outcomes = [threads.submit(store, number) for number in range(total)]
        for part in (1, 2, 3):
            with progress:
                while stored[0] < part * total // 5:
                    assert progress.wait(timeout=60)
            time.sleep(chance.uniform(0, 0.02))
            server.kill()
            server.start()
        added = [outcome.result() for outcome in outcomes]
    # Even a row whose commit was lost on the way counts as added by the request that added it.
    assert added.count(True) == total
    assert count(server) == (total, total)
    assert mutator.incarnation == 1


def test_a_server_that_hangs_gives_a_code_within_the_deadline(
    server: PrivatePostgres, mutator: Any, system: ActorSystem, make_notif: Make
) -> None:
    accessor = system.lookup("shop/accessor")
    event = StoreNotifEvent(message=make_notif("a"), fence=Fence("lock", 1))
    for ref in (mutator, accessor):  # a connection that is made while the server is being paused may escape it
        ref.ask(CountNotifs())
    server.pause()
    for timeout in (1.0, 2.0):
        for ref, message in ((mutator, event), (mutator, SeenNotif("a")), (accessor, CountNotifs())):
            started = time.monotonic()
            with pytest.raises(StorageError) as caught:
                ref.ask(message, timeout=timeout)
            assert time.monotonic() - started < timeout
            assert caught.value.kind == "storage.postgres.unavailable"
            assert caught.value.response.retryable
    server.resume()
    assert until_it_works(lambda: mutator.ask(event, timeout=1)) < HEALED_WITHIN
    assert until_it_works(lambda: accessor.ask(CountNotifs(), timeout=1)) < HEALED_WITHIN
    assert count(server) == (1, 1)


def test_an_outage_shows_as_the_restart_of_the_connection_and_uses_up_no_restarts(
    server: PrivatePostgres, mutator: Any, system: ActorSystem, make_notif: Make
) -> None:
    seen: list[Any] = []
    back = threading.Event()

    def note(event: Any) -> None:
        seen.append(event)
        if isinstance(event, ActorRestarted):
            back.set()

    for kind in (ActorCrashed, ActorRestarted, RestartScheduled, SupervisorGaveUp):
        system.events.subscribe(kind, note)
    mutator.ask(CountNotifs())
    server.kill()
    with pytest.raises(StorageError) as caught:
        mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=3)
    assert caught.value.kind == "storage.postgres.unavailable"
    server.start()
    assert until_it_works(lambda: mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=1)) < HEALED_WITHIN
    assert back.wait(HEALED_WITHIN)
    paths = {getattr(event, "child", event.path) for event in seen}
    assert paths <= {"shop/mutator/connection", "shop/accessor/connection"}
    delays = [event.delay for event in seen if isinstance(event, RestartScheduled)]
    assert max(delays) > min(delays)
    assert {type(event) for event in seen} == {ActorCrashed, ActorRestarted, RestartScheduled}
    assert mutator.incarnation == 1


def test_a_mutator_that_crashes_during_an_outage_comes_back_and_waits_for_its_server(
    server: PrivatePostgres, mutator: Any, make_notif: Make
) -> None:
    server.kill()
    for _ in range(2):
        with pytest.raises(ActorError):
            mutator.ask(Sabotage(), timeout=5)
    waiting = mutator.ask(StoreNotifEvent(message=make_notif("a")), block=False, timeout=20)
    server.start()
    assert waiting.get() is True
    assert mutator.incarnation == 3


@pytest.mark.parametrize("actor_class", [Mutator, Accessor])
def test_it_starts_without_its_server_and_finds_it_later(
    server: PrivatePostgres, actor_class: type[Any], make_notif: Make
) -> None:
    """As broker, cache and lock do: an outage shows in the connection below it and in the answers."""
    server.kill()
    tree = Supervisor("shop", [Child(actor_class, (server.url,), name="store")])
    with ActorSystem("test", tree) as system:
        store = system.lookup("shop/store")
        with pytest.raises(StorageError) as caught:
            store.ask(CountNotifs(), timeout=1.5)
        assert caught.value.kind == "storage.postgres.unavailable"
        assert caught.value.response.retryable
        server.start()
        assert until_it_works(lambda: store.ask(CountNotifs(), timeout=1)) < HEALED_WITHIN
        if actor_class is Mutator:
            assert store.ask(StoreNotifEvent(message=make_notif("a"))) is True
        assert store.incarnation == 1


def test_what_the_pool_would_log_of_an_outage_is_not_said_twice(
    server: PrivatePostgres, make_notif: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection's restarts and the coded errors say it; pools of the user's own still speak."""
    with ActorSystem("test") as system:
        mutator = system.spawn(Mutator, server.url, name="mutator")
        mutator.ask(CountNotifs())
        server.kill()
        with pytest.raises(StorageError):
            mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=2)
        server.start()
        until_it_works(lambda: mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=1))
        server.pause()
        with pytest.raises(StorageError):
            mutator.ask(StoreNotifEvent(message=make_notif("b")), timeout=1)
    server.resume()
    assert [record.getMessage() for record in caplog.records if record.name == "psycopg.pool"] == []
    assert "mutator/connection" in caplog.text
    logging.getLogger("psycopg.pool").warning("error connecting in %r: %s", "pool-1", "gone")
    assert "error connecting in 'pool-1': gone" in caplog.text


def test_a_statement_that_waits_for_a_lock_ends_at_the_deadline_on_the_server_too(
    server: PrivatePostgres, mutator: Any, make_notif: Make
) -> None:
    mutator.ask(CountNotifs())
    with psycopg.connect(server.url) as other:
        other.execute("LOCK TABLE notifs IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(StorageError) as caught:
            mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=1)
        assert time.monotonic() - started < 1
        assert caught.value.kind == "storage.postgres.unavailable"
        while waiting_for_locks(server):
            assert time.monotonic() - started < 5
            time.sleep(0.05)
    assert mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=5) is True


def waiting_for_locks(server: PrivatePostgres) -> int:
    with psycopg.connect(server.url) as db:
        found = db.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    assert found is not None
    return int(found[0])


def test_requests_of_different_patience_have_each_their_own_deadline(
    server: PrivatePostgres, mutator: Any, make_notif: Make
) -> None:
    """All of them are in one batch, whose transaction hangs."""
    mutator.ask(CountNotifs())
    server.pause()
    first = mutator.ask(StoreNotifEvent(message=make_notif("first")), block=False, timeout=1)
    waiting = [
        mutator.ask(StoreNotifEvent(message=make_notif(f"{timeout}-{number}")), block=False, timeout=timeout)
        for timeout in (2, 30)
        for number in range(10)
    ]
    with pytest.raises(StorageError):
        first.get()
    for future in waiting[:10]:
        with pytest.raises(StorageError):
            future.get()
    server.resume()
    assert [future.get() for future in waiting[10:]] == [True] * 10


def test_stopping_does_not_wait_for_a_server_that_hangs(server: PrivatePostgres, make_notif: Make) -> None:
    with ActorSystem("test") as system:
        mutator = system.spawn(Mutator, server.url, name="mutator")
        mutator.ask(CountNotifs())
        server.pause()
        waiting = mutator.ask(StoreNotifEvent(message=make_notif("a")), block=False, timeout=60)
        time.sleep(0.2)
        started = time.monotonic()
        system.stop()
        assert time.monotonic() - started < 4  # less than the time after which it would be killed
        with pytest.raises(ActorError):
            waiting.get(timeout=1)
    server.resume()

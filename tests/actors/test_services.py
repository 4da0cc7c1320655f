"""What the service actors share: URLs, the embedded servers of a system, connections that end with an incarnation."""

from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from understudy.actors.actor import Actor
from understudy.actors.broker.actor import Broker
from understudy.actors.cache.actor import Cache
from understudy.actors.embedded import Embedded
from understudy.actors.events import ActorCrashed
from understudy.actors.lock.actor import Lock
from understudy.actors.mutator.accessor import Accessor
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    AcquireLock,
    ActorError,
    CacheGet,
    CacheSet,
    CountNotifs,
    CountQueue,
    DeclareQueue,
    LockError,
    LockHolder,
    Message,
    NotifData,
    StartFailed,
    StoreNotifEvent,
    UrlInvalid,
)
from understudy.supervisors.system import ActorSystem

SERVICES = [Broker, Mutator, Accessor, Cache, Lock]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("url", ["carrier-pigeon://ada:hunter2@host/", "memory", "no url at all", "://", "sqlite:"])
def test_a_url_that_nothing_opens_says_what_is_supported_and_hides_the_rest(service: type[Actor], url: str) -> None:
    with ActorSystem("shop") as system:
        with pytest.raises(StartFailed) as caught:
            system.spawn(service, url, name="service")
        cause = caught.value.__cause__
        assert isinstance(cause, UrlInvalid)
        assert cause.kind == "config.url.invalid"
        assert "supported: " in str(cause)
        assert "hunter2" not in f"{caught.value} {caught.value.response.to_json()!r}"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite://file.db", "sqlite:///", "sqlite:///file.db?mode=ro"])
def test_a_store_url_of_another_form_is_refused(url: str) -> None:
    with ActorSystem("shop") as system:
        with pytest.raises(StartFailed) as caught:
            system.spawn(Mutator, url, name="mutator")
        assert isinstance(caught.value.__cause__, UrlInvalid)


def test_a_store_that_cannot_be_opened_keeps_its_code(tmp_path: Path) -> None:
    with ActorSystem("shop") as system:
        with pytest.raises(StartFailed) as caught:
            system.spawn(Mutator, f"sqlite:///{tmp_path}/missing/store.db", name="mutator")
        cause = caught.value.__cause__
        assert isinstance(cause, ActorError)
        assert cause.kind == "storage.sqlite.unavailable"


@pytest.mark.parametrize("service", SERVICES)
def test_the_environment_chooses_where_no_url_is_given(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(service.variable, "carrier-pigeon://")
    with ActorSystem("shop") as system, pytest.raises(StartFailed, match="carrier-pigeon"):
        system.spawn(service, name="service")


def test_the_variables_are_those_of_the_documentation() -> None:
    assert [(each.variable, each.default_url) for each in (Broker, Mutator, Cache, Lock)] == [
        ("UNDERSTUDY_BROKER_URL", "memory://"),
        ("UNDERSTUDY_STORE_URL", "sqlite:///understudy.db"),
        ("UNDERSTUDY_CACHE_URL", "memory://"),
        ("UNDERSTUDY_LOCK_URL", "memory://"),
    ]


def test_nothing_set_writes_to_a_file_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNDERSTUDY_STORE_URL", raising=False)
    with ActorSystem("shop") as system:
        system.spawn(Mutator, name="mutator")
    assert (tmp_path / "understudy.db").exists()


def test_a_path_may_be_absolute_and_percent_encoded(tmp_path: Path) -> None:
    with ActorSystem("shop") as system:
        system.spawn(Mutator, f"sqlite:///{tmp_path}/my%20store.db", name="mutator")
    assert (tmp_path / "my store.db").exists()


def store(nid: str) -> StoreNotifEvent:
    data = NotifData(id=nid, receiver_info="1", action_data=None, actioner_info="2", fired_at=1)
    return StoreNotifEvent(message=data)


WRITE_AND_READ: list[tuple[type[Actor], str, Message[Any], Message[Any], Any]] = [
    (Cache, "memory://", CacheSet("key", 1), CacheGet("key"), None),
    (Mutator, "sqlite:///:memory:", store("a"), CountNotifs(), 0),
    (Lock, "memory://", AcquireLock("r", "ada"), LockHolder("r"), None),
]


@pytest.mark.parametrize(("service", "url", "write", "read", "nothing"), WRITE_AND_READ)
def test_actors_of_one_system_share_its_embedded_server_and_other_systems_do_not(
    service: type[Actor], url: str, write: Message[Any], read: Message[Any], nothing: Any
) -> None:
    with ActorSystem("one") as one, ActorSystem("two") as two:
        writer, reader = one.spawn(service, url, name="writer"), one.spawn(service, url, name="reader")
        foreign = two.spawn(service, url, name="reader")
        writer.ask(write)
        assert reader.ask(read) != nothing
        assert foreign.ask(read) == nothing


@pytest.mark.parametrize(("service", "url", "write", "read", "nothing"), WRITE_AND_READ)
def test_what_an_actor_had_in_an_embedded_server_outlives_it(
    service: type[Actor], url: str, write: Message[Any], read: Message[Any], nothing: Any
) -> None:
    with ActorSystem("shop") as system:
        fallen = system.spawn(service, url, name="fallen")
        fallen.ask(write)
        fallen.stop()
        assert system.spawn(service, url, name="understudy").ask(read) != nothing


def test_a_name_in_the_url_makes_another_server() -> None:
    with ActorSystem("shop") as system:
        one, other = (system.spawn(Broker, url, name=name) for name, url in (("a", "memory://a"), ("b", "memory://b")))
        one.ask(DeclareQueue("q"))
        assert one.ask(CountQueue("q")).ready == 0
        with pytest.raises(ActorError) as caught:
            other.ask(CountQueue("q"))
        assert caught.value.kind == "broker.queue.unknown"


def test_service_actors_run_without_a_system_too() -> None:
    cache = Cache.start("memory://private to this test")
    cache.ask(CacheSet("key", 1))
    assert cache.ask(CacheGet("key")) == 1
    cache.stop()


def test_an_embedded_server_is_made_once_for_each_service_and_name_and_closed_once() -> None:
    embedded, closed = Embedded(), list[object]()
    one = embedded.server("broker", "a", object, closed.append)
    assert embedded.server("broker", "a", object, closed.append) is one
    assert embedded.server("broker", "b", object, closed.append) is not one
    assert embedded.server("cache", "a", object) is not one
    embedded.close()
    embedded.close()
    assert closed[0] is one
    assert len(closed) == 2


def test_a_refused_request_does_not_end_the_actor() -> None:
    with ActorSystem("shop") as system:
        lock = system.spawn(Lock, "memory://", name="lock")
        held = lock.ask(AcquireLock("r", "ada"))
        with pytest.raises(LockError):
            lock.ask(AcquireLock("r", "bob"))
        assert lock.incarnation == 1
        holder = lock.ask(LockHolder("r"))
        assert holder is not None
        assert holder.token == held.token


@pytest.mark.parametrize(
    ("service", "url", "kind"),
    [
        (Broker, "amqp://127.0.0.1:1", "broker.unavailable"),
        (Cache, "redis://127.0.0.1:1?timeout=5", "cache.unavailable"),
        (Mutator, "postgresql://127.0.0.1:1/shop", "storage.postgres.unavailable"),
    ],
)
def test_why_a_server_cannot_be_reached_names_what_was_done_and_no_helper(
    service: type[Actor], url: str, kind: str
) -> None:
    """The functions that put such an error together are nobody's method."""
    crashes: Queue[ActorCrashed] = Queue()
    with ActorSystem("shop") as system:
        system.events.subscribe(ActorCrashed, crashes.put)
        system.spawn(service, url, name="service")
        error = crashes.get(timeout=60).error
        assert isinstance(error, ActorError)
        assert error.kind == kind
        assert error.response.method in ("check", "connect")

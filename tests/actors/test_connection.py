"""A server that is lost shows as the restart of its service actor's connection, and as nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from understudy import ActorSystem, Child, Message, StorageError, Supervisor, handles
from understudy.actors import connection, lifecycle
from understudy.actors.embedded import Embedded
from understudy.actors.events import (
    ActorCrashed,
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    ChildStartFailed,
    Event,
    HandlerAbandoned,
    RestartScheduled,
)
from understudy.actors.service import ServiceActor
from understudy.supervisors import parts
from understudy.supervisors.backoff import Backoff

PATIENCE = 60.0


class FakeServer:
    """A backend whose server is there, gone, or stuck, as a test says."""

    def __init__(self) -> None:
        self.there = True
        self.stuck: threading.Event | None = None
        self.checked = threading.Semaphore(0)
        self.closed = 0

    def check(self) -> None:
        self.checked.release()
        if self.stuck is not None:
            self.stuck.wait(PATIENCE)
        if not self.there:
            raise StorageError("the server does not answer")

    def close(self) -> None:
        self.closed += 1
        if self.stuck is not None:
            self.stuck.set()


class Break(Message[None]):
    """Crash."""


class Hello(Message[str]):
    """Answer."""


class Service(ServiceActor[FakeServer]):
    variable = "UNDERSTUDY_TEST_URL"
    default_url = "fake://"

    def __init__(self, server: FakeServer) -> None:
        super().__init__()
        self.server = server

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> FakeServer:
        return self.server

    @handles
    def hello(self, _message: Hello) -> str:
        return "hello"

    @handles
    def fall(self, _message: Break) -> None:
        raise RuntimeError("told to")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHECK_EVERY", 0.01)
    monkeypatch.setattr(parts, "RECONNECT", Backoff(0.01, 0.02))


class Heard:
    """What happens in a system, to be waited for."""

    def __init__(self, system: ActorSystem) -> None:
        self.events: list[Event] = []
        self._news = threading.Condition()
        system.events.subscribe(Event, self._hear)

    def _hear(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def wait_for(self, kind: type[Event], path: str, times: int = 1) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.of(kind, path)) >= times, PATIENCE), self.events

    def of(self, kind: type[Event], path: str) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind) and getattr(each, "child", each.path) == path]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def system(server: FakeServer) -> Iterator[ActorSystem]:
    tree = Supervisor("shop", [Child(Service, (server,), name="service")], intensity=1)
    with ActorSystem("connection", tree) as system:
        yield system


def paths(system: ActorSystem) -> list[str]:
    return [cell.path for cell in system.cells()]


def test_the_connection_stands_below_its_service_in_the_tree(system: ActorSystem) -> None:
    assert paths(system) == ["shop", "shop/service", "shop/service/connection"]


def test_a_lost_server_is_one_restart_of_the_connection_and_the_service_lives_on(
    system: ActorSystem, server: FakeServer
) -> None:
    heard = Heard(system)
    server.there = False
    heard.wait_for(ActorCrashed, "shop/service/connection")
    heard.wait_for(ChildStartFailed, "shop/service/connection", times=5)  # more than the tree's intensity allows
    assert system.ask("shop/service", Hello(), timeout=PATIENCE) == "hello"
    server.there = True
    heard.wait_for(ActorRestarted, "shop/service/connection")
    assert heard.of(RestartScheduled, "shop/service/connection")
    assert not heard.of(ActorCrashed, "shop/service")
    assert len(heard.of(ActorCrashed, "shop/service/connection")) == 1


def test_a_service_starts_without_its_server_and_shows_that_it_is_missing(server: FakeServer) -> None:
    server.there = False
    with ActorSystem("connection") as system:
        heard = Heard(system)
        service = system.spawn(Service, server, name="service")
        heard.wait_for(ActorCrashed, "service/connection")
        assert service.ask(Hello(), timeout=PATIENCE) == "hello"
        server.there = True
        heard.wait_for(ActorRestarted, "service/connection")


def test_the_connection_goes_with_its_service_and_the_next_one_has_one_of_its_own(
    system: ActorSystem, server: FakeServer
) -> None:
    heard = Heard(system)
    system.tell("shop/service", Break())
    heard.wait_for(ActorRestarted, "shop/service")
    heard.wait_for(ActorStarted, "shop/service/connection")
    assert paths(system) == ["shop", "shop/service", "shop/service/connection"]
    assert server.closed == 1


def test_a_stuck_check_holds_no_stop_up(system: ActorSystem, server: FakeServer) -> None:
    heard = Heard(system)
    server.stuck = threading.Event()
    assert server.checked.acquire(timeout=PATIENCE)
    assert system.stop(timeout=PATIENCE)
    assert not heard.of(HandlerAbandoned, "shop/service/connection")


def test_a_service_that_is_ended_by_force_takes_its_connection_along(server: FakeServer) -> None:
    with ActorSystem("connection") as system:
        service = system.spawn(Service, server, name="service", shutdown="brutal_kill")
        assert service.stop(timeout=PATIENCE)
        assert paths(system) == []
        again = system.spawn(Service, server, name="service")
        assert again.ask(Hello(), timeout=PATIENCE) == "hello"
        assert paths(system) == ["service", "service/connection"]


def test_the_connections_parts_may_end_only_with_their_service(system: ActorSystem) -> None:
    """Were their supervisor to end, the service would be restarted with new parts."""
    heard = Heard(system)
    service: Any = system.lookup("shop/service")._cell.actor
    service._parts.signal(object())  # it takes no notice of what it does not know
    lifecycle.kill(service._parts)
    heard.wait_for(ActorRestarted, "shop/service")
    assert paths(system) == ["shop", "shop/service", "shop/service/connection"]


def test_a_backend_without_a_server_has_no_connection_to_watch() -> None:
    from understudy import Cache

    with ActorSystem("connection") as system:
        system.spawn(Cache, "memory://", name="cache")
        assert paths(system) == ["cache"]


def test_a_service_that_crashes_has_not_stopped(system: ActorSystem, server: FakeServer) -> None:
    """Its parts end with each life of it, without a word of their own: they have no name beside its own."""
    heard = Heard(system)
    service = system.lookup("shop/service")
    service.tell(Break())
    heard.wait_for(ActorRestarted, "shop/service")
    assert service.ask(Hello(), timeout=PATIENCE) == "hello"
    assert len(heard.of(ActorCrashed, "shop/service")) == 1
    assert heard.of(ActorStopped, "shop/service") == []
    assert len(heard.of(ActorStopped, "shop/service/connection")) == 1
    assert service.stop(timeout=PATIENCE)
    assert len(heard.of(ActorStopped, "shop/service")) == 1

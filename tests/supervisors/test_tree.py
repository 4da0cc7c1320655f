"""What ``system.tree()`` shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import understudy
from understudy import ActorSystem, Child, DynamicSupervisor, HandlerFailed, Supervisor, events
from understudy.actors.embedded import Embedded
from understudy.actors.service import ServiceActor

from .bank import Account, Balance, Deposit, Gate, Rob, Wait


def test_the_tree_shows_who_runs_where_how_often_restarted_and_what_waits(gate: Gate) -> None:
    tree = Supervisor(
        "branch",
        [Child(Account, name="ada"), DynamicSupervisor("tills"), Child(Account, name="bob")],
    )
    with ActorSystem("bank", tree) as system:
        with pytest.raises(HandlerFailed):
            system.ask("branch/ada", Rob())
        assert system.ask("branch/ada", Balance()) == 0
        system.tell("branch/bob", Wait(gate))
        assert gate.entered.wait(60)
        system.tell("branch/bob", Deposit(1))
        system.tell("branch/bob", Deposit(1))
        system.spawn(Account, name="eve")
        shown = system.tree()
        assert str(shown) == (
            "bank\n"
            "├── branch  StaticSupervisor\n"
            "│   ├── ada  Account, restarted 1×\n"
            "│   ├── tills  DynamicKeeper\n"
            "│   └── bob  Account, 2 waiting\n"
            "└── eve  Account"
        )
        assert [node.path for node in shown.walk()] == [
            "",
            "branch",
            "branch/ada",
            "branch/tills",
            "branch/bob",
            "eve",
        ]
        bob = next(node for node in shown.walk() if node.name == "bob")
        assert (bob.kind, bob.state, bob.restarts, bob.waiting, bob.children) == ("Account", "running", 0, 2, ())
        gate.open()
        assert system.ask("branch/bob", Balance(), timeout=60) == 2
        assert (bob.waiting, system.tree().children[0].children[2].waiting) == (2, 0)  # it was one moment's
    assert system.tree().children == ()
    assert system.tree().state == "stopped"


class Line:
    """A backend that stands for a server."""

    def check(self) -> None:
        """It always answers."""

    def close(self) -> None:
        """Nothing is open."""


class Service(ServiceActor[Line]):
    """In front of it."""

    variable = "UNDERSTUDY_TEST_URL"
    default_url = "memory://"

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> Line:
        return Line()


def test_the_parts_of_a_service_stand_below_it(bank: ActorSystem) -> None:
    """Without their supervisor, which has no name."""
    bank.spawn(Service, name="service")
    (service,) = bank.tree().children
    assert [(node.path, node.kind) for node in service.walk()] == [
        ("service", "Service"),
        ("service/connection", "Connection"),
    ]


def test_a_child_that_is_being_started_is_shown_as_such(gate: Gate) -> None:
    class Slow(Account):
        """Takes its time."""

        def on_start(self) -> None:
            gate.pass_through()

    with ActorSystem("bank") as system:
        starting = system.spawn(Slow, name="slow", block=False)
        assert gate.entered.wait(60)
        assert str(system.tree()) == "bank\n└── slow  Slow, starting"
        gate.open()
        starting.get(timeout=60)
        assert str(system.tree()) == "bank\n└── slow  Slow"


def test_the_events_have_a_public_place(bank: ActorSystem) -> None:
    """``from understudy import events``: their own names would clash with those of errors."""
    heard: list[events.ActorStarted] = []
    bank.events.subscribe(events.ActorStarted, heard.append)
    bank.spawn(Account, name="account")
    assert [event.path for event in heard] == ["account"]
    assert understudy.events is events
    assert {each.__name__ for each in events.catalogue()} >= {"ActorCrashed", "DeadLetter", "SystemStopped"}

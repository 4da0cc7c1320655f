"""Where a refused call was made: the caller's function, the target's path and the verb, whoever refused it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from understudy import Actor, ActorError, ActorSystem, Child, DynamicSupervisor, PartitionSupervisor, Supervisor


class Member(Actor):
    """Does nothing."""


@pytest.fixture(scope="module")
def system() -> Iterator[ActorSystem]:
    tree = Supervisor(
        "tree",
        children=[
            Child(Member, name="member"),
            DynamicSupervisor("crew", max_children=1),
            PartitionSupervisor("parts", child=Child(Member, name="part"), partitions=2),
        ],
    )
    with ActorSystem("shop", tree) as running:
        crew: Any = running.lookup("tree/crew")
        crew.start_child(Child(Member, name="first"))
        yield running


def at(path: str) -> Callable[[ActorSystem], Any]:
    return lambda system: system.lookup(path)


CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "too many": (lambda system: at("tree/crew")(system).start_child(Child(Member)), "tree/crew.ask"),
    "no ids": (lambda system: at("tree/crew")(system).restart_child("x"), "tree/crew.ask"),
    "not found": (lambda system: at("tree")(system).which_child("x"), "tree.ask"),
    "not found, not to be stopped": (lambda system: at("tree")(system).terminate_child("x"), "tree.ask"),
    "running": (lambda system: at("tree")(system).delete_child("member"), "tree.ask"),
    "started": (lambda system: at("tree")(system).start_child(Child(Member, name="member")), "tree.ask"),
    "too many partitions": (lambda system: at("tree/parts")(system).resize(5), "tree/parts.ask"),
    "no number of partitions": (lambda system: at("tree/parts")(system).resize(0), "tree/parts.ask"),
    "no key": (lambda system: at("tree/parts")(system).route(object()), "tree/parts.route"),
    "no mailbox": (lambda system: system.spawn(Member, mailbox="x"), "shop.spawn"),
    "no name": (lambda system: system.spawn(Member, name="a/b"), "shop.spawn"),
    "no actor": (lambda system: system.spawn(int), "shop.spawn"),
    "no mailbox, later": (lambda system: system.spawn(Member, mailbox="x", block=False), "shop.spawn"),
    "nothing beside a spec": (lambda system: system.spawn(Child(Member), 5), "shop.spawn"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("warm", [False, True])
def test_a_refusal_says_which_call_it_answers(system: ActorSystem, name: str, warm: bool) -> None:
    """Also the second time, when the asking thread may run the supervisor itself."""
    call, expected = CALLS[name]
    if warm:
        with pytest.raises(ActorError):
            call(system)
    with pytest.raises(ActorError) as raised:
        call(system)
    assert raised.value.response.method == f"test_error_methods.{expected}"  # whose function has no name


class Sleeper(Actor):
    """Does not end as long as it is held."""

    def __init__(self, held: threading.Event) -> None:
        super().__init__()
        self.held = held

    def on_stop(self) -> None:
        self.held.wait(60)


def test_a_wait_that_runs_out_says_what_was_waited_for(system: ActorSystem) -> None:
    """The end of an actor, or its start; not an answer."""
    held = threading.Event()
    sleeper = system.spawn(Sleeper, held, name="sleeper")
    with pytest.raises(ActorError) as stopping:
        sleeper.stop(timeout=0.01)
    assert stopping.value.response.method.endswith("sleeper.stop")

    def slow() -> Member:
        held.wait(60)
        return Member()

    starting = system.spawn(slow, block=False)
    with pytest.raises(ActorError) as started:
        starting.get(timeout=0.01)
    held.set()
    assert started.value.response.method.endswith(".spawn")
    starting.get(timeout=60)

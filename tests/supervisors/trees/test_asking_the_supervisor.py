"""A child that asks its own supervisor: fine while it works, a cycle while the supervisor waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import ActorSystem, Child, DynamicSupervisor, Supervisor, handles
from understudy.messages.errors import AskCycle, StartFailed
from understudy.supervisors.ref import SupervisorRef

from ..players import Note, Plain, Player, Stage, refused, shown


def count(player: Player) -> Any:
    """Ask the supervisor how many children it has."""
    sup = player.lookup("sup")
    assert isinstance(sup, SupervisorRef)
    return sup.count_children()


def test_a_child_cannot_ask_its_supervisor_while_that_starts_it(stage: Stage) -> None:
    sup = stage.supervise()
    stage.starts("a", count)
    error = refused(StartFailed, sup.start_child, stage.child("a"))
    assert isinstance(error.__cause__, AskCycle)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("order", ["terminate", "stop"])
def test_a_child_cannot_ask_its_supervisor_while_that_stops_it(stage: Stage, kind: str, order: str) -> None:
    """It is told at once, rather than killed when its time is over."""
    errors: list[BaseException] = []

    def ask(player: Player) -> None:
        try:
            count(player)
        except AskCycle as error:
            errors.append(error)

    sup = stage.supervise() if kind == "static" else stage.supervise_dynamic()
    for name in "abc":
        stage.stops(name, ask)
        sup.start_child(stage.child(name))
    if order == "stop":
        sup.stop()
    else:
        for name in "abc":
            sup.terminate_child(stage.ref(f"sup/{name}"))
        assert all(status is None for status in shown(sup).values())
    assert len(errors) == 3
    assert stage.now == 0.0


def test_the_way_from_a_grandchild_to_the_top_is_a_cycle_too(stage: Stage) -> None:
    errors: list[BaseException] = []

    def ask(player: Player) -> None:
        try:
            count(player)
        except AskCycle as error:
            errors.append(error)

    stage.stops("leaf", ask)
    sup = stage.supervise(Supervisor("mid", children=[stage.child("leaf")]), strategy="one_for_all")
    assert sup.stop()
    assert "sup" in str(errors[0])
    assert stage.now == 0.0


def test_a_supervisor_that_has_waited_may_be_asked_again(stage: Stage) -> None:
    """What was noted of its waiting is taken back, also where the start fails."""

    class Asking(Plain):
        @handles
        def note(self, message: Note) -> int:
            sup = self.lookup("sup")
            assert isinstance(sup, SupervisorRef)
            return sup.count_children().specs + message.value

    stage.starts("b", "ok", ValueError("no"))
    sup = stage.supervise(stage.child("b"), Child(Asking, name="a"), strategy="one_for_all", intensity=10)
    stage.end("sup/b")
    sup.terminate_child("b")
    refused(StartFailed, sup.start_child, Child(Player, (stage,), {"wrong": 2}, name="c"))
    assert stage.ref("sup/a").ask(Note(10)) == 12
    assert sup._cell.waiting_on == ()


@pytest.mark.parametrize("spec", [Supervisor("sup"), DynamicSupervisor("sup")])
def test_a_child_that_asks_its_supervisor_while_that_stops_it_is_told_so_on_real_threads(spec: Any) -> None:
    errors: list[BaseException] = []

    class Asking(Plain):
        def on_stop(self) -> None:
            sup = self.lookup("sup")
            assert isinstance(sup, SupervisorRef)
            try:
                sup.count_children()
            except AskCycle as error:
                errors.append(error)

    with ActorSystem("real", spec) as system:
        sup = system.lookup("sup")
        assert isinstance(sup, SupervisorRef)
        for number in range(20):
            sup.start_child(Child(Asking, name=str(number), shutdown="infinity"))
    assert len(errors) == 20

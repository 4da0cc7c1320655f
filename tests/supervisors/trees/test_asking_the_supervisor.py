"""A child that asks its own supervisor: fine while it works, a cycle while the supervisor waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import ActorSystem, Child, DynamicSupervisor, Message, Supervisor, handles
from understudy.messages.errors import AskCycle, StartFailed
from understudy.supervisors.ref import SupervisorRef
from understudy.supervisors.requests import StartChild, TerminateChild

from ..players import Note, Plain, Player, Stage, pause, refused, shown


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


class Order(Message[str]):
    """Have something done by the supervisor, and say how that went."""

    act: Any


class Subordinate(Plain):
    """Asks its supervisor for things, from within a handler."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__()
        self.answers = answers

    @handles
    def obey(self, order: Order) -> str:
        try:
            order.act(self)
            answer = "done"
        except AskCycle:
            answer = "a cycle"
        self.answers.append(answer)
        return answer


kinds = pytest.mark.parametrize("kind", ["static", "dynamic"])
ends_of_oneself = pytest.mark.parametrize(
    "act",
    [
        lambda actor: actor.lookup("sup").terminate_child(actor.actor_ref),
        lambda actor: actor.actor_ref.stop(),
    ],
    ids=["terminate_child", "stop"],
)


@kinds
@ends_of_oneself
def test_a_child_cannot_wait_for_its_own_end(stage: Stage, kind: str, act: Any) -> None:
    """It is told so, and then ended as it wished, however long it might have taken."""
    sup = stage.supervise() if kind == "static" else stage.supervise_dynamic()
    child = sup.start_child(Child(Subordinate, ([],), name="a", shutdown="infinity"))
    assert child is not None
    answer = child.ask(Order(act), block=False)
    stage.settle()
    assert answer.get(timeout=0) == "a cycle"
    assert shown(sup) == ({"a": None} if kind == "static" else {})
    assert stage.reason_of("sup/a") == "shutdown"


@kinds
@ends_of_oneself
@pytest.mark.parametrize("verb", ["tell", "ask"])
def test_a_child_cannot_wait_for_its_own_end_on_real_threads(kind: str, act: Any, verb: str) -> None:
    """A tell has no deadline, so that its supervisor might be run by the child's own thread."""
    answers: list[str] = []
    with ActorSystem("real", Supervisor("sup") if kind == "static" else DynamicSupervisor("sup")) as system:
        sup = system.lookup("sup")
        assert isinstance(sup, SupervisorRef)
        child = sup.start_child(Child(Subordinate, (answers,), name="a", shutdown="infinity"))
        assert child is not None
        gone = child.actor_stopped
        if verb == "tell":
            child.tell(Order(act))
        else:
            assert child.ask(Order(act), timeout=30) == "a cycle"
        assert gone.wait(30)
        assert answers == ["a cycle"]
        assert shown(sup) == ({"a": None} if kind == "static" else {})
        assert sup.incarnation == 1


@kinds
@pytest.mark.parametrize("end", ["terminate the child", "stop the supervisor", "replace the child"])
def test_a_child_that_already_waits_for_its_supervisor_is_told_when_that_ends_it(
    stage: Stage, kind: str, end: str
) -> None:
    """It asks for a sibling while its supervisor is busy with something that will end it."""
    if end == "replace the child":
        kind = "static"
    sup = stage.supervise(strategy="one_for_all") if kind == "static" else stage.supervise_dynamic()
    child = sup.start_child(Child(Subordinate, ([],), name="a", shutdown="infinity"))
    busy = sup.start_child(stage.child("busy"))
    assert child is not None
    assert busy is not None
    stage.stops("busy", lambda _player: pause(1.0))
    endings: list[Any] = []
    if end == "replace the child":
        third = sup.start_child(stage.child("third"))
        assert third is not None
        stage.begin_end(third, "killed")
    else:
        endings.append(sup.ask(TerminateChild(busy), block=False))
    if end == "terminate the child":
        endings.append(sup.ask(TerminateChild(child), block=False))
    stage.advance(0.5)
    add = Order(lambda actor: actor.lookup("sup").start_child(stage.child("b")))
    answer = child.ask(add, block=False)
    stage.settle()
    if end == "stop the supervisor":
        endings.append(sup.stop(block=False))
    stage.advance(100.0)
    assert answer.get(timeout=0) == "a cycle"
    assert all(each.done for each in endings)
    assert child.is_alive() == (end == "replace the child")
    assert child.incarnation == (2 if end == "replace the child" else 1)


def test_a_child_whose_wish_ends_the_supervisor_above_it_is_told_so(stage: Stage) -> None:
    """The top is to end the middle, which ends the leaf, which waits for the top."""
    mid = Supervisor("mid", children=[Child(Subordinate, ([],), name="leaf", shutdown="infinity")])
    sup = stage.supervise(mid)
    wish = Order(lambda actor: actor.lookup("sup").terminate_child("mid"))
    answer = stage.ref("sup/mid/leaf").ask(wish, block=False)
    stage.settle()
    assert answer.get(timeout=0) == "a cycle"
    assert shown(sup) == {"mid": None}


def test_a_child_whose_wish_ends_the_supervisor_above_it_is_told_so_on_real_threads() -> None:
    answers: list[str] = []
    leaf = Child(Subordinate, (answers,), name="leaf", shutdown="infinity")
    with ActorSystem("real", Supervisor("sup", children=[Supervisor("mid", children=[leaf])])) as system:
        sup, child = system.lookup("sup"), system.lookup("sup/mid/leaf")
        assert isinstance(sup, SupervisorRef)
        gone = child.actor_stopped
        child.tell(Order(lambda actor: actor.lookup("sup").terminate_child("mid")))
        assert gone.wait(30)
        assert answers == ["a cycle"]
        assert shown(sup) == {"mid": None}


def test_a_child_that_waits_while_its_sibling_starts_is_told_when_that_is_ended(stage: Stage) -> None:
    """A supervisor waits for the child that it starts, whose ``on_start`` waits for the one above."""

    def ask_the_top(player: Player) -> None:
        try:
            count(player)
        except AskCycle:
            stage.notes.append(1)

    sup = stage.supervise(DynamicSupervisor("mid"), stage.child("busy"))
    stage.stops("busy", lambda _player: pause(1.0))
    stage.starts("x", ask_the_top)
    busy = sup.ask(TerminateChild("busy"), block=False)
    ending = sup.ask(TerminateChild("mid"), block=False)
    stage.advance(0.5)
    mid: Any = stage.ref("sup/mid")
    started = mid.ask(StartChild(stage.child("x")), block=False)
    stage.advance(10.0)
    assert stage.notes == [1]
    assert (busy.done, ending.done, started.done) == (True, True, True)
    assert stage.now == 10.5

"""The dynamic supervisor, after the tests of Elixir's."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import IGNORE, ActorRef, Child, DynamicSupervisor, ErrorKind, Started, Supervisor
from understudy.messages.errors import ChildNotFound, MaxChildren, NameTaken, NotSupported, StartFailed

from ..players import ENDINGS, ORDERLY, Ending, Hang, Note, Plain, Player, Stage, pause, refused, shown

FOR_EVER = 10**9


def add(sup: Any, spec: Child, *args: Any, **kwargs: Any) -> ActorRef[Any]:
    """Start a child that starts."""
    child = sup.start_child(spec, *args, **kwargs)
    assert isinstance(child, ActorRef)
    return child


def test_can_be_supervised_directly(stage: Stage) -> None:
    top = stage.supervise(DynamicSupervisor("one"), DynamicSupervisor("two"))
    assert shown(top) == {"one": "running", "two": "running"}
    one: Any = stage.ref("sup/one")
    assert one.which_children() == []
    child = add(one, stage.child("a"))
    assert child.path == "sup/one/a"


def test_children_with_different_answers_to_their_start(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    stage.starts("x", Started("extra"), "ok", IGNORE, ValueError("found"), "unknown")
    ref, extra = sup.start_child_info(stage.extra("x"))
    assert ref is not None
    assert extra == "extra"
    assert sup.start_child(stage.extra("x")) is not None
    assert sup.start_child(stage.extra("x")) is None
    assert refused(StartFailed, sup.start_child, stage.extra("x")).kind is ErrorKind.CHILD_START_FAILED
    assert refused(StartFailed, sup.start_child, stage.extra("x")).kind is ErrorKind.CHILD_BAD_RETURN
    assert sup.count_children() == (2, 2, 0, 2)


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), GeneratorExit()])
def test_a_start_may_raise_anything(stage: Stage, error: BaseException) -> None:
    sup = stage.supervise_dynamic()
    stage.starts("x", error)
    assert refused(StartFailed, sup.start_child, stage.extra("x")).__cause__ is error
    assert sup.is_alive()


def test_a_constructor_that_raises_is_a_start_that_failed(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    error = refused(StartFailed, sup.start_child, Child(Player, (stage,), {"unknown": 1}))
    assert isinstance(error.__cause__, TypeError)
    assert sup.which_children() == []


def test_with_max_children(stage: Stage) -> None:
    none = stage.supervise_dynamic(max_children=0)
    error = refused(MaxChildren, none.start_child, stage.extra("x"))
    assert error.kind is ErrorKind.MAX_CHILDREN
    assert "may have 0" in str(error)
    two = stage.supervise_dynamic(name="two", max_children=2)
    first = add(two, stage.extra("x"))
    add(two, stage.extra("x"))
    refused(MaxChildren, two.start_child, stage.extra("x"))
    two.terminate_child(first)
    add(two, stage.extra("x"))


@pytest.mark.parametrize("line", [ValueError("no"), "garbage", IGNORE])
def test_what_does_not_start_takes_no_room(stage: Stage, line: object) -> None:
    sup = stage.supervise_dynamic(max_children=1)
    stage.starts("x", line)
    if line is IGNORE:
        assert sup.start_child(stage.extra("x")) is None
    else:
        refused(StartFailed, sup.start_child, stage.extra("x"))
    add(sup, stage.extra("x"))


@pytest.mark.parametrize("how", ENDINGS)
def test_a_temporary_child_is_not_restarted_regardless_of_reason(stage: Stage, how: Ending) -> None:
    sup = stage.supervise_dynamic()
    stage.end(add(sup, stage.extra("x", restart="temporary")), how)
    assert sup.count_children() == (0, 0, 0, 0)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_transient_child_is_restarted_unless_it_ended_in_good_order(stage: Stage, how: Ending) -> None:
    sup = stage.supervise_dynamic()
    stage.end(add(sup, stage.extra("x", restart="transient")), how)
    assert sup.count_children() == ((0, 0, 0, 0) if how in ORDERLY else (1, 1, 0, 1))


@pytest.mark.parametrize("how", ENDINGS)
def test_a_permanent_child_is_restarted_regardless_of_reason(stage: Stage, how: Ending) -> None:
    sup = stage.supervise_dynamic()
    child = add(sup, stage.extra("x"))
    stage.end(child, how)
    assert sup.count_children() == (1, 1, 0, 1)
    assert child.incarnation == 2


def test_children_that_are_restarted_with_different_answers(stage: Stage) -> None:
    sup = stage.supervise_dynamic(intensity=FOR_EVER)
    answers: dict[str, Any] = {"ok": "ok", "extra": Started("extra"), "ignore": IGNORE}
    children = {}
    for label, line in answers.items():
        stage.starts(label, "ok", line)
        children[label] = add(sup, stage.child(label))
    for child in children.values():
        stage.end(child, "shutdown")
    assert shown(sup) == {"extra": "running", "ok": "running"}
    for label, line in (("error", ValueError("found")), ("unknown", 42)):
        stage.starts(label, "ok")
        child = add(sup, stage.child(label))
        stage.every_start(label, line)
        stage.begin_end(child, "shutdown")
        stage.simulation.run_until(lambda label=label: shown_now(sup)[label] == "restarting")  # type: ignore[misc]
    counts = sup.count_children()
    assert counts == (4, 2, 0, 4)


def shown_now(sup: Any) -> dict[str | None, Any]:
    """What the supervisor would say, without asking it."""
    return {record.spec.name: record.status for record in sup._cell.actor._children.values()}


def test_children_that_are_being_restarted_count_for_max_children(stage: Stage) -> None:
    sup = stage.supervise_dynamic(max_children=1, intensity=FOR_EVER)
    child = add(sup, stage.extra("x"))
    stage.every_start("x", ValueError("no"))
    stage.begin_end(child, "shutdown")
    stage.simulation.run_until(lambda: "fail x" in stage.log)
    assert sup.count_children() == (1, 0, 0, 1)
    refused(MaxChildren, sup.start_child, stage.extra("y"))


def test_children_that_were_restarted_count_for_max_children(stage: Stage) -> None:
    sup = stage.supervise_dynamic(max_children=1)
    stage.end(add(sup, stage.extra("x")), "shutdown")
    assert sup.count_children() == (1, 1, 0, 1)
    refused(MaxChildren, sup.start_child, stage.extra("y"))


class Echo(Plain):
    """Keeps what it was made with."""

    made_with: list[tuple[Any, ...]] = []  # noqa: RUF012  # the test clears it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.made_with.append((*args, kwargs))


def test_extra_arguments_come_before_those_of_the_child_also_at_a_restart(stage: Stage) -> None:
    Echo.made_with.clear()
    sup = stage.supervise_dynamic(extra_arguments=("first", "second"))
    child = add(sup, Child(Echo, ("own",), {"key": 1}, restart="transient"), "further", other=2)
    stage.end(child)
    assert Echo.made_with == [("first", "second", "own", "further", {"key": 1, "other": 2})] * 2
    spec = sup.get_childspec(child)
    assert isinstance(spec, Child)
    assert (spec.args, spec.kwargs) == (("own", "further"), {"key": 1, "other": 2})


def test_a_declared_supervisor_takes_no_further_arguments(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    refused(NotSupported, sup.start_child, Supervisor("nested"), 1)
    assert sup.which_children() == []


def test_a_child_is_restarted_when_trying_again(stage: Stage) -> None:
    sup = stage.supervise_dynamic(intensity=2)
    stage.starts("x", "ok", ValueError("try again"))
    child = add(sup, stage.extra("x"))
    stage.end(child, "shutdown")
    assert stage.take_log() == ["start x", "stop x", "fail x", "start x"]
    assert sup.count_children() == (1, 1, 0, 1)
    assert child.ask(Note(1)) == 1


@pytest.mark.parametrize("intensity", [1, 10])
def test_a_child_triggers_the_maximum_intensity_when_trying_again(stage: Stage, intensity: int) -> None:
    sup = stage.supervise_dynamic(intensity=intensity)
    stage.starts("x", "ok", *[ValueError("no")] * 100)
    stage.end(add(sup, stage.extra("x")), "shutdown")
    assert not sup.is_alive()
    assert stage.log.count("fail x") == intensity


def test_terminates_children_with_brutal_kill(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for number in range(3):
        add(sup, stage.child(f"c{number}", shutdown="brutal_kill"))
    sup.stop()
    assert {stage.reason_of(f"sup/c{number}") for number in range(3)} == {"killed"}


@pytest.mark.parametrize("shutdown", ["infinity", 1.0])
def test_terminates_children_that_may_take_their_time(stage: Stage, shutdown: Any) -> None:
    sup = stage.supervise_dynamic()
    for number in range(3):
        add(sup, stage.child(f"c{number}", shutdown=shutdown))
    sup.stop()
    assert {stage.reason_of(f"sup/c{number}") for number in range(3)} == {"shutdown"}


def test_terminates_children_whose_time_is_over(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for name in ("quick1", "stuck", "quick2"):
        add(sup, stage.child(name, shutdown=1.0))
    stage.ref("sup/stuck").tell(Hang())
    stage.settle()
    sup.stop()
    assert stage.now == 1.0
    assert [stage.reason_of(f"sup/{name}") for name in ("quick1", "stuck", "quick2")] == [
        "shutdown",
        "killed",
        "shutdown",
    ]


def test_terminates_mixed_children(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    add(sup, stage.child("patient", shutdown="infinity"))
    add(sup, stage.child("victim", shutdown="brutal_kill"))
    add(sup, stage.child("usual", shutdown=1.0))
    for name in ("patient", "usual"):
        stage.stops(name, lambda _player: pause(0.5))
    sup.stop()
    assert stage.now == 0.5
    assert [stage.reason_of(f"sup/{name}") for name in ("patient", "victim", "usual")] == [
        "shutdown",
        "killed",
        "shutdown",
    ]


@pytest.mark.parametrize(
    ("shutdown", "reason"), [("brutal_kill", "killed"), (1.0, "shutdown"), ("infinity", "shutdown")]
)
def test_terminate_child(stage: Stage, shutdown: Any, reason: str) -> None:
    sup = stage.supervise_dynamic()
    child = add(sup, stage.child("a", shutdown=shutdown))
    sup.terminate_child(child)
    assert stage.reason_of("sup/a") == reason
    refused(ChildNotFound, sup.terminate_child, child)
    assert sup.count_children() == (0, 0, 0, 0)


def test_terminates_a_child_that_is_being_restarted(stage: Stage) -> None:
    sup = stage.supervise_dynamic(intensity=FOR_EVER)
    child = add(sup, stage.extra("x"))
    stage.every_start("x", ValueError("no"))
    stage.begin_end(child, "shutdown")
    stage.simulation.run_until(lambda: stage.log.count("fail x") > 2)
    sup.terminate_child(child)
    refused(ChildNotFound, sup.terminate_child, child)
    assert sup.count_children() == (0, 0, 0, 0)
    stage.settle()


def test_ids_need_not_be_unique_but_names_must(stage: Stage) -> None:
    """A child without a name has no id; one with a name has a path, which belongs to it alone."""
    sup = stage.supervise_dynamic()
    first, second = add(sup, stage.extra("x")), add(sup, stage.extra("x"))
    assert first != second
    assert first.path != second.path
    named = add(sup, stage.child("a"))
    error = refused(NameTaken, sup.start_child, stage.child("a"))
    assert error.ref == named

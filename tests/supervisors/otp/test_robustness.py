"""Trees, global names and children that do not come back (cases 57, 79 to 82)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from understudy import ActorRef, DynamicSupervisor, ErrorKind, Supervisor
from understudy.messages.errors import ChildRunning, NameTaken, NotSupported
from understudy.supervisors.ref import SupervisorRef

from ..players import ENDINGS, Ending, Serial, Stage, refused, shown

FOR_EVER = 10**9
"""An intensity that is never used up."""


@pytest.mark.otp(57, "tree")
def test_escalation_rebuilds_declared_children_and_loses_added_ones(stage: Stage) -> None:
    top = stage.supervise(
        Supervisor("s1", children=[stage.child("c1"), stage.child("c2")], intensity=4, period=3600.0),
        Supervisor("s2", intensity=4, period=3600.0),
        strategy="one_for_all",
        intensity=4,
    )
    assert top.count_children() == (2, 2, 2, 0)
    one, two = (info.ref for info in reversed(top.which_children()))
    assert isinstance(one, SupervisorRef)
    assert isinstance(two, SupervisorRef)
    assert one.count_children() == (2, 2, 0, 2)
    assert two.count_children() == (0, 0, 0, 0)
    stage.starts("c3", "ok", *[ValueError("no")] * 100)
    third, fourth = two.start_child(stage.child("c3")), two.start_child(stage.child("c4"))
    assert third is not None
    assert fourth is not None
    before = {name: stage.serial(f"sup/{name}") for name in ("s1/c1", "s1/c2", "s2/c3", "s2/c4")}

    stage.end(fourth)
    assert stage.serial("sup/s2/c4") > max(before.values())
    for name in ("s1/c1", "s1/c2", "s2/c3"):
        assert stage.serial(f"sup/{name}") == before[name], "only the one that died was restarted"

    stage.end(third)
    assert shown(top) == {"s1": "running", "s2": "running"}
    assert top.count_children() == (2, 2, 2, 0)
    assert shown(one) == {"c1": "running", "c2": "running"}, "the references outlived it"
    assert stage.serial("sup/s1/c1") > max(before.values())
    assert two.which_children() == []
    assert not fourth.is_alive()


@pytest.mark.otp(57, "tree")
def test_a_deep_tree_starts_from_the_top_and_stops_from_the_bottom(stage: Stage) -> None:
    spec: Any = stage.child("leaf")
    for depth in range(20):
        spec = Supervisor(f"s{depth}", children=[stage.child(f"before{depth}"), spec, stage.child(f"after{depth}")])
    sup = stage.supervise(spec)
    started = [line.removeprefix("start ") for line in stage.take_log()]
    assert started.index("leaf") == 20
    sup.stop()
    assert [line.removeprefix("stop ") for line in stage.take_log()] == started[::-1]


def start_global(stage: Stage) -> tuple[SupervisorRef, ActorRef[Any], ActorRef[Any]]:
    """A supervisor and its worker, both with names of their own beside their paths."""
    middle = Supervisor(
        "middle", alias="sup2", strategy="one_for_all", shutdown=2.0, children=[stage.child("child", alias="server")]
    )
    top = stage.supervise(middle, strategy="one_for_all", intensity=3, period=60.0)
    return top, stage.system.lookup("sup2"), stage.system.lookup("server")


@pytest.mark.otp(79, "simple_global_supervisor")
@pytest.mark.parametrize(("whom", "how"), [("sup2", "killed"), *(("server", how) for how in ENDINGS)])
def test_a_supervisor_or_a_worker_that_ended_comes_back_under_its_name(stage: Stage, whom: str, how: Ending) -> None:
    _, sup2, server = start_global(stage)
    before = stage.serial("server")
    stage.end(whom, how)
    assert stage.system.lookup("sup2") == sup2
    assert stage.system.lookup("server") == server
    assert server.ask(Serial()) > before, "the old reference leads to the new instance"


@pytest.mark.otp(79, "simple_global_supervisor")
def test_a_worker_that_was_restarted_by_order_has_its_name_again(stage: Stage) -> None:
    _, sup2, _ = start_global(stage)
    before = stage.serial("server")
    assert isinstance(sup2, SupervisorRef)
    sup2.terminate_child("child")
    sup2.restart_child("child")
    assert stage.serial("server") > before


@pytest.mark.otp(79, "simple_global_supervisor")
def test_the_names_are_free_once_the_top_is_gone(stage: Stage) -> None:
    top, _, _ = start_global(stage)
    stage.end(top, "killed")
    assert [name for name in ("sup2", "server", "sup") if name in stage.system.runtime.directory._cells] == []
    start_global(stage)


def loop(stage: Stage, sup: SupervisorRef, label: str) -> ActorRef[Any]:
    """Let the child of that label crash, and fail at every restart."""
    children = [info.ref for info in sup.which_children() if isinstance(info.ref, ActorRef)]
    (child,) = [ref for ref in children if ref._cell.actor.label == label]
    stage.every_start(label, ValueError("not yet"))
    stage.begin_end(child, "error")
    stage.simulation.run_until(lambda: stage.log.count(f"fail {label}") >= 3)
    return child


def still_trying(stage: Stage, label: str) -> bool:
    """Whether a restart is tried again and again."""
    before = stage.log.count(f"fail {label}")
    stage.simulation.run_until(lambda: stage.log.count(f"fail {label}") > before + 3)
    return True


def given_up_trying(stage: Stage, label: str) -> bool:
    """Whether nobody tries any more: then the simulation comes to rest."""
    stage.settle()
    before = stage.log.count(f"fail {label}")
    stage.advance(100.0)
    return stage.log.count(f"fail {label}") == before


@pytest.mark.otp(80, "hanging_restart_loop")
def test_everything_is_answered_while_a_child_does_not_come_back(stage: Stage) -> None:
    spec = stage.child("a", shutdown="brutal_kill")
    sup = stage.supervise(spec, stage.child("b"), intensity=FOR_EVER)
    loop(stage, sup, "a")
    assert refused(NameTaken, sup.start_child, spec).kind is ErrorKind.CHILD_ALREADY_STARTED
    assert refused(ChildRunning, sup.restart_child, "a").kind is ErrorKind.CHILD_RESTARTING
    assert refused(ChildRunning, sup.delete_child, "a").kind is ErrorKind.CHILD_RESTARTING
    assert shown(sup) == {"a": "restarting", "b": "running"}
    assert sup.count_children() == (2, 1, 0, 2)
    assert sup.start_child(stage.child("c")) is not None
    assert still_trying(stage, "a")

    sup.terminate_child("a")
    assert shown(sup) == {"a": None, "b": "running", "c": "running"}
    assert given_up_trying(stage, "a")
    stage.every_start("a", "ok")
    assert sup.restart_child("a").ref is not None

    stage.log.clear()
    loop(stage, sup, "a")
    assert sup.stop(), "the supervisor itself ends"
    assert stage.reason_of("sup") == "shutdown"


@pytest.mark.otp(81, "hanging_restart_loop_rest_for_one")
def test_everything_is_answered_while_a_later_child_does_not_come_back(stage: Stage) -> None:
    sup = stage.supervise(
        *(stage.child(name, shutdown="brutal_kill") for name in "abc"), strategy="rest_for_one", intensity=FOR_EVER
    )
    stage.every_start("b", ValueError("not yet"))
    stage.begin_end("sup/a", "error")
    stage.simulation.run_until(lambda: stage.log.count("fail b") >= 3)
    assert shown(sup) == {"a": "running", "b": "restarting", "c": None}
    assert sup.count_children() == (3, 1, 0, 3)
    assert refused(NameTaken, sup.start_child, stage.child("b")).kind is ErrorKind.CHILD_ALREADY_STARTED
    assert refused(NameTaken, sup.start_child, stage.child("c")).kind is ErrorKind.CHILD_ALREADY_PRESENT
    assert refused(ChildRunning, sup.restart_child, "b").kind is ErrorKind.CHILD_RESTARTING
    assert refused(ChildRunning, sup.delete_child, "b").kind is ErrorKind.CHILD_RESTARTING
    assert stage.log.count("start a") == 2, "the first child stays as it is"

    sup.terminate_child("b")
    assert shown(sup) == {"a": "running", "b": None, "c": None}
    assert given_up_trying(stage, "b")
    stage.every_start("b", "ok")
    assert sup.restart_child("b").ref is not None
    assert sup.restart_child("c").ref is not None

    stage.log.clear()
    loop(stage, sup, "b")
    assert sup.stop()
    assert stage.reason_of("sup") == "shutdown"


@pytest.mark.otp(82, "hanging_restart_loop_simple")
def test_everything_is_answered_while_a_dynamic_child_does_not_come_back(stage: Stage) -> None:
    sup = stage.supervise_dynamic(intensity=FOR_EVER)
    sup.start_child(stage.extra("a", shutdown="brutal_kill"))
    child = loop(stage, sup, "a")
    for call in (sup.restart_child, sup.delete_child):
        refused(NotSupported, call, "a")
    assert sup.which_children() == [(None, "restarting", "worker")]
    assert sup.count_children() == (1, 0, 0, 1)
    assert sup.start_child(stage.extra("b")) is not None
    assert still_trying(stage, "a")

    sup.terminate_child(child)
    assert sup.count_children() == (1, 1, 0, 1)
    assert not child.is_alive()
    assert given_up_trying(stage, "a")
    stage.every_start("a", "ok")
    assert sup.start_child(stage.extra("a")) is not None

    stage.log.clear()
    loop(stage, sup, "a")
    assert sup.stop()
    assert stage.reason_of("sup") == "shutdown"


@pytest.mark.otp(80, "hanging_restart_loop")
@pytest.mark.parametrize("make", [Supervisor, DynamicSupervisor])
def test_a_child_that_comes_back_after_many_tries_goes_on_as_if_nothing_had_been(
    stage: Stage, make: Callable[..., Any]
) -> None:
    sup = stage.spawn(make("sup", restart="temporary", intensity=FOR_EVER))
    sup.start_child(stage.child("a"))
    child = loop(stage, sup, "a")
    stage.every_start("a", "ok")
    stage.settle()
    assert shown(sup) == {"a": "running"}
    assert child.is_alive()
    assert stage.serial(child) > 3

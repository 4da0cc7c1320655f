"""Administration: start, terminate, restart, delete, list and count (cases 23 to 25, 72 to 74, 91 to 93)."""

from __future__ import annotations

import pytest

from understudy import ActorRef, Child, DynamicSupervisor, ErrorKind, Started, Supervisor
from understudy.messages.errors import (
    ChildNotFound,
    ChildRunning,
    MailboxClosed,
    NameTaken,
    NotSupported,
    StartFailed,
    UnknownActor,
)

from ..players import Hang, Plain, Stage, pause, refused, shown


@pytest.mark.otp(23, "child_adm")
def test_the_life_of_a_child_by_order(stage: Stage) -> None:
    spec = stage.child("child1", shutdown=1.0)
    sup = stage.supervise(spec)
    first = stage.ref("sup/child1")
    assert sup.which_children() == [("child1", first, "worker")]
    assert sup.count_children() == (1, 1, 0, 1)

    taken = refused(NameTaken, sup.start_child, spec)
    assert taken.kind is ErrorKind.CHILD_ALREADY_STARTED
    assert taken.ref == first

    refused(ChildNotFound, sup.terminate_child, "hej")
    sup.terminate_child("child1")
    assert stage.reason_of("sup/child1") == "shutdown"
    assert sup.which_children() == [("child1", None, "worker")]
    assert sup.count_children() == (1, 0, 0, 1)
    sup.terminate_child("child1")
    refused(UnknownActor, stage.ref, "sup/child1")

    present = refused(NameTaken, sup.start_child, spec)
    assert present.kind is ErrorKind.CHILD_ALREADY_PRESENT
    assert present.ref is None

    second = sup.restart_child("child1").ref
    assert second == stage.ref("sup/child1")
    assert sup.which_children() == [("child1", second, "worker")]
    assert sup.count_children() == (1, 1, 0, 1)
    assert refused(ChildRunning, sup.restart_child, "child1").kind is ErrorKind.CHILD_RUNNING
    refused(ChildNotFound, sup.restart_child, "child2")

    assert refused(ChildRunning, sup.delete_child, "child1").kind is ErrorKind.CHILD_RUNNING
    refused(ChildNotFound, sup.delete_child, "hej")
    sup.terminate_child("child1")
    sup.delete_child("child1")
    refused(ChildNotFound, sup.restart_child, "child1")
    refused(ChildNotFound, sup.terminate_child, "child1")
    assert sup.which_children() == []
    assert sup.count_children() == (0, 0, 0, 0)

    third = sup.start_child(spec)
    assert sup.which_children() == [("child1", third, "worker")]
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(23, "child_adm")
def test_a_supervisor_that_is_gone_administers_nothing(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a"))
    sup.stop()
    for call in (sup.terminate_child, sup.delete_child, sup.restart_child, sup.which_child, sup.get_childspec):
        assert refused(MailboxClosed, call, "a").code == 0xFFFD
    refused(MailboxClosed, sup.start_child, stage.child("a"))
    refused(MailboxClosed, sup.which_children)
    refused(MailboxClosed, sup.count_children)


@pytest.mark.otp(23, "child_adm")
def test_a_child_may_also_be_named_by_its_reference(stage: Stage) -> None:
    """OTP takes only ids here; a reference is as unambiguous. One of another supervisor's child is not found."""
    sup = stage.supervise(stage.child("a"))
    sup.terminate_child(stage.ref("sup/a"))
    assert shown(sup) == {"a": None}
    stranger = stage.start(stage.child("stranger"))
    refused(ChildNotFound, sup.terminate_child, stranger)
    assert stranger.is_alive()


@pytest.mark.otp(23, "child_adm")
def test_stopping_a_child_by_its_reference_is_terminating_it(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a"), stage.child("b", restart="temporary"))
    first, second = stage.ref("sup/a"), stage.ref("sup/b")
    assert first.stop()
    assert second.stop()
    assert shown(sup) == {"a": None}
    assert not first.stop(), "it was gone"


@pytest.mark.otp(23, "child_adm")
def test_whoever_stops_a_child_of_a_stopping_supervisor_is_answered(stage: Stage) -> None:
    """The order comes too late for the supervisor to obey it; the child is gone all the same."""
    stage.stops("slow", lambda _player: pause(3.0))
    sup = stage.supervise(stage.child("a"), stage.child("slow"))
    child = stage.ref("sup/a")
    stopped = sup.stop(block=False)
    stage.advance(1.0)
    late = child.stop(block=False)
    assert stopped.get() is True
    assert late.get() is False, "somebody else had it stopped"
    assert not child.is_alive()


@pytest.mark.otp(24, "child_adm_simple")
def test_dynamic_children_are_administered_by_reference(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    assert sup.which_children() == []
    assert sup.count_children() == (0, 0, 0, 0)
    first = sup.start_child(stage.extra("x"))
    assert first is not None
    assert sup.which_children() == [(None, first, "worker")]
    second = sup.start_child(stage.extra("x"))
    assert sup.which_children() == [(None, second, "worker"), (None, first, "worker")]
    assert sup.count_children() == (2, 2, 0, 2)

    refused(NotSupported, sup.terminate_child, "x")
    assert sup.count_children() == (2, 2, 0, 2)
    sup.terminate_child(first)
    assert not first.is_alive()
    assert sup.count_children() == (1, 1, 0, 1)
    refused(ChildNotFound, sup.terminate_child, first)

    stranger = stage.start(stage.child("stranger"))
    refused(ChildNotFound, sup.terminate_child, stranger)
    assert stranger.is_alive()
    for call in (sup.restart_child, sup.delete_child):
        for child in ("x", second, "hej"):
            assert refused(NotSupported, call, child).kind is ErrorKind.OPERATION_UNSUPPORTED


@pytest.mark.otp(25, "extra_return")
def test_what_on_start_has_to_say_goes_back_to_who_started_the_child(stage: Stage) -> None:
    spec = stage.child("child1")
    stage.every_start("child1", Started("extra"))
    sup = stage.supervise(spec)
    assert sup.count_children() == (1, 1, 0, 1)
    stage.end("sup/child1")
    assert shown(sup) == {"child1": "running"}, "an automatic restart passes it over"
    sup.terminate_child("child1")
    assert shown(sup) == {"child1": None}
    assert sup.restart_child("child1") == (stage.ref("sup/child1"), "extra")
    sup.terminate_child("child1")
    sup.delete_child("child1")
    assert sup.start_child_info(spec) == (stage.ref("sup/child1"), "extra")
    assert sup.which_children() == [("child1", stage.ref("sup/child1"), "worker")]
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(72, "count_children")
def test_counting_thousands_changes_nothing(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for _ in range(1_000):
        sup.start_child(Child(Plain, restart="temporary"))
    assert sup.count_children() == (1_000, 1_000, 0, 1_000)
    assert len(sup.which_children()) == 1_000
    for _ in range(1_000):
        sup.start_child(Child(Plain, restart="temporary"))
    counts, children = sup.count_children(), sup.which_children()
    assert counts == (2_000, 2_000, 0, 2_000)
    assert len(children) == 2_000
    assert (sup.count_children(), sup.which_children()) == (counts, children)
    for info in children:
        assert isinstance(info.ref, ActorRef)
        stage.begin_end(info.ref, "killed")
    stage.settle()
    assert sup.count_children() == (0, 0, 0, 0)


@pytest.mark.otp(73, "count_children_supervisor")
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_supervisors_and_workers_are_told_apart(stage: Stage, kind: str) -> None:
    sup = stage.supervise() if kind == "static" else stage.supervise_dynamic()
    sup.start_child(Supervisor("s1"))
    sup.start_child(DynamicSupervisor("s2"))
    sup.start_child(stage.child("w1"))
    assert sup.count_children() == (3, 3, 2, 1)
    assert {info.id: info.type for info in sup.which_children()} == {
        "s1": "supervisor",
        "s2": "supervisor",
        "w1": "worker",
    }
    if kind == "static":
        sup.terminate_child("s1")
        assert sup.count_children() == (3, 2, 2, 1)


@pytest.mark.otp(74, "count_restarting_children")
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_children_that_are_being_restarted_are_not_active(stage: Stage, kind: str) -> None:
    sup = stage.supervise(intensity=10**6) if kind == "static" else stage.supervise_dynamic(intensity=10**6)
    for name in ("a", "b", "c"):
        sup.start_child(stage.child(name))
    stage.every_start("a", ValueError("not yet"))
    stage.every_start("b", ValueError("not yet"))
    assert sup.count_children() == (3, 3, 0, 3)
    stage.begin_end("sup/a", "error")
    stage.simulation.run_until(lambda: "fail a" in stage.log)
    assert sup.count_children() == (3, 2, 0, 3)
    stage.begin_end("sup/b", "error")
    stage.simulation.run_until(lambda: "fail b" in stage.log)
    assert sup.count_children() == (3, 1, 0, 3)
    assert shown(sup) == {"a": "restarting", "b": "restarting", "c": "running"}
    stage.every_start("a", "ok")
    stage.every_start("b", "ok")
    stage.settle()
    assert sup.count_children() == (3, 3, 0, 3)


@pytest.mark.otp(91, "already_started_outside_supervisor")
def test_a_name_that_is_taken_elsewhere_is_refused_with_that_reference(stage: Stage) -> None:
    holder = stage.start(stage.child("holder", alias="famous"))
    for sup in (stage.supervise(), stage.supervise_dynamic(name="dyn")):
        error = refused(NameTaken, sup.start_child, stage.child("other", alias="famous"))
        assert error.kind is ErrorKind.NAME_TAKEN
        assert error.ref == holder
        assert sup.which_children() == []
        assert sup.start_child(stage.child("other")) is not None, "its path is free"
    assert refused(NameTaken, stage.system.spawn, stage.child("holder")).ref == holder


@pytest.mark.otp(91, "already_started_outside_supervisor")
def test_a_tree_with_a_name_that_is_taken_does_not_start(stage: Stage) -> None:
    stage.start(stage.child("holder", alias="famous"))
    spec = Supervisor("sup", children=[stage.child("a"), stage.child("other", alias="famous")])
    error = refused(StartFailed, stage.system.root.start_child, spec)
    assert isinstance(error.__cause__, NameTaken)
    assert stage.take_log()[-2:] == ["start a", "stop a"]


@pytest.mark.otp(92, "which_children")
def test_children_are_listed_newest_first_with_their_states(stage: Stage) -> None:
    stage.starts("ignored", "ok", *[ValueError("not yet")] * 3)
    sup = stage.supervise(
        stage.child("first"),
        Supervisor("second"),
        stage.child("third", restart="transient"),
        stage.child("ignored"),
        intensity=10**6,
    )
    stage.end("sup/third", "normal")
    sup.terminate_child("first")
    stage.begin_end("sup/ignored", "error")
    stage.simulation.run_until(lambda: "fail ignored" in stage.log)
    second = stage.ref("sup/second")
    assert sup.which_children() == [
        ("ignored", "restarting", "worker"),
        ("third", None, "worker"),
        ("second", second, "supervisor"),
        ("first", None, "worker"),
    ]
    assert sup.which_child("second") == ("second", second, "supervisor")
    assert sup.which_child("first") == ("first", None, "worker")
    refused(ChildNotFound, sup.which_child, "fifth")


@pytest.mark.otp(93, "which_children_simple_one_for_one")
def test_dynamic_children_are_listed_newest_first(stage: Stage) -> None:
    sup = stage.supervise_dynamic(intensity=10**6)
    first, second = sup.start_child(stage.extra("x")), sup.start_child(stage.child("y"))
    third = sup.start_child(Supervisor("z"))
    assert first is not None
    assert sup.which_children() == [("z", third, "supervisor"), ("y", second, "worker"), (None, first, "worker")]
    assert sup.which_child(first) == (None, first, "worker")
    refused(NotSupported, sup.which_child, "y")
    stage.starts("x", *[ValueError("not yet")] * 3)
    first.tell(Hang())
    stage.begin_end(first, "killed")
    stage.simulation.run_until(lambda: "fail x" in stage.log)
    assert sup.which_child(first) == (None, "restarting", "worker")

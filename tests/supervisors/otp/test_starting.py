"""How a supervisor starts, and its children (cases 1 to 12)."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import IGNORE, ActorSystem, Child, ErrorKind, Supervisor
from understudy.actors.events import ActorCrashed, ActorRestarted
from understudy.messages.errors import MailboxClosed, StartFailed
from understudy.testing import SimulatedDispatcher

from ..players import Player, Stage, refused, shown


@pytest.mark.otp(1, "sup_start_normal")
def test_a_supervisor_starts_and_ends_with_shutdown(stage: Stage) -> None:
    sup = stage.supervise()
    assert sup.is_alive()
    assert sup.stop()
    assert stage.reason_of("sup") == "shutdown"
    refused(MailboxClosed, sup.which_children)


@pytest.mark.otp(2, "sup_start_ignore_init")
def test_a_supervisor_that_says_ignore_leaves_nothing_behind(stage: Stage) -> None:
    """Whether to supervise at all is decided at the start, by a function that makes the supervisor or does not."""
    root = stage.system.root
    for restart in ("permanent", "transient", "temporary"):
        assert root.start_child(Child(lambda: IGNORE, name="sup", restart=restart)) is None  # type: ignore[arg-type,return-value]
        assert root.which_children() == []
    stage.settle()
    assert stage.of(ActorCrashed) == []
    assert stage.of(ActorRestarted) == []
    assert stage.supervise().is_alive(), "the name is free"


@pytest.mark.otp(3, "sup_start_ignore_child")
def test_a_permanent_child_that_says_ignore_keeps_its_spec(stage: Stage) -> None:
    sup = stage.supervise()
    stage.starts("a", IGNORE)
    assert sup.start_child(stage.child("a")) is None
    assert sup.start_child(stage.child("b")) == stage.ref("sup/b")
    assert [info[:2] for info in sup.which_children()] == [("b", stage.ref("sup/b")), ("a", None)]
    assert sup.count_children() == (2, 1, 0, 2)


@pytest.mark.otp(4, "sup_start_ignore_temporary_child")
def test_a_declared_temporary_child_that_says_ignore_is_forgotten(stage: Stage) -> None:
    stage.starts("a", IGNORE)
    sup = stage.supervise(stage.child("a", restart="temporary"), stage.child("b", restart="temporary"))
    assert shown(sup) == {"b": "running"}
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(5, "sup_start_ignore_temporary_child_start_child")
def test_an_added_temporary_child_that_says_ignore_is_forgotten(stage: Stage) -> None:
    sup = stage.supervise()
    stage.starts("a", IGNORE)
    assert sup.start_child(stage.child("a", restart="temporary")) is None
    assert sup.start_child(stage.child("b", restart="temporary")) is not None
    assert shown(sup) == {"b": "running"}
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(6, "sup_start_ignore_temporary_child_start_child_simple")
@pytest.mark.otp(7, "sup_start_ignore_permanent_child_start_child_simple")
@pytest.mark.parametrize("restart", ["temporary", "transient", "permanent"])
def test_a_dynamic_supervisor_keeps_nothing_of_a_child_that_says_ignore(stage: Stage, restart: Any) -> None:
    sup = stage.supervise_dynamic()
    stage.starts("a", IGNORE)
    assert sup.start_child(stage.extra("a", restart=restart)) is None
    second = sup.start_child(stage.extra("a", restart=restart))
    assert sup.which_children() == [(None, second, "worker")]
    assert sup.count_children() == (1, 1, 0, 1)
    assert sup.stop(), "and it stops without an error"
    assert stage.reason_of("sup") == "shutdown"


@pytest.mark.otp(8, "sup_start_error_return")
@pytest.mark.parametrize("garbage", [42, "ok", False, object()])
def test_a_start_that_returns_garbage_is_a_bad_return(stage: Stage, garbage: object) -> None:
    """What the spec's function returns is garbage unless it is an actor, or ``IGNORE``."""
    error = refused(StartFailed, stage.system.spawn, lambda: garbage, name="sup")
    assert error.kind is ErrorKind.CHILD_BAD_RETURN
    assert repr(garbage) in str(error)
    assert stage.supervise().is_alive(), "the name is free"


@pytest.mark.otp(9, "sup_start_fail")
def test_a_start_that_raises_fails_with_its_cause(stage: Stage) -> None:
    cause = LookupError("no such thing")

    def make() -> Player:
        raise cause

    error = refused(StartFailed, stage.system.spawn, make, name="sup")
    assert error.kind is ErrorKind.CHILD_START_FAILED
    assert error.__cause__ is cause
    assert "LookupError: no such thing" in str(error)
    assert "LookupError" in error.response.to_json().decode()
    assert stage.supervise().is_alive(), "the name is free"


@pytest.mark.otp(8, "sup_start_error_return")
@pytest.mark.otp(9, "sup_start_fail")
@pytest.mark.parametrize(
    ("line", "kind"), [(42, ErrorKind.CHILD_BAD_RETURN), (ValueError("no"), ErrorKind.CHILD_START_FAILED)]
)
def test_a_system_whose_tree_does_not_start_says_why_and_leaves_nothing_running(line: object, kind: ErrorKind) -> None:
    """The children that were started before the first failure are stopped, the last one first."""
    stage = Stage()
    stage.starts("c", line)
    tree = Supervisor("tree", children=[stage.child("a"), stage.child("b"), stage.child("c"), stage.child("d")])
    error = refused(StartFailed, ActorSystem, "failing", tree, dispatcher=SimulatedDispatcher(1))
    assert "'c' failed" in str(error)
    assert isinstance(error.__cause__, StartFailed)
    assert error.__cause__.kind is kind
    begun = ["start a", "start b", "start c" if kind is ErrorKind.CHILD_BAD_RETURN else "fail c"]
    stopped = [line for line in stage.log if line.startswith("stop")]
    assert stage.log[:3] == begun
    assert stopped == ["stop b", "stop a"]
    stage.close()


@pytest.mark.otp(10, "sup_start_child_returns_error")
@pytest.mark.parametrize("line", [ValueError("no"), "garbage", 0])
def test_an_added_child_that_does_not_start_is_not_stored(stage: Stage, line: object) -> None:
    sup = stage.supervise()
    stage.starts("a", line)
    error = refused(StartFailed, sup.start_child, stage.child("a"))
    raised = isinstance(line, Exception)
    assert error.kind is (ErrorKind.CHILD_START_FAILED if raised else ErrorKind.CHILD_BAD_RETURN)
    assert error.code == 0xFFF8
    assert sup.which_children() == []
    assert sup.count_children() == (0, 0, 0, 0)
    assert sup.start_child(stage.child("a")) is not None, "the name is free"


@pytest.mark.otp(11, "sup_start_restart_child_returns_error")
@pytest.mark.parametrize("line", [ValueError("no"), "garbage", 0])
def test_a_child_that_restart_child_cannot_start_keeps_its_spec(stage: Stage, line: object) -> None:
    sup = stage.supervise(stage.child("a"))
    sup.terminate_child("a")
    stage.starts("a", line)
    refused(StartFailed, sup.restart_child, "a")
    assert shown(sup) == {"a": None}
    assert sup.count_children() == (1, 0, 0, 1)
    stage.settle()
    assert shown(sup) == {"a": None}, "nobody tries again by itself"
    assert sup.restart_child("a").ref == stage.ref("sup/a")


@pytest.mark.otp(12, "sup_start_child_returns_error_simple")
@pytest.mark.parametrize("line", [ValueError("no"), "garbage", 0])
def test_a_dynamic_child_that_does_not_start_is_not_stored(stage: Stage, line: object) -> None:
    sup = stage.supervise_dynamic()
    stage.starts("a", line)
    refused(StartFailed, sup.start_child, stage.extra("a"))
    assert sup.which_children() == []
    assert sup.count_children() == (0, 0, 0, 0)
    assert sup.start_child(stage.extra("a")) is not None

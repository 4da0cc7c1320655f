"""Restart types: who is restarted after which end (cases 39, 44 to 55, 76, 77)."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from understudy import ActorSystem, Child, Supervisor
from understudy.actors.events import ActorRestarted, ActorStarted, ChildStartFailed
from understudy.messages.errors import NameTaken, StartFailed
from understudy.supervisors.ref import SupervisorRef
from understudy.testing import SimulatedDispatcher

from ..players import ABNORMAL, Ending, Plain, Player, Stage, refused, shown

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
SHUTDOWNS: tuple[Ending, ...] = ("shutdown", "shutdown(info)")


def start(stage: Stage, restart: Any, kind: str) -> SupervisorRef:
    """A supervisor with one child ``a``."""
    sup = stage.supervise() if kind == "static" else stage.supervise_dynamic()
    sup.start_child(stage.child("a", restart=restart))
    return sup


def kept(kind: str) -> dict[str, None]:
    """What is left of a transient child that ended in good order: its spec, in a static supervisor."""
    return {"a": None} if kind == "static" else {}


both = pytest.mark.parametrize("kind", ["static", "dynamic"])


@pytest.mark.otp(45, "permanent_normal")
@both
def test_a_permanent_child_is_restarted_after_a_normal_end(stage: Stage, kind: str) -> None:
    sup = start(stage, "permanent", kind)
    before = stage.serial("sup/a")
    stage.end("sup/a", "normal")
    assert stage.serial("sup/a") > before
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(46, "transient_normal")
@both
def test_a_transient_child_is_not_restarted_after_a_normal_end(stage: Stage, kind: str) -> None:
    sup = start(stage, "transient", kind)
    stage.end("sup/a", "normal")
    assert shown(sup) == kept(kind)
    assert stage.reason_of("sup/a") == "normal"
    assert sup.count_children() == ((1, 0, 0, 1) if kind == "static" else (0, 0, 0, 0))


@pytest.mark.otp(47, "temporary_normal")
@both
def test_a_temporary_child_is_not_restarted_after_a_normal_end(stage: Stage, kind: str) -> None:
    sup = start(stage, "temporary", kind)
    stage.end("sup/a", "normal")
    assert shown(sup) == {}
    assert sup.count_children() == (0, 0, 0, 0)


@pytest.mark.otp(48, "permanent_shutdown")
@both
def test_a_permanent_child_is_restarted_after_shutdown(stage: Stage, kind: str) -> None:
    sup = start(stage, "permanent", kind)
    for how in SHUTDOWNS:
        before = stage.serial("sup/a")
        stage.end("sup/a", how)
        assert stage.serial("sup/a") > before
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(49, "transient_shutdown")
@both
@pytest.mark.parametrize("how", SHUTDOWNS)
def test_a_transient_child_is_not_restarted_after_shutdown(stage: Stage, kind: str, how: Ending) -> None:
    sup = start(stage, "transient", kind)
    stage.end("sup/a", how)
    assert shown(sup) == kept(kind)
    if kind == "static":
        assert sup.restart_child("a").ref is not None
        stage.end("sup/a", how)
        assert shown(sup) == {"a": None}


@pytest.mark.otp(50, "temporary_shutdown")
@both
@pytest.mark.parametrize("how", SHUTDOWNS)
def test_a_temporary_child_is_not_restarted_after_shutdown(stage: Stage, kind: str, how: Ending) -> None:
    sup = start(stage, "temporary", kind)
    stage.end("sup/a", how)
    assert shown(sup) == {}
    sup.start_child(stage.child("a", restart="temporary"))
    stage.end("sup/a", how)
    assert sup.count_children() == (0, 0, 0, 0)


@pytest.mark.otp(52, "permanent_abnormal")
@both
@pytest.mark.parametrize("how", ABNORMAL)
def test_a_permanent_child_is_restarted_after_an_abnormal_end(stage: Stage, kind: str, how: Ending) -> None:
    sup = start(stage, "permanent", kind)
    before = stage.serial("sup/a")
    stage.end("sup/a", how)
    assert stage.serial("sup/a") > before
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(53, "transient_abnormal")
@both
@pytest.mark.parametrize("how", ABNORMAL)
def test_a_transient_child_is_restarted_after_an_abnormal_end(stage: Stage, kind: str, how: Ending) -> None:
    sup = start(stage, "transient", kind)
    before = stage.serial("sup/a")
    stage.end("sup/a", how)
    assert stage.serial("sup/a") > before
    assert sup.count_children() == (1, 1, 0, 1)


@pytest.mark.otp(54, "temporary_abnormal")
@both
@pytest.mark.parametrize("how", ABNORMAL)
def test_a_temporary_child_is_not_restarted_after_an_abnormal_end(stage: Stage, kind: str, how: Ending) -> None:
    sup = start(stage, "temporary", kind)
    stage.end("sup/a", how)
    assert shown(sup) == {}
    assert stage.reason_of("sup/a").startswith(how)


@pytest.mark.otp(55, "temporary_bystander")
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_child_that_is_stopped_for_its_siblings_sake_does_not_come_back(
    stage: Stage, strategy: Any
) -> None:
    sup = stage.supervise(stage.child("a"), stage.child("b", restart="temporary"), stage.child("c"), strategy=strategy)
    bystander = stage.ref("sup/b")
    stage.take_log()
    stage.end("sup/a", "normal")
    assert stage.take_log() == ["stop a", "stop c", "stop b", "start a", "start c"]
    assert shown(sup) == {"a": "running", "c": "running"}
    assert not bystander.is_alive()
    stage.end("sup/a")
    assert shown(sup) == {"a": "running", "c": "running"}


@pytest.mark.otp(44, "external_start_no_progress_log")
def test_an_automatic_restart_is_not_reported_as_a_start(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a"))
    stage.events.clear()
    stage.end("sup/a")
    assert stage.of(ActorStarted) == []
    (restarted,) = stage.of(ActorRestarted)
    assert (restarted.path, restarted.incarnation, restarted.actor_class) == ("sup/a", 2, "Player")
    assert restarted.reason == "error(RuntimeError: a crashes)"
    stage.events.clear()
    sup.terminate_child("a")
    sup.restart_child("a")
    assert [event.path for event in stage.of(ActorStarted)] == ["sup/a"], "one by order is"
    assert stage.of(ActorRestarted) == []


@pytest.mark.otp(51, "faulty_application_shutdown")
def test_a_child_that_does_not_start_surfaces_at_the_top_with_its_name_and_its_traceback() -> None:
    def undefined() -> Player:
        raise NameError("an_undefined_function")

    faulty = Child(undefined, name="app_faulty")
    tree = Supervisor("top", children=[Supervisor("middle", children=[faulty])])
    error = refused(StartFailed, ActorSystem, "failing", tree, dispatcher=SimulatedDispatcher(1))
    assert "'app_faulty'" in str(error)
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    assert [type(each) for each in chain] == [StartFailed, StartFailed, StartFailed, NameError]
    traceback = chain[-1].__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code.co_name == "undefined"
    response = error.response
    kinds = []
    while response is not None:
        kinds.append(str(response.kind))
        response = response.cause
    assert kinds[:3] == ["supervisor.child.start_failed"] * 3


@pytest.mark.otp(51, "faulty_application_shutdown")
def test_a_start_that_fails_is_reported_by_each_supervisor_above_it(stage: Stage) -> None:
    stage.starts("x", ValueError("no"))
    inner = Supervisor("inner", children=[stage.child("x")])
    refused(StartFailed, stage.system.root.start_child, Supervisor("outer", children=[inner]))
    assert [(event.path, event.child) for event in stage.of(ChildStartFailed)] == [
        ("outer/inner", "outer/inner/x"),
        ("outer", "outer/inner"),
        ("", "outer"),
    ]


class Burden:
    """Something large that a child is started with."""


class Carrier(Plain):
    """Takes arguments, and does not keep them."""

    def __init__(self, *_burdens: Burden) -> None:
        super().__init__()


@pytest.fixture(name="only_the_new_is_collected")
def leave_the_old_heap_alone() -> Iterator[None]:
    """Have collections look at what the test itself makes: the heap of a whole suite takes them seconds each."""
    gc.freeze()
    yield
    gc.unfreeze()


def is_kept(burden: weakref.ref[Burden]) -> bool:
    """Whether anything still refers to it, beside garbage."""
    if burden() is not None:
        gc.collect()
    return burden() is not None


@pytest.mark.usefixtures("only_the_new_is_collected")
@pytest.mark.otp(76, "do_not_save_start_parameters_for_temporary_children")
@pytest.mark.parametrize("strategy", [*STRATEGIES, "dynamic"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_arguments_are_kept_for_a_restart_only(stage: Stage, strategy: Any, restart: Any) -> None:
    sup = stage.supervise_dynamic() if strategy == "dynamic" else stage.supervise(strategy=strategy)
    burden = Burden()
    watched = weakref.ref(burden)
    child = sup.start_child(Child(Carrier, (burden,), name="a", restart=restart))
    assert child is not None
    del burden
    assert is_kept(watched) == (restart != "temporary")
    spec = sup.get_childspec(child)
    assert (spec.restart, spec.name) == (restart, "a")


@pytest.mark.usefixtures("only_the_new_is_collected")
@pytest.mark.otp(39, "simple_one_for_one_corruption")
@pytest.mark.parametrize("where", ["in the spec", "beside the spec"])
def test_arguments_of_temporary_children_are_not_kept_before_and_after_the_first_death(
    stage: Stage, where: str
) -> None:
    sup = stage.supervise_dynamic()
    spec = Child(Carrier, restart="temporary")

    def begin() -> tuple[Any, weakref.ref[Burden]]:
        burden = Burden()
        if where == "in the spec":
            child = sup.start_child(Child(Carrier, (burden,), restart="temporary"))
        else:
            child = sup.start_child(spec, burden)
        return child, weakref.ref(burden)

    first, first_burden = begin()
    second, second_burden = begin()
    assert not is_kept(first_burden)
    assert not is_kept(second_burden)
    stage.end(first)
    third, third_burden = begin()
    assert not is_kept(third_burden)
    assert [info.ref for info in sup.which_children()] == [third, second]
    assert spec.args == (), "the spec that was given is as it was"


@pytest.mark.otp(77, "do_not_save_child_specs_for_temporary_children")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", ["killed", "normal", "error", "by order"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_the_name_of_a_temporary_child_that_ended_is_free(stage: Stage, strategy: Any, how: Any, restart: Any) -> None:
    sup = stage.supervise(strategy=strategy)
    spec = stage.child("a", restart=restart)
    sup.start_child(spec)
    if how == "by order":
        sup.terminate_child("a")
    else:
        stage.end("sup/a", how)
    if restart == "temporary":
        assert sup.start_child(spec) is not None
        return
    refused(NameTaken, sup.start_child, spec)
    ended = how == "by order" or (how == "normal" and restart == "transient")
    assert shown(sup) == {"a": None if ended else "running"}
    if ended:
        assert sup.restart_child("a").ref is not None

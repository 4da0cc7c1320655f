"""Strategies and restart intensity (cases 29 to 43, 81, 87)."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import IGNORE, ActorRef, Started, Supervisor
from understudy.actors.events import ActorStopped, SupervisorGaveUp
from understudy.supervisors.restarts import RestartIntensity

from ..players import Stage, pause, shown

GAVE_UP = "shutdown('reached_max_restart_intensity')"


def gave_up(stage: Stage, path: str = "sup") -> bool:
    """Whether the supervisor has ended because of too many restarts, in good order."""
    return stage.reason_of(path) == GAVE_UP and [event.path for event in stage.of(SupervisorGaveUp)] == [path]


@pytest.mark.otp(29, "multiple_restarts")
def test_restarts_that_are_far_enough_apart_never_are_too_many(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a", shutdown="brutal_kill"), intensity=1, period=1.0)
    for _ in range(10):
        stage.end("sup/a")
        stage.advance(1.001)
    assert shown(sup) == {"a": "running"}
    sup.terminate_child("a")
    sup.delete_child("a")
    assert sup.is_alive()


@pytest.mark.otp(29, "multiple_restarts")
def test_a_restart_that_is_exactly_one_period_old_still_counts(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a"), intensity=1, period=1.0)
    stage.end("sup/a")
    stage.advance(1.0)
    assert sup.is_alive()
    stage.end("sup/a")
    assert gave_up(stage)


def test_the_intensity_forgets_what_is_too_old_and_keeps_no_more_than_it_needs() -> None:
    intensity = RestartIntensity(2, 1.0)
    assert [intensity.allow(at) for at in (0.0, 0.5, 1.25, 1.5, 1.5)] == [True, True, True, False, False]
    many = RestartIntensity(1_001, 1.0)
    assert all(many.allow(at / 1_000) for at in range(100_000))
    assert len(many._times) <= 1_001


@pytest.mark.parametrize("intensity", [0, 1, 5])
def test_one_restart_more_than_the_intensity_ends_the_supervisor(stage: Stage, intensity: int) -> None:
    sup = stage.supervise(stage.child("a"), stage.child("b"), intensity=intensity)
    for _ in range(intensity):
        stage.end("sup/a")
        assert sup.is_alive()
    stage.take_log()
    stage.end("sup/a")
    assert gave_up(stage)
    assert stage.take_log() == ["stop b"], "the others are stopped in good order"


@pytest.mark.otp(30, "one_for_one")
def test_one_for_one_leaves_the_sibling_alone(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a"), stage.child("b"))
    first, second = stage.serial("sup/a"), stage.serial("sup/b")
    stage.end("sup/a")
    assert stage.serial("sup/a") > second > first
    assert stage.serial("sup/b") == second
    assert sup.count_children() == (2, 2, 0, 2)
    stage.end("sup/b")
    assert sup.is_alive()
    stage.end("sup/a")
    assert gave_up(stage), "the third restart is one too many, whichever children they were of"


@pytest.mark.otp(31, "one_for_one_escalation")
def test_a_child_that_does_not_start_again_uses_the_intensity_up(stage: Stage) -> None:
    stage.starts("a", "ok", *[ValueError("no")] * 100)
    stage.supervise(stage.child("a"), stage.child("b"), intensity=4)
    stage.end("sup/a")
    assert gave_up(stage)
    assert stage.take_log() == ["start a", "start b", *["fail a"] * 4, "stop b"]


@pytest.mark.otp(32, "one_for_all")
def test_one_for_all_replaces_everybody(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a"), stage.child("b"), stage.child("c"), strategy="one_for_all")
    before = [stage.serial(f"sup/{name}") for name in "abc"]
    stage.take_log()
    stage.end("sup/b")
    assert stage.take_log() == ["stop c", "stop a", "start a", "start b", "start c"]
    after = [stage.serial(f"sup/{name}") for name in "abc"]
    assert min(after) > max(before)
    assert sup.count_children() == (3, 3, 0, 3)
    stage.end("sup/c")
    assert sup.is_alive(), "one crash is one restart, however many are replaced"
    stage.end("sup/a")
    assert gave_up(stage)


@pytest.mark.otp(33, "one_for_all_escalation")
def test_one_for_all_gives_up_when_another_child_does_not_start_again(stage: Stage) -> None:
    stage.starts("b", "ok", *[ValueError("no")] * 100)
    stage.supervise(stage.child("a"), stage.child("b"), strategy="one_for_all", intensity=4)
    stage.end("sup/a")
    assert gave_up(stage)
    log = stage.take_log()
    assert log.count("fail b") == 4
    assert log.count("start a") == log.count("stop a") + 1 == 5, "the first a has crashed"
    assert log[-1] == "stop a"


@pytest.mark.otp(34, "one_for_all_other_child_fails_restart")
def test_one_for_all_stops_the_fresh_sibling_again_and_retries_both(stage: Stage) -> None:
    stage.starts("b", "ok", ValueError("not yet"))
    sup = stage.supervise(stage.child("a"), stage.child("b"), strategy="one_for_all")
    stage.take_log()
    stage.end("sup/a")
    assert stage.take_log() == ["stop b", "start a", "fail b", "stop a", "start a", "start b"]
    assert shown(sup) == {"a": "running", "b": "running"}


@pytest.mark.otp(35, "simple_one_for_one")
def test_a_dynamic_supervisor_leaves_the_siblings_alone(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    first, second = sup.start_child(stage.extra("x")), sup.start_child(stage.extra("x"))
    assert first is not None
    assert second is not None
    before = stage.serial(second)
    stage.end(first)
    assert stage.serial(second) == before
    assert stage.serial(first) > before, "the reference outlives the restart"
    assert sup.count_children() == (2, 2, 0, 2)
    stage.end(second)
    assert sup.is_alive()
    stage.end(first)
    assert gave_up(stage)


@pytest.mark.otp(36, "simple_one_for_one_shutdown")
def test_dynamic_children_are_stopped_in_parallel_with_one_deadline(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for name, seconds in (("quick1", 1.0), ("quick2", 1.0), ("slow", 5.0)):
        stage.stops(name, lambda _player, seconds=seconds: pause(seconds))  # type: ignore[misc]
        sup.start_child(stage.child(name, shutdown=2.0))
    ended: dict[str, float] = {}
    stage.system.events.subscribe(ActorStopped, lambda event: ended.update({event.path: stage.now}))
    assert sup.stop()
    assert stage.now == 2.0, "neither 2 + 1 + 1, nor 5"
    assert stage.reason_of("sup/slow") == "killed"
    assert stage.reason_of("sup/quick1") == stage.reason_of("sup/quick2") == "shutdown"


@pytest.mark.otp(37, "simple_one_for_one_extra")
def test_dynamic_children_with_something_to_say_are_restarted_like_others(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    stage.every_start("x", Started("extra"))
    first, said = sup.start_child_info(stage.extra("x"))
    second, said_too = sup.start_child_info(stage.extra("x"))
    assert (said, said_too) == ("extra", "extra")
    assert first is not None
    assert second is not None
    stage.end(first)
    assert sup.count_children() == (2, 2, 0, 2)
    stage.end(second)
    stage.end(first)
    assert gave_up(stage)


@pytest.mark.otp(38, "simple_one_for_one_escalation")
def test_a_dynamic_child_that_does_not_start_again_uses_the_intensity_up(stage: Stage) -> None:
    stage.starts("x", "ok", *[ValueError("no")] * 100)
    sup = stage.supervise_dynamic(intensity=4)
    first = sup.start_child(stage.extra("x"))
    sup.start_child(stage.extra("y"))
    assert first is not None
    stage.end(first)
    assert gave_up(stage)
    assert stage.take_log() == ["start x", "start y", *["fail x"] * 4, "stop y"]


@pytest.mark.otp(40, "simple_one_for_one_restart_ignore")
def test_a_dynamic_child_that_says_ignore_at_its_restart_is_forgotten(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    stage.starts("x", "ok", IGNORE)
    child = sup.start_child(stage.child("x"))
    assert child is not None
    stage.end(child)
    assert sup.which_children() == []
    assert sup.count_children() == (0, 0, 0, 0)
    assert not child.is_alive()
    assert sup.start_child(stage.child("x")) is not None, "its name is free"


@pytest.mark.otp(3, "sup_start_ignore_child")
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_static_child_that_says_ignore_at_its_restart_keeps_its_spec(stage: Stage, strategy: Any) -> None:
    stage.starts("a", "ok", IGNORE)
    sup = stage.supervise(stage.child("a"), stage.child("b"), strategy=strategy)
    stage.end("sup/a")
    assert shown(sup) == {"a": None, "b": "running"}
    assert sup.restart_child("a").ref is not None


@pytest.mark.otp(41, "rest_for_one")
def test_rest_for_one_replaces_those_that_were_started_later(stage: Stage) -> None:
    sup = stage.supervise(*(stage.child(name) for name in "abcd"), strategy="rest_for_one")
    before = {name: stage.serial(f"sup/{name}") for name in "abcd"}
    stage.take_log()
    stage.end("sup/b")
    assert stage.take_log() == ["stop d", "stop c", "start b", "start c", "start d"]
    after = {name: stage.serial(f"sup/{name}") for name in "abcd"}
    assert after["a"] == before["a"]
    assert min(after[name] for name in "bcd") > max(before.values())
    assert sup.count_children() == (4, 4, 0, 4)
    stage.end("sup/d")
    assert stage.take_log() == ["start d"]
    stage.end("sup/a")
    assert gave_up(stage)


@pytest.mark.otp(42, "rest_for_one_escalation")
def test_rest_for_one_gives_up_when_a_later_child_does_not_start_again(stage: Stage) -> None:
    stage.starts("b", "ok", *[ValueError("no")] * 100)
    stage.supervise(stage.child("a"), stage.child("b"), strategy="rest_for_one", intensity=4)
    stage.take_log()
    stage.end("sup/a")
    assert gave_up(stage)
    assert stage.take_log() == ["stop b", "start a", *["fail b"] * 4, "stop a"]


@pytest.mark.otp(43, "rest_for_one_other_child_fails_restart")
def test_rest_for_one_does_not_restart_the_restarted_sibling_again(stage: Stage) -> None:
    stage.starts("b", "ok", ValueError("not yet"))
    sup = stage.supervise(*(stage.child(name) for name in "abc"), strategy="rest_for_one")
    stage.take_log()
    stage.end("sup/a")
    assert stage.take_log() == ["stop c", "stop b", "start a", "fail b", "start b", "start c"]
    assert shown(sup) == {"a": "running", "b": "running", "c": "running"}


@pytest.mark.otp(87, "order_of_children")
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_children_start_in_order_and_stop_in_reverse(stage: Stage, strategy: Any) -> None:
    names = ["one", "two", "three", "four", "five"]
    sup = stage.supervise(*map(stage.child, names), strategy=strategy)
    assert stage.take_log() == [f"start {name}" for name in names]
    stage.end("sup/three")
    again = {
        "one_for_one": ["start three"],
        "one_for_all": [*(f"stop {name}" for name in ("five", "four", "two", "one")), *(f"start {n}" for n in names)],
        "rest_for_one": ["stop five", "stop four", "start three", "start four", "start five"],
    }
    assert stage.take_log() == again[strategy]
    sup.start_child(stage.child("six"))
    sup.terminate_child("two")
    sup.restart_child("two")
    stage.take_log()
    sup.stop()
    assert stage.take_log() == [f"stop {name}" for name in ("six", "five", "four", "three", "two", "one")]


@pytest.mark.otp(87, "order_of_children")
def test_each_child_is_gone_before_the_one_before_it_is_asked_to_stop(stage: Stage) -> None:
    moments: list[tuple[str, float]] = []
    for name in "abc":

        def act(_player: Any, name: str = name) -> None:
            moments.append((name, stage.now))
            pause(1.0)

        stage.stops(name, act)
    sup = stage.supervise(*(stage.child(name) for name in "abc"))
    sup.stop()
    assert moments == [("c", 0.0), ("b", 1.0), ("a", 2.0)]


def test_a_child_that_was_terminated_is_started_again_with_its_siblings(stage: Stage) -> None:
    """As in OTP: one_for_all and rest_for_one start everybody who has a spec."""
    sup = stage.supervise(stage.child("a"), stage.child("b", restart="transient"), strategy="one_for_all")
    sup.terminate_child("b")
    stage.end("sup/a")
    assert shown(sup) == {"a": "running", "b": "running"}


@pytest.mark.parametrize("seed", range(10))
def test_ends_of_several_children_at_once_are_one_restart_under_one_for_all(seed: int) -> None:
    """The first restart replaces them all, so the end of the others is old news."""
    stage = Stage(seed)
    sup = stage.supervise(*(stage.child(name) for name in "abc"), strategy="one_for_all", intensity=1)
    for name in "abc":
        stage.begin_end(f"sup/{name}", "killed")
    stage.simulation.run_until(lambda: "start c" in stage.log[3:])
    stage.settle()
    assert shown(sup) == {"a": "running", "b": "running", "c": "running"}
    assert stage.log.count("start a") == 2
    stage.close()


def test_a_nested_supervisor_is_restarted_like_any_child(stage: Stage) -> None:
    inner = Supervisor("inner", children=[stage.child("x")], intensity=0)
    sup = stage.supervise(stage.child("a"), inner, stage.child("z"), strategy="rest_for_one")
    stage.take_log()
    stage.end("sup/inner/x")
    assert stage.take_log() == ["stop z", "start x", "start z"]
    assert shown(sup) == {"a": "running", "inner": "running", "z": "running"}
    assert isinstance(sup.which_child("inner").ref, ActorRef)

"""Significant children and auto_shutdown (cases 58 to 64)."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import Child, DynamicSupervisor, Supervisor
from understudy.messages.errors import SpecInvalid

from ..players import ENDINGS, ORDERLY, Ending, Plain, Stage, refused, shown

MODES = ("any_significant", "all_significant")
modes = pytest.mark.parametrize("mode", MODES)


@pytest.mark.otp(58, "nonsignificant_temporary")
@modes
@pytest.mark.parametrize("how", ENDINGS)
def test_the_end_of_an_insignificant_temporary_child_never_ends_the_supervisor(
    stage: Stage, mode: Any, how: Ending
) -> None:
    sup = stage.supervise(stage.child("a", restart="temporary"), auto_shutdown=mode)
    stage.end("sup/a", how)
    assert sup.is_alive()
    assert shown(sup) == {}


@pytest.mark.otp(59, "nonsignificant_transient")
@modes
@pytest.mark.parametrize("how", ENDINGS)
def test_the_end_of_an_insignificant_transient_child_never_ends_the_supervisor(
    stage: Stage, mode: Any, how: Ending
) -> None:
    sup = stage.supervise(stage.child("a", restart="transient"), auto_shutdown=mode)
    stage.end("sup/a", how)
    assert sup.is_alive()
    assert shown(sup) == {"a": None if how in ORDERLY else "running"}


@pytest.mark.otp(60, "significant_temporary")
@modes
@pytest.mark.parametrize("how", ENDINGS)
def test_any_own_end_of_a_significant_temporary_child_counts(stage: Stage, mode: Any, how: Ending) -> None:
    sup = stage.supervise(
        stage.child("a", restart="temporary", significant=True),
        stage.child("b", restart="temporary", significant=True),
        stage.child("plain"),
        auto_shutdown=mode,
    )
    stage.end("sup/a", how)
    if mode == "all_significant":
        assert shown(sup) == {"b": "running", "plain": "running"}
        stage.end("sup/b", how)
    assert not sup.is_alive()
    assert stage.reason_of("sup") == "shutdown"
    assert stage.reason_of("sup/plain") == "shutdown"


@pytest.mark.otp(61, "significant_transient")
@modes
@pytest.mark.parametrize("how", ENDINGS)
def test_only_an_orderly_end_of_a_significant_transient_child_counts(stage: Stage, mode: Any, how: Ending) -> None:
    sup = stage.supervise(
        stage.child("a", restart="transient", significant=True),
        stage.child("b", restart="transient", significant=True),
        auto_shutdown=mode,
    )
    stage.end("sup/a", how)
    if how not in ORDERLY:
        assert shown(sup) == {"a": "running", "b": "running"}
        return
    if mode == "all_significant":
        assert shown(sup) == {"a": None, "b": "running"}
        stage.end("sup/b", how)
    assert not sup.is_alive()
    assert stage.reason_of("sup") == "shutdown"


@pytest.mark.otp(61, "significant_transient")
def test_a_significant_child_that_is_being_restarted_is_one_that_is_left(stage: Stage) -> None:
    sup = stage.supervise(
        stage.child("a", restart="transient", significant=True),
        stage.child("b", restart="transient", significant=True),
        auto_shutdown="all_significant",
        intensity=10**6,
    )
    stage.every_start("a", ValueError("not yet"))
    stage.begin_end("sup/a", "error")
    stage.simulation.run_until(lambda: "fail a" in stage.log)
    stage.begin_end("sup/b", "normal")
    stage.simulation.run_until(lambda: stage.log.count("fail a") > 20)
    assert shown(sup) == {"a": "restarting", "b": None}
    stage.every_start("a", "ok")
    stage.settle()
    assert shown(sup) == {"a": "running", "b": None}
    stage.end("sup/a", "normal")
    assert not sup.is_alive()


@pytest.mark.otp(62, "significant_simple")
def test_significant_children_are_refused_by_a_dynamic_supervisor(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for restart in ("transient", "temporary"):
        spec = stage.extra("x", restart=restart, significant=True)
        assert "significant" in str(refused(SpecInvalid, sup.start_child, spec))
    nested = Supervisor("n", restart="transient", significant=True)
    refused(SpecInvalid, sup.start_child, nested)
    assert sup.which_children() == []
    flags: dict[str, Any] = {"auto_shutdown": "any_significant"}
    with pytest.raises(SpecInvalid, match="auto_shutdown"):
        DynamicSupervisor("d", **flags)


@pytest.mark.otp(62, "significant_simple")
def test_significant_children_are_refused_where_they_mean_nothing(stage: Stage) -> None:
    refused(SpecInvalid, Child, Plain, name="a", significant=True)
    significant = Child(Plain, name="a", significant=True, restart="transient")
    assert "auto_shutdown" in str(refused(SpecInvalid, Supervisor, children=[significant]))
    sup = stage.supervise()
    refused(SpecInvalid, sup.start_child, significant)


@pytest.mark.otp(63, "significant_bystander")
@modes
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_the_end_of_a_significant_bystander_does_not_count(
    stage: Stage, mode: Any, strategy: Any, restart: Any
) -> None:
    sup = stage.supervise(
        stage.child("a"),
        stage.child("b", restart=restart, significant=True),
        strategy=strategy,
        auto_shutdown=mode,
    )
    stage.end("sup/a")
    expected = {"a": "running", "b": "running"} if restart == "transient" else {"a": "running"}
    assert shown(sup) == expected


@pytest.mark.otp(63, "significant_bystander")
@modes
@pytest.mark.parametrize("restart", ["transient", "temporary"])
@pytest.mark.parametrize("order", ["terminate_child", "stop"])
def test_the_end_of_a_significant_child_by_order_does_not_count(
    stage: Stage, mode: Any, restart: Any, order: str
) -> None:
    sup = stage.supervise(stage.child("a", restart=restart, significant=True), auto_shutdown=mode)
    if order == "stop":
        stage.ref("sup/a").stop()
    else:
        sup.terminate_child("a")
    stage.settle()
    assert sup.is_alive()
    if restart == "transient":
        sup.delete_child("a")
    assert sup.start_child(stage.child("a", restart=restart, significant=True)) is not None
    stage.end("sup/a", "normal")
    assert not sup.is_alive()


@pytest.mark.otp(64, "significant_escalation")
@modes
def test_it_goes_up_the_tree_through_significant_supervisors(stage: Stage, mode: Any) -> None:
    leaf = stage.child("leaf", restart="transient", significant=True)
    mid = Supervisor("mid", restart="transient", significant=True, auto_shutdown=mode, children=[leaf])
    sup = stage.supervise(mid, stage.child("other"), auto_shutdown=mode)
    stage.end("sup/mid/leaf", "normal")
    assert not sup.is_alive()
    assert stage.reason_of("sup/mid") == "shutdown"
    assert stage.reason_of("sup") == "shutdown"
    assert stage.reason_of("sup/other") == "shutdown"


@pytest.mark.otp(64, "significant_escalation")
@modes
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_it_stops_at_an_insignificant_supervisor(stage: Stage, mode: Any, restart: Any) -> None:
    """Whose end is one in good order: a permanent supervisor is restarted, the others are not."""
    leaf = stage.child("leaf", restart="transient", significant=True)
    mid = Supervisor("mid", restart=restart, auto_shutdown=mode, children=[leaf])
    sup = stage.supervise(mid, stage.child("other"), auto_shutdown=mode)
    stage.end("sup/mid/leaf", "normal")
    expected: dict[str, dict[str, Any]] = {
        "permanent": {"mid": "running"},
        "transient": {"mid": None},
        "temporary": {},
    }
    assert shown(sup) == {**expected[restart], "other": "running"}
    if restart == "permanent":
        assert stage.log.count("start leaf") == 2

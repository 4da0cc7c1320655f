"""Waits between restarts, in virtual time."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from understudy import Backoff
from understudy.actors.events import RestartScheduled
from understudy.messages.errors import ChildRunning, MailboxClosed, NameTaken, SpecInvalid

from ..players import Note, Stage, refused, shown

STEADY = Backoff(1.0, 8.0, jitter=0.0, reset_after=60.0)
FOR_EVER = 10**9


def supervise(stage: Stage, *children: Any, kind: str = "static", **fields: Any) -> Any:
    """Start a supervisor of that kind with these children."""
    sup = stage.supervise(**fields) if kind == "static" else stage.supervise_dynamic(**fields)
    for child in children:
        sup.start_child(child)
    return sup


both = pytest.mark.parametrize("kind", ["static", "dynamic"])


@both
def test_each_restart_in_a_row_waits_twice_as_long_up_to_the_maximum(stage: Stage, kind: str) -> None:
    supervise(stage, stage.child("a", backoff=STEADY), kind=kind, intensity=FOR_EVER)
    stage.every_start("a", ValueError("not yet"))
    stage.end("sup/a")
    stage.advance(100.0)
    delays = [event.delay for event in stage.of(RestartScheduled)]
    assert delays[:6] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert stage.log.count("fail a") == 3 + int((100.0 - 7.0) / 8.0)


@both
def test_a_child_is_shown_as_restarting_and_its_mail_waits_meanwhile(stage: Stage, kind: str) -> None:
    sup = supervise(stage, stage.child("a", backoff=STEADY), kind=kind)
    child = stage.ref("sup/a")
    stage.end(child)
    future = child.ask(Note(1), block=False)
    stage.advance(0.999)
    assert shown(sup) == {"a": "restarting"}
    assert sup.count_children() == (1, 0, 0, 1)
    assert not future.done
    stage.advance(0.002)
    assert shown(sup) == {"a": "running"}
    assert future.get(timeout=0) == 1


@both
def test_a_child_that_ran_long_enough_starts_with_the_shortest_wait_again(stage: Stage, kind: str) -> None:
    supervise(stage, stage.child("a", backoff=STEADY), kind=kind, intensity=FOR_EVER)
    for _ in range(3):
        stage.end("sup/a")
        stage.advance(8.0)
    stage.advance(51.0)
    stage.end("sup/a")
    stage.advance(8.0)
    stage.advance(60.0)
    stage.end("sup/a")
    assert [event.delay for event in stage.of(RestartScheduled)] == [1.0, 2.0, 4.0, 8.0, 1.0]


@both
def test_every_try_counts_against_the_intensity(stage: Stage, kind: str) -> None:
    sup = supervise(stage, stage.child("a", backoff=STEADY), kind=kind, intensity=3)
    stage.every_start("a", ValueError("no"))
    stage.end("sup/a")
    stage.advance(7.0)
    assert sup.is_alive()
    stage.advance(8.0)
    assert not sup.is_alive()
    assert stage.log.count("fail a") == 3


def test_waits_that_are_longer_than_the_period_never_use_the_intensity_up(stage: Stage) -> None:
    sup = supervise(stage, stage.child("a", backoff=Backoff(3.0, 3.0, jitter=0.0)), intensity=1, period=2.0)
    stage.every_start("a", ValueError("no"))
    stage.end("sup/a")
    stage.advance(300.0)
    assert shown(sup) == {"a": "restarting"}
    assert stage.log.count("fail a") == 100


@both
def test_terminating_a_child_cancels_its_wait(stage: Stage, kind: str) -> None:
    sup = supervise(stage, stage.child("a", backoff=STEADY), kind=kind)
    child = stage.ref("sup/a")
    stage.end(child)
    waiting = child.ask(Note(1), block=False)
    sup.terminate_child(child)
    refused(MailboxClosed, waiting.get, timeout=0)
    stage.advance(100.0)
    assert shown(sup) == ({"a": None} if kind == "static" else {})
    assert stage.log.count("start a") == 1


def test_a_wait_of_an_earlier_life_does_not_restart_a_later_one(stage: Stage) -> None:
    """Terminated while it waits, started by order, crashed again: only the second wait counts."""
    sup = supervise(stage, stage.child("a", backoff=STEADY))
    stage.end("sup/a")
    stage.advance(0.5)
    sup.terminate_child("a")
    sup.restart_child("a")
    stage.end("sup/a")
    stage.advance(0.75)
    assert shown(sup) == {"a": "restarting"}
    stage.advance(5.0)
    assert shown(sup) == {"a": "running"}
    assert stage.log.count("start a") == 3


def test_a_supervisor_that_stops_forgets_its_waits(stage: Stage) -> None:
    sup = supervise(stage, stage.child("a", backoff=STEADY))
    stage.end("sup/a")
    sup.stop()
    stage.advance(100.0)
    assert stage.log == ["start a"]


def test_everything_is_refused_for_a_child_that_waits(stage: Stage) -> None:
    sup = supervise(stage, stage.child("a", backoff=STEADY))
    stage.end("sup/a")
    refused(ChildRunning, sup.restart_child, "a")
    refused(ChildRunning, sup.delete_child, "a")
    refused(NameTaken, sup.start_child, stage.child("a"))


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_those_who_go_with_a_child_are_stopped_at_once_and_come_back_with_it(stage: Stage, strategy: Any) -> None:
    """They depend on it: while it is away they would only fail, or work on what it left half done."""
    sup = supervise(
        stage,
        stage.child("a", backoff=STEADY),
        stage.child("b"),
        stage.child("c", restart="temporary"),
        strategy=strategy,
    )
    stage.take_log()
    stage.end("sup/a")
    assert stage.take_log() == ["stop c", "stop b"]
    assert shown(sup) == {"a": "restarting", "b": None}
    waiting = stage.ref("sup/b").ask(Note(1), block=False)
    stage.advance(1.0)
    assert stage.take_log() == ["start a", "start b"]
    assert shown(sup) == {"a": "running", "b": "running"}
    assert waiting.get(timeout=0) == 1


@pytest.mark.parametrize("how", ["terminate", "stop"])
def test_those_who_wait_with_a_child_that_will_not_come_back_are_gone(stage: Stage, how: str) -> None:
    """Nobody starts them by itself any more, so their mail must not wait."""
    sup = supervise(stage, stage.child("a", backoff=STEADY), stage.child("b"), strategy="one_for_all")
    stage.end("sup/a")
    bystander = stage.ref("sup/b")
    waiting = bystander.ask(Note(1), block=False)
    if how == "terminate":
        sup.terminate_child("a")
    else:
        stage.ref("sup/a").stop()
    assert shown(sup) == {"a": None, "b": None}
    assert not bystander.is_alive()
    refused(MailboxClosed, waiting.get, timeout=0)
    assert sup.restart_child("b").ref is not None


def test_those_who_wait_for_another_child_as_well_go_on_waiting(stage: Stage) -> None:
    sup = supervise(
        stage,
        stage.child("a"),
        stage.child("b", backoff=STEADY),
        stage.child("c"),
        stage.child("d", backoff=STEADY),
        stage.child("e"),
        strategy="rest_for_one",
    )
    stage.end("sup/b")
    sup.start_child(stage.child("f", backoff=STEADY))
    stage.end("sup/f")
    assert shown(sup) == {"a": "running", "b": "restarting", "c": None, "d": None, "e": None, "f": "restarting"}
    waiting = stage.ref("sup/e").ask(Note(1), block=False)
    sup.terminate_child("f")
    assert not waiting.done
    stage.advance(1.0)
    assert waiting.get(timeout=0) == 1
    assert shown(sup) == dict.fromkeys("abcdef", "running")


def test_a_child_that_waits_with_another_can_be_started_terminated_and_deleted(stage: Stage) -> None:
    sup = supervise(
        stage,
        stage.child("a", backoff=STEADY),
        stage.child("b"),
        stage.child("c"),
        stage.child("d"),
        strategy="one_for_all",
    )
    stage.end("sup/a")
    waiting = {name: stage.ref(f"sup/{name}").ask(Note(1), block=False) for name in "bcd"}
    sup.restart_child("b")
    assert waiting["b"].get() == 1
    sup.terminate_child("c")
    refused(MailboxClosed, waiting["c"].get, timeout=0)
    sup.delete_child("d")
    refused(MailboxClosed, waiting["d"].get, timeout=0)
    assert shown(sup) == {"a": "restarting", "b": "running", "c": None}
    assert sup.start_child(stage.child("d")) is not None, "the name is free"
    stage.advance(1.0)
    assert shown(sup) == dict.fromkeys("abcd", "running"), "whoever has a spec is started with the others"


def test_the_delay_doubles_stays_below_the_maximum_and_is_shortened_by_chance() -> None:
    chance = random.Random(1)
    backoff = Backoff(0.5, 30.0, jitter=0.25)
    for attempt in range(1, 2_000):
        full = min(30.0, 0.5 * 2.0 ** min(attempt - 1, 100))
        delay = backoff.delay(attempt, chance)
        assert 0.75 * full <= delay <= full
    assert Backoff(1e300, 1e308, jitter=0.0).delay(10**6, chance) == 1e308


@pytest.mark.parametrize("longest", [math.inf, math.nan, 10**400, "30", None, True], ids=lambda value: f"{value!r:.9}")
def test_a_wait_has_a_bound(longest: Any) -> None:
    """A finite number of seconds: a wait that doubles for ever is a child that never comes back."""
    with pytest.raises(SpecInvalid, match=r"Backoff\(max="):
        Backoff(0.1, longest)
    with pytest.raises(SpecInvalid, match=r"Backoff\(min="):
        Backoff(longest if longest is not True else False, 1.0)


def test_a_child_may_never_count_as_steady() -> None:
    """Then its waits only grow, up to the bound."""
    assert Backoff(0.1, 1.0, reset_after=math.inf).reset_after == math.inf


def test_many_children_do_not_come_back_at_the_same_moment(stage: Stage) -> None:
    """The part that is drawn comes from the system's own chance, so a run can be repeated."""
    moments = []
    for _ in range(2):
        other = Stage(seed=5)
        names = [f"c{number}" for number in range(20)]
        other.supervise(*(other.child(name, backoff=Backoff(1.0, 1.0, jitter=0.5)) for name in names), intensity=100)
        for name in names:
            other.begin_end(f"sup/{name}", "killed")
        other.settle()
        moments.append([event.delay for event in other.of(RestartScheduled)])
        other.close()
    assert len(set(moments[0])) == 20
    assert all(0.5 <= delay <= 1.0 for delay in moments[0])
    assert moments[0] == moments[1]

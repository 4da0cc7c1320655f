"""Each fault does what it says, to the messages it is meant for, and is seen in the trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from understudy import ActorSystem, Child, Message, Supervisor
from understudy.actors.events import ActorCrashed, ActorRestarted, HandlerAbandoned
from understudy.messages.errors import AskTimeout, HandlerFailed
from understudy.supervisors.ref import SupervisorRef
from understudy.supervisors.requests import WhichChildren
from understudy.testing import Deadlock, FaultPlan, InjectedCrash, SimulatedDispatcher

from .players import Count, Counter, Note, Notes, Sleep, Sleeper

Start = Callable[[FaultPlan], ActorSystem]


def start(plan: FaultPlan, seed: int = 0) -> tuple[SimulatedDispatcher, ActorSystem]:
    """A system with one counter, ``a``, and one sleeper, ``s``."""
    simulation = SimulatedDispatcher(seed, faults=plan)
    system = ActorSystem("x", dispatcher=simulation, intensity=100)
    system.spawn(Child(Counter, name="a", shutdown=1.0))
    system.spawn(Child(Sleeper, name="s", shutdown=1.0))
    return simulation, system


def noted(plan: FaultPlan, count: int = 5, seed: int = 0) -> list[int]:
    """What the counter remembers of so many notes, after a minute."""
    simulation, system = start(plan, seed)
    with system:
        for number in range(count):
            system.tell("a", Note(number))
        simulation.advance(60.0)
        return list(system.ask("a", Notes()))


def struck(simulation: SimulatedDispatcher) -> list[tuple[str, str, str]]:
    """The faults in the trace."""
    return [step[1:] for step in simulation.trace if step[1] in ("crash", "drop", "duplicate", "delay", "slow", "hang")]


def test_a_plan_serves_several_simulations_each_counts_for_itself() -> None:
    plan = FaultPlan().drop("a", at=2)
    assert noted(plan, count=3) == noted(plan, count=3) == [0, 2]


@pytest.mark.parametrize("wrong", [{"at": 0}, {"times": 0}, {"rate": 1.5}, {"rate": -0.1}])
def test_a_number_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FaultPlan().drop(**wrong)
    with pytest.raises(ValueError, match="backwards"):
        FaultPlan().delay(-1.0)


# --- which messages --------------------------------------------------------------------------------------


def test_the_kth_message_is_struck_and_no_other() -> None:
    assert noted(FaultPlan().drop("a", at=3)) == [0, 1, 3, 4]


def test_as_many_as_it_says_are_struck() -> None:
    assert noted(FaultPlan().drop("a", at=2, times=3)) == [0, 4]
    assert noted(FaultPlan().drop("a", message=Note, times=None)) == []


@pytest.mark.parametrize(
    ("which", "hits"),
    [
        ({"path": "a"}, True),
        ({"path": "?"}, True),
        ({"path": "b"}, False),
        ({"actor": Counter}, True),
        ({"actor": Sleeper}, False),
        ({"message": Note}, True),
        ({"message": Message}, True),
        ({"message": Count}, False),
        ({"path": "a", "message": Note, "actor": Counter}, True),
        ({"path": "a", "message": Count}, False),
        ({}, True),
    ],
)
def test_only_what_matches_everything_is_struck_and_counted(which: dict[str, Any], hits: bool) -> None:
    assert noted(FaultPlan().drop(at=2, **which), count=2) == ([0] if hits else [0, 1])


def test_a_rate_is_drawn_from_the_seed() -> None:
    def kept(seed: int) -> list[int]:
        return noted(FaultPlan().drop("a", message=Note, rate=0.5, times=None), count=40, seed=seed)

    assert kept(1) == kept(1)
    assert kept(1) != kept(2)
    assert 5 < len(kept(1)) < 35


def test_at_most_one_fault_strikes_a_message_the_first_that_matches() -> None:
    simulation, system = start(FaultPlan().drop("a", at=2).crash("a", at=1, times=None))
    with system:
        system.tell("a", Note(1))
        system.tell("a", Note(2))
        simulation.run_until_idle()
        assert struck(simulation) == [("crash", "a", "Note"), ("drop", "a", "Note")]


@pytest.mark.parametrize(("which", "struck"), [({}, False), ({"path": "*"}, False), ({"path": "t"}, True)])
def test_supervisors_are_struck_only_by_their_very_path_or_class(which: dict[str, Any], struck: bool) -> None:
    simulation = SimulatedDispatcher(0, faults=FaultPlan().drop(times=None, **which))
    with ActorSystem("x", Supervisor("t"), dispatcher=simulation) as system:
        asked = cast("SupervisorRef", system.lookup("t")).ask(WhichChildren(), block=False, timeout=1.0)
        simulation.advance(1.0)
        assert isinstance(asked.error, AskTimeout) == struck


# --- what happens to them --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_crash_ends_the_incarnation_and_the_asker_is_told(seed: int) -> None:
    simulation, system = start(FaultPlan().crash("a", message=Count, at=2), seed)
    with system:
        seen: list[Any] = []
        system.events.subscribe(ActorCrashed, seen.append)
        system.events.subscribe(ActorRestarted, seen.append)
        assert system.ask("a", Count()) == 1
        with pytest.raises(HandlerFailed) as caught:
            system.ask("a", Count())
        assert isinstance(caught.value.__cause__, InjectedCrash)
        assert system.ask("a", Count()) == 1, "a new incarnation"
        assert [type(event) for event in seen] == [ActorCrashed, ActorRestarted]
        assert seen[0].message_type == "Count"
        assert struck(simulation) == [("crash", "a", "Count")]


def test_a_crash_may_raise_what_the_plan_says() -> None:
    _, system = start(FaultPlan().crash("a", error=lambda: OSError("the disk is full")))
    with system, pytest.raises(HandlerFailed, match="the disk is full"):
        system.ask("a", Count())


def test_a_dropped_ask_is_never_answered() -> None:
    simulation, system = start(FaultPlan().drop("a", times=2))
    with system:
        with pytest.raises(AskTimeout):
            system.ask("a", Count(), timeout=3.0)
        assert simulation.clock() == 3.0
        with pytest.raises(Deadlock):
            system.ask("a", Count(), timeout=None)
        assert system.ask("a", Count()) == 1


def test_a_duplicate_is_handled_right_after_the_original_and_answered_once() -> None:
    assert noted(FaultPlan().duplicate("a", at=2), count=3) == [0, 1, 1, 2]
    assert noted(FaultPlan().duplicate("a", message=Note, times=None), count=2) == [0, 0, 1, 1]
    _, system = start(FaultPlan().duplicate("a", message=Count))
    with system:
        assert system.ask("a", Count()) == 1
        assert system.ask("a", Count()) == 3


def test_a_delayed_message_comes_later_and_others_overtake_it() -> None:
    assert noted(FaultPlan().delay(10.0, "a", at=2)) == [0, 2, 3, 4, 1]
    simulation, system = start(FaultPlan().delay(10.0, "a", times=None))
    with system:
        assert system.ask("a", Count(), timeout=20.0) == 1
        assert simulation.clock() == 10.0


def test_a_slow_handler_keeps_what_is_behind_it_waiting() -> None:
    assert noted(FaultPlan().slow(10.0, "a", at=2)) == [0, 1, 2, 3, 4]
    simulation, system = start(FaultPlan().slow(10.0, "a"))
    with system:
        system.tell("a", Note(1))
        assert system.ask("a", Notes(), timeout=20.0) == [1]
        assert simulation.clock() == 10.0


def test_a_slow_coroutine_lets_other_coroutines_run() -> None:
    _, system = start(FaultPlan().slow(10.0, "s"))
    with system:
        system.spawn(Sleeper, name="other")
        slow = system.ask("s", Sleep(1.0), block=False, timeout=None)
        assert system.ask("other", Sleep(1.0)) == 1.0
        assert slow.get() == 11.0


@pytest.mark.parametrize("name", ["a", "s"])
def test_a_handler_that_hangs_is_killed_when_its_time_to_stop_is_over(name: str) -> None:
    simulation, system = start(FaultPlan().hang(name))
    abandoned: list[str] = []
    system.events.subscribe(HandlerAbandoned, lambda event: abandoned.append(event.path))
    with system:
        asked = system.ask(name, Count(), block=False, timeout=None)
        simulation.run_until_idle()
    with pytest.raises(HandlerFailed, match="killed"):
        asked.get(timeout=0)
    assert abandoned == [name]
    assert simulation.clock() == 1.0


def test_who_hangs_is_replaced_and_the_next_message_is_handled() -> None:
    """A supervisor that restarts all kills the one that hangs; its successor is as good as new."""
    simulation = SimulatedDispatcher(0, faults=FaultPlan().hang("t/b", at=2).crash("t/a", at=1))
    tree = Supervisor(
        "t",
        strategy="one_for_all",
        children=[Child(Counter, name="a", shutdown=1.0), Child(Counter, name="b", shutdown=1.0)],
    )
    with ActorSystem("x", tree, dispatcher=simulation) as system:
        assert system.ask("t/b", Count()) == 1
        system.tell("t/b", Count())
        simulation.run_until_idle()
        assert simulation.stuck == ["t/b"]
        system.tell("t/a", Count())
        assert system.ask("t/b", Count()) == 1
        assert simulation.clock() == 1.0


def test_a_plan_strikes_subclasses_and_messages_that_only_on_receive_takes() -> None:
    from understudy.testing import Probe

    simulation = SimulatedDispatcher(0, faults=FaultPlan().slow(2.0, message=Message).duplicate(message=str))
    with ActorSystem("x", dispatcher=simulation) as system:
        probe = Probe()
        ref = probe.spawn(system, "probe")
        ref.tell(Note(1))
        ref.tell("plain")
        simulation.advance(2.0)
        assert probe.received == [Note(1), "plain", "plain"]

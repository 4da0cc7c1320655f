"""A probe stands in for an actor, remembers what it got, and answers what it was told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from understudy import ActorSystem, Child, Message, Supervisor, Terminated
from understudy.messages.errors import HandlerFailed
from understudy.testing import Probe, SimulatedDispatcher

from .players import Count, Counter, Meet, Note

Systems = Callable[..., ActorSystem]


@pytest.fixture(params=["simulated", "real"])
def system(request: pytest.FixtureRequest, actor_system: Systems, simulation: SimulatedDispatcher) -> ActorSystem:
    """A system of either kind: a probe is used alike in both."""
    return actor_system(dispatcher=simulation if request.param == "simulated" else None)


def test_it_remembers_what_it_got_in_order(system: ActorSystem, probe: Probe) -> None:
    ref = probe.spawn(system, "probe")
    for number in range(3):
        ref.tell(Note(number))
    assert [probe.expect(Note).value for _ in range(3)] == [0, 1, 2]
    assert probe.received == [Note(0), Note(1), Note(2)]
    assert probe.ref == ref


def test_each_message_is_expected_once_and_others_wait_for_their_turn(system: ActorSystem, probe: Probe) -> None:
    ref = probe.spawn(system)
    ref.tell(Note(1))
    ref.tell(Count())
    ref.tell(Note(2))
    assert probe.expect(Count) == Count()
    assert probe.expect(Note, where=lambda note: note.value == 2).value == 2
    assert probe.expect(Message) == Note(1)
    probe.expect_nothing()


def test_it_answers_what_it_was_told_to(system: ActorSystem, probe: Probe) -> None:
    probe.answer(Count, 42).answer(Note, lambda note: note.value * 2).answer(Meet, OSError("nobody home"))
    ref = probe.spawn(system, "probe")
    assert system.spawn(Counter, ref, name="a").ask(Count()) == 43
    assert ref.ask(Note(4), timeout=5.0) == 8
    with pytest.raises(HandlerFailed, match="nobody home"):
        ref.ask(Meet(), timeout=5.0)
    assert ref.ask("anything else", timeout=5.0) is None


def test_what_does_not_come_is_reported_with_what_did(simulation: SimulatedDispatcher, probe: Probe) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        probe.spawn(system).tell(Note(7))
        with pytest.raises(AssertionError, match=r"no Count within 30 s; unclaimed so far: \[Note\(value=7\)\]"):
            probe.expect(Count, timeout=30)
        assert simulation.clock() == 30.0
        with pytest.raises(AssertionError, match="nobody expected"):
            probe.expect_nothing()
        probe.clear()
        probe.expect_nothing(within=30.0)
        assert simulation.clock() == 60.0
        assert probe.received == []


def test_what_does_not_come_to_a_real_one_is_reported_too(actor_system: Systems, probe: Probe) -> None:
    probe.spawn(actor_system())
    with pytest.raises(AssertionError, match=r"no Count within 0.0 s; unclaimed so far: nothing"):
        probe.expect(Count, timeout=0.0)


def test_it_may_be_declared_in_a_tree_and_lives_through_restarts(system: ActorSystem, probe: Probe) -> None:
    system.root.start_child(Supervisor("tree", children=[probe.child("probe"), Child(Counter, name="a")]))
    probe.answer(Count, ValueError("down"))
    system.tell("tree/probe", Note(1))
    system.tell("tree/probe", Count())
    system.tell("tree/probe", Note(2))
    assert probe.expect(Count)
    assert probe.expect(Note, where=lambda note: note.value == 2)
    assert probe.ref.incarnation == 2
    assert probe.received == [Note(1), Count(), Note(2)]


def test_it_can_watch(system: ActorSystem, probe: Probe) -> None:
    probe.answer(Meet, lambda _message: probe.ref._cell.actor.watch(watched))
    ref = probe.spawn(system)
    watched: Any = system.spawn(Counter, name="a")
    ref.ask(Meet(), timeout=5.0)
    watched.stop()
    assert probe.expect(Terminated).ref == watched


def test_a_probe_that_stands_nowhere_says_so(probe: Probe) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        probe.ref.tell("hello")
    probe.expect_nothing()

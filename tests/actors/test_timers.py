"""Timers: messages that come later, once or again and again, and never to a later incarnation."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy import Actor, ActorSystem, ErrorKind, Mailbox, Message, handles
from understudy.actors.timers import ThreadTimers, Timer
from understudy.messages.errors import IncarnationFenced
from understudy.testing import SimulatedDispatcher

from .core_stage import PATIENCE, Do, Note, Player, kind_of, seen, stuck, wait

Start = Callable[..., ActorSystem]


class Tick(Message[None]):
    number: int = 0


class Clockwork(Actor):
    """Notes when ticks come."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[tuple[float, int]] = []

    @handles
    def do(self, message: Do) -> Any:
        return message.work(self)

    @handles
    def tick(self, message: Tick) -> None:
        self.ticks.append((self._cell.runtime.clock(), message.number))


@pytest.fixture
def stage(actor_system: Start, simulation: SimulatedDispatcher) -> ActorSystem:
    return actor_system(dispatcher=simulation)


def ticks(system: ActorSystem) -> list[tuple[float, int]]:
    """When the ticks came, in seconds since the start of the simulation, and which."""
    found: list[tuple[float, int]] = system.lookup("clockwork")._cell.actor.ticks
    return [(round(at, 6), number) for at, number in found]


def test_a_message_comes_after_its_time_and_once(stage: ActorSystem, simulation: SimulatedDispatcher) -> None:
    ref = stage.spawn(Clockwork, name="clockwork")
    start = simulation.clock()
    ref.ask(Do(lambda actor: actor.after(2.0, Tick())))
    simulation.advance(1.999)
    assert ticks(stage) == []
    simulation.advance(100.0)
    assert ticks(stage) == [(round(start + 2.0, 6), 0)]


def test_messages_come_in_the_order_of_their_times(stage: ActorSystem, simulation: SimulatedDispatcher) -> None:
    ref = stage.spawn(Clockwork, name="clockwork")
    ref.ask(Do(lambda actor: [actor.after(seconds, Tick(int(seconds * 10))) for seconds in (0.3, 0.1, 0.2, 0.0)]))
    simulation.advance(1.0)
    assert [number for _, number in ticks(stage)] == [0, 1, 2, 3]


def test_a_message_comes_again_and_again_until_its_timer_is_cancelled(
    stage: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    ref = stage.spawn(Clockwork, name="clockwork")
    start = simulation.clock()
    timer: list[Timer] = []
    ref.ask(Do(lambda actor: timer.append(actor.every(0.5, Tick()))))
    simulation.advance(2.2)
    assert [round(at - start, 6) for at, _ in ticks(stage)] == [0.5, 1.0, 1.5, 2.0]
    timer[0].cancel()
    assert not timer[0].active
    simulation.advance(10.0)
    assert len(ticks(stage)) == 4


def test_a_cancelled_timer_sends_nothing(stage: ActorSystem, simulation: SimulatedDispatcher) -> None:
    ref = stage.spawn(Clockwork, name="clockwork")
    ref.ask(Do(lambda actor: actor.after(1.0, Tick()).cancel()))
    simulation.advance(5.0)
    assert ticks(stage) == []


@pytest.mark.parametrize("how", ["after", "every"])
def test_a_timer_ends_with_its_incarnation(stage: ActorSystem, simulation: SimulatedDispatcher, how: str) -> None:
    ref = stage.spawn(Clockwork, name="clockwork")

    def set_and_crash(actor: Clockwork) -> None:
        getattr(actor, how)(1.0, Tick())
        raise ValueError("meant to")

    ref.tell(Do(set_and_crash))
    simulation.advance(10.0)
    assert ref.incarnation == 2
    assert ticks(stage) == []


def test_a_timer_of_an_actor_that_was_stopped_leaves_nothing_behind(
    stage: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    ref = stage.spawn(Clockwork, name="clockwork")
    ref.ask(Do(lambda actor: actor.every(1.0, Tick())))
    ref.stop()
    simulation.advance(10.0)
    assert stage.dead_letters == 0


def test_a_repeated_message_does_not_pile_up_before_a_handler_that_is_slow(
    stage: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    """It respects the mailbox's bound, however long the handler takes."""
    patient = stage.spawn(Clockwork, name="clockwork", mailbox=Mailbox(capacity=3))
    slow = stage.spawn(Player)

    def ask_slow(actor: Clockwork) -> None:
        actor.every(0.1, Tick())
        slow.ask(Do(lambda other: other.after(50.0, Do(late(other.defer_reply())))))

    def late(request: Any) -> Callable[[Any], Any]:
        return lambda _: request.reply(None)

    patient.tell(Do(ask_slow))
    simulation.advance(49.0)
    assert len(patient._cell.queue) == 3
    assert stage.dead_letters > 400
    simulation.advance(2.0)
    assert len(ticks(stage)) >= 3


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, "1", None, True])
def test_an_interval_that_is_none_is_refused(stage: ActorSystem, seconds: Any) -> None:
    ref = stage.spawn(Clockwork)
    assert ref.ask(Do(lambda actor: kind_of(lambda: actor.every(seconds, Tick())))) == ErrorKind.TIMER_INVALID


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, "1", None, True])
def test_a_time_that_is_none_is_refused(stage: ActorSystem, seconds: Any) -> None:
    ref = stage.spawn(Clockwork)
    assert ref.ask(Do(lambda actor: kind_of(lambda: actor.after(seconds, Tick())))) == ErrorKind.TIMER_INVALID


def test_an_incarnation_that_was_killed_cannot_set_a_timer(system: ActorSystem) -> None:
    ref = system.spawn(Player, shutdown="brutal_kill")
    left_behind: list[Player] = []
    ref.ask(Do(left_behind.append), timeout=PATIENCE)
    ref.stop()
    for action in (left_behind[0].after, left_behind[0].every):
        with pytest.raises(IncarnationFenced):
            action(1.0, Note(1))


# --- on a real clock ---------------------------------------------------------------------------------------


def test_timers_send_on_a_real_clock_too(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    twice, once = threading.Event(), threading.Event()

    def count(actor: Player) -> None:
        actor.seen.append(1)
        if len(actor.seen) == 2:
            twice.set()

    ref.ask(Do(lambda actor: actor.every(0.001, Do(count))), timeout=PATIENCE)
    ref.ask(Do(lambda actor: actor.after(0.001, Do(lambda _: once.set()))), timeout=PATIENCE)
    wait(twice)
    wait(once)


def test_a_timer_that_is_due_before_its_setter_has_returned_sends_all_the_same(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = system.spawn(Player)

    def fire_at_once(timer: Timer) -> Timer:
        timer.fire()
        return timer

    monkeypatch.setattr(system.runtime.timers, "add", fire_at_once)
    with stuck(ref):
        pass
    ref.ask(Do(lambda actor: actor.after(0.0, Note(7))))
    assert seen(ref) == [7]
    assert ref._cell.needs.timers == set()


def test_a_repetition_that_comes_late_is_not_made_up_for() -> None:
    """A machine that slept must not wake up to a burst."""
    now = 0.0
    timers = ThreadTimers(lambda: now, "test")
    fired: list[float] = []
    went_off = threading.Semaphore(0)
    due_again = threading.Event()

    def action() -> None:
        fired.append(now)
        went_off.release()

    try:
        timers.add(Timer(1.0, action, 1.0))
        now = 100.5
        timers.add(Timer(0.0, lambda: None))  # wakes the thread
        assert went_off.acquire(timeout=PATIENCE)
        timers.add(Timer(0.0, due_again.set))  # comes after the repetition was set anew, by the time there is now
        wait(due_again)
        now = 200.0
        timers.add(Timer(0.0, lambda: None))
        assert went_off.acquire(timeout=PATIENCE)
    finally:
        timers.stop()
    assert fired == [100.5, 200.0]


def test_a_timer_whose_action_raises_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    timers = ThreadTimers(lambda: 0.0, "test")
    done = threading.Event()

    def fail() -> None:
        raise ValueError("meant to")

    try:
        timers.add(Timer(0.0, fail))
        timers.add(Timer(0.0, done.set))
        wait(done)
    finally:
        timers.stop()
    assert "A timer's action raised" in caplog.text


def test_timers_that_were_cancelled_do_not_pile_up(system: ActorSystem) -> None:
    """Every ask with a deadline sets one, and most are answered long before it."""
    ref = system.spawn(Player)
    for _ in range(5_000):
        assert ref.ask(Note(1), block=False, timeout=1_000.0).get(timeout=PATIENCE)
    timers = system.runtime.timers
    assert isinstance(timers, ThreadTimers)
    assert len(timers) < 2_000

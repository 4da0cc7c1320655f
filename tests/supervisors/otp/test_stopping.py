"""How a supervisor stops, and its children (cases 16 to 22, 56)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from understudy import NORMAL, Actor, ActorSystem, Child, ExitReason, Message, Supervisor, handles
from understudy.actors.events import ActorCrashed, ActorRestarted, HandlerAbandoned, ShutdownError

from ..players import ENDINGS, Ending, Hang, Player, Stage, Take, pause, shown


def raise_while_stopping(_player: Player) -> None:
    raise OSError("the disk is full")


@pytest.mark.otp(16, "sup_stop_infinity")
@pytest.mark.parametrize("kind", ["worker", "supervisor"])
def test_a_child_may_take_for_ever_if_its_shutdown_is_infinity(stage: Stage, kind: str) -> None:
    stage.stops("slow", lambda _player: pause(1_000_000))
    slow: Any = stage.child("slow", shutdown="infinity")
    if kind == "supervisor":
        slow = Supervisor("above", shutdown="infinity", children=[slow])
    sup = stage.supervise(slow, stage.child("quick"))
    assert sup.stop()
    assert stage.now == 1_000_000
    assert stage.reason_of("sup/quick") == "shutdown"
    assert stage.reason_of("sup/slow" if kind == "worker" else "sup/above/slow") == "shutdown"
    assert stage.of(ShutdownError) == []


@pytest.mark.otp(17, "sup_stop_timeout")
def test_a_busy_child_is_killed_at_its_deadline_and_a_quick_one_ends_with_shutdown(stage: Stage) -> None:
    sup = stage.supervise(stage.child("quick", shutdown=1.0), stage.child("busy", shutdown=1.0))
    stage.ref("sup/busy").tell(Hang())
    stage.settle()
    stage.take_log()
    assert sup.stop()
    assert stage.now == 1.0
    assert stage.reason_of("sup/quick") == "shutdown"
    assert stage.reason_of("sup/busy") == "killed"
    assert stage.take_log() == ["stop quick"], "what is killed does not run its on_stop"
    assert [(event.child, event.reason) for event in stage.of(ShutdownError)] == [("sup/busy", "killed")]


@pytest.mark.otp(17, "sup_stop_timeout")
def test_a_child_that_is_busy_for_a_shorter_time_than_it_may_ends_with_shutdown(stage: Stage) -> None:
    """What it is handling is handled to the end; what waits behind it is not."""
    sup = stage.supervise(stage.child("a", shutdown=2.0))
    child = stage.ref("sup/a")
    first, second = child.ask(Take(1.5), block=False), child.ask(Take(1.5), block=False)
    stage.settle()
    assert sup.stop()
    assert stage.now == 1.5
    assert stage.reason_of("sup/a") == "shutdown"
    assert first.get(timeout=0) is None
    with pytest.raises(Exception, match="stopped before handling"):
        second.get(timeout=0)


@pytest.mark.otp(17, "sup_stop_timeout")
def test_a_child_whose_on_stop_hangs_is_killed_at_its_deadline(stage: Stage) -> None:
    stage.stops("a", lambda _player: pause(1_000))
    sup = stage.supervise(stage.child("a", shutdown=1.0), stage.child("b"))
    assert sup.stop()
    assert stage.now == 1.0
    assert stage.reason_of("sup/a") == "killed"


@pytest.mark.otp(18, "sup_stop_timeout_dynamic")
def test_busy_dynamic_children_are_killed_at_their_common_deadline(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    children = [sup.start_child(stage.child(f"c{number}", shutdown=1.0)) for number in range(4)]
    for child in children[:2]:
        assert child is not None
        child.tell(Hang())
    stage.settle()
    assert sup.stop()
    assert stage.now == 1.0
    assert [stage.reason_of(f"sup/c{number}") for number in range(4)] == ["killed", "killed", "shutdown", "shutdown"]


@pytest.mark.otp(18, "sup_stop_timeout_dynamic")
@pytest.mark.parametrize("order", ["patient first", "patient last"])
def test_each_shutdown_value_has_a_deadline_of_its_own(stage: Stage, order: str) -> None:
    """A child that may take for ever does not put the deadline of the others off."""
    sup = stage.supervise_dynamic()
    values: list[Any] = ["infinity", 1.0, 3.0, "brutal_kill"]
    for shutdown in values if order == "patient first" else reversed(values):
        child = sup.start_child(stage.child(f"c{shutdown}", shutdown=shutdown))
        assert child is not None
        child.tell(Take(10.0) if shutdown == "infinity" else Hang())
    stage.settle()
    killed_at: dict[str, float] = {}
    stage.system.events.subscribe(HandlerAbandoned, lambda event: killed_at.update({event.path: stage.now}))
    assert sup.stop()
    assert stage.now == 10.0
    assert killed_at == {"sup/cbrutal_kill": 0.0, "sup/c1.0": 1.0, "sup/c3.0": 3.0}
    assert stage.reason_of("sup/cinfinity") == "shutdown"


@pytest.mark.otp(19, "sup_stop_brutal_kill")
def test_a_child_that_is_to_be_killed_is_killed_at_once(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a", shutdown=1.0), stage.child("b", shutdown="brutal_kill"))
    stage.take_log()
    assert sup.stop()
    assert stage.reason_of("sup/a") == "shutdown"
    assert stage.reason_of("sup/b") == "killed"
    assert stage.take_log() == ["stop a"]
    assert stage.of(ShutdownError) == [], "it is what was asked for"


@pytest.mark.otp(19, "sup_stop_brutal_kill")
def test_a_child_that_hangs_and_is_to_be_killed_takes_no_time(stage: Stage) -> None:
    sup = stage.supervise(stage.child("a", shutdown="brutal_kill"))
    stage.ref("sup/a").tell(Hang())
    stage.settle()
    assert sup.stop()
    assert (stage.now, stage.reason_of("sup/a")) == (0.0, "killed")


@pytest.mark.otp(20, "sup_stop_brutal_kill_dynamic")
def test_ten_children_are_killed_at_once(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for number in range(10):
        child = sup.start_child(stage.child(f"c{number}", shutdown="brutal_kill"))
        assert child is not None
        if number % 2:
            child.tell(Hang())
    stage.settle()
    assert sup.stop()
    assert stage.now == 0.0
    assert {stage.reason_of(f"sup/c{number}") for number in range(10)} == {"killed"}
    assert stage.of(ShutdownError) == []


@pytest.mark.otp(21, "sup_stop_race")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", ENDINGS)
def test_children_that_end_on_their_own_during_the_stop_neither_hang_it_nor_come_back(how: Ending, seed: int) -> None:
    """They end while the supervisor waits for another one, and it hears of it when it comes to them."""
    stage = Stage(seed)
    sup = stage.supervise(*(stage.child(name, shutdown="infinity") for name in ("a", "b", "c", "slow")))
    stage.stops("slow", lambda _player: pause(10.0))
    stopped = sup.stop(block=False)
    stage.advance(1.0)
    for name in ("a", "b", "c"):
        stage.begin_end(f"sup/{name}", how)
    assert stopped.get() is True
    assert stage.now == 10.0
    assert stage.of(ActorRestarted) == []
    found = {stage.reason_of(f"sup/{name}") for name in ("a", "b", "c")}
    expected = {"normal": "normal", "shutdown(info)": "shutdown('info')", "error": "error(RuntimeError: "}
    assert all(reason.startswith(expected.get(how, how)) for reason in found)
    assert stage.reason_of("sup") == "shutdown"
    stage.close()


@pytest.mark.otp(21, "sup_stop_race")
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("seed", range(10))
def test_children_that_end_at_the_moment_of_the_stop_neither_hang_it_nor_come_back(how: Ending, seed: int) -> None:
    """Whichever comes first, the end or the order to stop."""
    stage = Stage(seed)
    sup = stage.supervise_dynamic() if seed % 2 else stage.supervise(strategy="one_for_all")
    for name in ("a", "b", "c"):
        sup.start_child(stage.child(name, shutdown="infinity"))
    for name in ("a", "b", "c"):
        stage.begin_end(f"sup/{name}", how)
    assert sup.stop()
    assert stage.now == 0.0
    assert not sup.is_alive()
    stage.close()


@pytest.mark.otp(22, "sup_stop_non_shutdown_exit_dynamic")
def test_odd_reasons_for_an_end_do_not_stall_a_dynamic_supervisor(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    for name, restart in (("raises", "permanent"), ("normal", "permanent"), ("info", "transient")):
        sup.start_child(stage.child(name, restart=restart, shutdown="infinity"))
    stage.stops("raises", raise_while_stopping)
    # Both have said of themselves how they want to end before the supervisor asks them to.
    stage.ref("sup/normal").tell(Take(1.0))
    stage.ref("sup/info").tell(Take(1.0))
    stage.settle()
    stopped = sup.stop(block=False)
    for name, reason in (("normal", NORMAL), ("info", ExitReason.shutdown("done"))):
        cell = stage.ref(f"sup/{name}")._cell
        cell.actor.stop(reason)
    assert stopped.get() is True
    assert stage.now == 1.0
    assert stage.reason_of("sup/raises") == "error(OSError: the disk is full)"
    assert stage.reason_of("sup/normal") == "normal"
    assert stage.reason_of("sup/info") == "shutdown('done')"
    reported = {event.child for event in stage.of(ShutdownError)}
    assert reported == {"sup/raises", "sup/normal"}, "an orderly end of one's own is expected unless permanent"


@pytest.mark.otp(22, "sup_stop_non_shutdown_exit_dynamic")
def test_an_on_stop_that_raises_is_reported_and_nothing_else_breaks(stage: Stage) -> None:
    stage.stops("b", raise_while_stopping)
    sup = stage.supervise(stage.child("a"), stage.child("b"), stage.child("c"))
    stage.take_log()
    assert sup.stop()
    assert stage.take_log() == ["stop c", "stop b", "stop a"]
    assert [event.child for event in stage.of(ShutdownError)] == ["sup/b"]
    (crash,) = stage.of(ActorCrashed)
    assert isinstance(crash.error, OSError)
    assert "raise_while_stopping" in crash.traceback


class Deaf(Message[None]):
    """Listen to nothing until the event is set."""

    until: Any
    begun: Any


class Stubborn(Actor):
    """Swallows whatever is thrown at it; no thread can be killed."""

    dispatcher = "thread"

    @handles
    def be_deaf(self, message: Deaf) -> None:
        message.begun.set()
        while not message.until.is_set():
            try:
                message.until.wait(0.01)
            except BaseException:  # that is what makes it stubborn
                continue


@pytest.mark.otp(56, "child_unlink")
def test_a_child_that_does_not_listen_cannot_hang_its_termination() -> None:
    """A real thread that swallows what should kill it: it is fenced, reported and given up."""
    until, begun = threading.Event(), threading.Event()
    tree = Supervisor("sup", children=[Child(Stubborn, name="naughty", shutdown=0.05)])
    abandoned: list[HandlerAbandoned] = []
    with ActorSystem("real", tree) as system:
        system.events.subscribe(HandlerAbandoned, abandoned.append)
        sup: Any = system.lookup("sup")
        system.tell("sup/naughty", Deaf(until, begun))
        assert begun.wait(10)
        sup.terminate_child("naughty")
        assert shown(sup) == {"naughty": None}
        assert [event.path for event in abandoned] == ["sup/naughty"]
        assert sup.restart_child("naughty").ref is not None, "another one may take its place meanwhile"
        until.set()


@pytest.mark.otp(56, "child_unlink")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("how", ENDINGS)
def test_a_child_that_is_already_gone_cannot_hang_its_termination(how: Ending, seed: int) -> None:
    """It may have ended before its supervisor comes to the order to end it, and before it hears of that end."""
    stage = Stage(seed)
    sup = stage.supervise(stage.child("a"))
    child = stage.ref("sup/a")
    stage.begin_end(child, how)
    stopped = child.stop(block=False)
    assert stopped.get() is True
    stage.settle()
    assert shown(sup) == {"a": None}
    assert not child.is_alive()
    assert stage.of(ActorRestarted) == []
    stage.close()

"""Nothing is lost: mail across restarts, references that outlive them, names that are kept."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import (
    NORMAL,
    ActorError,
    ActorRef,
    ActorSystem,
    Child,
    DynamicSupervisor,
    ErrorKind,
    Mailbox,
    Message,
    Supervisor,
    Terminated,
    handles,
)
from understudy.actors.events import ActorRestarted, DeadLetter
from understudy.messages.errors import ActorRestarting, HandlerFailed, MailboxClosed, MailboxFull
from understudy.supervisors.ref import SupervisorRef
from understudy.testing import SimulatedDispatcher

from ..players import Crash, Hang, Note, Plain, Quit, Stage, Take, refused, shown


class Number(Message[int]):
    """The next of a series."""

    value: int


class Clerk(Plain):
    """Handles numbers in order, and cannot handle one of them."""

    def __init__(self, handled: list[int], bad: int) -> None:
        super().__init__()
        self.handled, self.bad = handled, bad

    @handles
    def handle(self, message: Number) -> int:
        if message.value == self.bad:
            raise ArithmeticError(f"{message.value} is beyond me")
        self.handled.append(message.value)
        return message.value


@pytest.mark.parametrize("dispatcher", ["simulated", "pool", "thread"])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_of_a_thousand_that_wait_999_are_handled_in_order_and_the_failing_one_is_answered(
    dispatcher: str, kind: str
) -> None:
    handled: list[int] = []

    class Here(Clerk):
        pass

    if dispatcher == "thread":
        Here.dispatcher = "thread"
    simulation = SimulatedDispatcher(3) if dispatcher == "simulated" else None
    with ActorSystem("s", dispatcher=simulation) as system:
        sup = system.root.start_child(Supervisor("sup") if kind == "static" else DynamicSupervisor("sup"))
        assert isinstance(sup, SupervisorRef)
        clerk = sup.start_child(Child(Here, (handled, 500), name="clerk"))
        assert clerk is not None
        futures = [clerk.ask(Number(value), block=False) for value in range(1_000)]
        failed = [value for value, future in enumerate(futures) if not answers(future, value)]
        assert failed == [500]
        assert handled == [value for value in range(1_000) if value != 500]
        assert clerk.incarnation == 2


def answers(future: Any, value: int) -> bool:
    """Whether the ask was answered with its number, rather than with the failure of its handler."""
    try:
        return bool(future.get(timeout=30) == value)
    except HandlerFailed as failure:
        error = failure
    assert error.kind is ErrorKind.HANDLER_FAILED
    assert isinstance(error.__cause__, ArithmeticError)
    assert error.message_type == "Number"
    return False


def test_of_a_thousand_tells_the_failing_one_is_a_dead_letter(stage: Stage) -> None:
    handled: list[int] = []
    stage.supervise(Child(Clerk, (handled, 500), name="clerk"))
    letters: list[Any] = []
    stage.system.events.subscribe(DeadLetter, letters.append)
    for value in range(1_000):
        stage.ref("sup/clerk").tell(Number(value))
    stage.settle()
    assert handled == [value for value in range(1_000) if value != 500]
    assert [(event.message, event.reason) for event in letters] == [(Number(500), "crashed")]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_mail_of_a_bystander_waits_for_its_next_incarnation(stage: Stage, strategy: Any) -> None:
    stage.supervise(stage.child("a"), stage.child("b"), strategy=strategy)
    before = stage.serial("sup/b")
    stage.begin_end("sup/a", "killed")
    futures = [stage.ref("sup/b").ask(Note(value), block=False) for value in range(100)]
    stage.settle()
    assert stage.serial("sup/b") > before
    assert [future.get(timeout=0) for future in futures] == list(range(100))
    assert stage.notes == list(range(100))


def test_references_to_declared_children_outlive_the_restart_of_their_supervisor(stage: Stage) -> None:
    """They name a place; so does the path, in whose directory nothing changes."""
    inner = Supervisor("inner", children=[stage.child("x"), stage.child("y", restart="transient")])
    stage.supervise(inner, stage.child("neighbour"), strategy="one_for_all")
    kept = {path: stage.ref(path) for path in ("sup/inner", "sup/inner/x", "sup/inner/y")}
    before = {path: stage.serial(path) for path in ("sup/inner/x", "sup/inner/y")}
    stage.end("sup/neighbour")
    for path, ref in kept.items():
        assert stage.ref(path) == ref
        assert ref.is_alive()
        assert ref.incarnation == 2
    for path, serial in before.items():
        assert stage.serial(kept[path]) > serial


@pytest.mark.parametrize("how", ["killed", "gave up", "crashed"])
def test_mail_to_a_declared_child_outlives_its_supervisors_end_and_restart(stage: Stage, how: str) -> None:
    inner = Supervisor("inner", children=[stage.child("x"), stage.child("y")], intensity=0)
    stage.supervise(inner)
    child = stage.ref("sup/inner/x")
    child.tell(Take(1.0))
    stage.settle()
    futures = [child.ask(Note(value), block=False) for value in range(10)]
    if how == "crashed":
        make_crash(stage.ref("sup/inner"))
    else:
        stage.begin_end("sup/inner" if how == "killed" else "sup/inner/y", "killed")
    stage.advance(10.0)
    assert child.incarnation == 2
    assert [future.get(timeout=0) for future in futures] == list(range(10))
    assert stage.notes == list(range(10))


def make_crash(sup: ActorRef[Any]) -> None:
    """Let a supervisor fail for a reason of its own, which is a fault in it."""

    def fail(*_args: Any) -> Any:
        raise AssertionError("a fault in the supervisor")

    sup._cell.actor._records = fail
    sup._cell.actor._counts = fail
    original = type(sup._cell.actor)._records.__get__(sup._cell.actor)

    def fail_once(*_args: Any) -> Any:
        sup._cell.actor._records = original
        raise AssertionError("a fault in the supervisor")

    sup._cell.actor._counts = fail_once
    assert isinstance(sup, SupervisorRef)
    refused(HandlerFailed, sup.count_children)


def test_a_supervisor_that_fails_takes_its_children_with_it_and_is_restarted(stage: Stage) -> None:
    stage.supervise(Supervisor("inner", children=[stage.child("x"), stage.child("y")]))
    inner: Any = stage.ref("sup/inner")
    make_crash(inner)
    stage.settle()
    assert stage.take_log() == ["start x", "start y", "stop y", "stop x", "start x", "start y"]
    assert shown(inner) == {"x": "running", "y": "running"}


@pytest.mark.parametrize("line", [ValueError("not yet"), 42])
def test_references_outlive_a_restart_of_the_supervisor_that_takes_several_tries(stage: Stage, line: object) -> None:
    """Also that to the very child that did not start at first, and those of the children after it."""
    stage.starts("y", "ok", line, line)
    inner = Supervisor("inner", children=[stage.child(name) for name in "xyz"])
    stage.supervise(inner, intensity=5)
    kept = {name: stage.ref(f"sup/inner/{name}") for name in "xyz"}
    futures = [kept[name].ask(Note(number), block=False) for number, name in enumerate("xyz")]
    stage.end("sup/inner", "killed")
    assert [stage.log.count(f"start {name}") for name in "xz"] == [4, 2]
    for name, ref in kept.items():
        assert stage.ref(f"sup/inner/{name}") == ref
        assert ref.is_alive()
    assert sorted(future.get(timeout=0) for future in futures) == [0, 1, 2]


def test_mail_waits_while_a_nested_supervisor_does_not_come_back(stage: Stage) -> None:
    inner = Supervisor("inner", children=[stage.child("x")])
    sup = stage.supervise(inner, intensity=10**9)
    child = stage.ref("sup/inner/x")
    stage.every_start("x", ValueError("not yet"))
    stage.begin_end("sup/inner", "killed")
    stage.simulation.run_until(lambda: stage.log.count("fail x") > 3)
    future = child.ask(Note(1), block=False)
    stage.simulation.run_until(lambda: stage.log.count("fail x") > 10)
    assert not future.done
    stage.every_start("x", "ok")
    assert future.get() == 1
    assert shown(sup) == {"inner": "running"}


def test_mail_that_waits_is_answered_when_the_supervisor_gives_up(stage: Stage) -> None:
    sup = stage.supervise(stage.child("x"), intensity=0)
    child = stage.ref("sup/x")
    child.tell(Take(1.0))
    stage.settle()
    first, second = child.ask(Note(1), block=False), child.ask(Crash(), block=False)
    third = child.ask(Note(3), block=False)
    child.tell(Note(4))
    stage.advance(2.0)
    assert not sup.is_alive()
    assert first.get(timeout=0) == 1
    refused(HandlerFailed, second.get, timeout=0)
    refused(MailboxClosed, third.get, timeout=0)
    assert [event.message for event in stage.of(DeadLetter) if event.reason == "closed"] == [Note(4)]
    refused(MailboxClosed, child.tell, Note(5))


@pytest.mark.parametrize("end", ["killed", "crashed", "by order"])
def test_children_of_a_dynamic_supervisor_are_gone_with_it(stage: Stage, end: str) -> None:
    """Named or not: nobody starts them again, so nobody may wait for them."""
    stage.supervise(DynamicSupervisor("dyn"))
    dyn: Any = stage.ref("sup/dyn")
    named, nameless = dyn.start_child(stage.child("x")), dyn.start_child(stage.extra("y"))
    futures = []
    for child in (named, nameless):
        child.tell(Take(1.0))
        stage.settle()
        futures.append(child.ask(Note(1), block=False))
    if end == "killed":
        stage.end("sup/dyn", "killed")
    elif end == "crashed":
        make_crash(dyn)
    else:
        dyn.stop()
    stage.advance(5.0)
    for child, future in zip((named, nameless), futures, strict=True):
        assert not child.is_alive()
        refused(ActorError, future.get, timeout=0)
    if end != "by order":
        assert dyn.which_children() == []
        assert dyn.start_child(stage.child("x")) is not None, "the name is free"


def test_children_that_were_added_to_a_static_supervisor_are_gone_with_it(stage: Stage) -> None:
    stage.supervise(Supervisor("inner", children=[stage.child("x")]))
    inner: Any = stage.ref("sup/inner")
    added = inner.start_child(stage.child("added"))
    future = added.ask(Hang(), block=False)
    waiting = added.ask(Note(1), block=False)
    stage.settle()
    stage.end("sup/inner", "killed")
    assert shown(inner) == {"x": "running"}
    assert not added.is_alive()
    refused(HandlerFailed, future.get, timeout=0)
    refused(MailboxClosed, waiting.get, timeout=0)
    assert inner.start_child(stage.child("added")) is not None


class Watcher(Plain):
    """Watches another, and keeps what it is told."""

    def __init__(self, other: ActorRef[Any], told: list[str]) -> None:
        super().__init__()
        self.told = told
        self.other = other

    def on_start(self) -> None:
        """Begin to watch."""
        self.watch(self.other)

    @handles
    def terminated(self, message: Terminated) -> None:
        self.told.append(f"{message.ref.path}: {message.reason}")


def test_a_watcher_is_told_of_the_last_end_only(stage: Stage) -> None:
    sup = stage.supervise(stage.child("x", restart="transient"))
    told: list[str] = []
    stage.start(Child(Watcher, (stage.ref("sup/x"), told), name="watcher"))
    stage.end("sup/x")
    assert told == []
    stage.end("sup/x", "shutdown(info)")
    assert told == ["sup/x: shutdown('info')"]
    assert shown(sup) == {"x": None}


def test_a_bounded_mailbox_keeps_its_bound_across_restarts(stage: Stage) -> None:
    stage.supervise(stage.child("x", mailbox=Mailbox(3)))
    child = stage.ref("sup/x")
    stage.end(child)
    child.tell(Hang())
    stage.settle()
    for value in range(3):
        child.tell(Note(value))
    with pytest.raises(Exception, match="full"):
        child.tell(Note(4))


# --- between two lives -----------------------------------------------------------------------------------


def hold_between_lives(stage: Stage, child: ActorRef[Any]) -> None:
    """Keep the child labelled ``x`` from coming back."""
    stage.every_start("x", ValueError("not yet"))
    stage.begin_end(child, "error")
    stage.simulation.run_until(lambda: "fail x" in stage.log)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_mail_is_buffered_while_a_child_is_being_restarted(stage: Stage, kind: str) -> None:
    sup = stage.supervise(intensity=10**9) if kind == "static" else stage.supervise_dynamic(intensity=10**9)
    child = sup.start_child(stage.child("x", mailbox=Mailbox(5)))
    assert child is not None
    hold_between_lives(stage, child)
    futures = [child.ask(Note(value), block=False) for value in range(5)]
    overflow = child.ask(Note(6), block=False)
    assert refused(MailboxFull, overflow.get, timeout=0).kind is ErrorKind.MAILBOX_FULL
    stage.every_start("x", "ok")
    stage.settle()
    assert [future.get(timeout=0) for future in futures] == list(range(5))


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_mail_is_refused_while_a_child_is_being_restarted_if_its_spec_says_so(stage: Stage, kind: str) -> None:
    sup = stage.supervise(intensity=10**9) if kind == "static" else stage.supervise_dynamic(intensity=10**9)
    child = sup.start_child(stage.child("x", between_lives="refuse"))
    assert child is not None
    child.tell(Take(1.0))
    stage.settle()
    before = child.ask(Crash(), block=False), child.ask(Note(1), block=False)
    stage.every_start("x", ValueError("not yet"))
    stage.advance(0.5)
    stage.simulation.run_until(lambda: "fail x" in stage.log)
    for call in (child.ask, child.tell):
        error = refused(ActorRestarting, call, Note(2))
        assert error.kind is ErrorKind.MAILBOX_RESTARTING
        assert error.code == 0xFFFD
        assert error.response.retryable
    stage.every_start("x", "ok")
    stage.settle()
    refused(HandlerFailed, before[0].get, timeout=0)
    assert before[1].get(timeout=0) == 1, "what had come before waits, as ever"
    assert child.ask(Note(3)) == 3
    assert stage.notes == [1, 3]


def test_a_sender_that_waits_for_room_is_told_that_the_child_is_being_restarted(stage: Stage) -> None:
    sup = stage.supervise(intensity=10**9)
    spec = stage.child("x", between_lives="refuse", mailbox=Mailbox(1, overflow="block"))
    child = sup.start_child(spec)
    assert child is not None
    child.tell(Take(5.0))
    stage.settle()
    child.tell(Note(1))
    errors: list[Exception] = []

    class Sender(Plain):
        @handles
        def send(self, message: Number) -> None:
            try:
                stage.ref("sup/x").tell(Note(message.value))
            except ActorRestarting as error:
                errors.append(error)

    sender = stage.start(Child(Sender, name="sender"))
    sender.tell(Number(2))
    stage.settle()
    assert stage.simulation.stuck == ["sup/x", "sender"]
    stage.every_start("x", ValueError("not yet"))
    stage.begin_end(child, "killed")
    stage.simulation.run_until(lambda: bool(errors))
    stage.every_start("x", "ok")
    stage.settle()
    assert stage.notes == [1]


def test_a_child_that_starts_for_the_first_time_takes_mail_already(stage: Stage) -> None:
    """Its reference may be known before its ``on_start`` has returned: it hands it out itself."""
    futures: list[Any] = []
    stage.starts("x", lambda player: futures.append(player.actor_ref.ask(Note(1), block=False)))
    stage.supervise(stage.child("x", between_lives="refuse"))
    stage.settle()
    assert futures[0].get(timeout=0) == 1


def test_a_child_that_says_normal_while_mail_waits_answers_it(stage: Stage) -> None:
    stage.supervise(stage.child("x", restart="transient"))
    child = stage.ref("sup/x")
    child.tell(Quit(NORMAL))
    waiting = [child.ask(Note(value), block=False) for value in range(3)]
    stage.settle()
    for future in waiting:
        assert refused(MailboxClosed, future.get, timeout=0).kind is ErrorKind.MAILBOX_CLOSED
    assert stage.of(ActorRestarted) == []


def test_a_busy_child_does_not_lose_mail_when_its_sibling_takes_it_along(stage: Stage) -> None:
    """Also where it has to be killed: the message that it was handling is answered, the others wait."""
    stage.supervise(stage.child("a"), stage.child("b", shutdown=1.0), strategy="one_for_all")
    child = stage.ref("sup/b")
    stuck = child.ask(Hang(), block=False)
    futures = [child.ask(Note(value), block=False) for value in range(10)]
    stage.settle()
    stage.begin_end("sup/a", "killed")
    stage.advance(2.0)
    assert refused(HandlerFailed, stuck.get, timeout=0).kind is ErrorKind.HANDLER_KILLED
    assert [future.get(timeout=0) for future in futures] == list(range(10))
    assert child.incarnation == 2

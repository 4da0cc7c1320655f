"""Handlers that are stuck for good, on real threads: abandoned at their deadline, fenced and reported."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, Channel, Child, Mailbox, Message, Supervisor, handles
from understudy.actors import background
from understudy.actors.events import (
    ActorRestarted,
    BackgroundAbandoned,
    DeadLetter,
    HandlerAbandoned,
    ShutdownError,
    SystemStopped,
    SystemStopping,
)
from understudy.messages.errors import (
    ErrorKind,
    HandlerFailed,
    IncarnationFenced,
    MailboxClosed,
    MailboxFull,
    UnknownActor,
)
from understudy.supervisors import ending, keeper

from .bank import Account, Balance, Deposit, Gate, Recorder, Rob, Wait, in_thread

CLOSE_TO_AT_ONCE = 10.0
"""Seconds: far more than what must not depend on a backlog takes, and far less than the backlog would."""


class Misbehave(Message[str]):
    """Be stuck at the gate, and then act on."""

    gate: Any


class Ghost(Actor):
    """Survives its own end and tries what an ended incarnation may not."""

    def __init__(self, other: ActorRef[Account], tried: dict[str, object], over: threading.Event) -> None:
        super().__init__()
        self.other = other
        self.tried = tried
        self.over = over

    @handles
    def misbehave(self, message: Misbehave) -> str:
        request = self.defer_reply()
        with suppress(BaseException):  # it clings to life
            message.gate.pass_through()
        attempts: dict[str, Callable[[], Any]] = {
            "reply": lambda: request.reply("late"),
            "fail": lambda: request.fail(ValueError("late")),
            "after": lambda: self.after(0.0, Balance()),
            "every": lambda: self.every(1.0, Balance()),
            "watch": lambda: self.watch(self.other),
            "continue": lambda: self.continue_with(Balance()),
            "stop": self.stop,
            "spawn": lambda: self.spawn(time.monotonic),
        }
        for what, attempt in attempts.items():
            try:
                attempt()
                self.tried[what] = "allowed"
            except IncarnationFenced as error:
                self.tried[what] = error.kind
        self.over.set()
        return "late"

    @handles
    def tell_balance(self, _message: Balance) -> int:
        return 1


@pytest.mark.parametrize("dispatcher", ["pool", "thread"])
def test_what_an_abandoned_handler_still_does_is_refused(bank: ActorSystem, gate: Gate, dispatcher: str) -> None:
    """Replies, timers, watches, background work: ``actor.incarnation.fenced``."""
    kind: type[Ghost] = type("Ghost", (Ghost,), {"dispatcher": dispatcher})
    recorder = Recorder(bank)
    tried: dict[str, object] = {}
    over = threading.Event()
    ghost = bank.spawn(kind, bank.spawn(Account), tried, over, shutdown=0.05)
    asked = ghost.ask(Misbehave(gate), block=False)
    assert gate.entered.wait(60)
    assert ghost.stop(timeout=60)
    with pytest.raises(HandlerFailed, match="was killed while handling Misbehave") as caught:
        asked.get(timeout=60)
    assert caught.value.kind == ErrorKind.HANDLER_KILLED
    (abandoned,) = recorder.of(HandlerAbandoned)
    assert (abandoned.path, abandoned.message_type) == (ghost.path, "Misbehave")
    assert abandoned.thread_id
    (shutdown_error,) = recorder.of(ShutdownError)
    assert (shutdown_error.child, shutdown_error.reason) == (ghost.path, "killed")
    gate.open()
    assert over.wait(60)
    assert tried == dict.fromkeys(tried, ErrorKind.INCARNATION_FENCED)
    assert len(tried) == 8
    assert bank.stop()


def test_the_next_incarnation_takes_over_while_the_old_one_is_still_stuck(gate: Gate) -> None:
    """Under the same reference; the old one can harm it no more."""
    tree = Supervisor(
        "tree", strategy="one_for_all", children=[Child(Account, name="stuck", shutdown=0.05), Child(Account, name="b")]
    )
    with ActorSystem("bank", tree) as bank:
        recorder = Recorder(bank)
        stuck = bank.lookup("tree/stuck")
        stuck.tell(Deposit(5))
        waiting = stuck.ask(Wait(gate), block=False)
        assert gate.entered.wait(60)
        stuck.tell(Deposit(1))
        restarted = threading.Event()
        bank.events.subscribe(ActorRestarted, lambda event: restarted.set() if event.path == "tree/b" else None)
        with pytest.raises(HandlerFailed):
            bank.ask("tree/b", _robbery(), timeout=60)
        assert restarted.wait(60)
        assert stuck.incarnation == 2
        assert bank.ask("tree/stuck", Deposit(1), timeout=60) == 2  # what waited was handled by the new one
        gate.open()
        assert gate.left.wait(60)
        with pytest.raises(HandlerFailed):
            waiting.get(timeout=60)
        assert bank.ask("tree/stuck", Balance(), timeout=60) == 2
        assert len(recorder.of(HandlerAbandoned)) == 1


def _robbery() -> Message[None]:
    from .bank import Rob

    return Rob()


def test_stuck_handlers_do_not_keep_the_system_from_stopping() -> None:
    """More of them than the pool has threads, and with more time than the whole stop has."""
    system = ActorSystem("bank", pool_size=2)
    gates = [Gate() for _ in range(8)]
    accounts = [system.spawn(Account, shutdown=100.0) for _ in gates]
    idle = [system.spawn(Account) for _ in range(50)]
    try:
        for account, gate in zip(accounts, gates, strict=True):
            account.tell(Wait(gate))
        for gate in gates:
            assert gate.entered.wait(60)
        started = time.monotonic()
        assert not system.stop(timeout=0.2)
        assert time.monotonic() - started < CLOSE_TO_AT_ONCE
        assert system.left_behind == 8
        assert not any(ref.is_alive() for ref in (*accounts, *idle))
    finally:
        for gate in gates:
            gate.open()
    for gate in gates:
        assert gate.left.wait(60)


def test_a_handler_stuck_in_python_code_is_really_ended(bank: ActorSystem) -> None:
    """Not only given up: its loop ends, and its thread is free again."""
    entered, ended = threading.Event(), threading.Event()

    class Spin(Message[None]):
        pass

    class Spinner(Actor):
        @handles
        def spin(self, _message: Spin) -> None:
            entered.set()
            try:
                while True:
                    pass
            finally:
                ended.set()

    spinner = bank.spawn(Spinner, shutdown=0.05)
    spinner.tell(Spin())
    assert entered.wait(60)
    assert spinner.stop(timeout=60)
    assert ended.wait(60)


def test_a_flood_of_tells_to_a_stuck_actor_costs_no_memory_and_no_time_to_stop(gate: Gate) -> None:
    """Each is refused with a code, the sender lives, and the backlog does not delay the stop."""
    system = ActorSystem("bank")
    sender = system.spawn(Account)
    stuck = system.spawn(Account, mailbox=Mailbox(capacity=1_000), shutdown=0.1)
    stuck.tell(Wait(gate))
    assert gate.entered.wait(60)
    message = Deposit(1)
    for _ in range(1_000):
        stuck.tell(message)

    def refuse(times: int) -> int:
        refused = 0
        for _ in range(times):
            try:
                stuck.tell(message)
            except MailboxFull:
                refused += 1
        return refused

    assert refuse(1_000) == 1_000
    blocks = sys.getallocatedblocks()
    assert refuse(100_000) == 100_000
    assert sys.getallocatedblocks() - blocks < 5_000
    with pytest.raises(MailboxFull) as caught:
        stuck.tell(message)
    assert (caught.value.code, caught.value.kind) == (0xFFFD, ErrorKind.MAILBOX_FULL)
    assert caught.value.response.to_json().startswith(b'{"code":"0xFFFD","kind":"actor.mailbox.full"')
    assert sender.ask(Balance(), timeout=60) == 0

    recorder = Recorder(system)
    started = time.monotonic()
    assert stuck.stop(timeout=60)
    assert time.monotonic() - started < CLOSE_TO_AT_ONCE
    assert [event.reason for event in recorder.of(DeadLetter)] == ["killed"] + ["closed"] * 1_000
    assert system.stop(timeout=1.0)


def test_the_system_stops_in_its_time_despite_a_backlog(gate: Gate) -> None:
    """What waits is answered, not handled."""
    system = ActorSystem("bank")
    stuck = system.spawn(Account, mailbox=Mailbox(capacity=None))
    stuck.tell(Wait(gate))
    assert gate.entered.wait(60)
    asked = [stuck.ask(Deposit(1), block=False) for _ in range(10_000)]
    started = time.monotonic()
    assert not system.stop(timeout=0.5)
    assert time.monotonic() - started < CLOSE_TO_AT_ONCE
    assert all(isinstance(future.error, MailboxClosed) for future in asked)


@pytest.mark.parametrize("where", ["constructor", "on_start"])
@pytest.mark.parametrize("dispatcher", ["pool", "thread"])
def test_a_stuck_start_is_abandoned_too(gate: Gate, dispatcher: Literal["pool", "thread"], where: str) -> None:
    """And reported; whoever spawns is told that the system stopped."""

    class Slow(Actor):
        def __init__(self) -> None:
            super().__init__()
            if where == "constructor":
                gate.pass_through()

        def on_start(self) -> None:
            gate.pass_through()

    Slow.dispatcher = dispatcher
    system = ActorSystem("bank")
    recorder = Recorder(system)
    beside = system.spawn(Account)
    spawned = in_thread(lambda: system.spawn(Slow, name="slow"))
    assert gate.entered.wait(60)
    assert not system.stop(timeout=0.2)
    assert "slow" in [event.path for event in recorder.of(HandlerAbandoned)]
    assert not beside.is_alive()
    gate.open()
    with pytest.raises(ActorError) as caught:
        spawned()
    assert caught.value.kind == ErrorKind.SYSTEM_STOPPED


def test_a_backlog_of_a_million_is_counted_and_does_not_delay_the_stop(gate: Gate) -> None:
    """Nobody watches the dead letters: they are counted all the same."""
    system = ActorSystem("bank")
    stuck = system.spawn(Account, mailbox=Mailbox(capacity=None))
    stuck.tell(Wait(gate))
    assert gate.entered.wait(60)
    message = Deposit(1)
    for _ in range(1_000_000):
        stuck.tell(message)
    started = time.monotonic()
    assert not system.stop(timeout=0.5)
    assert time.monotonic() - started < CLOSE_TO_AT_ONCE
    assert system.dead_letters == 1_000_001


def test_a_stuck_on_stop_is_abandoned_too(gate: Gate) -> None:
    """And reported, with no message to blame."""

    class Slow(Actor):
        def on_stop(self) -> None:
            gate.pass_through()

    system = ActorSystem("bank")
    slow = system.spawn(Slow, shutdown=0.05)
    recorder = Recorder(system)
    assert not system.stop(timeout=30.0)
    (event,) = recorder.of(HandlerAbandoned)
    assert (event.path, event.message_type) == (slow.path, "")


def test_a_stuck_coroutine_is_cancelled(bank: ActorSystem) -> None:
    """Its actor is gone, the loop goes on for the others."""
    import asyncio

    cancelled = threading.Event()

    class Dawdle(Message[None]):
        pass

    class Dawdler(Actor):
        @handles
        async def dawdle(self, message: Dawdle) -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        @handles
        async def tell_balance(self, _message: Balance) -> int:
            return 1

    dawdler, other = bank.spawn(Dawdler, shutdown=0.05), bank.spawn(Dawdler)
    asked = dawdler.ask(Dawdle(), block=False)
    assert other.ask(Balance(), timeout=60) == 1
    assert dawdler.stop(timeout=60)
    with pytest.raises((HandlerFailed, MailboxClosed)):
        asked.get(timeout=60)
    assert cancelled.wait(60) or not asked.done
    assert other.ask(Balance(), timeout=60) == 1


class Employer(Actor):
    """Has work done in the background."""

    @handles
    def wait(self, message: Wait) -> str:
        self.spawn(message.gate.pass_through)
        return "spawned"


def test_background_work_that_outlives_the_stop_is_counted_and_reported(gate: Gate) -> None:
    """As a handler is that does not end: the stop took somebody by force, and says so."""
    system = ActorSystem("bank")
    recorder = Recorder(system)
    employer = system.spawn(Employer, name="employer")
    employer.ask(Wait(gate))
    assert gate.entered.wait(60)
    assert not system.stop()
    assert (system.abandoned, system.left_behind) == (1, 1)
    (abandoned,) = recorder.of(BackgroundAbandoned)
    assert (abandoned.path, abandoned.work) == ("employer", "Gate.pass_through")
    (stopped,) = recorder.of(SystemStopped)
    assert stopped.abandoned == 1
    assert "1 ended by force" in stopped.text()


def test_background_work_given_up_earlier_is_counted_apart_from_the_stop(
    bank: ActorSystem, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was abandoned, but not by the stop; and it has ended meanwhile."""
    monkeypatch.setattr(background, "PATIENCE", 0.01)
    given_up = threading.Event()
    bank.events.subscribe(BackgroundAbandoned, lambda _: given_up.set())
    employer = bank.spawn(Employer, name="employer")
    employer.ask(Wait(gate))
    assert gate.entered.wait(60)
    employer.stop()
    assert given_up.wait(60)
    assert bank.abandoned == 1
    gate.open()
    assert gate.left.wait(60)
    assert bank.stop()
    assert (bank.abandoned, bank.left_behind) == (1, 0)


def test_background_work_that_ends_when_it_is_told_to_is_nobodys_loss(bank: ActorSystem) -> None:
    """However many there are: functions and coroutines, of actors and of nobody."""

    class Busy(Actor):
        def on_start(self) -> None:
            for _ in range(20):
                self.spawn(Channel[int]().get)
                self.spawn(asyncio.Event().wait)

    for _ in range(5):
        bank.spawn(Busy)
    assert bank.stop()
    assert (bank.abandoned, bank.left_behind) == (0, 0)


class Hog(Actor):
    """Holds the event loop of all async actors up."""

    @handles
    async def wait(self, message: Wait) -> str:
        message.gate.pass_through()
        return "passed"


class Courteous(Actor):
    """Lives on the event loop, and would end at once if it were let."""

    @handles
    async def tell_balance(self, _message: Balance) -> int:
        return 7


@pytest.mark.parametrize("shutdown", [0.01, "brutal_kill"])
def test_a_child_that_no_thread_takes_up_is_gone_in_time(
    bank: ActorSystem, gate: Gate, monkeypatch: pytest.MonkeyPatch, shutdown: Any
) -> None:
    """Its event loop is hogged, so that it cannot even be told to end: its supervisor does not wait for that."""
    monkeypatch.setattr(keeper, "KILLED_TIMEOUT", 0.1)
    hog = bank.spawn(Hog, shutdown=0.01)
    courteous = bank.spawn(Courteous, name="courteous", shutdown=shutdown)
    assert courteous.ask(Balance()) == 7
    hog.tell(Wait(gate))
    assert gate.entered.wait(60)
    asked = courteous.ask(Balance(), block=False)
    assert courteous.stop(timeout=60)
    assert not courteous.is_alive()
    with pytest.raises(MailboxClosed):
        asked.get(timeout=60)
    successor = bank.spawn(Courteous, name="courteous", shutdown=shutdown)
    later = successor.ask(Balance(), block=False)
    gate.open()
    assert later.get(timeout=60) == 7
    assert not courteous.is_alive()


def test_a_killed_supervisor_does_not_wait_for_ever_for_a_child_that_no_thread_takes_up(
    bank: ActorSystem, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do those above it; all children share one time, however many they are."""
    monkeypatch.setattr(keeper, "KILLED_TIMEOUT", 0.3)
    tree = Supervisor(
        "tree",
        [
            Supervisor("inner", [Child(Courteous, name=f"{number}") for number in range(50)]),
            Child(Courteous, name="outer"),
        ],
        shutdown="brutal_kill",
    )
    supervisor = bank.spawn(tree)
    hog = bank.spawn(Hog, shutdown=0.01)
    hog.tell(Wait(gate))
    assert gate.entered.wait(60)
    started = time.monotonic()
    assert supervisor.stop(timeout=60)
    assert time.monotonic() - started < CLOSE_TO_AT_ONCE
    for path in ("tree", "tree/outer", "tree/inner/49"):
        with pytest.raises(UnknownActor):
            bank.lookup(path)
    gate.open()


def test_a_restart_of_siblings_goes_on_beside_one_that_no_thread_takes_up(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets another place: its old one is in the line of the hogged loop."""
    monkeypatch.setattr(keeper, "KILLED_TIMEOUT", 0.1)
    children = [Child(Account, name="account"), Child(Courteous, name="courteous", shutdown=0.01)]
    with ActorSystem("bank", Supervisor("tree", children, strategy="one_for_all")) as bank:
        hog = bank.spawn(Hog, shutdown=0.01)
        hog.tell(Wait(gate))
        assert gate.entered.wait(60)
        restarted = threading.Event()
        bank.events.subscribe(ActorRestarted, lambda event: restarted.set() if event.path == "tree/account" else None)
        with pytest.raises(HandlerFailed):
            bank.ask("tree/account", Rob())
        assert restarted.wait(60)
        gate.open()
        assert bank.ask("tree/courteous", Balance(), timeout=60) == 7


def test_who_stops_a_system_again_does_not_wait_for_ever_for_the_first_one(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's code holds the first stop up; the second one forces, waits, and says that it did not help."""
    monkeypatch.setattr(ending, "FORCE_TIMEOUT", 0.2)
    system = ActorSystem("bank")
    system.spawn(Account, name="account")
    system.events.subscribe(SystemStopping, lambda _: gate.pass_through())
    first = in_thread(system.stop)
    assert gate.entered.wait(60)
    assert not system.stop(timeout=0.01)
    system.kill()
    assert not system.down
    assert [record.getMessage() for record in caplog.records if record.name == "understudy.system"] == [
        "'bank' does not end: all its actors have ended"
    ] * 2
    gate.open()
    first()
    assert system.down

"""Handlers that are stuck for good, on real threads: abandoned at their deadline, fenced and reported."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, Child, Mailbox, Message, Supervisor, handles
from understudy.actors.events import ActorRestarted, DeadLetter, HandlerAbandoned, ShutdownError
from understudy.messages.errors import ErrorKind, HandlerFailed, IncarnationFenced, MailboxClosed, MailboxFull

from .bank import Account, Balance, Deposit, Gate, Recorder, Wait, in_thread

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


def test_a_million_tells_to_a_stuck_actor_cost_no_memory_and_no_time_to_stop(gate: Gate) -> None:
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
    assert refuse(999_000) == 999_000
    assert sys.getallocatedblocks() - blocks < 10_000
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

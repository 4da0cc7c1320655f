"""``ActorSystem.run`` in a program of one's own: signals, and what is put back afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from understudy import ActorSystem, Child, StartFailed, Supervisor
from understudy.actors.events import SystemStopping
from understudy.supervisors.signals import CLEAN, FORCED_BASE, GIVEN_UP, KILLED_SOME, Signals

from .bank import Account, Deposit, Gate, Rob, Wait, in_thread


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def kill_this_process(number: int = signal.SIGTERM) -> None:
    """Send a signal to the process of the tests."""
    os.kill(os.getpid(), number)


def when_it_runs(job: Any) -> Any:
    """Do something on a thread once ``run`` has taken the signals."""
    taken = threading.Event()
    original = Signals.wait

    def wait(self: Signals) -> None:
        taken.set()
        original(self)

    def later() -> None:
        assert taken.wait(60)
        job()

    patch = pytest.MonkeyPatch()
    patch.setattr(Signals, "wait", wait)
    result = in_thread(later)

    def finish() -> None:
        patch.undo()
        result()

    return finish


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_returns_after_a_signal(number: int) -> None:
    """With status 0 after a clean stop."""
    system = ActorSystem("bank")
    account = system.spawn(Account)
    finish = when_it_runs(lambda: kill_this_process(number))
    assert system.run() == CLEAN
    finish()
    assert (system.outcome, account.is_alive()) == ("stopped", False)


def test_a_second_signal_forces(gate: Gate) -> None:
    """The status has its number."""
    system = ActorSystem("bank")
    system.spawn(Account, shutdown="infinity").tell(Wait(gate))
    assert gate.entered.wait(60)
    stopping = threading.Event()

    def send() -> None:
        kill_this_process(signal.SIGTERM)
        assert stopping.wait(60)
        kill_this_process(signal.SIGINT)

    system.events.subscribe(SystemStopping, lambda _: stopping.set())
    finish = when_it_runs(send)
    assert system.run(drain=1000.0, timeout=2000.0) == FORCED_BASE + signal.SIGINT
    finish()
    assert system.wait(60)


def test_a_program_in_which_nobody_takes_work_is_suspended_by_sigtstp(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on when it is continued."""
    system = ActorSystem("bank")
    kill, suspended = os.kill, threading.Event()

    def suspend(pid: int, number: int) -> None:
        if number == signal.SIGSTOP:
            assert pid == os.getpid()
            suspended.set()
        else:
            kill(pid, number)

    monkeypatch.setattr(os, "kill", suspend)

    def send() -> None:
        kill_this_process(signal.SIGTSTP)
        assert suspended.wait(60)
        assert system.outcome == "running"
        kill_this_process(signal.SIGTERM)

    finish = when_it_runs(send)
    assert system.run() == CLEAN
    finish()


def test_what_had_to_be_killed_shows_in_the_status(gate: Gate) -> None:
    """Only what the stop itself killed: what was abandoned long ago does not."""
    system = ActorSystem("bank")
    old_gate = Gate()
    old = system.spawn(Account, shutdown=0.01)
    old.tell(Wait(old_gate))
    assert old_gate.entered.wait(60)
    old.stop(timeout=60)
    assert system.abandoned == 1
    finish = when_it_runs(kill_this_process)
    assert system.run() == CLEAN
    finish()
    old_gate.open()

    system = ActorSystem("bank")
    system.spawn(Account, shutdown=0.01).tell(Wait(gate))
    assert gate.entered.wait(60)
    finish = when_it_runs(kill_this_process)
    assert system.run(drain=0.0) == KILLED_SOME
    finish()


def test_run_returns_when_the_tree_ends() -> None:
    """By giving up, or because somebody stopped it."""
    tree = Supervisor("tree", intensity=0, children=[Child(Account, name="account")])
    system = ActorSystem("bank", tree)
    finish = when_it_runs(lambda: system.tell("tree/account", Rob()))
    assert system.run() == GIVEN_UP
    finish()

    system = ActorSystem("bank")
    finish = when_it_runs(system.stop)
    assert system.run() == CLEAN
    finish()
    assert system.run() == CLEAN  # it is down already


def test_run_is_for_the_main_thread() -> None:
    """Others get no signals; nothing was changed, and the system runs on."""
    with ActorSystem("bank") as system:
        with pytest.raises(ValueError, match="main thread"):
            in_thread(system.run)()
        assert system.spawn(Account).ask(Deposit(1)) == 1


def test_a_signal_while_a_served_system_starts_is_heeded_once_it_has_started() -> None:
    """It would end the process where nobody took it before ``run``."""
    started: list[bool] = []

    class Early(Account):
        def on_start(self) -> None:
            kill_this_process()
            started.append(True)

    assert ActorSystem.serve("bank", Supervisor("tree", children=[Child(Early, name="early")])) == CLEAN
    assert started == [True]


def test_a_system_that_cannot_be_served_leaves_the_signals_alone() -> None:
    """They are whose they were before."""
    with pytest.raises(StartFailed):
        ActorSystem.serve("bank", Supervisor("tree", children=[Child(Account, (1, 2, 3, 4), name="wrong")]))

"""A fork of a process: the parent's system refuses everything there, and a new one works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")

PROGRAM = """
import json, os, sys, threading
import pykka
from understudy import Actor, ActorError, ActorSystem, Message, handles

class Deposit(Message[int]):
    amount: int

class Account(Actor):
    def __init__(self):
        super().__init__()
        self.balance = 0

    @handles
    def deposit(self, message: Deposit) -> int:
        self.balance += message.amount
        return self.balance

def kind_of(call):
    try:
        return f"returned {call()!r}"
    except ActorError as error:
        method = error.response.method
        assert method.startswith(("child.", "kind_of.")), method
        return str(error.kind)

def child(system, account, alone):
    answers = {
        "tell": kind_of(lambda: account.tell(Deposit(1))),
        "ask": kind_of(lambda: account.ask(Deposit(1))),
        "ask later": kind_of(lambda: account.ask(Deposit(1), block=False).get()),
        "stop the actor": kind_of(account.stop),
        "stop the actor later": kind_of(lambda: account.stop(block=False).get()),
        "tell by name": kind_of(lambda: system.tell("account", Deposit(1))),
        "ask by name": kind_of(lambda: system.ask("account", Deposit(1))),
        "ask by name later": kind_of(lambda: system.ask("account", Deposit(1), block=False).get()),
        "tell an unknown name": kind_of(lambda: system.tell("nobody", Deposit(1))),
        "lookup": kind_of(lambda: system.lookup("account")),
        "spawn": kind_of(lambda: system.spawn(Account)),
        "spawn later": kind_of(lambda: system.spawn(Account, block=False).get()),
        "start_child": kind_of(lambda: system.root.count_children()),
        "stop": kind_of(system.stop),
        "kill": kind_of(system.kill),
        "ask one without a supervisor": kind_of(lambda: alone.ask(Deposit(1))),
    }
    answers["leave the block"] = kind_of(lambda: system.__exit__(None, None, None))
    answers["registry"] = len(pykka.ActorRegistry.get_all())
    answers["stop_all"] = pykka.ActorRegistry.stop_all(timeout=60)
    with ActorSystem("child") as new:
        fresh = new.spawn(Account, name="account")
        answers["new system"] = [new.ask("account", Deposit(amount), timeout=60) for amount in (1, 2)]
        answers["new registry"] = pykka.ActorRegistry.get_all() == [fresh]
    answers["new one without a supervisor"] = Account.start().ask(Deposit(5), timeout=60)
    pykka.ActorRegistry.stop_all(timeout=60)
    return answers
"""

FORKED_WHILE_IDLE = (
    PROGRAM
    + """
with ActorSystem("parent") as system:
    account = system.spawn(Account, name="account")
    account.ask(Deposit(1))
    alone = Account.start()
    there, here = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(there)
        with os.fdopen(here, "w") as report:
            json.dump(child(system, account, alone), report)
        os._exit(0)
    os.close(here)
    with os.fdopen(there) as report:
        answers = json.load(report)
    os.waitpid(pid, 0)
    answers["parent"] = system.ask("account", Deposit(10), timeout=60)
    alone.stop()
print(json.dumps(answers))
"""
)

FORKED_WHILE_BUSY = (
    PROGRAM
    + """
import time
over = threading.Event()

def ask(account):
    while not over.is_set():
        account.ask(Deposit(1), timeout=60)
        account.ask(Deposit(1), block=False).get(timeout=60)

outcomes = []
with ActorSystem("parent") as system:
    accounts = [system.spawn(Account, name=f"account-{number}") for number in range(4)]
    threads = [threading.Thread(target=ask, args=(account,)) for account in accounts]
    for thread in threads:
        thread.start()
    for _ in range(30):
        pid = os.fork()
        if not pid:
            with ActorSystem("child") as new:
                fresh = new.spawn(Account)
                good = [fresh.ask(Deposit(1), timeout=60), fresh.ask(Deposit(1), block=False).get(timeout=60)] == [1, 2]
            os._exit(0 if good else 1)
        outcomes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    over.set()
    for thread in threads:
        thread.join()
print(json.dumps(outcomes))
"""
)

FORKED_WITH_EVERYTHING_LOCKED = (
    PROGRAM
    + """
import signal
kinds = (type(threading.Lock()), type(threading.RLock()))
with ActorSystem("parent") as system:
    system.spawn(Account).ask(Deposit(1))
    modules = [module for name, module in sys.modules.items() if name.startswith("understudy.")]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, kinds)]
    locks = list({id(lock): lock for lock in [*found, pykka.ActorRegistry._actor_refs_lock]}.values())
    held, go = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        go.wait()
        for lock in locks:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        left = [lock for lock in locks if not lock.acquire(blocking=False)]
        for lock in locks:
            lock.release()
        with ActorSystem("child") as new:
            fresh = new.spawn(Account, name="account")
            good = not left and new.ask("account", Deposit(3), timeout=60) == 3
        os._exit(0 if good else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    go.set()
    holder.join()
print(json.dumps([code, len(locks) > 5]))
"""
)


def run(program: str) -> Any:
    """What a program prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fork_refuses_the_parents_system_and_can_have_its_own() -> None:
    """Nothing hangs, nothing is lost in the parent."""
    answers = run(FORKED_WHILE_IDLE)
    refused = {what for what, answer in answers.items() if answer == "system.forked"}
    assert refused == {
        "tell",
        "ask",
        "ask later",
        "stop the actor",
        "stop the actor later",
        "tell by name",
        "ask by name",
        "ask by name later",
        "tell an unknown name",
        "lookup",
        "spawn",
        "spawn later",
        "start_child",
        "stop",
        "kill",
        "ask one without a supervisor",
    }
    rest = {what: answer for what, answer in answers.items() if what not in refused}
    assert rest == {
        "leave the block": "returned None",
        "registry": 0,
        "stop_all": [],
        "new system": [1, 3],
        "new registry": True,
        "new one without a supervisor": 5,
        "parent": 11,
    }


def test_locks_that_another_thread_held_are_free_in_a_fork() -> None:
    """All locks of the whole process: a system's own are not used there."""
    assert run(FORKED_WITH_EVERYTHING_LOCKED) == [0, True]


def test_a_fork_in_the_middle_of_everything_can_have_a_system_of_its_own() -> None:
    """Whatever lock another thread of the parent held in that moment."""
    assert run(FORKED_WHILE_BUSY) == [0] * 30

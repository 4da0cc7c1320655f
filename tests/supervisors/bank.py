"""A bank's actors for the tests of the system, and what holds handlers up until a test lets them go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from understudy import Actor, ActorSystem, Event, Message, Refusal, handles
from understudy.testing import SimulatedDispatcher

EventType = TypeVar("EventType", bound=Event)


class Deposit(Message[int]):
    """Put something in; the reply is the balance."""

    amount: int


class Balance(Message[int]):
    """Tell the balance."""


class Rob(Message[None]):
    """Raise."""


class Wait(Message[str]):
    """Be stuck until the gate opens."""

    gate: Any


class Decline(Message[None]):
    """Be turned down."""


class Account(Actor):
    """Counts money."""

    def __init__(self, owner: str = "nobody", *, balance: int = 0) -> None:
        super().__init__()
        self.owner = owner
        self.balance = balance

    @handles
    def deposit(self, message: Deposit) -> int:
        self.balance += message.amount
        return self.balance

    @handles
    def tell_balance(self, _message: Balance) -> int:
        return self.balance

    @handles
    def rob(self, _message: Rob) -> None:
        raise RuntimeError("robbed")

    @handles
    def wait(self, message: Wait) -> str:
        message.gate.pass_through()
        return "passed"

    @handles
    def decline(self, _message: Decline) -> None:
        raise Refusal("no")

    def greet(self, name: str) -> str:
        """What a proxy calls."""
        return f"{self.owner} greets {name}"


class Gate:
    """Holds a handler on a real thread, in a call that nothing can interrupt, until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()
        self._open = threading.Event()

    def pass_through(self) -> None:
        """Wait for the gate to open."""
        self.entered.set()
        try:
            assert self._open.wait(60)
        finally:
            self.left.set()

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._open.set()


class Recorder:
    """Keeps the events of a system."""

    def __init__(self, system: ActorSystem) -> None:
        self.events: list[Event] = []
        system.events.subscribe(Event, self.events.append)

    def of(self, kind: type[EventType]) -> list[EventType]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(name="gate")
def new_gate() -> Iterator[Gate]:
    """A gate that is opened when the test is over, whatever became of it."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(name="bank")
def new_bank() -> Iterator[ActorSystem]:
    """A system on threads."""
    with ActorSystem("bank") as system:
        yield system


@pytest.fixture(name="simulation")
def new_simulation() -> SimulatedDispatcher:
    """Virtual time."""
    return SimulatedDispatcher(7)


@pytest.fixture(name="simulated")
def new_simulated_bank(simulation: SimulatedDispatcher) -> Iterator[ActorSystem]:
    """A system in virtual time."""
    with ActorSystem("bank", dispatcher=simulation) as system:
        yield system


def in_thread(job: Callable[[], Any]) -> Callable[[], Any]:
    """Run ``job`` on a thread; what is returned waits for it and gives its result, or raises what it raised."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(job())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(60)
        assert not thread.is_alive(), "it hangs"
        if failure:
            raise failure[0]
        return outcome[0]

    return result

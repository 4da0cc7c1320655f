"""Talking to actors through the system: by name, with a deadline, from threads and from coroutines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pykka
import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, Child, Future, Message, Supervisor, handles
from understudy.actors.events import DeadLetter
from understudy.messages.errors import (
    AskCycle,
    AskTimeout,
    ErrorKind,
    HandlerFailed,
    MailboxClosed,
    Refusal,
    SystemStopped,
    UnhandledMessage,
    UnknownActor,
)
from understudy.testing import SimulatedDispatcher

from .bank import Account, Balance, Decline, Deposit, Gate, Recorder, Rob, Wait, in_thread

T = TypeVar("T")


class Never(Message[None]):
    """Wait for ever (in a simulation)."""


class Sloth(Actor):
    """Never answers."""

    @handles
    def never(self, _message: Never) -> None:
        Future[None]().get()


class Teller(Actor):
    """Talks to others by name, through the system."""

    class Forward(Message[int]):
        to: str
        timeout: float | None = None

    def __init__(self, system: ActorSystem) -> None:
        super().__init__()
        self.system = system

    @handles
    def forward(self, message: Forward) -> int:
        return self.system.ask(message.to, Balance(), timeout=message.timeout)


def test_asking_by_name_has_a_deadline_of_five_seconds(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """Unless told otherwise."""
    simulated.spawn(Sloth, name="sloth", shutdown="brutal_kill")
    with pytest.raises(AskTimeout) as caught:
        simulated.ask("sloth", Never())
    assert simulation.clock() == 5.0
    assert caught.value.kind == ErrorKind.MAILBOX_TIMEOUT
    assert isinstance(caught.value, pykka.Timeout)
    with pytest.raises(AskTimeout):
        simulated.ask("sloth", Never(), timeout=1.5)
    assert simulation.clock() == 6.5


def test_a_future_of_an_ask_by_name_has_the_same_deadline(
    simulated: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    """Counted from the ask, not from when it is read."""
    simulated.spawn(Sloth, name="sloth", shutdown="brutal_kill")
    future = simulated.ask("sloth", Never(), block=False)
    simulation.advance(4.0)
    with pytest.raises(AskTimeout):
        future.get()
    assert simulation.clock() == 5.0


def test_a_reference_will_do_in_place_of_a_name(bank: ActorSystem) -> None:
    """For tell and ask."""
    account = bank.spawn(Account)
    bank.tell(account, Deposit(1))
    assert bank.ask(account, Deposit(1)) == 2


def test_what_a_handler_raises_reaches_the_asker(bank: ActorSystem) -> None:
    """A crash, a refusal, and a message that nobody handles."""
    bank.spawn(Account, name="account")
    with pytest.raises(HandlerFailed, match="RuntimeError: robbed") as failed:
        bank.ask("account", Rob())
    assert failed.value.response.method == "test_what_a_handler_raises_reaches_the_asker.account.ask"
    with pytest.raises(Refusal, match="no") as refused:
        bank.ask("account", Decline())
    assert refused.value.response.actor == "account"
    with pytest.raises(UnhandledMessage, match="handles: Balance, Decline, Deposit"):
        bank.ask("account", Never())


@pytest.mark.parametrize("block", [True, False])
def test_the_name_that_a_caller_gives_the_call_is_in_the_error(bank: ActorSystem, block: bool) -> None:
    """Whatever goes wrong, and whenever it comes."""
    bank.spawn(Account, name="account")
    asks: list[Callable[[], Any]] = [
        lambda: bank.ask("account", Rob(), block=block, method="shop.pay"),
        lambda: bank.ask("nobody", Rob(), block=block, method="shop.pay"),
        lambda: bank.ask("account", Decline(), block=block, method="shop.pay"),
    ]
    for ask in asks:
        with pytest.raises(ActorError) as caught:
            ask() if block else ask().get()
        assert caught.value.response.method == "shop.pay"


def test_the_method_of_an_awaited_error_is_who_awaited() -> None:
    """In a coroutine, too, the caller is the user's function."""

    async def pay(bank: ActorSystem) -> str:
        with pytest.raises(HandlerFailed) as caught:
            await bank.ask("account", Rob(), block=False)
        return caught.value.response.method

    with ActorSystem("bank") as bank:
        bank.spawn(Account, name="account")
        assert asyncio.run(pay(bank)) == "pay.account.ask"


def test_an_actor_may_talk_through_the_system(bank: ActorSystem) -> None:
    """It inherits the deadline of what it is asked, and is refused a cycle."""
    bank.spawn(Account, name="account", balance=3)
    teller = bank.spawn(Teller, bank, name="teller")
    assert teller.ask(Teller.Forward("account"), timeout=60) == 3
    with pytest.raises(HandlerFailed) as caught:
        teller.ask(Teller.Forward("teller"))
    assert isinstance(caught.value.__cause__, AskCycle)


def test_the_deadline_of_what_is_handled_is_inherited(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """The shorter one counts."""

    class Relay(Actor):
        class Go(Message[None]):
            pass

        @handles
        def go(self, _message: Go) -> None:
            simulated.ask("sloth", Never(), timeout=100)

    simulated.spawn(Sloth, name="sloth", shutdown="brutal_kill")
    simulated.spawn(Relay, name="relay")
    with pytest.raises((AskTimeout, HandlerFailed)):
        simulated.ask("relay", Relay.Go(), timeout=2.0)
    assert simulation.clock() == 2.0


# --- coroutines ---------------------------------------------------------------------------------------------


def test_awaiting_an_ask_never_blocks_the_loop(bank: ActorSystem, gate: Gate) -> None:
    """While a reply is outstanding, other tasks of the loop run: only they let it come."""
    bank.spawn(Account, name="account")

    async def main() -> list[str]:
        order: list[str] = []

        async def ask() -> None:
            order.append(await bank.ask("account", Wait(gate), block=False, timeout=60))

        async def open_it() -> None:
            while not gate.entered.is_set():
                await asyncio.sleep(0)
            order.append("opened")
            gate.open()

        await asyncio.gather(ask(), open_it())
        return order

    assert asyncio.run(main()) == ["opened", "passed"]


def test_sending_does_not_block_the_loop_either(bank: ActorSystem, gate: Gate) -> None:
    """Not even where the handler would be run by whoever asks."""
    bank.spawn(Account, name="account")
    assert [bank.ask("account", Deposit(1)) for _ in range(3)] == [1, 2, 3]  # quick: others may run it

    async def main() -> int:
        waiting = bank.ask("account", Wait(gate), block=False, timeout=60)
        asked = bank.ask("account", Deposit(1), block=False, timeout=60)
        gate.open()
        await waiting
        return await asked

    assert asyncio.run(main()) == 4


def test_many_asks_are_awaited_at_once(bank: ActorSystem) -> None:
    """In the order they were made, since they go to one actor."""
    bank.spawn(Account, name="account")

    async def main() -> list[int]:
        return await asyncio.gather(*(_awaited(bank.ask("account", Deposit(1), block=False)) for _ in range(500)))

    assert asyncio.run(main()) == list(range(1, 501))


def test_errors_come_when_a_future_is_awaited(bank: ActorSystem) -> None:
    """None is raised by the ask itself."""
    bank.spawn(Account, name="account")

    async def main() -> None:
        for target, message, error in (
            ("nobody", Deposit(1), UnknownActor),
            ("account", Rob(), HandlerFailed),
            ("account", Decline(), Refusal),
        ):
            future: Future[Any] = bank.ask(target, message, block=False)
            with pytest.raises(error):
                await future

    asyncio.run(main())


def test_a_deadline_passes_in_a_coroutine(bank: ActorSystem, gate: Gate) -> None:
    """With nobody's thread waiting for it."""
    bank.spawn(Account, name="account", shutdown="brutal_kill")

    async def main() -> None:
        with pytest.raises(AskTimeout):
            await bank.ask("account", Wait(gate), block=False, timeout=0.01)

    asyncio.run(main())
    gate.open()


def test_an_ask_that_is_cancelled_harms_nobody(bank: ActorSystem, gate: Gate) -> None:
    """The reply comes to nothing."""
    bank.spawn(Account, name="account")

    async def main() -> None:
        task = asyncio.create_task(_awaited(bank.ask("account", Wait(gate), block=False, timeout=60)))
        while not gate.entered.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        assert await bank.ask("account", Deposit(1), block=False) == 1

    asyncio.run(main())


async def _awaited(future: Future[T]) -> T:
    return await future


# --- after the end ------------------------------------------------------------------------------------------


def test_a_stopped_system_takes_nothing() -> None:
    """Whoever talks through it is told that it stopped, also by names that never were."""
    system = ActorSystem("bank")
    account = system.spawn(Account, name="account")
    assert system.stop()
    calls: list[Callable[[], Any]] = [
        lambda: system.tell("account", Deposit(1)),
        lambda: system.ask("account", Deposit(1)),
        lambda: system.ask("account", Deposit(1), block=False).get(),
        lambda: system.ask(account, Deposit(1)),
        lambda: system.ask("nobody", Deposit(1)),
        lambda: system.lookup("account"),
        lambda: system.spawn(Account),
    ]
    for call in calls:
        with pytest.raises(SystemStopped, match="'bank' is stopping or has stopped") as caught:
            call()
        assert caught.value.kind == ErrorKind.SYSTEM_STOPPED
        assert caught.value.response.code == 0xFFF8
        assert isinstance(caught.value, pykka.ActorDeadError)


def test_a_reference_into_a_stopped_system_is_closed() -> None:
    """At once, with the code of the actor."""
    system = ActorSystem("bank")
    account = system.spawn(Account, name="account")
    system.stop()
    assert not account.is_alive()
    with pytest.raises(MailboxClosed):
        account.tell(Deposit(1))
    with pytest.raises(MailboxClosed):
        account.ask(Deposit(1))
    with pytest.raises(MailboxClosed):
        account.ask(Deposit(1), block=False).get()
    assert not account.stop()


def test_the_actors_of_a_stopping_system_go_on_talking_until_it_is_their_turn() -> None:
    """What is stopped before the others can still reach them by name; from outside nobody can."""
    heard: list[object] = []

    class Customer(Actor):
        def on_stop(self) -> None:
            heard.append(system.ask("account", Deposit(5), timeout=60))
            heard.append(refused_outside())

    def refused_outside() -> object:
        try:
            return in_thread(lambda: system.ask("account", Deposit(1)))()
        except SystemStopped as error:
            return error.kind

    tree = Supervisor("tree", children=[Child(Account, name="account", alias="account"), Child(Customer, name="last")])
    system = ActorSystem("bank", tree)
    assert system.stop()
    assert heard == [5, ErrorKind.SYSTEM_STOPPED]


# --- what is lost -------------------------------------------------------------------------------------------


def test_dead_letters_are_counted_and_can_be_watched(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """Each with its message, its actor and the reason."""
    recorder = Recorder(simulated)
    account = simulated.spawn(Account, name="account", restart="temporary")
    account.tell(Decline())
    account.tell(Never())
    account.tell(Rob())
    account.tell(Deposit(1))
    simulation.run_until_idle()
    letters = [(event.path, type(event.message).__name__, event.reason) for event in recorder.of(DeadLetter)]
    assert letters == [
        ("account", "Decline", "refused"),
        ("account", "Never", "unhandled"),
        ("account", "Rob", "crashed"),
        ("account", "Deposit", "closed"),
    ]
    assert simulated.dead_letters == 4


def test_dead_letters_are_counted_although_nobody_watches(bank: ActorSystem) -> None:
    """And exactly, however many threads lose them."""
    account = bank.spawn(Account)
    account.stop()
    stream = bank.events
    barrier = threading.Barrier(4)

    def lose() -> None:
        barrier.wait(60)
        for _ in range(2_000):
            stream.dead_letter("account", None, "closed")

    threads = [threading.Thread(target=lose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert bank.dead_letters == 8_000


def test_400_stops_under_concurrent_asks_leave_no_ask_unanswered(bank: ActorSystem) -> None:
    """Each asker gets a balance, or is told that the actor is gone; nobody waits for a deadline."""
    accounts: list[ActorRef[Account]] = [bank.spawn(Account) for _ in range(400)]
    go = threading.Barrier(5)
    answers: list[list[str]] = [[], [], []]

    def ask(mine: list[str], *, block: bool) -> None:
        go.wait(60)
        futures: list[Future[int]] = []
        for account in accounts:
            for _ in range(5):
                if block:
                    mine.append(_answer(partial(account.ask, Deposit(1), timeout=60)))
                else:
                    futures.append(account.ask(Deposit(1), block=False, timeout=60))
        mine += [_answer(future.get) for future in futures]

    def stop(some: list[ActorRef[Account]]) -> None:
        go.wait(60)
        for account in some:
            assert account.stop(timeout=60)

    jobs = [
        in_thread(lambda: ask(answers[0], block=True)),
        in_thread(lambda: ask(answers[1], block=False)),
        in_thread(lambda: ask(answers[2], block=False)),
        in_thread(lambda: stop(accounts[::2])),
        in_thread(lambda: stop(accounts[1::2])),
    ]
    for job in jobs:
        job()
    assert [len(each) for each in answers] == [2_000] * 3
    assert set().union(*answers) <= {"balance", "closed"}
    assert bank.root.count_children().specs == 0


def _answer(ask: Callable[[], int]) -> str:
    try:
        ask()
    except MailboxClosed:
        return "closed"
    return "balance"


def test_time_is_read_from_the_clock_of_the_system(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """A simulated system waits in virtual time: none passes meanwhile."""
    started = time.monotonic()
    assert not simulated.wait(timeout=3600.0)
    assert simulation.clock() == 3600.0
    assert time.monotonic() - started < 60

"""What type checkers make of a system.

`make check` runs mypy over this file: each `assert_type` is a claim that it verifies, and each `type: ignore[code]`
is a mistake that it must find, since an ignore without an error is an error itself. The suite runs it too.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, assert_type

import pytest

import understudy
from understudy import Actor, ActorRef, ActorSystem, Child, DynamicSupervisor, Future, Message, Supervisor
from understudy.messages.errors import SpecInvalid, UnknownActor
from understudy.supervisors.ref import SupervisorRef

from .bank import Account, Balance, Deposit, Rob


def make(owner: str) -> Account:
    """A function that makes an actor."""
    return Account(owner)


def test_spawn_gives_a_reference_of_the_class(bank: ActorSystem) -> None:
    """Of a class, of a function that makes one, now or later; of a spec the class is not known."""
    assert_type(bank.spawn(Account, "ada"), ActorRef[Account])
    assert_type(bank.spawn(make, "ada", name="account"), ActorRef[Account])
    assert_type(bank.spawn(Account, "ada", block=False), Future[ActorRef[Account]])
    assert_type(bank.spawn(Child(Account)), ActorRef[Any])
    assert_type(bank.spawn(Child(Account), block=False), Future[ActorRef[Any]])
    assert_type(bank.spawn(Supervisor("a")), SupervisorRef)
    assert_type(bank.spawn(DynamicSupervisor("b")), SupervisorRef)
    assert_type(bank.root, SupervisorRef)


def test_an_ask_infers_the_reply_from_the_message(bank: ActorSystem) -> None:
    """By reference and by name, waiting and not."""
    account = bank.spawn(Account, name="account")
    assert_type(account.ask(Deposit(1)), int)
    assert_type(account.ask(Deposit(1), timeout=60), int)
    assert_type(account.ask(Deposit(1), block=False), Future[int])
    assert_type(account.ask(Deposit(1), block=False).get(), int)
    assert_type(bank.ask("account", Deposit(1)), int)
    assert_type(bank.ask("account", Balance(), timeout=None, method="shop.pay"), int)
    assert_type(bank.ask(account, Balance()), int)
    assert_type(bank.ask("account", Balance(), block=False), Future[int])
    assert_type(bank.lookup("account"), ActorRef[Any])


def test_a_lookup_may_say_the_class(bank: ActorSystem) -> None:
    """By the system and by an actor; a checker then knows what a proxy has."""

    class Teller(Actor):
        def find(self) -> int:
            found = self.lookup("account", Account)
            assert_type(found, ActorRef[Account])
            return found.ask(Balance())

    bank.spawn(Account, name="account", balance=3)
    account = bank.lookup("account", Account)
    assert_type(account, ActorRef[Account])
    assert_type(bank.lookup("account"), ActorRef[Any])
    assert account.proxy().greet("bob").get() == "nobody greets bob"
    assert bank.spawn(Teller).proxy().find().get() == 3


def test_a_declaration_is_called_as_its_fields_say() -> None:
    """What is not is a finding of the checkers, and an error."""
    with pytest.raises(SpecInvalid):
        Supervisor("a", foo=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(SpecInvalid):
        Child(Account, restrat="permanent")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(SpecInvalid):
        Child(name="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_what_is_no_message_of_ours_is_answered_with_anything(bank: ActorSystem) -> None:
    """As in pykka."""

    class Echo(Actor):
        def on_receive(self, message: Any) -> Any:
            return message

    echo = bank.spawn(Echo, name="echo")
    assert_type(echo.ask({"a": 1}), Any)
    assert_type(bank.ask("echo", "text"), Any)
    assert_type(bank.ask("echo", 5, block=False), Future[Any])


def test_an_awaited_ask_has_the_type_of_the_reply(bank: ActorSystem) -> None:
    """Awaiting the future of an int gives one."""
    bank.spawn(Account, name="account")

    async def main() -> int:
        reply = await bank.ask("account", Deposit(1), block=False)
        assert_type(reply, int)
        ref = await bank.spawn(Account, block=False)
        assert_type(ref, ActorRef[Account])
        return reply

    assert asyncio.run(main()) == 1


def test_the_block_of_a_with_statement_has_the_system() -> None:
    """Entered as itself."""
    with ActorSystem("bank") as system:
        assert_type(system, ActorSystem)
        assert_type(system.outcome, Literal["running", "stopped", "gave_up"])
        assert_type(system.stop(timeout=1.0, drain=0.5), bool)


def test_mistakes_are_found_by_the_checker(bank: ActorSystem) -> None:
    """And refused at run time."""
    account = bank.spawn(Account, name="account")
    with pytest.raises(SpecInvalid):
        bank.spawn(Account, restart="allways")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(SpecInvalid):
        bank.spawn(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(UnknownActor):
        bank.lookup(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    _text: str = account.ask(Deposit(1))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    future = bank.ask("account", Deposit(1), block=False)
    _reply: int = future  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    with pytest.raises(AttributeError):
        _typo = understudy.ActorSytem  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_message_may_be_passed_on_with_its_type(bank: ActorSystem) -> None:
    """A function that takes messages of any reply gives replies of that type."""

    def relay(message: Message[int]) -> int:
        return bank.ask("account", message)

    bank.spawn(Account, name="account")
    assert_type(relay(Deposit(2)), int)
    with pytest.raises(understudy.ActorError):
        relay(Rob())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

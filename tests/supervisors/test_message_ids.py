"""Which message an error is about: its type, and an id that is made when somebody looks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest

from understudy import Actor, ActorError, ActorSystem, Mailbox, handles
from understudy.messages.errors import MailboxFull
from understudy.testing import SimulatedDispatcher

from .bank import Account, Balance, Decline, Deposit, Gate, Rob, Wait


def failing_asks(system: ActorSystem) -> list[tuple[str, Callable[[], object]]]:
    """Asks and tells that come to nothing, each with the type of its message."""
    account = system.spawn(Account, name="account", restart="temporary")
    gone = system.spawn(Account, name="gone")
    gone.stop()
    return [
        ("Decline", lambda: account.ask(Decline())),
        ("Decline", lambda: system.ask("account", Decline())),
        ("Decline", lambda: account.ask(Decline(), block=False).get()),
        ("Balance", lambda: system.ask("nobody", Balance())),
        ("Deposit", lambda: system.tell("nobody", Deposit(1))),
        ("Balance", lambda: gone.ask(Balance())),
        ("Balance", lambda: gone.ask(Balance(), block=False).get()),
        ("Deposit", lambda: gone.tell(Deposit(1))),
        ("Gate", lambda: account.ask(Gate())),
        ("Rob", lambda: account.ask(Rob())),
    ]


def error_of(call: Callable[[], object]) -> ActorError:
    with pytest.raises(ActorError) as caught:
        call()
    return caught.value


def test_the_error_of_an_ask_says_which_message(bank: ActorSystem) -> None:
    """Its type and an id, a uuid4, in the response and wherever that is shown; another for every message."""
    seen = set()
    for kind, call in failing_asks(bank):
        error = error_of(call)
        response = error.response
        assert response.message_type == kind
        assert uuid.UUID(response.message_id).version == 4
        assert response.message_id == error.message_id == error.response.message_id
        assert response.message_id in response.to_json().decode()
        assert response.to_problem()["message_id"] == response.message_id
        seen.add(response.message_id)
    assert len(seen) == 10


def test_an_ask_that_times_out_says_which_message(bank: ActorSystem, gate: Gate) -> None:
    """Whoever waited: the asking thread, or the future."""
    account = bank.spawn(Account)
    account.tell(Wait(gate))
    assert gate.entered.wait(60)
    for error in (
        error_of(lambda: account.ask(Balance(), timeout=0.01)),
        error_of(lambda: account.ask(Balance(), timeout=0.01, block=False).get()),
    ):
        assert (error.response.message_type, error.response.kind) == ("Balance", "actor.mailbox.timeout")
        assert uuid.UUID(error.response.message_id).version == 4


@pytest.mark.parametrize("block", [True, False])
def test_what_is_logged_of_a_failed_handler_has_the_id_that_the_asker_got(
    bank: ActorSystem, caplog: pytest.LogCaptureFixture, block: bool
) -> None:
    """So that the line, with its traceback, is found from what a client shows."""
    account = bank.spawn(Account)
    error = error_of(lambda: account.ask(Rob()) if block else account.ask(Rob(), block=False).get())
    account.ask(Balance())  # the next incarnation answers, so by now it was logged
    [logged] = [json.loads(each.getMessage()) for each in caplog.records if each.name == "understudy.errors"]
    assert (logged["kind"], logged["message_type"]) == ("actor.handler.failed", "Rob")
    assert logged["message_id"] == error.response.message_id != ""


def test_a_refused_tell_costs_no_id_until_somebody_looks(bank: ActorSystem, gate: Gate) -> None:
    """A million of them may be refused."""
    account = bank.spawn(Account, mailbox=Mailbox(capacity=1))
    account.tell(Wait(gate))
    assert gate.entered.wait(60)
    account.tell(Deposit(1))
    ids = bank.runtime.new_id
    made = []
    bank.runtime.new_id = lambda: made.append(1) or ids()  # type: ignore[func-returns-value]
    with pytest.raises(MailboxFull) as caught:
        account.tell(Deposit(2))
    assert made == []
    assert caught.value.message_id == caught.value.message_id
    assert made == [1]


def test_an_error_keeps_the_id_of_the_message_that_failed_first() -> None:
    """One that is passed on, by an actor started as in pykka, is about the message that it was made for."""

    class Proxy(Actor):
        @handles
        def ask_on(self, message: Balance) -> int:
            try:
                return gone.ask(message)
            except ActorError as error:
                seen.append(error.message_id)
                raise

    seen: list[str] = []
    gone, proxy = Account.start(), Proxy.start()
    try:
        gone.stop()
        assert [error_of(lambda: proxy.ask(Balance())).message_id] == seen
    finally:
        proxy.stop()


def test_the_ids_of_a_simulation_follow_from_its_seed() -> None:
    """And looking at them changes nothing else in it."""

    def run(seed: int, *, looks: bool) -> tuple[list[str], float]:
        simulation = SimulatedDispatcher(seed)
        with ActorSystem("bank", dispatcher=simulation) as system:
            errors = [error_of(call) for _, call in failing_asks(system)]
            ids = [error.response.message_id for error in errors] if looks else []
            return ids, simulation.random.random()

    first, second, other = run(1, looks=True), run(1, looks=True), run(2, looks=True)
    assert first == second
    assert not {*first[0]} & {*other[0]}
    assert run(1, looks=False)[1] == first[1]

"""Supervised actors seen through pykka's eyes: registry, urns, proxies, and several systems in one process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pykka
import pytest

from understudy import Actor, ActorSystem, Backoff, Child, Supervisor
from understudy.messages.errors import ActorRestarting, MailboxClosed, UnknownActor
from understudy.testing import SimulatedDispatcher

from .bank import Account, Balance, Deposit, Rob

TREE = Supervisor("branch", children=[Child(Account, ("ada",), name="first"), Child(Account, ("bob",), name="second")])


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_registry() -> Iterator[None]:
    assert pykka.ActorRegistry.get_all() == []
    yield
    assert pykka.ActorRegistry.get_all() == []


class Plain(pykka.ThreadingActor):
    """An actor of pykka's own."""

    use_daemon_thread = True


def test_the_registry_shows_supervised_actors() -> None:
    """Those of every system, and those started pykka's way, for as long as they live."""
    with ActorSystem("bank", TREE) as system, ActorSystem("shop") as shop:
        basket = shop.spawn(Account)
        alone = Account.start("eve")
        plain = Plain.start()
        first, second = system.lookup("branch/first"), system.lookup("branch/second")
        found = pykka.ActorRegistry.get_all()
        assert {alone, first, second, basket, system.lookup("branch")} == {ref for ref in found if ref != plain}
        assert plain in found
        assert set(pykka.ActorRegistry.get_by_class(Account)) == {first, second, basket, alone}
        assert pykka.ActorRegistry.get_by_urn(first.actor_urn) == first
        basket.stop()
        assert basket not in pykka.ActorRegistry.get_all()
        alone.stop()
        plain.stop()


def test_urns_are_unique_and_stay_over_restarts(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """A urn names the place, as a reference does."""
    account, other = simulated.spawn(Account), simulated.spawn(Account)
    urn = account.actor_urn
    assert uuid.UUID(urn).version == 4
    assert urn != other.actor_urn
    account.tell(Rob())
    simulation.run_until_idle()
    assert (account.incarnation, account.actor_urn) == (2, urn)


def test_messages_are_broadcast_to_supervised_actors_too() -> None:
    """By class, as pykka does."""
    with ActorSystem("bank", TREE) as system:
        pykka.ActorRegistry.broadcast(Deposit(5), target_class=Account)
        assert system.ask("branch/first", Balance()) == 5
        assert system.ask("branch/second", Balance()) == 5


def test_stop_all_stops_supervised_actors_and_the_systems_whose_tree_that_ends() -> None:
    """In reverse order of their start. A system without a tree goes on, empty."""
    stopped: list[str] = []

    class Noting(Account):
        def on_stop(self) -> None:
            stopped.append(self.owner)

    tree = Supervisor("branch", children=[Child(Noting, ("a",), name="a"), Child(Noting, ("b",), name="b")])
    with ActorSystem("bank", tree) as system, ActorSystem("shop") as shop:
        basket = shop.spawn(Noting, "c")
        alone = Account.start()
        assert all(pykka.ActorRegistry.stop_all(timeout=60))
        assert pykka.ActorRegistry.get_all() == []
        assert not basket.is_alive()
        assert not alone.is_alive()
        assert system.wait(60)
        assert system.outcome == "stopped"
        assert shop.running
        assert shop.spawn(Account).ask(Balance()) == 0
    assert stopped == ["c", "b", "a"]


def test_a_proxy_reaches_a_supervised_actor(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """Attributes and methods, also after a restart."""
    account = simulated.spawn(Account, "ada", name="account")
    proxy = account.proxy()
    assert proxy.greet("bob").get() == "ada greets bob"
    assert proxy.owner.get() == "ada"
    proxy.owner = "eve"
    assert proxy.greet("bob").get() == "eve greets bob"
    account.tell(Rob())
    simulation.run_until_idle()
    assert proxy.greet("bob").get() == "ada greets bob"


def test_a_proxy_of_a_gone_actor_says_so(bank: ActorSystem) -> None:
    """With pykka's error, which has a code; be it the proxy that is called, or the reference that is to make one."""
    account = bank.spawn(Account, name="account")
    proxy = account.proxy()
    account.stop()
    with pytest.raises(pykka.ActorDeadError):
        proxy.greet("bob").get()
    with pytest.raises(MailboxClosed) as caught:
        account.proxy()
    assert isinstance(caught.value, pykka.ActorDeadError)
    response = caught.value.response
    assert (response.code, response.kind) == (0xFFFD, "actor.mailbox.closed")
    assert response.method == "test_a_proxy_of_a_gone_actor_says_so.account.proxy"


def test_a_proxy_of_a_gone_actor_started_as_in_pykka_says_so_in_pykkas_words() -> None:
    """The text is pykka's, the error has a code."""
    ref = Account.start()
    ref.stop()
    with pytest.raises(MailboxClosed) as caught:
        ref.proxy()
    assert str(caught.value) == f"{ref} not found"


def test_a_proxy_of_an_actor_between_two_lives_has_to_wait(
    simulated: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    """There is nobody to look at just then; trying again helps."""
    account = simulated.spawn(Account, name="account", backoff=Backoff(10.0, 10.0, jitter=0.0))
    account.tell(Rob())
    simulation.run_until(lambda: account._cell.actor is None)
    with pytest.raises(ActorRestarting) as caught:
        account.proxy()
    assert caught.value.response.retryable
    simulation.advance(11.0)
    assert account.proxy().owner.get() == "nobody"


def test_a_stopped_event_is_set_when_the_actor_is_gone_for_good(
    simulated: ActorSystem, simulation: SimulatedDispatcher
) -> None:
    """Not at a restart."""
    account = simulated.spawn(Account)
    gone = account.actor_stopped
    account.tell(Rob())
    simulation.run_until_idle()
    assert not gone.is_set()
    account.stop()
    assert gone.is_set()


def test_systems_in_one_process_share_nothing() -> None:
    """Names, dead letters, ends."""
    with ActorSystem("one") as one, ActorSystem("two") as two:
        first = one.spawn(Account, name="account", balance=1)
        second = two.spawn(Account, name="account", balance=2)
        assert (one.ask("account", Balance()), two.ask("account", Balance())) == (1, 2)
        one.spawn(Account, name="only")
        with pytest.raises(UnknownActor):
            two.lookup("only")
        assert one.stop()
        with pytest.raises(MailboxClosed):
            first.tell(Deposit(1))
        assert second.ask(Deposit(1)) == 3
        assert two.running


def test_actors_of_different_systems_talk_to_each_other() -> None:
    """A reference is all it takes."""

    class Ask(Actor):
        def __init__(self, other: pykka.ActorRef[Account]) -> None:
            super().__init__()
            self.other = other

        def on_receive(self, message: object) -> object:
            return self.other.ask(message, timeout=60)

    with ActorSystem("one") as one, ActorSystem("two") as two:
        asker = one.spawn(Ask, two.spawn(Account, balance=7))
        assert asker.ask(Balance(), timeout=60) == 7


def test_many_systems_come_and_go() -> None:
    """One after the other, each with threads of its own that end with it."""
    for number in range(20):
        with ActorSystem(f"bank-{number}") as system:
            assert system.spawn(Account, balance=number).ask(Balance()) == number


def test_the_same_name_may_be_used_by_two_systems() -> None:
    """It is for logs only."""
    with ActorSystem("bank") as one, ActorSystem("bank") as two:
        one.spawn(Account, name="account")
        with pytest.raises(UnknownActor):
            two.lookup("account")

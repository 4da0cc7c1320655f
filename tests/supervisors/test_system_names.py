"""Names, paths and aliases: how actors of a system are found."""

from __future__ import annotations

from typing import Any

import pytest

from understudy import ActorRef, ActorSystem, Child, Supervisor
from understudy.messages.errors import ErrorKind, HandlerFailed, NameTaken, SpecInvalid, UnknownActor

from .bank import Account, Balance, Deposit, Rob

TREE = Supervisor(
    "city", children=[Supervisor("branch", children=[Child(Account, ("eve",), name="account", alias="till")])]
)


def test_an_actor_is_found_by_its_name(bank: ActorSystem) -> None:
    """Its name is its path at the top."""
    account = bank.spawn(Account, "ada", name="account")
    assert bank.lookup("account") == account
    assert account.path == "account"
    assert bank.ask("account", Deposit(7)) == 7


def test_the_path_of_an_actor_in_a_tree_has_the_names_of_its_supervisors() -> None:
    """The system's own name is not part of it."""
    with ActorSystem("bank", TREE) as system:
        assert system.ask("city/branch/account", Deposit(2)) == 2
        assert system.lookup("city/branch").path == "city/branch"
        assert system.lookup("city").path == "city"


def test_an_alias_finds_an_actor_wherever_it_is() -> None:
    """An alias is a name beside the path."""
    with ActorSystem("bank", TREE) as system:
        assert system.lookup("till") == system.lookup("city/branch/account")


def test_an_actor_without_a_name_is_reached_by_its_reference_only(bank: ActorSystem) -> None:
    """The path that it has for logs finds nothing."""
    account = bank.spawn(Account, "ada")
    assert account.ask(Deposit(1)) == 1
    assert account.path.startswith("Account-")
    with pytest.raises(UnknownActor):
        bank.lookup(account.path)


def test_an_unknown_name_is_refused_and_close_ones_are_shown(bank: ActorSystem) -> None:
    """Every way of naming an actor refuses the same way."""
    bank.spawn(Account, name="account")
    for call in (
        lambda: bank.lookup("acount"),
        lambda: bank.tell("acount", Deposit(1)),
        lambda: bank.ask("acount", Deposit(1)),
        lambda: bank.ask("acount", Deposit(1), block=False).get(),
    ):
        with pytest.raises(UnknownActor, match="did you mean 'account'") as caught:
            call()
        assert caught.value.kind == ErrorKind.NAME_UNKNOWN
        assert caught.value.response.code == 0xFFFD


def test_an_unknown_name_says_which_call_failed(bank: ActorSystem) -> None:
    """Caller's function, target, verb."""
    with pytest.raises(UnknownActor) as caught:
        bank.ask("nobody", Balance())
    assert caught.value.response.method == ("test_an_unknown_name_says_which_call_failed.nobody.ask")
    with pytest.raises(UnknownActor) as caught:
        bank.tell("nobody", Balance(), method="shop.pay")
    assert caught.value.response.method == "shop.pay"


@pytest.mark.parametrize("name", ["", "/", "a/b", 5, None, [], b"account"])
def test_what_is_no_name_finds_nothing(bank: ActorSystem, name: object) -> None:
    """Whatever is looked up, the answer has a code."""
    bank.spawn(Account, name="account")
    with pytest.raises(UnknownActor):
        bank.lookup(name)  # type: ignore[call-overload]


def test_a_name_is_taken_once_and_the_error_has_who_holds_it(bank: ActorSystem) -> None:
    """The holder is not disturbed."""
    first = bank.spawn(Account, "ada", name="account")
    first.tell(Deposit(3))
    with pytest.raises(NameTaken, match="'account' is taken") as caught:
        bank.spawn(Account, "bob", name="account")
    assert caught.value.kind == ErrorKind.NAME_TAKEN
    assert caught.value.ref == first
    assert bank.ask("account", Balance()) == 3
    assert bank.root.count_children().specs == 1


def test_an_alias_must_be_free_too_and_what_was_entered_is_taken_back(bank: ActorSystem) -> None:
    """A refused actor leaves no name behind."""
    bank.spawn(Account, name="account", alias="till")
    with pytest.raises(NameTaken):
        bank.spawn(Account, name="second", alias="till")
    with pytest.raises(NameTaken):
        bank.spawn(Account, name="second", alias="account")
    with pytest.raises(NameTaken):
        bank.spawn(Account, name="till")
    assert bank.spawn(Account, name="second").path == "second"


def test_an_alias_alone_finds_an_actor_without_a_name(bank: ActorSystem) -> None:
    """Who has an alias is found by it, and it is free again when the actor has gone."""
    account = bank.spawn(Account, alias="till")
    assert bank.lookup("till") == account
    assert account.stop()
    with pytest.raises(UnknownActor):
        bank.lookup("till")


def test_a_name_is_free_again_when_its_actor_is_gone(bank: ActorSystem) -> None:
    """Also the alias; the old reference stays the old actor's."""
    old = bank.spawn(Account, name="account", alias="till")
    assert old.stop()
    new = bank.spawn(Account, name="account", alias="till")
    assert new != old
    assert bank.lookup("till") == new
    assert not old.is_alive()


def test_a_name_stays_with_the_actor_over_restarts(simulated: ActorSystem) -> None:
    """The reference is the place, not the incarnation."""
    account = simulated.spawn(Account, "ada", name="account", balance=5)
    account.tell(Deposit(1))
    account.tell(Rob())
    assert account.ask(Balance()) == 5
    assert simulated.lookup("account") == account
    assert account.incarnation == 2


@pytest.mark.parametrize("name", ["", "a/b", "line\nbreak", 5, b"x", False])
def test_what_cannot_be_a_name_is_refused(bank: ActorSystem, name: object) -> None:
    """Also as an alias; the error names the field and the value."""
    with pytest.raises(SpecInvalid, match="name="):
        bank.spawn(Account, name=name)  # type: ignore[call-overload]
    with pytest.raises(SpecInvalid, match="alias="):
        bank.spawn(Account, alias=name)  # type: ignore[call-overload]


def test_with_very_many_names_a_wrong_one_is_still_told_at_once(simulated: ActorSystem) -> None:
    """Then nobody searches for similar ones."""
    for number in range(1_001):
        simulated.spawn(Account, name=f"account-{number}")
    with pytest.raises(UnknownActor, match="there are 1001 others"):
        simulated.lookup("account-1001")


def test_references_are_equal_when_they_name_the_same_place(bank: ActorSystem) -> None:
    """So they can be put into sets."""
    account = bank.spawn(Account, name="account")
    other = bank.spawn(Account, name="other")
    found: set[ActorRef[Account]] = {account, bank.lookup("account"), other}
    assert len(found) == 2


class Savings(Account):
    """An account, too."""


def make_savings() -> Account:
    """A function that makes an actor."""
    return Savings(balance=9)


def test_a_lookup_refuses_an_actor_of_another_class(bank: ActorSystem) -> None:
    """A derived class is no other one; whoever made it, and also after a restart."""
    bank.spawn(Savings, name="savings")
    bank.spawn(make_savings, name="made")
    bank.spawn(Account, name="account", alias="main")
    for path, good in (("savings", Savings), ("savings", Account), ("made", Savings), ("main", Account)):
        ref: ActorRef[Any] = bank.lookup(path, good)
        assert ref == bank.lookup(path)
    with pytest.raises(HandlerFailed):
        bank.ask("made", Rob())
    assert bank.lookup("made", Savings).ask(Balance()) == 9
    with pytest.raises(UnknownActor) as caught:
        bank.lookup("main", Savings)
    response = caught.value.response
    assert (response.kind, response.actor) == ("actor.name.other_class", "account")
    assert response.source == "'main' in 'bank' is a Account, not a Savings"
    assert response.method == "test_a_lookup_refuses_an_actor_of_another_class.main.lookup"
    with pytest.raises(UnknownActor, match="no actor named"):
        bank.lookup("mian", Account)
    with pytest.raises(UnknownActor, match="is a Account, not a 'Account'"):
        bank.lookup("main", "Account")  # type: ignore[call-overload]  # that is the point

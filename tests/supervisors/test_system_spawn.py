"""Spawning: what ``ActorSystem.spawn`` takes, gives and refuses."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from understudy import (
    IGNORE,
    Actor,
    ActorError,
    ActorRef,
    ActorSystem,
    Backoff,
    Child,
    DynamicSupervisor,
    Mailbox,
    Message,
    Started,
    Supervisor,
    handles,
)
from understudy.actors.events import ActorStarted
from understudy.messages.errors import (
    ActorRestarting,
    ErrorKind,
    LoopBlocked,
    MailboxClosed,
    MailboxFull,
    NameTaken,
    SpecInvalid,
    StartFailed,
    SystemStopped,
    UnknownActor,
)
from understudy.supervisors.ref import SupervisorRef
from understudy.testing import SimulatedDispatcher

from .bank import Account, Balance, Decline, Deposit, Gate, Recorder, Rob, Wait


class Broke(Actor):
    """Cannot be made."""

    def __init__(self) -> None:
        super().__init__()
        raise ValueError("no money")


class Idler(Actor):
    """Has nothing to do."""

    def on_start(self) -> Any:
        return IGNORE


class Informer(Actor):
    """Has something to say when it starts."""

    def on_start(self) -> Any:
        return Started("news")


class Numb(Actor):
    """Starts with an answer that there is not."""

    def on_start(self) -> Any:
        return 42


def test_arguments_go_to_the_constructor(bank: ActorSystem) -> None:
    """Positional and named ones."""
    account = bank.spawn(Account, "ada", balance=5)
    assert account.ask(Balance()) == 5
    assert account.proxy().owner.get() == "ada"


def test_a_function_may_make_the_actor(bank: ActorSystem) -> None:
    """It gets the arguments."""
    account = bank.spawn(lambda owner: Account(owner, balance=3), "ada", name="account")
    assert account.ask(Deposit(1)) == 4
    assert bank.lookup("account") == account


def test_a_spec_is_taken_as_it_is(bank: ActorSystem) -> None:
    """A supervisor's reference has its administration."""
    account = bank.spawn(Child(Account, ("ada",), name="account"))
    assert account.ask(Balance()) == 0
    supervisor = bank.spawn(Supervisor("branch", children=[Child(Account, name="till")]))
    assert isinstance(supervisor, SupervisorRef)
    assert supervisor.count_children().active == 1
    assert isinstance(bank.spawn(DynamicSupervisor("pool")), SupervisorRef)


@pytest.mark.parametrize(
    "beside", [{"name": "x"}, {"shutdown": 0}, {"restart": "temporary"}, {"alias": "x"}, {"balance": 1}]
)
def test_a_spec_is_not_mixed_with_options(bank: ActorSystem, beside: dict[str, Any]) -> None:
    """An option that would be ignored is refused, a zero too."""
    with pytest.raises(SpecInvalid, match="nothing beside the spec"):
        bank.spawn(Child(Account), **beside)


def test_the_restart_type_is_obeyed(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """Permanent unless told otherwise."""
    permanent = simulated.spawn(Account)
    temporary = simulated.spawn(Account, restart="temporary")
    transient = simulated.spawn(Account, restart="transient")
    for ref in (permanent, temporary, transient):
        ref.tell(Rob())
    simulation.run_until_idle()
    assert [ref.is_alive() for ref in (permanent, temporary, transient)] == [True, False, True]
    assert (permanent.incarnation, transient.incarnation) == (2, 2)


def test_the_mailbox_is_obeyed(bank: ActorSystem, gate: Gate) -> None:
    """Its bound."""
    account = bank.spawn(Account, mailbox=Mailbox(capacity=1), shutdown="brutal_kill")
    account.tell(Wait(gate))
    assert gate.entered.wait(60)
    account.tell(Deposit(1))
    with pytest.raises(MailboxFull):
        account.tell(Deposit(1))
    gate.open()


def test_the_shutdown_time_is_obeyed(simulated: ActorSystem) -> None:
    """It stands in the spec."""
    account = simulated.spawn(Account, shutdown=0.0)
    assert simulated.root.get_childspec(account).shutdown == 0.0


def test_the_backoff_is_obeyed(simulated: ActorSystem, simulation: SimulatedDispatcher) -> None:
    """The next incarnation comes after it."""
    account = simulated.spawn(Account, "ada", backoff=Backoff(10.0, 10.0, jitter=0.0), between_lives="refuse")
    account.tell(Rob())
    simulation.run_until_idle()
    with pytest.raises(ActorRestarting):
        account.tell(Deposit(1))
    simulation.advance(10.0)
    assert account.ask(Deposit(1)) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("restart", "allways"),
        ("restart", ""),
        ("shutdown", -1),
        ("shutdown", "brutal"),
        ("mailbox", 5),
        ("backoff", 1.0),
        ("between_lives", "lose"),
        ("restart", []),
    ],
)
@pytest.mark.parametrize("name", [None, "account"])
def test_a_wrong_option_is_refused_by_its_name(bank: ActorSystem, option: str, value: object, name: str | None) -> None:
    """With a code, whether or not the actor has a name."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(SpecInvalid, match=f"{option}=") as caught:
        bank.spawn(Account, name=name, **options)
    assert caught.value.kind == ErrorKind.CHILD_SPEC_INVALID


@pytest.mark.parametrize("actor", [5, None, "Account", object, Message])
def test_what_is_no_actor_is_refused(bank: ActorSystem, actor: Any) -> None:
    """Before or when it is made, always with a code; the system goes on."""
    with pytest.raises((SpecInvalid, StartFailed)):
        bank.spawn(actor)
    assert bank.spawn(Account).ask(Balance()) == 0


def test_what_a_function_makes_must_be_an_actor(bank: ActorSystem) -> None:
    """A list is none."""

    def make() -> Any:
        return []

    with pytest.raises(StartFailed) as caught:
        bank.spawn(make, name="account")
    assert caught.value.kind == ErrorKind.CHILD_BAD_RETURN


def test_a_constructor_that_raises_is_reported_to_who_spawns(bank: ActorSystem) -> None:
    """With its cause; nothing is left of the actor, and nobody else is disturbed."""
    with pytest.raises(StartFailed, match="ValueError: no money") as caught:
        bank.spawn(Broke, name="broke")
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.response.cause is not None
    assert caught.value.response.method == "test_a_constructor_that_raises_is_reported_to_who_spawns.broke.start"
    with pytest.raises(UnknownActor):
        bank.lookup("broke")
    assert bank.root.count_children().specs == 0
    assert bank.spawn(Account, name="broke").ask(Balance()) == 0


def test_wrong_arguments_of_a_constructor_are_such_an_error(bank: ActorSystem) -> None:
    """What Python says of them is in the text."""
    with pytest.raises(StartFailed, match="unexpected keyword argument 'currency'"):
        bank.spawn(Account, "ada", currency="EUR")


def test_an_actor_that_says_ignore_cannot_be_spawned(bank: ActorSystem) -> None:
    """There is nothing to refer to; its name is free again."""
    with pytest.raises(StartFailed, match="IGNORE"):
        bank.spawn(Idler, name="idler")
    with pytest.raises(UnknownActor):
        bank.lookup("idler")
    assert bank.root.start_child(Child(Idler, name="idler")) is None


def test_what_on_start_answers_must_be_an_answer(bank: ActorSystem) -> None:
    """``Started`` is one, 42 is none."""
    assert bank.spawn(Informer).is_alive()
    with pytest.raises(StartFailed) as caught:
        bank.spawn(Numb)
    assert caught.value.kind == ErrorKind.CHILD_BAD_RETURN


def test_an_actor_may_spawn(bank: ActorSystem) -> None:
    """From a handler, under the system."""

    class Found(Message[int]):
        pass

    class Founder(Actor):
        @handles
        def found(self, _message: Found) -> int:
            return bank.spawn(Account, balance=9).ask(Balance())

    assert bank.spawn(Founder).ask(Found(), timeout=60) == 9


def test_spawn_can_be_awaited(bank: ActorSystem) -> None:
    """Then it never blocks the loop; what it refuses comes when it is awaited."""

    async def main() -> None:
        account = await bank.spawn(Account, "ada", name="account", block=False)
        assert await account.ask(Deposit(1), block=False) == 1
        with pytest.raises(NameTaken):
            await bank.spawn(Account, name="account", block=False)
        with pytest.raises(StartFailed, match="no money"):
            await bank.spawn(Broke, block=False)
        with pytest.raises(StartFailed, match="IGNORE"):
            await bank.spawn(Child(Idler), block=False)

    asyncio.run(main())


class Open(Message[bool]):
    """Open an account by ``spawn``; with or without blocking."""

    block: bool


class AsyncAccount(Actor):
    """Runs on the loop, and starts there."""

    async def on_start(self) -> None:  # type: ignore[override]  # pykka's returns nothing, and is not awaited
        await asyncio.sleep(0)

    @handles
    async def tell_balance(self, _message: Balance) -> int:
        return 5


class Clerk(Actor):
    """Spawns on the loop."""

    def __init__(self, system: ActorSystem) -> None:
        super().__init__()
        self.system = system

    @handles
    async def open(self, message: Open) -> bool:
        if message.block:
            self.system.spawn(AsyncAccount)
        ref = await self.system.spawn(AsyncAccount, block=False)
        return await ref.ask(Balance(), block=False) == 5


@pytest.mark.parametrize("system", ["bank", "simulated"])
def test_an_async_handler_may_not_block_the_loop_by_spawning(system: str, request: pytest.FixtureRequest) -> None:
    """What it would wait for may have to start on that very loop."""
    bank: ActorSystem = request.getfixturevalue(system)
    clerk = bank.spawn(Clerk, bank)
    assert clerk.ask(Open(block=False), timeout=60)
    with pytest.raises(ActorError) as caught:
        clerk.ask(Open(block=True), timeout=60)
    assert isinstance(caught.value.__cause__, LoopBlocked)
    assert clerk.ask(Open(block=False), timeout=60)


def test_actors_spawned_by_many_threads_at_once_all_live(bank: ActorSystem) -> None:
    """And each has its own name."""
    barrier = threading.Barrier(8)
    found: list[ActorRef[Account]] = []

    def spawn(thread: int) -> None:
        barrier.wait(60)
        found.extend(bank.spawn(Account, name=f"{thread}-{number}") for number in range(25))

    threads = [threading.Thread(target=spawn, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 200
    assert bank.root.count_children().active == 200


def test_of_many_who_spawn_under_one_name_one_succeeds(bank: ActorSystem) -> None:
    """The others are told who has it."""
    barrier = threading.Barrier(8)
    spawned: list[ActorRef[Account]] = []
    refused: list[Any] = []

    def spawn() -> None:
        barrier.wait(60)
        try:
            spawned.append(bank.spawn(Account, name="account"))
        except NameTaken as error:
            refused.append(error.ref)

    threads = [threading.Thread(target=spawn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(spawned) == 1
    assert refused == spawned * 7


def test_spawning_is_an_event(simulated: ActorSystem) -> None:
    """With the path and the class."""
    recorder = Recorder(simulated)
    simulated.spawn(Account, name="account")
    (event,) = recorder.of(ActorStarted)
    assert (event.path, event.actor_class, event.incarnation) == ("account", "Account", 1)


def test_nothing_is_spawned_once_the_system_stops() -> None:
    """Neither from outside, nor by what still runs."""
    found: list[type[BaseException]] = []

    class Last(Actor):
        def on_stop(self) -> None:
            try:
                system.spawn(Account)
            except SystemStopped as error:
                found.append(type(error))

    system = ActorSystem("bank")
    system.spawn(Last)
    assert system.stop()
    assert found == [SystemStopped]
    with pytest.raises(SystemStopped):
        system.spawn(Account)
    with pytest.raises(SystemStopped):
        system.spawn(Account, block=False)


@pytest.mark.parametrize("block", [True, False])
def test_who_spawns_in_the_moment_of_the_stop_is_told_of_the_stop(block: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that some supervisor's mailbox is closed."""
    system = ActorSystem("bank")
    monkeypatch.setattr(system, "_refuse_if_over", lambda verb: system.stop())  # it was not over a moment ago
    with pytest.raises(SystemStopped):
        system.spawn(Account) if block else system.spawn(Account, block=False).get()


def test_a_refusal_does_not_restart(simulated: ActorSystem) -> None:
    """It is an answer, not a crash."""
    account = simulated.spawn(Account)
    with pytest.raises(ActorError) as caught:
        account.ask(Decline())
    assert caught.value.kind == ErrorKind.HANDLER_REFUSED
    assert account.incarnation == 1


def test_a_stopped_actor_is_gone(bank: ActorSystem) -> None:
    """Its permanent spec notwithstanding: it was told to stop."""
    account = bank.spawn(Account)
    assert account.stop()
    assert not account.stop()
    with pytest.raises(MailboxClosed):
        account.tell(Deposit(1))

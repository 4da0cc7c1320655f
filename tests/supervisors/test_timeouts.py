"""Timeouts: what is none gets a coded error that names it, one below zero has passed already, infinity is no limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from understudy import (
    Actor,
    ActorSystem,
    AskTimeout,
    Channel,
    ChannelTimeout,
    ErrorKind,
    Future,
    SpecInvalid,
    TaskSupervisor,
    UnhandledMessage,
)

from ..naming import shown
from .bank import Account, Balance, Deposit, Gate, Wait

BAD: list[Any] = ["1", math.nan, True, object(), [1.0], 1j]


def waits(system: ActorSystem) -> list[tuple[str, Callable[[Any], object]]]:
    """Everything that waits for at most as long as it is told."""
    ref = system.lookup("account")
    task = system.spawn(TaskSupervisor(name="tasks")).submit(lambda: 1)
    return [
        ("ask", lambda timeout: system.ask("account", Balance(), timeout=timeout)),
        ("ask", lambda timeout: ref.ask(Balance(), timeout=timeout)),
        ("ask", lambda timeout: ref.ask(Balance(), timeout=timeout, block=False)),
        ("stop", lambda timeout: ref.stop(timeout=timeout)),
        ("stop", lambda timeout: ref.stop(timeout=timeout, block=False)),
        ("get", lambda timeout: Future[int]().get(timeout=timeout)),
        ("get", lambda timeout: ref.ask(Balance(), block=False).get(timeout=timeout)),
        ("get", lambda timeout: Channel[int]().get(timeout=timeout)),
        ("put", lambda timeout: Channel[int]().put(1, timeout=timeout)),
        ("stop", lambda timeout: system.stop(timeout=timeout)),
        ("wait", lambda timeout: system.wait(timeout=timeout)),
        ("result", lambda timeout: task.result(timeout=timeout)),
        ("ask", lambda timeout: system.root.which_children(timeout=timeout)),
    ]


@pytest.mark.parametrize("bad", BAD, ids=shown)
def test_what_is_no_timeout_is_refused_by_name_and_value(bank: ActorSystem, bad: Any) -> None:
    """And nothing is sent, stopped or waited for."""
    account = bank.spawn(Account, name="account")
    for verb, call in waits(bank):
        with pytest.raises(SpecInvalid) as caught:
            call(bad)
        error = caught.value
        assert (error.kind, error.field) == (ErrorKind.TIMEOUT_INVALID, "timeout")
        assert error.value is bad
        assert f"timeout={bad!r}" in str(error)
        assert error.response.method.endswith(f".{verb}"), error.response
    assert account.is_alive()
    assert bank.running
    assert account.ask(Deposit(1)) == 1


def test_the_call_that_had_the_bad_timeout_is_named(bank: ActorSystem) -> None:
    """Its caller, the actor that it was for, and the verb."""
    bank.spawn(Account, name="account")
    with pytest.raises(SpecInvalid) as caught:
        bank.ask("account", Balance(), timeout="1")  # type: ignore[call-overload]  # that is the point
    assert caught.value.response.method == "test_the_call_that_had_the_bad_timeout_is_named.account.ask"
    with pytest.raises(SpecInvalid) as caught:
        bank.ask("account", Balance(), timeout=math.nan, method="bank.look")
    assert caught.value.response.method == "bank.look"


def test_a_future_of_an_ask_by_name_tells_of_the_bad_timeout_when_it_is_read(bank: ActorSystem) -> None:
    """As of every other error."""
    bank.spawn(Account, name="account")
    future = bank.ask("account", Balance(), timeout=math.nan, block=False)
    with pytest.raises(SpecInvalid):
        future.get()


@pytest.mark.parametrize("drain", BAD, ids=shown)
def test_what_is_no_time_to_drain_is_refused(bank: ActorSystem, drain: Any) -> None:
    """Before the stop has begun; so it is by `run`."""
    for begin in (bank.stop, bank.run):
        with pytest.raises(SpecInvalid, match="drain="):
            begin(drain=drain)
        with pytest.raises(SpecInvalid, match="timeout="):
            begin(timeout=drain)
    assert bank.running


@pytest.mark.parametrize("limit", [None, math.inf])
def test_a_stop_may_have_no_limit(bank: ActorSystem, limit: float | None) -> None:
    """It ends when all have ended."""
    bank.spawn(Account, name="account")
    assert bank.stop(timeout=limit, drain=limit)


def test_a_race_refuses_what_is_no_time(bank: ActorSystem) -> None:
    """As the race's own time, and as the grace of those that lose; none of the works begins."""

    class Racer(Actor):
        def run(self, **times: Any) -> Any:
            try:
                return self.race(lambda: 1, **times).get()
            except SpecInvalid as error:
                return str(error)

    racer = bank.spawn(Racer, restart="temporary").proxy()
    for name in ("timeout", "grace"):
        for bad in BAD:
            assert f"{name}={bad!r}: give" in racer.run(**{name: bad}).get()
    assert racer.run(timeout=math.inf, grace=math.inf).get() == 1


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, -math.inf])
def test_a_time_below_zero_has_passed_already(bank: ActorSystem, gate: Gate, timeout: float) -> None:
    """As a remainder may, that somebody computed: an ask times out, as it does in pykka, and nobody waits."""
    account = bank.spawn(Account, name="account")
    account.tell(Wait(gate))
    assert gate.entered.wait(60)
    with pytest.raises(AskTimeout):
        bank.ask("account", Balance(), timeout=timeout)
    with pytest.raises(AskTimeout):
        account.ask(Balance(), block=False).get(timeout=timeout)
    with pytest.raises(pykka.Timeout):
        Future[int]().get(timeout=timeout)
    with pytest.raises(ChannelTimeout):
        Channel[int]().get(timeout=timeout)
    assert not bank.wait(timeout=timeout)
    gate.open()
    assert account.ask(Balance()) == 0


@pytest.mark.parametrize("timeout", [math.inf, 10**400, 1e300])
def test_infinity_and_whatever_is_near_is_no_limit(bank: ActorSystem, timeout: float) -> None:
    """For who waits, and for who does not."""
    account = bank.spawn(Account, balance=3, name="account")
    assert account.ask(Balance(), timeout=timeout) == 3
    future = account.ask(Balance(), timeout=timeout, block=False)
    assert future.get(timeout=timeout) == 3
    assert account.stop(timeout=timeout)


def test_an_actor_started_as_in_pykka_takes_the_times_that_pykka_takes() -> None:
    """True is a second there; what pykka's own waiting cannot use is refused."""
    ref = Account.start("ada")
    try:
        assert ref.ask(Balance(), timeout=True) == 0
        assert ref.ask(Balance(), block=False).get(timeout=True) == 0
        for bad in BAD:
            if bad is not True:
                with pytest.raises(ValueError, match="timeout="):
                    ref.ask(Balance(), timeout=bad)
    finally:
        assert ref.stop(timeout=True)


@pytest.mark.parametrize(
    ("timeout", "shown"), [(0.0, "0 seconds"), (0.012345678, "0.012 seconds"), (0.1 + 0.2, "0.3 seconds")]
)
def test_a_time_out_says_who_did_not_answer_what_within_which_time(
    bank: ActorSystem, gate: Gate, timeout: float, shown: str
) -> None:
    """In numbers that people read: what is left of a deadline has fifteen digits."""
    account = bank.spawn(Account, name="account")
    account.tell(Wait(gate))
    assert gate.entered.wait(60)
    with pytest.raises(AskTimeout) as caught:
        bank.ask("account", Balance(), timeout=timeout)
    assert str(caught.value).startswith("account did not answer Balance within 0")
    assert str(caught.value).endswith(" seconds")
    assert len(str(caught.value)) <= len("account did not answer Balance within 0.012 seconds")
    later = account.ask(Balance(), block=False)
    with pytest.raises(AskTimeout, match=f"account did not answer within {shown}$"):
        later.get(timeout=timeout)
    with pytest.raises(AskTimeout, match=f"nothing came within {shown}$"):
        Future[int]().get(timeout=timeout)
    expiring = account.ask(Balance(), block=False, timeout=timeout)
    with pytest.raises(AskTimeout, match=r"account did not answer Balance before the deadline$"):
        expiring.get(timeout=60)


def test_a_class_in_the_place_of_a_message_is_recognised(bank: ActorSystem) -> None:
    """What everybody forgets once: the brackets."""
    account = bank.spawn(Account, name="account")
    with pytest.raises(UnhandledMessage, match=r"was sent the class Balance, not a message: write Balance\(…\)$"):
        account.ask(Balance)
    with pytest.raises(UnhandledMessage, match=r"no handler for int; it handles: Balance"):
        account.ask(1)

"""What callers give may be of any length; what errors say about it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from understudy import (
    ActorError,
    ActorSystem,
    Backoff,
    Channel,
    Child,
    ErrorResponse,
    Mailbox,
    PartitionSupervisor,
    Supervisor,
)
from understudy.messages import decode, encode

from .bank import Account

LONG = "x" * 1_000_000
SHORT = 1_100
"""Characters: of a name at most 1,024 are kept, and a note."""

CALLS: dict[str, Callable[[ActorSystem], Any]] = {
    "ask": lambda bank: bank.ask(LONG, 1),
    "tell": lambda bank: bank.tell(LONG, 1),
    "lookup": lambda bank: bank.lookup(LONG),
    "tell, named": lambda bank: bank.tell(LONG, 1, method=LONG),
    "which_child": lambda bank: bank.root.which_child(LONG),
    "terminate_child": lambda bank: bank.spawn(Supervisor("tree")).terminate_child(LONG),
    "start_child": lambda bank: bank.root.start_child(LONG),  # type: ignore[arg-type]  # that is the point
    "static start_child": lambda bank: bank.spawn(Supervisor("tree")).start_child(LONG),  # type: ignore[arg-type]
    "spawn": lambda bank: bank.spawn(Account, name=LONG + "/"),
    "spawn, twice": lambda bank: [bank.spawn(Account, name=LONG) for _ in range(2)],
    "ask of a long name": lambda bank: bank.spawn(Account, name=LONG).ask(1),
    "the system's name": lambda _: ActorSystem(LONG + "/"),
    "the system's tree": lambda _: ActorSystem("s", LONG),  # type: ignore[arg-type]
    "the system's pool": lambda _: ActorSystem("s", pool_size=LONG),  # type: ignore[arg-type]
    "Child": lambda _: Child(Account, name=LONG + "/"),
    "Child, unknown argument": lambda _: Child(Account, foo=LONG),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    "Child.of": lambda _: Child.of(LONG),  # type: ignore[arg-type]
    "Child.of, unknown field": lambda _: Child.of({"actor": Account, LONG: 1}),
    "Child.of, no actor": lambda _: Child.of({"name": LONG}),
    "Supervisor": lambda _: Supervisor("tree", LONG),  # type: ignore[arg-type]
    "Supervisor, two of a name": lambda _: Supervisor("tree", [Child(Account, name=LONG)] * 2),
    "Supervisor, strategy": lambda _: Supervisor("tree", strategy=LONG),  # type: ignore[arg-type]
    "PartitionSupervisor": lambda _: PartitionSupervisor("p", Child(Account), LONG),  # type: ignore[arg-type]
    "Mailbox": lambda _: Mailbox(capacity=LONG),  # type: ignore[arg-type]
    "Mailbox, overflow": lambda _: Mailbox(overflow=LONG),  # type: ignore[arg-type]
    "Backoff": lambda _: Backoff(LONG, 1.0),  # type: ignore[arg-type]
    "Channel": lambda _: Channel(LONG),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_says_no_more_than_can_be_read(bank: ActorSystem, call: Callable[[ActorSystem], Any]) -> None:
    """Neither its text, nor its method, nor any field of its response; how much was cut is said."""
    with pytest.raises(ActorError) as caught:
        call(bank)
    error = caught.value
    assert len(error.method) < SHORT
    response = error.response
    assert len(encode(response)) < 10 * SHORT
    assert "more characters)" in f"{response.source}{response.method}{response.actor}"
    assert len(str(response)) < 6 * SHORT


@pytest.mark.parametrize(
    "call",
    [call for name, call in CALLS.items() if name not in ("ask of a long name", "spawn, twice")],
    ids=[name for name in CALLS if name not in ("ask of a long name", "spawn, twice")],
)
def test_an_error_about_what_was_given_quotes_the_beginning_of_it(
    bank: ActorSystem, call: Callable[[ActorSystem], Any]
) -> None:
    """Its own text is short, too: it is what a traceback shows."""
    with pytest.raises(ActorError) as caught:
        call(bank)
    assert len(str(caught.value)) < 600
    assert len(repr(caught.value)) < 700


def test_a_response_from_a_peer_is_shown_in_bounds() -> None:
    """Its makers need not have cut anything."""
    response = ErrorResponse(
        code=0xFFFD, kind=LONG, method=LONG, source=LONG, actor=LONG, message_type=LONG, message_id=LONG
    )
    response = decode(encode(response, max_body=10_000_000), ErrorResponse, max_body=10_000_000)
    assert len(response.to_json()) < 10 * SHORT
    assert all(len(str(member)) < 6 * SHORT for member in response.to_problem().values())
    assert len(str(response)) < 7 * SHORT

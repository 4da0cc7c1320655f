"""What an actor's class says of itself: a wrong attribute is an error where the class is defined, and harms nobody."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from understudy import Actor, ActorSystem, Child, Mailbox, Supervisor
from understudy.messages.errors import ErrorKind, SpecInvalid, StartFailed

from .core_stage import Note, Player

WRONG: list[tuple[str, Any]] = [
    ("mailbox", 100),
    ("mailbox", Mailbox),
    ("mailbox", "reject"),
    ("dispatcher", "threads"),
    ("dispatcher", None),
    ("dispatcher", ["pool"]),
    ("refusals", LookupError),
    ("refusals", ("x",)),
    ("refusals", (int,)),
    ("refusals", None),
]


@pytest.mark.parametrize(("attribute", "value"), WRONG)
def test_a_wrong_attribute_is_refused_where_the_class_is_defined(attribute: str, value: Any) -> None:
    with pytest.raises(SpecInvalid) as raised:
        type("Shop", (Actor,), {attribute: value})
    assert raised.value.kind == ErrorKind.ACTOR_INVALID
    assert f"Shop: {attribute} = " in str(raised.value)
    assert (raised.value.field, raised.value.value) == (attribute, value)


def test_a_dispatcher_that_is_nearly_right_is_recognised() -> None:
    with pytest.raises(SpecInvalid, match="did you mean 'thread'"):
        type("Shop", (Actor,), {"dispatcher": "threads"})


@pytest.mark.parametrize("refusals", [(), (LookupError,), [LookupError], (LookupError, OSError)])
def test_right_attributes_are_taken(refusals: Any) -> None:
    shop: Any = type("Shop", (Actor,), {"refusals": refusals, "mailbox": Mailbox(5), "dispatcher": "thread"})
    assert shop.mailbox == Mailbox(5)


@pytest.mark.parametrize("mailbox", [100, Mailbox])
def test_a_mailbox_that_was_broken_later_fails_the_start_and_not_the_system(system: ActorSystem, mailbox: Any) -> None:
    class Broken(Player):
        pass

    Broken.mailbox = mailbox
    for start in (
        lambda: system.spawn(Broken),
        lambda: system.spawn(Supervisor("tree", children=[Child(Broken, name="shop")])),
    ):
        with pytest.raises(StartFailed, match="mailbox = "):
            start()
    assert system.spawn(Player).ask(Note(1), timeout=60) == 1
    assert system.outcome == "running"


class Foreign(pykka.ThreadingActor):
    """One of pykka's own."""


@pytest.mark.parametrize("made", [None, 5, Foreign()])
def test_a_function_that_makes_no_actor_is_told_so(system: ActorSystem, made: Any) -> None:
    with pytest.raises(StartFailed) as raised:
        system.spawn(lambda: made)
    assert raised.value.kind == ErrorKind.CHILD_BAD_RETURN
    assert system.spawn(Player).ask(Note(1), timeout=60) == 1

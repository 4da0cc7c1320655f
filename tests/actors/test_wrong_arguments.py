"""What is no argument of an actor's own methods is refused where it is given, with a code."""

from __future__ import annotations

from typing import Any, cast

import pytest

from understudy import ActorSystem, ErrorKind, Refusal
from understudy.actors.reasons import ExitReason
from understudy.messages.errors import SpecInvalid

from .core_stage import PATIENCE, Do, Player

NO_REASONS: list[Any] = [None, "nonsense", ValueError("x"), ExitReason]


def refused_with(system: ActorSystem, work: Any) -> SpecInvalid:
    """What the handler's call raises; the actor then goes on."""

    def attempt(actor: Player) -> None:
        with pytest.raises(SpecInvalid) as caught:
            work(actor)
        raise Refusal("as expected") from caught.value

    ref = system.spawn(Player)
    with pytest.raises(Refusal) as refusal:
        ref.ask(Do(attempt), timeout=PATIENCE)
    assert ref.incarnation == 1
    return cast("SpecInvalid", refusal.value.__cause__)


@pytest.mark.parametrize("reason", NO_REASONS, ids=[type(each).__name__ + str(n) for n, each in enumerate(NO_REASONS)])
def test_an_actor_stops_for_a_reason(system: ActorSystem, reason: Any) -> None:
    error = refused_with(system, lambda actor: actor.stop(reason))
    assert error.kind == ErrorKind.REASON_INVALID
    assert "NORMAL" in str(error)


def test_a_reason_is_of_a_kind_that_there_is() -> None:
    wrong: Any = "weird"
    with pytest.raises(SpecInvalid) as caught:
        ExitReason(wrong)
    assert caught.value.kind == ErrorKind.REASON_INVALID
    assert "'weird'" in str(caught.value)


@pytest.mark.parametrize("verb", ["watch", "unwatch"])
@pytest.mark.parametrize("other", [None, "a", 7])
def test_only_a_reference_is_watched(system: ActorSystem, verb: str, other: Any) -> None:
    error = refused_with(system, lambda actor: getattr(actor, verb)(other))
    assert error.kind == ErrorKind.ACTOR_INVALID
    assert "reference" in str(error)

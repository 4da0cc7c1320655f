"""Context variables: what a handler sets is neither the next actor's nor the asker's, whichever thread runs it."""

from __future__ import annotations

import decimal
from contextvars import ContextVar
from typing import Any

import pytest

from understudy import ActorSystem

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Player

MARK: ContextVar[str] = ContextVar("mark", default="clean")


def spoil(_actor: Any) -> None:
    MARK.set("spoiled")
    decimal.setcontext(decimal.Context(prec=3))


def look(_actor: Any) -> tuple[str, int]:
    return MARK.get(), decimal.getcontext().prec


CLEAN = ("clean", decimal.DefaultContext.prec)


@pytest.mark.parametrize("block", [True, False])
def test_what_a_pooled_actor_sets_is_not_the_next_ones_nor_the_askers(block: bool) -> None:
    with ActorSystem("test", pool_size=1) as system:
        first, second = system.spawn(Player), system.spawn(Player)

        def ask(ref: Any, work: Any) -> Any:
            if block:
                return ref.ask(Do(work), timeout=PATIENCE)
            return ref.ask(Do(work), block=False).get(timeout=PATIENCE)

        for _ in range(20):  # in the pool at first, on the asking thread later
            ask(first, spoil)
            assert ask(second, look) == CLEAN
            assert look(None) == CLEAN


def test_what_a_pooled_actor_sets_is_not_whose_it_asks_once_that_has_been_answered() -> None:
    with ActorSystem("test") as system:
        far = system.spawn(Player)

        def through(actor: Any) -> Any:
            far.ask(Do(spoil), timeout=PATIENCE)
            return look(actor)

        near = system.spawn(Player)
        for _ in range(20):
            assert near.ask(Do(through), timeout=PATIENCE) == CLEAN


def test_what_an_actor_on_the_loop_sets_is_not_the_next_ones() -> None:
    with ActorSystem("test") as system:
        first, second = system.spawn(LoopPlayer), system.spawn(LoopPlayer)

        async def spoil_there(actor: Any) -> None:
            spoil(actor)

        first.ask(Await(spoil_there), timeout=PATIENCE)
        assert second.ask(Do(look), timeout=PATIENCE) == CLEAN

"""An incarnation that was given up takes no request of its successor's."""

from __future__ import annotations

import threading

import pytest

from understudy import ActorSystem, Child, ErrorKind, Request, Supervisor
from understudy.messages.errors import IncarnationFenced

from .core_stage import PATIENCE, Do, Player, kind_of, wait


def test_what_it_defers_is_refused_and_its_successor_answers_for_itself() -> None:
    entered, go_on, deferred = threading.Event(), threading.Event(), threading.Event()
    busy, finish = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def outlive(actor: Player) -> None:
        entered.set()
        while not go_on.is_set():
            try:
                go_on.wait(PATIENCE)
            except BaseException:  # killed: it goes on all the same
                continue
        try:
            actor.defer_reply()
        except IncarnationFenced as error:
            refused.append(error)
        finally:
            deferred.set()

    def answer(_actor: Player) -> int:
        busy.set()
        wait(finish)
        return 42

    children = [Child(Player, name="a", shutdown=0.05), Child(Player, name="b")]
    with ActorSystem("x", Supervisor("t", strategy="one_for_all", children=children)) as system:
        first = system.ask("t/a", Do(outlive), block=False, timeout=PATIENCE)
        wait(entered)
        assert kind_of(lambda: system.ask("t/b", Do(lambda _: 1 / 0), timeout=PATIENCE)) == ErrorKind.HANDLER_FAILED
        second = system.ask("t/a", Do(answer), block=False, timeout=PATIENCE)
        wait(busy)
        go_on.set()
        wait(deferred)
        finish.set()
        assert second.get(timeout=PATIENCE) == 42
        assert [type(error) for error in refused] == [IncarnationFenced]
        assert kind_of(lambda: first.get(timeout=PATIENCE)) == ErrorKind.HANDLER_KILLED


def test_a_request_of_a_batch_is_not_deferred_once_its_incarnation_has_ended(system: ActorSystem) -> None:
    kept: list[Request[Do]] = []
    ref = system.spawn(Player)

    def keep(actor: Player) -> None:
        kept.append(actor.defer_reply())

    asked = ref.ask(Do(keep), block=False)
    assert kind_of(lambda: ref.ask(Do(lambda _: 1 / 0), timeout=PATIENCE)) == ErrorKind.HANDLER_FAILED
    assert kind_of(lambda: asked.get(timeout=PATIENCE)) == ErrorKind.REPLY_MISSING
    with pytest.raises(IncarnationFenced):
        kept[0].defer()

"""Assisted ask: the asking thread runs an idle pooled actor itself, where that changes nothing but the cost."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy import (
    Actor,
    ActorError,
    ActorRef,
    ActorSystem,
    ErrorKind,
    Message,
    Refusal,
    Request,
    handles,
    handles_batch,
)
from understudy.actors import execution, running
from understudy.messages.errors import AskTimeout

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Note, Player, ThreadPlayer, in_thread, kind_of, stuck, wait

here = threading.get_ident


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every handler takes no time at all, however busy the machine is; what was learned before is forgotten."""
    monkeypatch.setattr(running, "perf_counter", lambda: 0.0)
    for player in (Player, ThreadPlayer, LoopPlayer):
        player._table.quick.clear()


def take(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on every handler takes as long as that."""
    monkeypatch.setattr(running, "perf_counter", itertools.count(0.0, seconds).__next__)


def where(ref: ActorRef[Any]) -> int:
    """The thread that runs the actor for an ask made here."""
    thread: int = ref.ask(Do(lambda _: here()), timeout=PATIENCE)
    return thread


def proven(system: ActorSystem, player: type[Player] = Player) -> ActorRef[Any]:
    """An actor whose handler was seen to be quick."""
    ref = system.spawn(player)
    where(ref)
    rest(ref)
    return ref


def rest(ref: ActorRef[Any]) -> None:
    """Wait until nobody runs the actor any more: its answer comes a moment before that."""
    while not ref._cell.idle:
        assert ref.is_alive()


def test_the_first_ask_goes_to_the_pool_and_the_next_ones_run_here(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    assert where(ref) != here()
    rest(ref)
    assert [where(ref) for _ in range(3)] == [here()] * 3


@pytest.mark.parametrize("player", [ThreadPlayer, LoopPlayer])
def test_only_pooled_actors_run_on_the_asking_thread(system: ActorSystem, player: type[Player]) -> None:
    ref = proven(system, player)
    assert where(ref) != here()


def test_a_busy_actor_is_left_where_it_is(system: ActorSystem) -> None:
    ref = proven(system)
    with stuck(ref):
        asked = in_thread(lambda: where(ref))
        while not ref._cell.queue:
            assert ref.is_alive()
    assert asked() != here()


def test_what_was_told_before_is_handled_before(system: ActorSystem) -> None:
    ref = proven(system)
    for number in range(1, 501):
        ref.tell(Note(number))
        if number % 5 == 0:
            assert ref.ask(Note(0), timeout=PATIENCE) == number + number // 5


def test_an_actor_is_never_run_by_two_threads_at_once(system: ActorSystem) -> None:
    ref = proven(system)
    inside = 0
    overlaps = 0

    def work(_actor: Player) -> None:
        nonlocal inside, overlaps
        inside += 1
        for _ in range(20):
            overlaps += inside != 1
        inside -= 1

    askers = [in_thread(lambda: [ref.ask(Do(work), timeout=PATIENCE) for _ in range(300)]) for _ in range(6)]
    for _ in range(300):
        ref.tell(Do(work))
    for asker in askers:
        asker()
    assert overlaps == 0


# --- who is slow -------------------------------------------------------------------------------------------


def test_a_handler_that_takes_more_than_a_millisecond_does_not_run_here(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, 0.0011)
    ref = system.spawn(Player)
    for _ in range(3):
        assert where(ref) != here()


def test_an_actor_that_was_slow_once_runs_elsewhere_for_a_while(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(system.runtime, "clock", lambda: now)
    ref = proven(system)
    take(monkeypatch, 0.01)
    assert where(ref) == here()  # nobody could know
    monkeypatch.setattr(running, "perf_counter", lambda: 0.0)
    assert where(ref) != here()
    rest(ref)
    now += 0.9 * running.SLOW_TIMES * 0.01
    assert where(ref) != here()
    rest(ref)
    now += 0.2 * running.SLOW_TIMES * 0.01
    assert where(ref) == here()


def test_another_message_of_a_slow_actor_does_not_run_here_either(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system.runtime, "clock", lambda: 100.0)
    ref = proven(system)
    ref.ask(Note(1), timeout=PATIENCE)
    rest(ref)
    take(monkeypatch, 0.01)
    ref.ask(Note(1), timeout=PATIENCE)
    rest(ref)
    monkeypatch.setattr(running, "perf_counter", lambda: 0.0)
    assert where(ref) != here()


def test_a_deadline_that_has_passed_is_seen_before_the_handler_runs(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, inner = proven(system), proven(system)
    now = 100.0
    monkeypatch.setattr(system.runtime, "clock", lambda: now)

    def dawdle(_actor: Player) -> Any:
        nonlocal now
        now += 2.0
        return kind_of(lambda: inner.ask(Note(1)))

    assert ref.ask(Do(dawdle), timeout=1.0) == ErrorKind.MAILBOX_TIMEOUT
    rest(inner)
    assert inner._cell.actor.seen == []


# --- never on an event loop --------------------------------------------------------------------------------


def test_nothing_runs_on_the_thread_of_an_event_loop(system: ActorSystem) -> None:
    ref = proven(system)

    async def ask_from_a_coroutine() -> int:
        return where(ref)

    assert asyncio.run(ask_from_a_coroutine()) != here()
    rest(ref)
    assert where(ref) == here()


def test_an_actor_on_the_event_loop_runs_nobody_else_there(system: ActorSystem) -> None:
    ref, loop_player = proven(system), system.spawn(LoopPlayer)

    async def look(_actor: Player) -> tuple[int, int]:
        return here(), await ref.ask(Do(lambda _: here()), block=False)

    loop_thread, pool_thread = loop_player.ask(Await(look), timeout=PATIENCE)
    assert loop_thread != pool_thread


# --- depth -------------------------------------------------------------------------------------------------


class Ask(Message[list[int]]):
    """Ask the next in line; the reply is the threads from here on."""


class Link(Actor):
    def __init__(self, following: ActorRef[Any] | None) -> None:
        super().__init__()
        self.following = following

    @handles
    def ask(self, message: Ask) -> list[int]:
        return [here(), *(self.following.ask(message) if self.following else ())]


def test_assisted_asks_are_nested_up_to_a_cap(system: ActorSystem) -> None:
    line: list[ActorRef[Any]] = []
    for _ in range(60):
        line.append(system.spawn(Link, line[-1] if line else None))
        line[-1].ask(Ask(), timeout=PATIENCE)
        for each in line:
            rest(each)
    threads = line[-1].ask(Ask(), timeout=PATIENCE)
    assert len(threads) == 60
    own = running.MAX_ASSIST_DEPTH + 1
    assert threads[:own] == [here()] * own
    assert here() not in threads[own:]
    assert len(set(threads)) == 3  # and so on, on the next threads


# --- what the asker gets -----------------------------------------------------------------------------------


def raising(error: BaseException) -> Do:
    def work(_actor: Player) -> None:
        raise error

    return Do(work)


def test_an_exception_reaches_the_asker_and_ends_the_incarnation(system: ActorSystem) -> None:
    ref = proven(system)
    error = ValueError("meant to")
    with pytest.raises(ActorError, match="meant to") as caught:
        ref.ask(raising(error))
    assert caught.value.kind == ErrorKind.HANDLER_FAILED
    assert caught.value.__cause__ is error
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    assert ref.incarnation == 2


def test_an_exception_of_an_actor_without_a_supervisor_reaches_the_asker_as_it_is() -> None:
    ref = Player.start()
    try:
        where(ref)
        rest(ref)
        with pytest.raises(ValueError, match="meant to"):
            ref.ask(raising(ValueError("meant to")))
        assert ref.ask(Note(1), timeout=PATIENCE) == 1
    finally:
        ref.stop()


def test_a_refusal_reaches_the_asker_and_ends_nothing(system: ActorSystem) -> None:
    ref = proven(system)
    assert kind_of(lambda: ref.ask(raising(Refusal("no")))) == ErrorKind.HANDLER_REFUSED
    assert (ref.ask(Note(1), timeout=PATIENCE), ref.incarnation) == (1, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_an_interrupt_of_the_asking_thread_is_not_swallowed(system: ActorSystem, error: type[BaseException]) -> None:
    ref = proven(system)
    with pytest.raises(error):
        ref.ask(raising(error()))
    assert ref.ask(Note(1), timeout=PATIENCE) == 1


def test_a_deferred_reply_is_waited_for(system: ActorSystem) -> None:
    ref = proven(system)
    keep: list[Any] = []
    asked = in_thread(lambda: ref.ask(Do(lambda actor: keep.append(actor.defer_reply())), timeout=PATIENCE))
    while not keep:
        assert ref.is_alive()
    assert keep[0].reply(7) is True
    assert asked() == 7


def test_a_deferred_reply_that_does_not_come_is_waited_for_no_longer_than_said(system: ActorSystem) -> None:
    ref = proven(system)
    with pytest.raises(AskTimeout):
        ref.ask(Do(lambda actor: actor.defer_reply()), timeout=0.01)


def test_afterwards_the_asking_thread_belongs_to_whom_it_did_before(system: ActorSystem) -> None:
    outer, inner = proven(system), proven(system)

    def ask_inner(actor: Player) -> list[bool]:
        found = [execution.current.get() is actor._cell]
        inner.ask(Note(1))
        found.append(execution.current.get() is actor._cell)
        for work in (raising(Refusal("no")), raising(ValueError("meant to"))):
            kind_of(lambda work=work: inner.ask(work))  # type: ignore[misc]
            found.append(execution.current.get() is actor._cell)
        return found

    assert outer.ask(Do(ask_inner)) == [True] * 4
    assert execution.current.get() is None
    assert outer._cell.waiting_on == ()


def test_an_assisted_actor_that_is_killed_is_reported_to_the_asker(system: ActorSystem) -> None:
    ref = system.spawn(Player, shutdown="brutal_kill")
    where(ref)
    rest(ref)
    entered = threading.Event()
    threads: list[int] = []

    def stay(_actor: Player) -> None:
        threads.append(here())
        entered.set()
        while True:
            pass

    def kill() -> None:
        wait(entered)
        system.root.terminate_child(ref)

    killed: Callable[[], Any] = in_thread(kill)
    assert kind_of(lambda: ref.ask(Do(stay))) == ErrorKind.HANDLER_KILLED
    killed()
    assert threads == [here()]
    assert kind_of(lambda: ref.tell(Note(1))) == ErrorKind.MAILBOX_CLOSED
    assert proven(system).ask(Note(1)) == 1


# --- batches -----------------------------------------------------------------------------------------------


class Row(Message[Any]):
    number: int


class Line(Message[int]):
    number: int


class Table(Actor):
    """Answers each row with the thread that its batch ran on and the numbers that were in it."""

    @handles_batch(assisted=True)
    def store(self, requests: list[Request[Row]]) -> None:
        numbers = [request.message.number for request in requests]
        for request in requests:
            if request.message.number == 0:
                raise LookupError("no such row")
            if request.message.number > 0:
                request.reply((here(), numbers))

    @handles_batch
    def write(self, requests: list[Request[Line]]) -> None:
        for request in requests:
            request.reply(here())


@pytest.fixture
def table(system: ActorSystem) -> ActorRef[Table]:
    """One whose handlers were seen to be quick."""
    Table._table.quick.clear()
    ref = system.spawn(Table)
    for message in (Row(1), Line(1)):
        ref.ask(message, timeout=PATIENCE)
        rest(ref)
    return ref


def test_a_batch_of_one_runs_here_where_its_method_allows_it(table: ActorRef[Table]) -> None:
    assert [table.ask(Row(number), timeout=PATIENCE) for number in (2, 3)] == [(here(), [2]), (here(), [3])]
    assert table.ask(Line(4), timeout=PATIENCE) != here()


def test_a_batch_that_runs_here_and_fails_or_leaves_out_its_request_answers_with_a_code(
    table: ActorRef[Table],
) -> None:
    with pytest.raises(ActorError) as left_out:
        table.ask(Row(-1), timeout=PATIENCE)
    assert left_out.value.kind == ErrorKind.REPLY_MISSING
    with pytest.raises(ActorError) as failed:
        table.ask(Row(0), timeout=PATIENCE)
    assert failed.value.kind == ErrorKind.HANDLER_FAILED
    assert isinstance(failed.value.__cause__, LookupError)
    assert table.ask(Row(5), timeout=PATIENCE)[1] == [5]
    assert table.incarnation == 2


def test_a_batch_that_answers_its_asker_later_is_waited_for(system: ActorSystem) -> None:
    kept: list[Request[Row]] = []

    class Slow(Actor):
        @handles_batch(assisted=True)
        def store(self, requests: list[Request[Row]]) -> None:
            for request in requests:
                if request.message.number == 1:
                    request.reply(1)
                else:
                    kept.append(request.defer())
                    in_thread(lambda request=request: request.reply(request.message.number))  # type: ignore[misc]

    ref = system.spawn(Slow)
    assert ref.ask(Row(1), timeout=PATIENCE) == 1
    rest(ref)
    assert ref.ask(Row(7), timeout=PATIENCE) == 7
    assert len(kept) == 1

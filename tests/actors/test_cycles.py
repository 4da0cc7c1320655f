"""Asks that would wait for themselves raise `actor.ask.cycle` at once, whoever runs them and however they wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy import Actor, ActorRef, ActorSystem, ErrorCode, ErrorKind, Mailbox, Message, handles
from understudy.actors import execution
from understudy.messages.errors import AskCycle, HandlerFailed, LoopBlocked

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Note, Player, ThreadPlayer, in_thread, kind_of, stuck, wait


class Visit(Message[Any]):
    """Ask the first of the others to ask the next, and so on."""

    others: tuple[ActorRef[Any], ...]


def pass_on(others: tuple[ActorRef[Any], ...], by_future: bool) -> Any:
    if not others:
        return "arrived"
    following, visit = others[0], Visit(others[1:])
    try:
        if by_future:
            return following.ask(visit, block=False).get()
        return following.ask(visit)
    except AskCycle as error:
        return error


class Pooled(Actor):
    by_future = False

    @handles
    def visit(self, message: Visit) -> Any:
        return pass_on(message.others, self.by_future)


class Threaded(Pooled):
    dispatcher = "thread"


class PooledFuture(Pooled):
    by_future = True


class Looped(Actor):
    @handles
    async def visit(self, message: Visit) -> Any:
        if not message.others:
            return "arrived"
        try:
            return await message.others[0].ask(Visit(message.others[1:]), block=False)
        except AskCycle as error:
            return error


ALL = [Pooled, PooledFuture, Threaded, Looped]


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_a_cycle_of_two_is_told_to_the_one_that_closes_it(
    system: ActorSystem, first: type[Actor], second: type[Actor]
) -> None:
    a, b = system.spawn(first, name="a"), system.spawn(second, name="b")
    for _ in range(3):  # the first time in the pool, later on the asking thread
        error = a.ask(Visit((b, a)), timeout=PATIENCE)
        assert isinstance(error, AskCycle)
        told_first = "b → a → b" in error.source
        assert told_first or "a → b → a" in error.source
        # Whoever blocks has begun to wait before the other one hears of it; a future may be waited for later.
        assert told_first or first in (PooledFuture, Looped)
        assert error.kind == ErrorKind.ASK_CYCLE
        assert error.code == ErrorCode.MAILBOX_CHANNEL
    assert a.ask(Visit((b,)), timeout=PATIENCE) == "arrived"
    assert (a._cell.waiting_on, b._cell.waiting_on) == ((), ())


@pytest.mark.parametrize("kind", ALL)
def test_a_long_cycle_is_told_with_its_whole_way(system: ActorSystem, kind: type[Actor]) -> None:
    a, b, c, d = (system.spawn(kind, name=name) for name in "abcd")
    error = a.ask(Visit((b, c, d, b)), timeout=PATIENCE)
    assert isinstance(error, AskCycle)
    ways = ["d → b → c → d", "b → c → d → b", "c → d → b → c"]
    assert any(way in error.source for way in (ways[:1] if kind in (Pooled, Threaded) else ways))
    assert a.ask(Visit((b, c, d)), timeout=PATIENCE) == "arrived"


@pytest.mark.parametrize("kind", ALL)
def test_an_ask_to_oneself_is_refused(system: ActorSystem, kind: type[Actor]) -> None:
    a = system.spawn(kind, name="a")
    for _ in range(2):
        error = a.ask(Visit((a,)), timeout=PATIENCE)
        assert isinstance(error, AskCycle)
        assert error.kind == ErrorKind.ASK_CYCLE


def test_a_cycle_names_the_function_that_closed_it(system: ActorSystem) -> None:
    a, b = system.spawn(Player, name="a"), system.spawn(Player, name="b")

    def close_the_cycle(_actor: Player) -> str:
        with pytest.raises(AskCycle) as caught:
            a.ask(Note(1))
        return caught.value.method

    assert a.ask(Do(lambda _: b.ask(Do(close_the_cycle))), timeout=PATIENCE) == "close_the_cycle.a.ask"


def test_what_was_refused_as_a_cycle_is_not_handled_later(system: ActorSystem) -> None:
    a, b = system.spawn(Player), system.spawn(Player)

    def ask_back(_actor: Player) -> list[ErrorKind]:
        future = a.ask(Note(1), block=False)
        return [kind_of(lambda: a.ask(Note(2))), kind_of(future.get)]

    assert a.ask(Do(lambda _: b.ask(Do(ask_back))), timeout=PATIENCE) == [ErrorKind.ASK_CYCLE] * 2
    assert a.ask(Note(3), timeout=PATIENCE) == 1


def test_two_actors_that_begin_to_ask_each_other_at_once_do_not_hang(system: ActorSystem) -> None:
    a, b = system.spawn(Player), system.spawn(Player)

    def ask_other(other: ActorRef[Any]) -> Do:
        def work(_actor: Player) -> Any:
            try:
                return other.ask(Note(1))
            except AskCycle:
                return "cycle"

        return Do(work)

    for _ in range(200):
        there, back = a.ask(ask_other(b), block=False), b.ask(ask_other(a), block=False)
        there.get(timeout=PATIENCE)
        back.get(timeout=PATIENCE)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_that_ask_around_a_ring_never_hang(system: ActorSystem, threads: int) -> None:
    ring = [system.spawn(Pooled) for _ in range(threads)]

    def walk(start: int) -> Callable[[], list[Any]]:
        way = tuple(ring[(start + step) % threads] for step in range(1, threads))
        return lambda: [ring[start].ask(Visit(way), timeout=PATIENCE) for _ in range(100)]

    walkers = [in_thread(walk(start)) for start in range(threads)]
    outcomes = [outcome for walker in walkers for outcome in walker()]
    assert len(outcomes) == threads * 100
    assert all(outcome == "arrived" or isinstance(outcome, AskCycle) for outcome in outcomes)


def test_a_cycle_that_escapes_crashes_its_actor_and_is_told_as_the_cause(system: ActorSystem) -> None:
    a, b = system.spawn(Player), system.spawn(Player)
    with pytest.raises(HandlerFailed) as caught:
        a.ask(Do(lambda _: b.ask(Do(lambda _: a.ask(Note(1))))), timeout=PATIENCE)
    inner = caught.value.__cause__
    assert isinstance(inner, HandlerFailed)
    assert isinstance(inner.__cause__, AskCycle)


def test_waiting_for_a_reply_that_the_waiting_actor_owes_is_a_cycle(system: ActorSystem) -> None:
    """The reply was deferred: its actor is idle, but nobody else can give it."""
    a, b = system.spawn(Player), system.spawn(Player)
    owed: list[Any] = []
    asked = a.ask(Do(lambda _: b.ask(Do(lambda actor: owed.append(actor.defer_reply())))), block=False)
    while not owed:
        assert b.is_alive()
    assert b.ask(Do(lambda _: kind_of(lambda: a.ask(Note(1)))), timeout=PATIENCE) == ErrorKind.ASK_CYCLE
    owed[0].reply("at last")
    assert asked.get(timeout=PATIENCE) == "at last"


def test_an_answer_that_is_on_its_way_is_no_wait_any_more(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asker's thread sleeps a moment longer than its wait lasts: to ask it in that moment is no cycle."""
    a, b = system.spawn(ThreadPlayer), system.spawn(ThreadPlayer)
    asleep, awake = threading.Event(), threading.Event()
    real_wait = execution.wait

    def wait_long(latch: threading.Lock, timeout: float | None, target: execution.Party | None) -> bool:
        here = execution.current.get()
        arrived = real_wait(latch, timeout, target)
        if here is b._cell:
            asleep.set()
            wait(awake)
        return arrived

    monkeypatch.setattr(execution, "wait", wait_long)
    asked = b.ask(Do(lambda _: a.ask(Note(1))), block=False)
    wait(asleep)

    def ask_back(_actor: Player) -> int:
        return b.ask(Note(2), block=False).get()

    def ask_back_blocking(_actor: Player) -> int:
        threading.Timer(0.0, awake.set).start()
        return b.ask(Note(2))

    assert a.ask(Do(ask_back_blocking), timeout=PATIENCE) == 1
    assert asked.get(timeout=PATIENCE) == 1
    assert a.ask(Do(ask_back), timeout=PATIENCE) == 2


def test_room_that_was_given_is_no_wait_any_more(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    a = system.spawn(ThreadPlayer)
    b = system.spawn(ThreadPlayer, mailbox=Mailbox(capacity=1, overflow="block"))
    asleep, awake = threading.Event(), threading.Event()
    real_wait = execution.wait

    def wait_long(latch: threading.Lock, timeout: float | None, target: execution.Party | None) -> bool:
        here = execution.current.get()
        arrived = real_wait(latch, timeout, target)
        if here is a._cell:
            asleep.set()
            wait(awake)
        return arrived

    monkeypatch.setattr(execution, "wait", wait_long)

    def ask_back(_actor: Player) -> int:
        wait(asleep)
        threading.Timer(0.0, awake.set).start()
        return a.ask(Note(1))

    with stuck(b):
        asked = b.ask(Do(ask_back), block=False)
        told = a.ask(Do(lambda _: b.tell(Note(1))), block=False)
        while not b._cell.room_waiters:
            assert a.is_alive()
    assert asked.get(timeout=PATIENCE) == 1
    told.get(timeout=PATIENCE)


def test_several_asks_at_once_in_a_coroutine_are_no_cycle(system: ActorSystem) -> None:
    a = system.spawn(LoopPlayer)
    others = [system.spawn(player) for player in (Player, ThreadPlayer, LoopPlayer) for _ in range(3)]

    async def ask_all(_actor: Player) -> list[int]:
        return await asyncio.gather(*(other.ask(Note(1), block=False) for other in others))

    assert a.ask(Await(ask_all), timeout=PATIENCE) == [1] * len(others)
    assert a._cell.waiting_on == ()


# --- what would block the event loop -----------------------------------------------------------------------


def test_a_blocking_ask_on_the_loop_that_would_have_to_answer_is_refused(system: ActorSystem) -> None:
    a, b = system.spawn(LoopPlayer), system.spawn(LoopPlayer)

    async def ask_without_await(_actor: Player) -> Any:
        with pytest.raises(LoopBlocked, match=r"await ref\.ask") as caught:
            b.ask(Note(1))
        return caught.value.kind

    assert a.ask(Await(ask_without_await), timeout=PATIENCE) == ErrorKind.ASK_BLOCKS_LOOP
    assert b.ask(Note(1), timeout=PATIENCE) == 1


def test_a_blocking_ask_whose_answer_needs_the_blocked_loop_is_a_cycle(system: ActorSystem) -> None:
    """The pooled actor in between would wait for the loop that waits for it."""
    a, between, b = system.spawn(LoopPlayer), system.spawn(Player), system.spawn(LoopPlayer)

    async def ask_without_await(_actor: Player) -> Any:
        return between.ask(Do(lambda _: kind_of(lambda: b.ask(Note(1)))))

    kind = a.ask(Await(ask_without_await), timeout=PATIENCE)
    assert kind == ErrorKind.ASK_CYCLE
    assert b.ask(Note(1), timeout=PATIENCE) == 1


@pytest.mark.parametrize("begun", ["before", "after"])
def test_a_task_that_outlives_its_handler_is_not_its_actor(system: ActorSystem, begun: str) -> None:
    """Whether it began to wait before the handler had returned or after that: who it asks may ask the actor."""
    actor, other = system.spawn(LoopPlayer), system.spawn(LoopPlayer)
    signals: dict[str, asyncio.Event] = {}

    async def ask_back(_other: Any) -> Any:
        await signals["ask back"].wait()
        return await actor.ask(Note(1), block=False)

    async def leave(player: Any) -> None:
        signals.update({name: asyncio.Event() for name in ("begin", "ask back")})

        async def later() -> Any:
            if begun == "after":
                await signals["begin"].wait()
            return await other.ask(Await(ask_back), block=False)

        player.task = asyncio.create_task(later())
        await asyncio.sleep(0)

    actor.ask(Await(leave), timeout=PATIENCE)
    for name in ("begin", "ask back"):

        async def give(_player: Any, name: str = name) -> None:
            signals[name].set()

        actor.ask(Await(give), timeout=PATIENCE)
    tasks: list[Any] = []
    actor.ask(Do(lambda player: tasks.append(player.task)), timeout=PATIENCE)

    async def outcome() -> Any:
        return await tasks[0]

    loop = tasks[0].get_loop()
    assert asyncio.run_coroutine_threadsafe(outcome(), loop).result(PATIENCE) == 1


def test_a_task_that_its_handler_awaits_is_its_actor(system: ActorSystem) -> None:
    actor, other = system.spawn(LoopPlayer), system.spawn(LoopPlayer)

    async def ask_back(_other: Any) -> Any:
        return await actor.ask(Note(1), block=False)

    async def through(_player: Any) -> Any:
        async def ask() -> Any:
            return await other.ask(Await(ask_back), block=False)

        return await asyncio.create_task(ask())

    with pytest.raises(HandlerFailed) as raised:
        actor.ask(Await(through), timeout=PATIENCE)
    cause: Any = raised.value
    while not isinstance(cause, AskCycle):
        cause = cause.__cause__

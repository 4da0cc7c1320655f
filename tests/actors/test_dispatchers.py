"""Who runs whom: the pool's few threads and what keeps them enough, a thread of one's own, the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from understudy import Actor, ActorRef, ActorSystem, Message, handles
from understudy.actors.dispatch import pool
from understudy.actors.dispatch.pool import BUSY_LOOKS, LOOK_EVERY, PoolDispatcher, Progress, was_busy
from understudy.messages.errors import DispatcherExhausted, HandlerFailed

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Note, Player, ThreadPlayer, in_thread, seen, stuck, wait

here = threading.get_ident


def pool_of(system: ActorSystem) -> PoolDispatcher:
    dispatcher = system.runtime.dispatcher_for(Player)
    assert isinstance(dispatcher, PoolDispatcher)
    return dispatcher


@pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])
def test_messages_of_one_sender_are_handled_in_order(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player)
    for number in range(5_000):
        ref.tell(Note(number))
    assert ref.ask(Note(-1), timeout=PATIENCE) == 5_001
    assert seen(ref) == [*range(5_000), -1]


@pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])
def test_an_actor_handles_one_message_at_a_time(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player)
    inside = overlaps = 0

    def work(_actor: Player) -> None:
        nonlocal inside, overlaps
        inside += 1
        for _ in range(10):
            overlaps += inside != 1
        inside -= 1

    def send() -> None:
        for _ in range(300):
            ref.tell(Do(work))

    senders = [in_thread(send) for _ in range(4)]
    for sender in senders:
        sender()
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    assert overlaps == 0


# --- the pool ----------------------------------------------------------------------------------------------


def test_thousands_of_actors_share_a_few_threads(system: ActorSystem) -> None:
    threads: set[int] = set()
    refs = [system.spawn(Player) for _ in range(2_000)]
    for ref in refs:
        ref.tell(Do(lambda _: threads.add(here())))
    for ref in refs:
        seen(ref)
    assert len(threads) <= 4
    assert here() not in threads


def test_a_busy_actor_lets_the_others_have_the_thread(system: ActorSystem) -> None:
    """After a slice of its backlog it queues up again, behind whoever is ready."""
    order: list[str] = []
    with ActorSystem("one thread", pool_size=1) as narrow:
        long, short = narrow.spawn(Player), narrow.spawn(Player)
        with stuck(long):
            for _ in range(3_000):
                long.tell(Do(lambda _: order.append("long")))
            short.tell(Do(lambda _: order.append("short")))
        seen(long)
        seen(short)
    assert order.count("long") == 3_000
    assert order.index("short") <= 512


class Ask(Message[int]):
    """Ask the next in line; the reply is how many there are from here on."""


class Link(Actor):
    def __init__(self, following: ActorRef[Any] | None, by_future: bool = False) -> None:
        super().__init__()
        self.following = following
        self.by_future = by_future

    @handles
    def ask(self, message: Ask) -> int:
        if self.following is None:
            return 1
        if self.by_future:
            return 1 + self.following.ask(message, block=False).get()
        return 1 + self.following.ask(message)


@pytest.mark.parametrize("by_future", [False, True])
def test_asks_deeper_than_the_pool_finish(system: ActorSystem, by_future: bool) -> None:
    Link._table.quick.clear()  # as if nobody knew yet that it is quick: every ask takes a thread
    line: ActorRef[Any] | None = None
    for _ in range(200):
        line = system.spawn(Link, line, by_future)
    assert line is not None
    assert line.ask(Ask(), timeout=PATIENCE) == 200
    assert line.ask(Ask(), timeout=PATIENCE) == 200


def test_asks_wider_than_the_pool_finish(system: ActorSystem) -> None:
    """300 pooled actors wait in a handler at the same time, for one that is pooled itself."""
    last = system.spawn(Player)
    waiting = threading.Semaphore(0)

    def ask_last(_actor: Player) -> int:
        waiting.release()
        return last.ask(Note(1))

    with stuck(last):
        futures = [system.spawn(Player).ask(Do(ask_last), block=False) for _ in range(300)]
        for _ in futures:
            assert waiting.acquire(timeout=PATIENCE)
    assert sorted(future.get(timeout=PATIENCE) for future in futures) == list(range(1, 301))


def test_a_tree_of_asks_finishes(system: ActorSystem) -> None:
    """Deep and wide at once: each of 3 × 3 × 3 × 3 actors waits for its three children together."""

    def count(children: list[ActorRef[Any]]) -> Callable[[Any], int]:
        def work(_actor: Player) -> int:
            futures = [child.ask(Do(works[child]), block=False) for child in children]
            return 1 + sum(int(future.get()) for future in futures)

        return work

    works: dict[ActorRef[Any], Callable[[Any], int]] = {}

    def grow(depth: int) -> ActorRef[Any]:
        children = [grow(depth - 1) for _ in range(3)] if depth else []
        ref: ActorRef[Any] = system.spawn(Player)
        works[ref] = count(children)
        return ref

    root = grow(4)
    assert root.ask(Do(works[root]), timeout=PATIENCE) == 1 + 3 + 9 + 27 + 81


def test_spare_threads_end_when_they_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEP_ALIVE", 0.01)
    with ActorSystem("spare") as system:
        line: ActorRef[Any] | None = None
        for _ in range(50):
            line = system.spawn(Link, line, True)
        assert line is not None
        assert line.ask(Ask(), timeout=PATIENCE) == 50
        workers = pool_of(system)
        while workers.threads > 4:
            assert line.is_alive()
        assert line.ask(Ask(), timeout=PATIENCE) == 50


def test_handlers_that_are_stuck_do_not_starve_the_others(system: ActorSystem) -> None:
    """They block without a word to the pool: it notices that nothing moves, and adds threads."""
    refs = [system.spawn(Player) for _ in range(40)]
    leave = threading.Event()
    for ref in refs:
        ref.tell(Do(lambda _: wait(leave)))
    assert system.spawn(Player).ask(Note(1), timeout=PATIENCE) == 1
    leave.set()
    assert all(ref.ask(Note(1), timeout=PATIENCE) == 1 for ref in refs)


def test_who_is_made_ready_by_a_handler_that_then_gets_stuck_is_run_all_the_same(system: ActorSystem) -> None:
    ref, other = system.spawn(Player), system.spawn(Player)
    leave, handled = threading.Event(), threading.Event()

    def tell_and_get_stuck(_actor: Player) -> None:
        other.tell(Do(lambda _: handled.set()))
        wait(leave)

    ref.tell(Do(tell_and_get_stuck))
    wait(handled)
    leave.set()


def test_a_worker_that_has_waited_is_looked_after_again() -> None:
    """The lookout may have gone to sleep meanwhile; what the worker makes ready before it gets stuck is not to wait."""
    dispatcher = PoolDispatcher("pool")
    latch = threading.Lock()
    latch.acquire()
    assert not dispatcher._lookout_wake.is_set()
    assert not dispatcher.block(latch, 0.0)
    assert dispatcher._lookout_wake.is_set()


def test_too_many_waiting_threads_are_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_THREADS", 8)
    Link._table.quick.clear()
    with ActorSystem("exhausted") as system:
        line: ActorRef[Any] | None = None
        for _ in range(60):
            line = system.spawn(Link, line, True, restart="temporary")
        assert line is not None
        with pytest.raises(HandlerFailed) as caught:
            line.ask(Ask(), timeout=PATIENCE)
        cause: BaseException | None = caught.value
        while isinstance(cause, HandlerFailed):
            cause = cause.__cause__
        assert isinstance(cause, DispatcherExhausted)
        assert system.spawn(Player).ask(Note(1), timeout=PATIENCE) == 1


@pytest.mark.parametrize("size", [1, 3])
def test_a_pool_has_the_size_that_was_asked_for(size: int) -> None:
    with ActorSystem("sized", pool_size=size) as system:
        threads: set[int] = set()
        refs = [system.spawn(Player) for _ in range(200)]
        for ref in refs:
            ref.tell(Do(lambda _: threads.add(here())))
        for ref in refs:
            seen(ref)
        assert len(threads) <= size + 1  # the lookout adds one where the machine is busy


# --- a thread of one's own ---------------------------------------------------------------------------------


def test_an_actor_on_its_own_thread_stays_on_it(system: ActorSystem) -> None:
    first, second = system.spawn(ThreadPlayer), system.spawn(ThreadPlayer)
    threads = [{ref.ask(Do(lambda _: here()), timeout=PATIENCE) for _ in range(20)} for ref in (first, second)]
    assert [len(each) for each in threads] == [1, 1]
    assert threads[0].isdisjoint(threads[1])


def test_its_hooks_run_on_its_thread_too(system: ActorSystem) -> None:
    threads: list[int] = []

    class Hooked(ThreadPlayer):
        def on_start(self) -> None:
            threads.append(here())

        def on_stop(self) -> None:
            threads.append(here())

    ref = system.spawn(Hooked)
    threads.append(ref.ask(Do(lambda _: here()), timeout=PATIENCE))
    ref.stop()
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert here() not in threads


def test_its_thread_ends_with_it(system: ActorSystem) -> None:
    ref = system.spawn(ThreadPlayer)
    thread: threading.Thread = ref.ask(Do(lambda _: threading.current_thread()), timeout=PATIENCE)
    ref.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_restarted_actor_keeps_its_thread(system: ActorSystem) -> None:
    """Libraries that are bound to one thread are closed and opened on the same one."""
    ref = system.spawn(ThreadPlayer)
    before = ref.ask(Do(lambda _: here()), timeout=PATIENCE)

    def crash(_actor: Player) -> None:
        raise ValueError("meant to")

    with pytest.raises(HandlerFailed):
        ref.ask(Do(crash), timeout=PATIENCE)
    assert ref.ask(Do(lambda _: here()), timeout=PATIENCE) == before
    assert ref.incarnation == 2


# --- the event loop ----------------------------------------------------------------------------------------


def test_all_coroutines_share_one_thread(system: ActorSystem) -> None:
    refs = [system.spawn(LoopPlayer) for _ in range(50)]

    async def look(_actor: Player) -> int:
        await asyncio.sleep(0)
        return here()

    assert len({ref.ask(Await(look), timeout=PATIENCE) for ref in refs}) == 1


def test_a_handler_that_awaits_lets_the_other_actors_run(system: ActorSystem) -> None:
    """Each of them waits for the last to arrive; its own actor handles the next message only afterwards."""
    number = 100
    arrived = 0
    all_there: list[asyncio.Event] = []

    async def meet(_actor: Player) -> int:
        nonlocal arrived
        if not all_there:
            all_there.append(asyncio.Event())
        arrived += 1
        if arrived == number:
            all_there[0].set()
        await all_there[0].wait()
        return arrived

    refs = [system.spawn(LoopPlayer) for _ in range(number)]
    futures = [ref.ask(Await(meet), block=False) for ref in refs]
    assert {future.get(timeout=PATIENCE) for future in futures} == {number}


def test_a_handler_that_awaits_keeps_its_own_actor_to_itself(system: ActorSystem) -> None:
    ref = system.spawn(LoopPlayer)
    steps: list[str] = []

    async def dawdle(_actor: Player) -> None:
        steps.append("begins")
        for _ in range(20):
            await asyncio.sleep(0)
        steps.append("ends")

    for _ in range(3):
        ref.tell(Await(dawdle))
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    assert steps == ["begins", "ends"] * 3


def test_a_coroutine_that_raises_ends_the_incarnation(system: ActorSystem) -> None:
    ref = system.spawn(LoopPlayer)

    async def crash(_actor: Player) -> None:
        await asyncio.sleep(0)
        raise ValueError("meant to")

    with pytest.raises(HandlerFailed, match="meant to"):
        ref.ask(Await(crash), timeout=PATIENCE)
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    assert ref.incarnation == 2


def test_coroutines_may_be_hooks(system: ActorSystem) -> None:
    steps: list[str] = []

    class Hooked(LoopPlayer):
        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            steps.append("started")

        async def on_stop(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            steps.append("stopped")

    ref = system.spawn(Hooked)
    assert steps == ["started"]
    ref.stop()
    assert steps == ["started", "stopped"]


def test_a_coroutine_of_an_actor_without_a_supervisor_is_answered_too() -> None:
    ref = LoopPlayer.start()
    try:

        async def answer(_actor: Player) -> int:
            await asyncio.sleep(0)
            return 7

        assert ref.ask(Await(answer), timeout=PATIENCE) == 7
    finally:
        ref.stop()


@pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_an_actor_without_a_supervisor_stops_all_of_those(
    player: type[Player], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in pykka, also where the one that was interrupted and the others run on the same thread."""
    # Of these only: pykka's registry has whatever other tests left behind, in simulations that are over, too.
    monkeypatch.setattr(pykka.ActorRegistry, "_actor_refs", [])
    others = [kind.start() for kind in (Player, ThreadPlayer, LoopPlayer)]

    def interrupt(_actor: Player) -> None:
        raise error

    player.start().tell(Do(interrupt))
    for other in others:
        wait(other.actor_stopped)


def looks(*, taken: list[int], busy: bool, waiting: bool = True) -> list[bool]:
    """What the lookout of a pool decides at each look."""
    progress = Progress()
    return [progress.is_missing(waiting=waiting, taken=number, busy=busy) for number in taken]


def test_the_interpreter_was_free_if_the_lookout_came_in_time_and_little_was_computed() -> None:
    """In time alone may be luck: with a sender in a loop, spares were added to a pool that had no use for them."""
    assert not was_busy(LOOK_EVERY, 0.0)
    assert not was_busy(LOOK_EVERY * 1.1, LOOK_EVERY * 0.2)
    assert was_busy(LOOK_EVERY, LOOK_EVERY), "somebody computed all the time"
    assert was_busy(LOOK_EVERY * 3, 0.0), "the lookout itself waited"


def test_workers_that_take_nothing_up_though_they_could_run_are_stuck() -> None:
    """At every look that comes in time and finds the interpreter free, after the first."""
    assert looks(taken=[3, 3, 3, 4, 4], busy=False) == [False, True, True, False, True]


def test_workers_that_wait_for_the_interpreter_as_the_lookout_does_are_not_stuck() -> None:
    """A sender in a loop holds it, or a collection of garbage: another thread would wait for it, too."""
    assert not any(looks(taken=[number // (BUSY_LOOKS - 1) for number in range(1_000)], busy=True))


def test_workers_that_never_get_on_are_stuck_however_busy_the_interpreter_is() -> None:
    """As when handlers compute without end: then somebody else must have a chance."""
    decisions = looks(taken=[7] * (2 * BUSY_LOOKS + 1), busy=True)
    assert decisions.count(True) == 2
    assert decisions[BUSY_LOOKS]
    assert decisions[-1]


def test_workers_without_anything_to_take_up_are_not_stuck() -> None:
    """However long that lasts."""
    for busy in (True, False):
        assert not any(looks(taken=[7] * 100, busy=busy, waiting=False))

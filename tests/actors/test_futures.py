"""Futures: pykka's, and awaitable without ever blocking the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from understudy import ActorError, ActorSystem, ErrorKind, Future
from understudy.messages.errors import AskTimeout

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Note, Player, ThreadPlayer, in_thread, kind_of, stuck


@pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])
def test_awaiting_a_reply_lets_the_loop_go_on(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player)

    async def main(hold: ExitStack) -> int:
        async def ask() -> int:
            return await ref.ask(Note(1), block=False)

        asking = asyncio.ensure_future(ask())
        for _ in range(100):  # the loop goes round a hundred times while the actor is stuck
            await asyncio.sleep(0)
        assert not asking.done()
        hold.close()
        return await asking

    with ExitStack() as hold:
        hold.enter_context(stuck(ref))
        assert asyncio.run(main(hold)) == 1


def test_a_thousand_asks_are_awaited_at_once(system: ActorSystem) -> None:
    refs = [system.spawn(player) for player in (Player, ThreadPlayer, LoopPlayer)]

    async def main() -> list[int]:
        asks = [refs[number % 3].ask(Note(number), block=False, timeout=PATIENCE) for number in range(999)]
        return await asyncio.gather(*asks)

    assert sorted(asyncio.run(main())) == sorted(list(range(1, 334)) * 3)


def test_an_awaited_failure_is_raised_in_the_coroutine(system: ActorSystem) -> None:
    ref = system.spawn(Player)

    def fail(_actor: Player) -> None:
        raise ValueError("meant to")

    async def main() -> ErrorKind:
        with pytest.raises(ActorError, match="meant to") as caught:
            await ref.ask(Do(fail), block=False)
        return caught.value.kind

    assert asyncio.run(main()) == ErrorKind.HANDLER_FAILED


def test_an_awaited_ask_that_times_out_raises_in_the_coroutine(system: ActorSystem) -> None:
    ref = system.spawn(Player)

    async def main() -> None:
        with pytest.raises(AskTimeout):
            await ref.ask(Note(1), block=False, timeout=0.01)

    with stuck(ref):
        asyncio.run(main())


def test_a_future_may_be_awaited_by_several_and_again(system: ActorSystem) -> None:
    ref = system.spawn(Player)

    async def main() -> list[int]:
        future = ref.ask(Note(1), block=False)

        async def get() -> int:
            return await future

        return [*await asyncio.gather(get(), get(), get()), await future, future.get()]

    assert asyncio.run(main()) == [1] * 5


def test_a_coroutine_that_gives_up_leaves_nothing_behind(system: ActorSystem) -> None:
    ref, asker = system.spawn(Player), system.spawn(LoopPlayer)

    async def give_up(_actor: Player) -> None:
        future = ref.ask(Note(1), block=False)
        callbacks = list(future._callbacks or ())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await future
        assert list(future._callbacks or ()) == callbacks

    with stuck(ref):
        asker.ask(Await(give_up), timeout=PATIENCE)
    assert asker._cell.waiting_on == ()


def test_a_loop_that_is_closed_before_the_reply_comes_harms_nobody(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    futures: list[Future[int]] = []

    async def main() -> None:
        futures.append(ref.ask(Note(1), block=False))
        waiting = asyncio.ensure_future(asyncio.wait_for(_get(futures[0]), PATIENCE))
        await asyncio.sleep(0)
        waiting.cancel()

    with stuck(ref):
        asyncio.run(main())
    assert futures[0].get(timeout=PATIENCE) == 1
    assert ref.incarnation == 1


async def _get(future: Future[int]) -> int:
    return await future


# --- what pykka's have, and a little more ------------------------------------------------------------------


def test_a_future_takes_one_outcome() -> None:
    future: Future[int] = Future()
    outcomes = [future.done, future.try_set(1), future.try_set(2), future.try_fail(ValueError()), future.done]
    assert outcomes == [False, True, False, False, True]
    assert future.get() == 1
    with pytest.raises(queue.Full):
        future.set(3)
    with pytest.raises(queue.Full):
        future.set_exception((ValueError, ValueError(), None))
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda _timeout: 4)


def test_of_many_threads_that_settle_a_future_one_succeeds() -> None:
    for _ in range(50):
        future: Future[int] = Future()
        start = threading.Barrier(4)

        def settle(value: int, future: Future[int], start: threading.Barrier) -> bool:
            start.wait(PATIENCE)
            return future.try_set(value)

        threads = [in_thread(partial(settle, value, future, start)) for value in range(4)]
        outcomes = [thread() for thread in threads]
        assert outcomes.count(True) == 1
        assert future.get() == outcomes.index(True)


def test_a_callback_is_called_once_whenever_it_is_given() -> None:
    future: Future[int] = Future()
    calls: list[str] = []
    future.on_done(lambda: calls.append("before"))
    assert calls == []
    future.set(1)
    future.on_done(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_waiting_for_a_future_that_nobody_settles_ends_in_time() -> None:
    future: Future[int] = Future()
    for timeout in (0, -1, 0.001):
        with pytest.raises(AskTimeout):
            future.get(timeout=timeout)


def test_futures_can_be_joined_mapped_filtered_and_reduced(system: ActorSystem) -> None:
    def listing(number: int) -> Do:
        return Do(lambda _: [number])

    first, *others = [system.spawn(Player).ask(listing(number), block=False) for number in range(3)]
    assert first.join(*others).get(timeout=PATIENCE) == [[0], [1], [2]]
    assert first.map(len).get(timeout=PATIENCE) == 1
    assert others[1].filter(bool).get(timeout=PATIENCE) == [2]
    assert others[1].reduce(lambda left, right: left + right).get(timeout=PATIENCE) == 2


def test_a_mapped_future_can_be_awaited(system: ActorSystem) -> None:
    ref = system.spawn(Player)

    async def main() -> int:
        mapped = ref.ask(Note(1), block=False).map(lambda count: count + 41)
        return await mapped

    assert asyncio.run(main()) == 42


def test_an_actor_that_waits_for_a_future_lends_its_thread(system: ActorSystem) -> None:
    """As many actors wait in `get` as the pool has threads, and more; the one they wait for still gets one."""
    last = system.spawn(Player)
    waiting = threading.Semaphore(0)

    def wait_for_last(_actor: Player) -> int:
        future = last.ask(Note(1), block=False)
        waiting.release()
        return future.get()

    with stuck(last):
        futures = [system.spawn(Player).ask(Do(wait_for_last), block=False) for _ in range(30)]
        for _ in futures:
            assert waiting.acquire(timeout=PATIENCE)
    assert sorted(future.get(timeout=PATIENCE) for future in futures) == list(range(1, 31))


def test_the_error_of_a_future_names_the_function_that_asked(system: ActorSystem) -> None:
    ref = system.spawn(Player, name="asked")
    ref.stop()

    def ask_too_late() -> Any:
        return ref.ask(Note(1), block=False)

    with pytest.raises(ActorError) as caught:
        ask_too_late().get()
    assert caught.value.method == "ask_too_late.asked.ask"
    assert kind_of(ask_too_late().get) == ErrorKind.MAILBOX_CLOSED

"""Channels: order, bounds, ends and cancellations, between threads and coroutines in any combination."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import ActorRef, ActorSystem
from understudy.actors.channel import Channel
from understudy.messages.errors import ChannelClosed, ChannelTimeout, LoopBlocked, SpecInvalid

from .background_stage import PATIENCE, Do, Echo, Host, do


class Thread(threading.Thread):
    """Runs a function and keeps what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.function()
        except BaseException as error:
            self.outcome = error

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def once(condition: Callable[[], Any]) -> None:
    """Go on once another thread has come as far as it will."""
    while not condition():
        threading.Event().wait(0)


def waiting_getters(channel: Channel[Any], count: int = 1) -> None:
    once(lambda: len(channel._getters) == count)


def waiting_putters(channel: Channel[Any], count: int = 1) -> None:
    once(lambda: len(channel._putters) == count)


async def settle() -> None:
    """Let every task of the loop go as far as it will."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- order and bound -------------------------------------------------------------------------------------------


def test_items_come_out_in_the_order_they_went_in() -> None:
    channel: Channel[int] = Channel(3)
    for number in range(3):
        channel.put(number)
    assert len(channel) == 3
    assert [channel.get() for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("capacity", [0, -1, 1.5, "3", None, True])
def test_a_capacity_that_cannot_be_is_refused(capacity: Any) -> None:
    with pytest.raises(SpecInvalid) as refused:
        Channel(capacity)
    assert (refused.value.field, refused.value.kind) == ("capacity", "config.channel.invalid")


def test_a_full_channel_makes_who_puts_wait_until_there_is_a_place() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    thread = Thread(lambda: channel.put(2))
    waiting_putters(channel)
    assert channel.get() == 1
    thread.result()
    assert channel.get() == 2


def test_an_empty_channel_makes_who_gets_wait_until_something_comes() -> None:
    channel: Channel[int] = Channel(1)
    thread = Thread(channel.get)
    waiting_getters(channel)
    channel.put(1)
    assert thread.result() == 1
    assert len(channel) == 0


def test_who_waits_is_served_in_the_order_of_coming() -> None:
    channel: Channel[int] = Channel(1)
    getters = []
    for count in range(1, 4):
        getters.append(Thread(channel.get))
        waiting_getters(channel, count)
    for number in range(3):
        channel.put(number)
    assert [getter.result() for getter in getters] == [0, 1, 2]
    channel.put(0)
    putters = []
    for count in range(1, 4):
        putters.append(Thread(lambda number=count: channel.put(number)))  # type: ignore[misc]  # a lambda's default
        waiting_putters(channel, count)
    assert [channel.get() for _ in range(4)] == [0, 1, 2, 3]
    for putter in putters:
        putter.result()


def test_nobody_gets_in_before_those_who_wait() -> None:
    """A place that becomes free belongs to who has waited for it."""
    channel: Channel[str] = Channel(1)
    channel.put("first")
    thread = Thread(lambda: channel.put("second"))
    waiting_putters(channel)
    channel.get()
    with pytest.raises(ChannelTimeout):
        channel.put("third", timeout=0)
    thread.result()
    assert channel.get() == "second"


# --- time ------------------------------------------------------------------------------------------------------


def test_waiting_ends_with_its_time_and_leaves_nothing_behind() -> None:
    channel: Channel[int] = Channel(1)
    for timeout in (0, 0.001):
        with pytest.raises(ChannelTimeout, match="nothing came") as late:
            channel.get(timeout=timeout)
        assert (late.value.code.hex, late.value.kind) == ("0xFFFD", "actor.channel.timeout")
    channel.put(1)
    for timeout in (0, 0.001):
        with pytest.raises(ChannelTimeout, match="no place among 1"):
            channel.put(2, timeout=timeout)
    assert (len(channel._getters), len(channel._putters)) == (0, 0)
    assert channel.get(timeout=0) == 1
    with pytest.raises(ChannelTimeout):
        channel.get(timeout=0)


# --- the end ---------------------------------------------------------------------------------------------------


def test_a_closed_channel_takes_nothing_and_gives_what_it_has() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.put(2)
    channel.close()
    channel.close()
    assert channel.closed
    with pytest.raises(ChannelClosed, match="nothing can be put") as refused:
        channel.put(3)
    assert (refused.value.code.hex, refused.value.kind) == ("0xFFFD", "actor.channel.closed")
    assert [channel.get(), channel.get()] == [1, 2]
    with pytest.raises(ChannelClosed, match="everything in it is taken"):
        channel.get()


def test_closing_wakes_everybody_who_waits() -> None:
    empty, full = Channel[int](1), Channel[int](1)
    full.put(1)
    getters = [Thread(empty.get) for _ in range(2)]
    putters = [Thread(lambda: full.put(2)) for _ in range(2)]
    waiting_getters(empty, 2)
    waiting_putters(full, 2)
    empty.close()
    full.close()
    for thread in getters + putters:
        with pytest.raises(ChannelClosed):
            thread.result()
    assert list(full) == [1], "what was not put is not there"


def test_a_loop_over_a_channel_ends_when_it_is_closed_and_empty() -> None:
    channel: Channel[int] = Channel(1)
    thread = Thread(lambda: list(channel))
    for number in range(5):
        channel.put(number)
    channel.close()
    assert thread.result() == [0, 1, 2, 3, 4]


# --- coroutines ------------------------------------------------------------------------------------------------


def test_coroutines_put_and_get_without_blocking_their_loop() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        getter = asyncio.create_task(channel.aget())
        await settle()
        assert not getter.done()
        await channel.aput(1)
        assert await getter == 1
        await channel.aput(2)
        putter = asyncio.create_task(channel.aput(3))
        await settle()
        assert not putter.done()
        assert await channel.aget() == 2
        await putter
        assert await channel.aget() == 3

    asyncio.run(main())


def test_threads_and_coroutines_stand_in_one_line() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        first = Thread(channel.get)
        waiting_getters(channel, 1)
        second = asyncio.create_task(channel.aget())
        await settle()
        third = Thread(channel.get)
        waiting_getters(channel, 3)
        for number in range(3):
            channel.put(number)
        assert (first.result(), await second, third.result()) == (0, 1, 2)

    asyncio.run(main())


def test_an_async_loop_ends_when_the_channel_is_closed_and_empty() -> None:
    channel: Channel[int] = Channel(2)

    async def main() -> list[int]:
        return [item async for item in channel]

    thread = Thread(lambda: asyncio.run(main()))
    for number in range(5):
        channel.put(number, timeout=PATIENCE)
    channel.close()
    assert thread.result() == [0, 1, 2, 3, 4]


def test_closing_wakes_coroutines() -> None:
    async def main() -> None:
        empty, full = Channel[int](1), Channel[int](1)
        full.put(1)
        getter, putter = asyncio.create_task(empty.aget()), asyncio.create_task(full.aput(2))
        await settle()
        empty.close()
        full.close()
        for task in (getter, putter):
            with pytest.raises(ChannelClosed):
                await task

    asyncio.run(main())


def test_a_cancelled_get_leaves_the_line() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        impatient, patient = asyncio.create_task(channel.aget()), asyncio.create_task(channel.aget())
        await settle()
        impatient.cancel()
        await settle()
        channel.put(1)
        assert await patient == 1

    asyncio.run(main())


def test_a_get_that_is_cancelled_when_it_was_just_served_loses_nothing() -> None:
    """The items go to who waits next, or back to their places in the order."""

    async def main() -> None:
        channel: Channel[int] = Channel(5)
        cancelled = [asyncio.create_task(channel.aget()) for _ in range(3)]
        patient = asyncio.create_task(channel.aget())
        await settle()
        for number in range(5):
            channel.put(number)
        for task in cancelled:
            task.cancel()
        await settle()
        assert await patient == 3
        assert [channel.get(timeout=0) for _ in range(4)] == [0, 1, 2, 4]

    asyncio.run(main())


def test_what_a_cancelled_get_was_handed_goes_to_the_next_in_the_line() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        first, second = asyncio.create_task(channel.aget()), asyncio.create_task(channel.aget())
        await settle()
        channel.put(1)
        first.cancel()
        assert await second == 1

    asyncio.run(main())


def test_a_cancelled_put_has_not_put() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        channel.put(1)
        impatient, patient = asyncio.create_task(channel.aput(2)), asyncio.create_task(channel.aput(3))
        await settle()
        impatient.cancel()
        await settle()
        assert channel.get() == 1
        await patient
        assert channel.get() == 3

    asyncio.run(main())


def test_a_timeout_around_a_get_loses_nothing() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await channel.aget()
        channel.put(1)
        assert await channel.aget() == 1

    asyncio.run(main())


def test_a_coroutine_whose_loop_was_closed_is_passed_over() -> None:
    channel: Channel[int] = Channel(1)
    loop = asyncio.new_event_loop()
    gone = channel.aget()
    loop.call_soon(lambda: asyncio.ensure_future(gone))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    (lost,) = asyncio.all_tasks(loop)
    waiting_getters(channel)
    loop.close()
    channel.put(1)
    assert channel.get(timeout=0) == 1
    gone.close()
    assert len(channel) == 0, "what it was offered in vain does not come back a second time"
    lost._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be


def test_blocking_an_event_loop_is_refused_but_what_need_not_wait_is_done() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(1)
        with pytest.raises(LoopBlocked, match=r"await channel\.aget\(\)") as refused:
            channel.get()
        assert refused.value.kind == "actor.channel.blocks_loop"
        channel.put(1)
        with pytest.raises(LoopBlocked, match=r"await channel\.aput\(\)"):
            channel.put(2)
        assert channel.get() == 1

    asyncio.run(main())


# --- actors ----------------------------------------------------------------------------------------------------


def test_pooled_actors_that_wait_for_a_channel_lend_their_threads() -> None:
    """More of them than the pool has threads, and the one that puts is pooled as well."""
    with ActorSystem("small", pool_size=2) as system:
        channel: Channel[int] = Channel()
        getters = [system.spawn(Host) for _ in range(10)]
        replies = [_ask(getter, lambda actor: channel.get()) for getter in getters]
        putter = system.spawn(Host)
        for number in range(10):
            do(putter, partial(_put, channel, number))
        assert sorted(reply.get(timeout=PATIENCE) for reply in replies) == list(range(10))


def _put(channel: Channel[int], number: int, _actor: Host) -> None:
    channel.put(number)


def _ask(ref: ActorRef[Host], work: Callable[[Host], Any]) -> Any:
    return ref.ask(Do(work), block=False)


def test_an_actor_that_is_killed_while_it_waits_loses_no_item(system: ActorSystem) -> None:
    channel: Channel[int] = Channel()
    stuck = system.spawn(Host, shutdown="brutal_kill", restart="temporary")
    reply = _ask(stuck, lambda actor: channel.get())
    waiting_getters(channel)
    stuck.stop()
    with pytest.raises(Exception, match="was killed"):
        reply.get(timeout=PATIENCE)
    once(lambda: not channel._getters)
    channel.put(1)
    assert channel.get(timeout=0) == 1


def test_a_channel_connects_functions_coroutines_and_actors(system: ActorSystem) -> None:
    """A thread puts, a coroutine passes on, an actor takes: everything arrives once, in order."""
    raw, cooked = Channel[int](3), Channel[str](2)
    host = system.spawn(Host)

    def produce() -> None:
        for number in range(200):
            raw.put(number)
        raw.close()

    async def cook() -> None:
        async for number in raw:
            await cooked.aput(str(number))
        cooked.close()

    do(host, lambda actor: (actor.spawn(produce), actor.spawn(cook)))
    assert do(system.spawn(Host), lambda actor: list(cooked)) == [str(number) for number in range(200)]
    assert host.ask(Echo("alive"), timeout=PATIENCE) == "alive"


# --- against a model -------------------------------------------------------------------------------------------


@given(
    capacity=st.integers(1, 3),
    steps=st.lists(st.sampled_from(["put", "get", "cancel put", "cancel get", "run"]), max_size=60),
)
def test_whatever_is_cancelled_everything_arrives_once(capacity: int, steps: list[str]) -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(capacity)
        puts: list[tuple[int, asyncio.Task[None]]] = []
        gets: list[asyncio.Task[int]] = []
        for number, step in enumerate(steps):
            if step == "put":
                puts.append((number, asyncio.create_task(channel.aput(number))))
            elif step == "get":
                gets.append(asyncio.create_task(channel.aget()))
            elif step == "cancel put" and puts:
                puts[number % len(puts)][1].cancel()
            elif step == "cancel get" and gets:
                gets[number % len(gets)].cancel()
            else:
                await asyncio.sleep(0)
        await settle()
        channel.close()
        await settle()
        got = [task.result() for task in gets if not task.cancelled() and task.exception() is None]
        left = list(channel)
        assert left == sorted(left), "in order"
        got += left
        put = [number for number, task in puts if not task.cancelled() and task.exception() is None]
        assert len(set(got)) == len(got), "once"
        assert set(put) <= set(got), "everything"
        assert set(got) <= {number for number, _ in puts}

    asyncio.run(main())

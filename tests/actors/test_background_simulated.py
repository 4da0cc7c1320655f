"""Background work and channels in a simulation: steps like any other, in virtual time, the same each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from understudy import ActorSystem
from understudy.actors.background import cancelled
from understudy.actors.channel import Channel
from understudy.actors.reasons import WorkCancelled
from understudy.messages.errors import BackgroundCancelled, ChannelTimeout
from understudy.testing import SimulatedDispatcher

from .background_stage import Do, Echo, Host, do

SEEDS = range(20)


def trace_of(seed: int) -> tuple[list[Any], list[Any]]:
    """Functions and coroutines that ask and wait for each other, and the order in which they come."""
    simulation = SimulatedDispatcher(seed)
    order: list[Any] = []
    with ActorSystem("sim", dispatcher=simulation) as system:
        host = system.spawn(Host, name="host")
        channel: Channel[int] = Channel()

        def produce(number: int) -> None:
            channel.put(host.ask(Echo(number)))

        async def sleepy(number: int) -> None:
            await asyncio.sleep(number)
            order.append(await host.ask(Echo(f"slept {number}"), block=False))

        def consume() -> None:
            order.append(channel.get())

        def everything(actor: Host) -> Any:
            for number in range(3):
                actor.spawn(produce, number)
                actor.spawn(sleepy, number)
                actor.spawn(consume)

        do(host, everything)
        simulation.advance(10)
    return order, list(simulation.trace)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    order, trace = trace_of(seed)
    assert sorted(map(str, order)) == ["0", "1", "2", "slept 0", "slept 1", "slept 2"]
    assert (order, trace) == trace_of(seed)


def test_other_seeds_give_other_orders() -> None:
    assert len({str(trace_of(seed)[0]) for seed in SEEDS}) > 1


def in_simulation(work: Callable[[SimulatedDispatcher, Any], None], seed: int = 0) -> None:
    simulation = SimulatedDispatcher(seed)
    with ActorSystem("sim", dispatcher=simulation) as system:
        work(simulation, system.spawn(Host, name="host"))


def test_a_function_that_waits_is_cancelled_and_what_has_not_begun_never_begins() -> None:
    def scene(simulation: SimulatedDispatcher, host: Any) -> None:
        channel: Channel[int] = Channel()
        seen: list[Any] = []

        def waits() -> None:
            try:
                channel.get()
            except WorkCancelled:
                seen.append(cancelled())
                raise

        waiting = do(host, lambda actor: actor.spawn(waits))
        simulation.run_until_idle()
        assert seen == []
        unbegun = do(host, lambda actor: actor.spawn(seen.append, "begun"))
        unbegun.cancel()
        waiting.cancel()
        simulation.run_until_idle()
        assert seen == [True] or seen == ["begun", True]
        assert waiting.ended.done
        assert unbegun.ended.done

    for seed in SEEDS:
        in_simulation(scene, seed)


def test_waiting_for_a_channel_takes_virtual_time() -> None:
    def scene(simulation: SimulatedDispatcher, host: Any) -> None:
        channel: Channel[int] = Channel()

        def patient(actor: Host) -> float:
            with pytest.raises(ChannelTimeout):
                channel.get(timeout=3600)
            return simulation.clock()

        assert host.ask(Do(patient)) == 3600

    in_simulation(scene)


def test_the_end_of_the_system_ends_what_waits() -> None:
    channel: Channel[int] = Channel()
    tasks: list[Any] = []

    def scene(simulation: SimulatedDispatcher, host: Any) -> None:
        tasks.append(do(host, lambda actor: actor.spawn(channel.get)))
        simulation.run_until_idle()

    in_simulation(scene)
    with pytest.raises(BackgroundCancelled):
        tasks[0].result.get(timeout=0)
    assert tasks[0].ended.done

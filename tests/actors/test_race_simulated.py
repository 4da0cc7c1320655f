"""Races in virtual time: who comes first, how long a race waits for its losers, when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from understudy import ActorRef, ActorSystem
from understudy.actors.channel import Channel
from understudy.messages.errors import AskCycle, AskTimeout, RaceTimeout
from understudy.testing import SimulatedDispatcher

from .background_stage import Do, Echo, Host, do

SEEDS = range(10)


class Stage:
    """A simulation with one actor, and works that take their time."""

    def __init__(self, seed: int) -> None:
        self.simulation = SimulatedDispatcher(seed)
        self.system = ActorSystem("sim", dispatcher=self.simulation)
        self.host: ActorRef[Host] = self.system.spawn(Host, name="host")
        self.ended: list[str] = []

    @property
    def now(self) -> float:
        return self.simulation.clock()

    async def sleep(self, name: str, seconds: float) -> str:
        """Take so many seconds."""
        try:
            await asyncio.sleep(seconds)
            return name
        finally:
            self.ended.append(name)

    async def stubborn(self, name: str, seconds: float) -> str:
        """Take so many seconds, and as many again when told to end."""
        try:
            return await self.sleep(name, seconds)
        except asyncio.CancelledError:
            return await self.sleep(name, seconds)

    def race(self, *works: Any, **options: Any) -> Any:
        """Let a handler wait for the race, and return its outcome."""
        return self.host.ask(Do(lambda actor: actor.race(*works, **options).get()))


@pytest.fixture(params=SEEDS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request.param)
    with stage.system:
        yield stage


def test_the_first_in_time_wins_and_the_others_are_cancelled(stage: Stage) -> None:
    assert stage.race(stage.sleep("b", 20), stage.sleep("a", 10), stage.sleep("c", 30)) == "a"
    assert stage.now == 10
    assert (stage.ended[0], sorted(stage.ended)) == ("a", ["a", "b", "c"])


def test_the_result_waits_for_losers_that_take_their_time_to_end(stage: Stage) -> None:
    assert stage.race(stage.stubborn("b", 20), stage.sleep("a", 10), grace=60) == "a"
    assert stage.now == 30


def test_but_not_longer_than_the_grace(stage: Stage) -> None:
    assert stage.race(stage.stubborn("b", 20), stage.sleep("a", 10), grace=5) == "a"
    assert stage.now == 15
    stage.simulation.advance(60)
    assert stage.ended == ["a", "b", "b"]


def test_and_not_beyond_the_race_s_own_deadline(stage: Stage) -> None:
    """The result was there in time, so it is given then."""
    assert stage.race(stage.stubborn("b", 20), stage.sleep("a", 10), grace=60, timeout=12) == "a"
    assert stage.now == 12


def test_time_that_runs_out_cancels_all_of_them(stage: Stage) -> None:
    never: Channel[str] = Channel()

    def fails() -> None:
        raise ValueError("before")

    def run(actor: Host) -> None:
        with pytest.raises(RaceTimeout, match=r"none of 3 works had a result within 5 seconds") as late:
            actor.race(never.get, stage.sleep("a", 10), fails, timeout=5).get()
        assert (late.value.code.hex, late.value.kind) == ("0xFFF6", "actor.race.timeout")
        assert late.value.__notes__ == ["in the same race: ValueError: before"]

    stage.host.ask(Do(run))
    assert stage.now == 5
    stage.simulation.run_until_idle()
    assert stage.ended == ["a"]
    assert not never._getters


def test_a_request_that_ran_out_of_time_ends_its_race(stage: Stage) -> None:
    races: list[Any] = []

    def keep_waiting(actor: Host) -> None:
        races.append(actor.race(stage.sleep("a", 10)))
        actor.defer_reply()

    with pytest.raises(AskTimeout):
        stage.host.ask(Do(keep_waiting), timeout=5)
    with pytest.raises(RaceTimeout):
        races[0].get()
    assert stage.now == 5


def test_a_handler_that_waits_for_a_race_with_work_that_asks_the_actor_gets_a_cycle(stage: Stage) -> None:
    def compete(actor: Host) -> None:
        with pytest.raises(AskCycle):
            actor.race(lambda: stage.host.ask(Echo(1)), lambda: stage.host.ask(Echo(2))).get()

    do(stage.host, compete)

"""The same seed gives the same run; another seed gives another one."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy import ActorSystem, Child, Supervisor
from understudy.testing import FaultPlan, SimulatedDispatcher

from .players import Count, Counter, Note, Sleep, Sleeper

SEEDS = 200


def a_run(seed: int) -> SimulatedDispatcher:
    """Crossing messages, chains of asks, timers, coroutines, crashes and restarts."""
    simulation = SimulatedDispatcher(seed, faults=FaultPlan().crash("tree/*", message=Note, rate=0.3, times=2))
    tree = Supervisor(
        "tree",
        strategy="rest_for_one",
        children=[
            Child(Counter, name="a"),
            Child(Counter, ("tree/a",), name="b"),
            Child(Counter, ("tree/b",), name="c"),
        ],
    )
    with ActorSystem("x", tree, dispatcher=simulation) as system:
        system.spawn(Sleeper, name="s")
        asked = [system.ask("s", Sleep(seconds), block=False, timeout=9.0) for seconds in (2.0, 1.0, 2.0)]
        for number in range(4):
            for name in "abc":
                system.tell(f"tree/{name}", Note(number))
        asked += [system.ask(f"tree/{name}", Count(), block=False, timeout=5.0) for name in "cbacab"]
        simulation.advance(20.0)
        assert all(future.done for future in asked)
    return simulation


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of crashes on purpose need no log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_the_same_seed_takes_the_same_steps_on_every_run() -> None:
    for seed in range(SEEDS):
        assert a_run(seed).trace == a_run(seed).trace


def test_different_seeds_take_different_steps() -> None:
    traces = {tuple(a_run(seed).trace) for seed in range(SEEDS)}
    assert len(traces) > SEEDS * 0.95


def test_a_seed_means_the_same_in_another_process_whatever_the_order_of_its_hashes() -> None:
    code = "from testing.test_determinism import a_run; print(a_run(5).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert traces == {f"{a_run(5).trace}\n"}


def test_identifiers_and_random_numbers_follow_from_the_seed() -> None:
    def drawn(seed: int) -> tuple[Any, ...]:
        simulation = SimulatedDispatcher(seed)
        with ActorSystem("x", dispatcher=simulation) as system:
            return system.spawn(Counter).actor_urn, system.runtime.random.random()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[0].startswith("urn:uuid:")


def test_what_the_program_draws_for_itself_does_not_change_the_order_of_steps() -> None:
    def steps(draw: int) -> Any:
        simulation = SimulatedDispatcher(3)
        with ActorSystem("x", dispatcher=simulation) as system:
            for _ in range(draw):
                system.runtime.random.random()
            counters = [system.spawn(Counter, name=name) for name in "abcd"]
            for counter in random.Random(1).choices(counters, k=40):
                counter.tell(Count())
            simulation.run_until_idle()
        return simulation.trace

    assert steps(0) == steps(7)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_message_is_a_step_and_the_mailbox_keeps_its_order(seed: int) -> None:
    simulation = SimulatedDispatcher(seed)
    with ActorSystem("x", dispatcher=simulation) as system:
        counter = system.spawn(Counter, name="a")
        before = simulation.steps
        for number in range(10):
            counter.tell(Note(number))
        assert simulation.steps == before, "nothing runs until somebody waits"
        simulation.run_until_idle()
        assert simulation.steps == before + 10
        assert [step[1:] for step in simulation.trace[-10:]] == [("run", "a", "Note")] * 10

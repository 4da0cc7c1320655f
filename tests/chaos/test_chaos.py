"""The short form of ``make chaos``: nothing is lost and nothing done twice, whoever is killed at whichever moment."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ..servers.availability import unavailable
from .faults import LAST, plan
from .pipeline import Outcome, run
from .victims import TIMES, missing, private_servers, urls_of

SEED = 1


def wrong(outcome: Outcome, faults: int) -> list[str]:
    """What is not as it must be, a fault that did not take place included."""
    took_place = [] if len(outcome.done) == faults else [f"{len(outcome.done)} of {faults} faults took place"]
    return outcome.problems() + took_place


@pytest.mark.parametrize("seed", range(3))
def test_a_crashing_consumer_loses_nothing_on_the_embedded_backends(tmp_path: Path, seed: int) -> None:
    faults = plan(seed, 2_000, {"consumer": 10})
    urls = ("memory://", f"sqlite:///{tmp_path}/notifs.db", "memory://")
    assert wrong(run(2_000, urls, faults, {}, patience=60.0, tell=print), 10) == []


@pytest.mark.timeout(300)  # RabbitMQ takes seconds to start again, and longer on a busy machine
def test_killed_servers_lose_nothing_and_do_nothing_twice() -> None:
    """RabbitMQ and PostgreSQL killed three times each, Redis restarted three times, ten crashes of the consumer."""
    if reason := missing():
        unavailable(reason)
    faults = plan(SEED, 2_000, TIMES)
    with private_servers() as servers:
        outcome = run(2_000, urls_of(servers), faults, servers, patience=240.0, tell=print)
    assert wrong(outcome, len(faults)) == []


def test_the_moments_come_from_the_seed_and_lie_within_the_run() -> None:
    faults = plan(7, 1_000, TIMES)
    assert faults == plan(7, 1_000, TIMES) != plan(8, 1_000, TIMES)
    assert Counter(fault.victim for fault in faults) == TIMES
    assert all(0 < fault.at < 10 * LAST for fault in faults)
    assert faults == sorted(faults, key=lambda fault: fault.at)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("missing", ["a"], "1 published and not stored: ['a']"),
        ("uncached", ["a"], "1 published and not cached: ['a']"),
        ("stored_twice", ["a"], "1 stored twice: ['a']"),
        ("cached_twice", ["a"], "1 cached twice: ['a']"),
        ("dead_letters", ["a"], "1 dead letters: ['a']"),
        ("published", 9, "published 9 of 10"),
        ("longest_wait", 12.5, "a caller waited 12.50 s"),
        ("ended_by_itself", False, "it did not end by itself"),
        ("abandoned", 1, "1 handlers ended by force"),
    ],
)
def test_whatever_is_not_as_it_must_be_is_a_problem(field: str, value: object, says: str) -> None:
    outcome = Outcome(10, published=10, ended_by_itself=True)
    assert outcome.problems() == []
    setattr(outcome, field, value)
    (problem,) = outcome.problems()
    assert says in problem

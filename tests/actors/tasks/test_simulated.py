"""Processors in a simulation: virtual time, one step after another, the same again with the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from understudy import (
    ActorSystem,
    ActorTaskDistributor,
    Child,
    Distributor,
    Periodic,
    Processor,
    ProcessorSettings,
    Scheduler,
    SkipRetry,
    Supervisor,
    TaskContext,
    TaskRouter,
)
from understudy.messages.tasks import RawTask
from understudy.testing import SimulatedDispatcher

URL = "sqlite:///:memory:"


class Stage:
    """A simulated system with a distributor and a processor."""

    def __init__(self, router: TaskRouter, seed: int = 0, **settings: Any) -> None:
        self.simulation = SimulatedDispatcher(seed)
        children: list[Any] = [
            Child(Distributor, (URL,), name="distributor"),
            Child(Processor, (router, URL, ProcessorSettings(concurrency=3, **settings)), name="processor"),
            Child(Scheduler, ([Periodic("@every 15m", RawTask("often"))], URL), name="scheduler"),
        ]
        self.system = ActorSystem("sim", Supervisor("tasks", children=children), dispatcher=self.simulation)
        self.tasks = ActorTaskDistributor(self.system.lookup("tasks/distributor"))

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.system.stop()

    def run_until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        self.simulation.run_until(condition, timeout)


@pytest.fixture
def done() -> list[tuple[float, str]]:
    return []


def test_tasks_are_done_in_virtual_time(done: list[str]) -> None:
    """By ``def`` and ``async def`` handlers."""
    router = TaskRouter()

    async def work(task: RawTask) -> None:
        done.append(task.type)

    router.add("async", work)
    router.add("plain", lambda task: done.append(task.type))
    with Stage(router) as stage:
        for name in ("plain", "async", "plain"):
            stage.tasks.distribute(RawTask(name))
        stage.run_until(lambda: len(done) == 3)
    assert sorted(done) == ["async", "plain", "plain"]


def test_retries_delays_and_schedules_take_no_real_time(done: list[tuple[float, str]]) -> None:
    """Half an hour of them."""
    router = TaskRouter()
    with Stage(router) as stage:

        def note(task: RawTask, context: TaskContext) -> None:
            done.append((stage.simulation.clock(), f"{task.type} {context.retried}"))
            if task.type == "fails" and context.retried < 2:
                raise OSError("busy")

        for name in ("fails", "later", "often"):
            router.add(name, note)
        stage.tasks.distribute(RawTask("fails"))
        stage.tasks.distribute(RawTask("later"), process_in=1800)
        stage.run_until(lambda: len(done) >= 6, 3600)
    names = [name for _, name in done]
    assert names[:3] == ["fails 0", "fails 1", "fails 2"]
    assert sorted(names[3:]) == ["later 0", "often 0", "often 0"]
    assert {name: at for at, name in done}["later 0"] == pytest.approx(1800, abs=6)


def test_a_stop_requeues_what_waits_for_virtual_time(done: list[str]) -> None:
    """It waits its shutdown_timeout, in virtual time, too."""
    router = TaskRouter()

    async def sleep(_task: RawTask) -> None:
        import asyncio

        done.append("begun")
        await asyncio.sleep(3600)

    router.add("sleeps", sleep)
    with Stage(router) as stage:
        stage.tasks.distribute(RawTask("sleeps"))
        stage.run_until(lambda: bool(done))
        began = stage.simulation.clock()
    assert 3 <= stage.simulation.clock() - began < 3600


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    """Step by step."""

    def once() -> list[Any]:
        done: list[Any] = []
        router = TaskRouter()

        def work(task: RawTask, context: TaskContext) -> None:
            done.append((stage.simulation.clock(), context.id, context.retried))
            if task.payload == b"bad":
                raise SkipRetry("no use")
            if context.retried == 0 and context.id in ("1", "3"):
                raise OSError("busy")

        router.add("t", work)
        with Stage(router, seed) as stage:
            for number in range(6):
                stage.tasks.distribute(RawTask("t", b"bad" if number == 5 else b""), task_id=str(number))
            stage.run_until(lambda: len(done) == 8, 3600)
        return [*done, len(stage.simulation.trace)]

    assert once() == once()

"""What the engines' contract tests run against: one entry in `ENGINES` for each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.tasks.engine import Ending, How, Lease, TaskEngine
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.messages.errors import TaskError
from understudy.messages.tasks import RawTask, TaskInfo

NOON = 1_699_963_200.0


class Clock:
    """The engines' clock, which goes as a test says."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> float:
        return self.at


def _sqlite(folder: Path, clock: Clock) -> Callable[[], TaskEngine]:
    return lambda: SqliteEngine(str(folder / "tasks.db"), clock)


ENGINES: Mapping[str, Callable[[Path, Clock], Callable[[], TaskEngine]]] = {"sqlite": _sqlite}


class Client:
    """One connection, with the words that the tests are written in."""

    def __init__(self, engine: TaskEngine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock

    def put(self, task_id: str, payload: bytes = b"", **options: Any) -> TaskInfo | str:
        """Enqueue a task of type `echo`; a refusal is returned as its kind."""
        (outcome,) = self.put_all((task_id, payload, options))
        return outcome

    def put_all(self, *tasks: tuple[str, bytes, dict[str, Any]]) -> list[TaskInfo | str]:
        planned = [
            plan(RawTask("echo", payload), {"task_id": task_id, **options}, self.clock.at)
            for task_id, payload, options in tasks
        ]
        return [str(each.kind) if isinstance(each, TaskError) else each for each in self.engine.enqueue(planned)]

    def take(self, count: int = 1, *queues: str) -> list[Lease]:
        return self.engine.dequeue(queues or ("default",), count)

    def next(self) -> Lease:
        """The one attempt that a dequeue begins."""
        (lease,) = self.take()
        return lease

    def take_ids(self, count: int = 1, *queues: str) -> list[str]:
        return [lease.message.id for lease in self.take(count, *queues)]

    def end(self, lease: Lease, how: How = "done", **more: Any) -> bool:
        (accepted,) = self.engine.finish([Ending(lease, how, **more)])
        return accepted

    def state(self, task_id: str, queue: str = "default") -> str:
        """Where a task stands; `gone` where it is not there."""
        try:
            return str(self.engine.task(queue, task_id).state)
        except TaskError as error:
            return "gone" if error.kind == "task.not_found" else str(error.kind)

    def retried(self, task_id: str) -> int:
        return self.engine.task("default", task_id).message.retried


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(ENGINES))
def connect(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Client]]:
    """Opens connections to queues that nobody else uses."""
    opened: list[Client] = []
    engine = ENGINES[request.param](tmp_path, clock)

    def open_one() -> Client:
        opened.append(Client(engine(), clock))
        return opened[-1]

    yield open_one
    for client in opened:
        client.engine.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()

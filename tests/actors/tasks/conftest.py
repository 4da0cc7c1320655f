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

from .redis_server import close_redis_of_this_run, open_redis, redis_of_this_run

NOON = 1_699_963_200.0


class Clock:
    """The engines' clock, which goes as a test says; a server that measures by its own is moved along."""

    def __init__(self) -> None:
        self._at = NOON
        self.moved: list[Callable[[float], None]] = []

    @property
    def at(self) -> float:
        return self._at

    @at.setter
    def at(self, at: float) -> None:
        seconds, self._at = at - self._at, at
        for move in self.moved:
            move(seconds)

    def __call__(self) -> float:
        return self._at


def _sqlite(folder: Path, clock: Clock) -> Callable[[], TaskEngine]:
    return lambda: SqliteEngine(str(folder / "tasks.db"), clock)


def _redis(_folder: Path, clock: Clock) -> Callable[[], TaskEngine]:
    server = redis_of_this_run()
    server.empty()
    clock.moved = [server.let_pass]
    return lambda: open_redis(server.url, clock)


ENGINES: Mapping[str, Callable[[Path, Clock], Callable[[], TaskEngine]]] = {"redis": _redis, "sqlite": _sqlite}


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


@pytest.fixture(scope="session", autouse=True)
def redis_server_of_this_run() -> Iterator[None]:
    """The private Redis that the tests of tasks share ends with them."""
    yield
    close_redis_of_this_run()


@pytest.fixture(params=sorted(ENGINES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a stage has its queues: a folder for a file, or a URL."""
    if request.param == "sqlite":
        return tmp_path
    server = redis_of_this_run()
    server.empty()
    return server.url


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

"""A system with a distributor and a processor on queues of its own, and words to talk about them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy import ActorSystem, Child, Supervisor
from understudy.actors.tasks.distributor import ActorTaskDistributor, Distributor
from understudy.actors.tasks.engine import TaskEngine
from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.processor import Processor
from understudy.actors.tasks.router import TaskRouter
from understudy.actors.tasks.settings import ProcessorSettings
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.messages.errors import TaskError
from understudy.messages.tasks import RawTask, TaskInfo

from .redis_server import open_redis

PATIENCE = 60.0


class Stage:
    """What a test of a processor needs."""

    def __init__(self, system: ActorSystem, engine: TaskEngine) -> None:
        self.system = system
        self.engine = engine
        self.tasks = ActorTaskDistributor(system.lookup("tasks/distributor"))

    def put(self, task_id: str, task_type: str = "t", payload: bytes = b"", **options: Any) -> TaskInfo:
        return self.tasks.distribute(RawTask(task_type, payload), task_id=task_id, **options)

    def state(self, task_id: str) -> str:
        try:
            return str(self.engine.task("default", task_id).state)
        except TaskError:
            return "gone"

    def error_of(self, task_id: str) -> str:
        return self.engine.task("default", task_id).message.error_msg

    def ends(self, task_id: str, state: str) -> bool:
        """Whether the task gets into that state within the test's patience."""
        return eventually(lambda: self.state(task_id) == state)


def eventually(true: Callable[[], bool]) -> bool:
    """Whether something outside of this process's actors, such as a row on disk, becomes true."""
    until = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > until:
            return False
        threading.Event().wait(0.01)
    return True


def url_of(place: Path | str) -> str:
    """A folder stands for the database in it."""
    return f"sqlite:///{place}/tasks.db" if isinstance(place, Path) else place


def engine_at(place: Path | str, now: Callable[[], float]) -> TaskEngine:
    """An engine with a clock of its own."""
    return SqliteEngine(f"{place}/tasks.db", now) if isinstance(place, Path) else open_redis(place, now)


@contextmanager
def staged(place: Path | str, router: TaskRouter, **settings: Any) -> Iterator[Stage]:
    """A system that processes tasks.

    Args:
        place: where the queues are: a folder, or a URL.
        router: the handlers.
        settings: of the processor.
    """
    url = url_of(place)
    chosen = ProcessorSettings(**{"concurrency": 4, "forward": 0.05, **settings})
    tree = Supervisor(
        "tasks",
        children=[
            Child(Distributor, (url,), name="distributor"),
            Child(Processor, (router, url, chosen), name="processor", shutdown=10.0),
        ],
    )
    engine = open_engine(url)
    with ActorSystem("test", tree) as system:
        yield Stage(system, engine)
    engine.close()

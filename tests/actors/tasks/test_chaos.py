"""Processors that are killed, stopped and ended: no task is lost, none is completed by one that lost it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.options import plan
from understudy.messages.tasks import RawTask, TaskState

from ...servers.private import PrivateRedis
from .chaos_worker import CONCURRENCY, lease_of
from .stage import eventually, url_of

WORKER = Path(__file__).with_name("chaos_worker.py")
RECOVER = 0.2
KILLS = 5
TASKS = 400
GRACE = 5.0


class Field:
    """Queues of tasks, and processes that work on them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.log = url, folder / "log"
        self.log.touch()
        self.engine = open_engine(url)
        self.lease = lease_of(url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def put(self, kind: str, count: int, payload: bytes = b"", **options: Any) -> None:
        tasks = [
            plan(RawTask(kind, payload), {"task_id": f"{kind}{number}", **options}, self.engine.now())
            for number in range(count)
        ]
        self.engine.enqueue(tasks)

    def work(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WORKER), self.url, str(self.log)]
        self.processes.append(subprocess.Popen(command))
        return self.processes[-1]

    def lines(self) -> list[tuple[str, int]]:
        """Id and process of each attempt that got to its end."""
        return [(task_id, int(pid)) for task_id, pid in (line.split() for line in self.log.read_text().splitlines())]

    def sizes(self) -> dict[TaskState, int]:
        return self.engine.queue_info("default").sizes


@contextmanager
def fought_over(url: str, folder: Path) -> Iterator[Field]:
    field = Field(url, folder)
    yield field
    for process in field.processes:
        if process.poll() is None:
            process.kill()
        process.wait(10.0)
    field.engine.close()


@pytest.fixture
def field(place: Path | str, tmp_path: Path) -> Iterator[Field]:
    with fought_over(url_of(place), tmp_path) as field:
        yield field


def test_no_task_is_lost_when_processors_are_killed(field: Field) -> None:
    """SIGKILL in the middle, five times: each is done, and what follows it, and not more twice than were in hand."""
    field.put("quick", TASKS // 2, on_success=RawTask("quick"))
    step = TASKS // (KILLS + 2)
    for _ in range(KILLS):
        done = len(field.lines())
        process = field.work()
        assert eventually(lambda done=done: len(field.lines()) >= done + step)  # type: ignore[misc]
        process.kill()
        process.wait(10.0)
    killed_at = time.monotonic()
    stranded = field.sizes()[TaskState.ACTIVE]
    field.work()
    assert eventually(lambda: field.sizes()[TaskState.ACTIVE] == 0 or len(field.lines()) >= TASKS)
    assert eventually(lambda: field.engine.queue_info("default").size == 0)
    took = time.monotonic() - killed_at
    counted = Counter(task_id for task_id, _ in field.lines())
    assert len(counted) == TASKS
    assert counted.total() - TASKS <= KILLS * CONCURRENCY
    assert stranded <= KILLS * CONCURRENCY
    assert took < field.lease + RECOVER + 1.0 + 10.0, "the rest of the work included"


def test_no_task_is_lost_when_redis_is_killed(private_redis: PrivateRedis, tmp_path: Path) -> None:
    """SIGKILL, twice, and a restart from its log of writes: processors go on, and tell what they could not."""
    restarts = 2
    with fought_over(private_redis.url, tmp_path) as field:
        field.put("quick", TASKS)
        for _ in range(2):
            field.work()
        for number in range(1, restarts + 1):
            assert eventually(lambda number=number: len(field.lines()) >= number * TASKS // 4)  # type: ignore[misc]
            private_redis.kill()
            private_redis.start()
        assert eventually(lambda: field.engine.queue_info("default").size == 0)
        counted = Counter(task_id for task_id, _ in field.lines())
        assert len(counted) == TASKS
        assert counted.total() - TASKS <= restarts * 2 * CONCURRENCY


def test_a_killed_processors_tasks_are_recovered_in_time(field: Field) -> None:
    """Within lease, recover interval and a second, another processor has begun with them."""
    field.put("slow", CONCURRENCY, b"30")
    first = field.work()
    assert eventually(lambda: len(field.lines()) == CONCURRENCY)
    second = field.work()
    assert eventually(lambda: len(field.engine.servers()) == 2)
    first.kill()
    killed_at = time.monotonic()
    assert eventually(lambda: len(field.lines()) == 2 * CONCURRENCY)
    assert time.monotonic() - killed_at < field.lease + RECOVER + 1.0
    assert {pid for _, pid in field.lines()[CONCURRENCY:]} == {second.pid}


def test_a_processor_that_slept_past_its_lease_completes_nothing(field: Field) -> None:
    """SIGSTOP in the middle of as many tasks as it takes, until another has done them; what it then says is refused."""
    field.put("slow", CONCURRENCY, b"0.5", retention=600)
    sleeper = field.work()
    assert eventually(lambda: len(field.lines()) == CONCURRENCY)
    sleeper.send_signal(signal.SIGSTOP)
    other = field.work()
    assert eventually(lambda: field.sizes()[TaskState.COMPLETED] == CONCURRENCY)
    sleeper.send_signal(signal.SIGCONT)
    field.put("quick", 50)
    assert eventually(lambda: field.sizes()[TaskState.PENDING] == field.sizes()[TaskState.ACTIVE] == 0)
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait(GRACE) == 0
    done = field.engine.tasks("default", TaskState.COMPLETED)
    assert {info.result for info in done} == {f'"{other.pid}"'.encode()}
    counted = field.engine.queue_info("default")
    assert (counted.processed_total, counted.failed_total) == (CONCURRENCY + CONCURRENCY + 50, CONCURRENCY)


def test_a_terminated_processor_gives_back_what_it_did_not_finish(field: Field) -> None:
    """SIGTERM: exit 0 within the grace, every time; the tasks are pending, and used up no retry."""
    field.put("slow", CONCURRENCY + 1, b"600")
    for number in range(1, 4):
        process = field.work()
        assert eventually(lambda number=number: len(field.lines()) == number * CONCURRENCY)  # type: ignore[misc]
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE) == 0
        waiting = field.engine.tasks("default", TaskState.PENDING)
        assert len(waiting) == CONCURRENCY + 1
        assert {info.message.retried for info in waiting} == {0}


def test_a_processor_that_is_told_to_be_quiet_finishes_what_it_has_and_takes_nothing_more(field: Field) -> None:
    """SIGTSTP, as asynq has it: it is not suspended, extends its leases, and ends by SIGTERM."""
    field.put("slow", 1, b"3")
    process = field.work()
    assert eventually(lambda: len(field.lines()) == 1)
    process.send_signal(signal.SIGTSTP)
    assert eventually(lambda: {server.status for server in field.engine.servers()} == {"stopped"})
    field.put("quick", 5)
    assert eventually(lambda: field.sizes()[TaskState.ACTIVE] == 0)
    assert field.sizes()[TaskState.PENDING] == 5
    assert field.engine.queue_info("default").failed_total == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(GRACE) == 0


def test_a_second_signal_forces_a_processor_down(field: Field) -> None:
    """Whatever its handlers do; their tasks are recovered later."""
    field.put("slow", 1, b"600")
    process = field.work()
    assert eventually(lambda: len(field.lines()) == 1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(GRACE) in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)

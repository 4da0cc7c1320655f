"""Hostile input: each task ends in the state that the rules say, with a coded error, and the processor lives."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.reasons import ActorKilled, WorkCancelled
from understudy.actors.tasks.router import TaskRouter
from understudy.messages.tasks import RawTask, TaskPayload

from .redis_server import redis_of_this_run
from .stage import PATIENCE, Stage, staged


class Mail(TaskPayload[None]):
    task_type = "task:mail"

    to: str


class Vandal(BaseException):
    """What no program catches."""


def lives(stage: Stage, handled: threading.Event) -> bool:
    """Whether the processor handles a good task, in its first incarnation."""
    stage.tasks.distribute(Mail("ada"))
    cells = {cell.path: cell.incarnation for cell in stage.system.cells()}
    return handled.wait(PATIENCE) and cells["tasks/processor"] == 1 and cells["tasks/processor/workers"] == 1


@pytest.fixture
def handled() -> threading.Event:
    return threading.Event()


@pytest.fixture
def router(handled: threading.Event) -> TaskRouter:
    router = TaskRouter()
    router.add(Mail, lambda _mail: handled.set())
    return router


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"no json", "JSON"),
        (b'{"from":"a"}', "from"),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b'{"to":"' + b"x" * 10 * 2**20 + b'"}', "1,048,576"),
    ],
    ids=["no json", "other schema", "empty", "no text", "deep", "10 MiB"],
)
def test_a_payload_that_no_handler_could_take_is_archived(
    place: Path | str, router: TaskRouter, handled: threading.Event, payload: bytes, reason: str
) -> None:
    """Another attempt would fail in the same way."""
    with staged(place, router) as stage:
        stage.put("bad", "task:mail", payload)
        assert stage.ends("bad", "archived")
        assert stage.error_of("bad").startswith("0xFFF6 task.payload.invalid: ")
        assert reason in stage.error_of("bad")
        assert lives(stage, handled)


def test_a_type_that_nobody_handles_is_tried_again(
    place: Path | str, router: TaskRouter, handled: threading.Event
) -> None:
    """A processor that knows it may come."""
    with staged(place, router) as stage:
        stage.put("bad", "unknown")
        assert stage.ends("bad", "retry")
        assert stage.error_of("bad") == '0xFFF6 task.handler.missing: handler not found for task "unknown"'
        assert lives(stage, handled)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        Vandal("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        WorkCancelled(),
        ActorKilled(),
        asyncio.CancelledError(),
        MemoryError(),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_is_a_failed_attempt(
    place: Path | str, router: TaskRouter, handled: threading.Event, error: BaseException, is_async: bool
) -> None:
    """Also what would end a process, a thread or an actor."""

    def sync_handler(_task: RawTask) -> None:
        raise error

    async def async_handler(_task: RawTask) -> None:
        raise error

    router.add("bad", async_handler if is_async else sync_handler)
    with staged(place, router) as stage:
        stage.put("bad", "bad")
        assert stage.ends("bad", "retry")
        assert stage.error_of("bad").startswith(f"0xFFF6 task.handler.failed: {type(error).__name__}")
        assert lives(stage, handled)


def test_an_error_whose_text_cannot_be_had_is_a_failed_attempt(
    place: Path | str, router: TaskRouter, handled: threading.Event
) -> None:
    """And one with a megabyte of text, and with a password in it."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit(1)

    def fail_with(error: Exception) -> Callable[[Any], None]:
        def handler(_task: RawTask) -> None:
            raise error

        return handler

    router.add("mute", fail_with(Mute()))
    router.add("long", fail_with(ValueError("x" * 2**20)))
    router.add("secret", fail_with(ValueError("amqp://guest:hunter2@host refused")))
    with staged(place, router) as stage:
        for name in ("mute", "long", "secret"):
            stage.put(name, name)
            assert stage.ends(name, "retry")
        assert "SystemExit" in stage.error_of("mute")
        assert len(stage.error_of("long")) < 1_100
        assert "hunter2" not in stage.error_of("secret")
        assert lives(stage, handled)


def test_a_handler_that_never_returns_does_not_hold_its_place(
    place: Path | str, router: TaskRouter, handled: threading.Event
) -> None:
    """One that even catches what would end it: it is given up with its thread."""
    release = threading.Event()

    @router.handles("bad")
    def stubborn(_task: RawTask) -> None:
        while not release.is_set():
            try:
                while not release.is_set():
                    pass
            except BaseException:
                continue

    with staged(place, router, concurrency=1) as stage:
        stage.put("bad", "bad", timeout=1)
        assert stage.ends("bad", "retry")
        assert stage.error_of("bad").startswith("0xFFF6 task.deadline.passed: ")
        assert lives(stage, handled)
        release.set()


def test_a_coroutine_that_never_returns_does_not_hold_its_place(
    place: Path | str, router: TaskRouter, handled: threading.Event
) -> None:
    """One that passes over what would end it: what it says later does not count."""
    release = threading.Event()

    @router.handles("bad")
    async def stubborn(_task: RawTask) -> str:
        while not release.is_set():
            try:
                await asyncio.sleep(0.02)
            except BaseException:
                continue
        return "late"

    with staged(place, router, concurrency=1) as stage:
        stage.put("bad", "bad", timeout=1, retention=60)
        assert stage.ends("bad", "retry")
        assert stage.error_of("bad").startswith("0xFFF6 task.deadline.passed: ")
        assert lives(stage, handled)
        release.set()
        assert stage.state("bad") == "retry"


@pytest.mark.parametrize(
    "result",
    [object(), {1, object()}, float("nan"), 2**70, "x" * 2 * 2**20, lambda: None],
    ids=["object", "set of objects", "nan", "huge number", "2 MiB", "function"],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_result_that_cannot_be_stored_archives_the_task(
    place: Path | str, router: TaskRouter, handled: threading.Event, result: object, is_async: bool
) -> None:
    """Another attempt would do the work twice, and return the same."""

    async def work(_task: RawTask) -> object:
        return result

    router.add("bad", work if is_async else lambda _task: result)
    with staged(place, router) as stage:
        stage.put("bad", "bad", retention=60)
        assert stage.ends("bad", "archived")
        assert stage.error_of("bad").startswith("0xFFF6 task.result.invalid: ")
        assert lives(stage, handled)


def test_a_plain_handler_that_returns_a_coroutine_is_told_so(
    place: Path | str, router: TaskRouter, handled: threading.Event
) -> None:
    """Nobody would run it."""

    async def work() -> None:
        pytest.fail("it must not be run")

    router.add("bad", lambda _task: work())
    with staged(place, router) as stage:
        stage.put("bad", "bad")
        assert stage.ends("bad", "retry")
        assert "async def" in stage.error_of("bad")
        assert lives(stage, handled)


def damage(place: Path | str) -> None:
    """Overwrite the record of a task with a byte that is none."""
    if isinstance(place, str):
        redis_of_this_run().look.hset("asynq:{default}:t:bad", "msg", b"\0")
        return
    db = sqlite3.connect(place / "tasks.db")
    with db:
        db.execute("UPDATE task_tasks SET msg = x'00'")
    db.close()


def test_a_record_that_cannot_be_read_is_archived(
    place: Path | str, router: TaskRouter, handled: threading.Event
) -> None:
    """As it is, with a coded error."""
    with staged(place, router) as stage:
        stage.engine.pause("default")
        stage.put("bad", "task:mail")
        damage(place)
        stage.engine.unpause("default")
        assert stage.ends("bad", "archived")
        assert "task.record.invalid" in stage.error_of("bad")
        assert lives(stage, handled)


class Callbacks:
    """What a program may give to a processor, and what it raises there."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_arguments: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("name", ["error_handler", "retry_delay", "is_failure"])
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_a_callback_raises_no_place_of_a_worker_is_lost(
    place: Path | str, name: str, error: BaseException, is_async: bool
) -> None:
    """The attempt has failed as it would have without it, and others are made."""
    router = TaskRouter()

    def boom(_task: RawTask) -> None:
        raise ValueError("boom")

    async def boom_later(_task: RawTask) -> None:
        raise ValueError("boom")

    router.add("bad", boom_later if is_async else boom)
    done = threading.Semaphore(0)
    router.add("good", lambda _task: done.release())
    settings: Any = {name: Callbacks(error)}
    with staged(place, router, concurrency=2, **settings) as stage:
        for number in range(4):
            stage.put(f"bad{number}", "bad", max_retry=5)
        assert all(stage.ends(f"bad{number}", "retry") for number in range(4))
        for number in range(4):
            stage.put(f"good{number}", "good")
        assert all(done.acquire(timeout=PATIENCE) for _ in range(4))


def test_whatever_an_aggregation_raises_its_part_of_the_processor_lives(place: Path | str) -> None:
    """And the other groups are aggregated in the same round."""
    router = TaskRouter()
    made = threading.Event()
    router.add("whole", lambda _task: made.set())

    def aggregate(group: str, _messages: Any) -> RawTask:
        if group != "z":
            raise SystemExit(2)
        return RawTask("whole")

    with staged(place, router, aggregate=aggregate, group_max_size=1) as stage:
        for group in ("a", "b", "c", "d", "e", "f", "z"):
            stage.put(group, "part", group=group)
        assert made.wait(PATIENCE)
        (aggregator,) = [cell for cell in stage.system.cells() if cell.path == "tasks/processor/aggregator"]
        assert aggregator.incarnation == 1


def test_a_plain_handler_under_a_coroutine_that_raises_stop_iteration_has_failed(place: Path | str) -> None:
    """No future can be told of that; it hung until its timeout."""
    router = TaskRouter()
    router.add("t", lambda _task: next(iter([])))

    async def around(_context: Any, proceed: Any) -> Any:
        return await proceed()

    router.use(around)
    with staged(place, router, concurrency=1) as stage:
        for number in range(2):
            stage.put(f"t{number}", max_retry=0)
        assert all(stage.ends(f"t{number}", "archived") for number in range(2))
        assert "StopIteration" in stage.error_of("t0")

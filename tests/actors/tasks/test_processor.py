"""The processor: tasks are taken, handled, tried again, cancelled, and requeued when it stops."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from understudy.actors import lifecycle
from understudy.actors.cell import RUNNING, Cell
from understudy.actors.tasks.context import TaskContext
from understudy.actors.tasks.engine import Lease
from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.outcome import RevokeTask, SkipRetry, retry_seconds
from understudy.actors.tasks.processor import Processor, ResumeFetching, StopFetching
from understudy.actors.tasks.queues import QueueOrder
from understudy.actors.tasks.router import TaskRouter
from understudy.actors.tasks.settings import ProcessorSettings
from understudy.messages.errors import AskTimeout, SpecInvalid, StorageError
from understudy.messages.tasks import RawTask, TaskMessage, TaskPayload, TaskState

from .stage import PATIENCE, engine_at, eventually, staged, url_of


class Mail(TaskPayload[None]):
    task_type = "task:mail"

    to: str


@pytest.fixture
def router() -> TaskRouter:
    return TaskRouter()


def test_what_is_distributed_is_handled(place: Path | str, router: TaskRouter) -> None:
    """By a plain function on a thread, and by a coroutine on the loop."""
    seen: list[str] = []
    both = threading.Barrier(3)

    @router.handles(Mail)
    def mail(payload: Mail) -> None:
        seen.append(payload.to)
        both.wait(PATIENCE)

    @router.handles("image:")
    async def image(task: RawTask) -> None:
        seen.append(task.type)
        await asyncio.to_thread(both.wait, PATIENCE)

    with staged(place, router) as stage:
        stage.tasks.distribute(Mail("ada"), queue="default", max_retry=10)
        stage.put("i", "image:resize")
        both.wait(PATIENCE)
        assert sorted(seen) == ["ada", "image:resize"]
        assert stage.ends("i", "gone")


def test_an_enqueue_wakes_an_idle_processor(place: Path | str, router: TaskRouter) -> None:
    """It does not sleep between two looks."""
    handled = threading.Semaphore(0)
    router.add("t", lambda _task: handled.release())
    with staged(place, router) as stage:
        for number in range(20):
            stage.put(str(number))
            assert handled.acquire(timeout=PATIENCE)


def test_not_more_than_concurrency_are_handled_at_once(place: Path | str, router: TaskRouter) -> None:
    """The others wait in the queue, where other processors may take them."""
    gate, started = threading.Event(), threading.Semaphore(0)

    @router.handles("t")
    def hold(_task: RawTask) -> None:
        started.release()
        gate.wait(PATIENCE)

    with staged(place, router, concurrency=2) as stage:
        for number in range(5):
            stage.put(str(number))
        assert started.acquire(timeout=PATIENCE)
        assert started.acquire(timeout=PATIENCE)
        sizes = stage.engine.queue_info("default").sizes
        assert (sizes[TaskState.ACTIVE], sizes[TaskState.PENDING]) == (2, 3)
        gate.set()
        assert stage.ends("4", "gone")


def test_a_failed_task_is_tried_again_until_its_retries_are_used_up(place: Path | str, router: TaskRouter) -> None:
    """The error handler hears of every attempt; the last error is stored, coded, with the archived task."""
    heard: list[tuple[int, str]] = []
    router.add("t", lambda _task: 1 / 0)
    with staged(
        place,
        router,
        retry_delay=lambda _retried, _error, _message: 0.0,
        error_handler=lambda message, error: heard.append((message.retried, type(error).__name__)),
    ) as stage:
        stage.put("t", max_retry=2)
        assert stage.ends("t", "archived")
        assert stage.error_of("t") == "0xFFF6 task.handler.failed: ZeroDivisionError: division by zero"
        assert heard == [(0, "ZeroDivisionError"), (1, "ZeroDivisionError"), (2, "ZeroDivisionError")]


def test_a_handler_may_give_up_for_good_or_drop_its_task(place: Path | str, router: TaskRouter) -> None:
    """Also where the order is only the cause of what it raises."""

    @router.handles("wrapped")
    def wrapped(_task: RawTask) -> None:
        raise ValueError("not today") from SkipRetry()

    @router.handles("skip")
    def skip(_task: RawTask) -> None:
        raise SkipRetry("never")

    @router.handles("revoke")
    def revoke(_task: RawTask) -> None:
        raise RevokeTask

    with staged(place, router) as stage:
        for name in ("wrapped", "skip", "revoke"):
            stage.put(name, name, retention=60)
        assert stage.ends("wrapped", "archived")
        assert stage.ends("skip", "archived")
        assert stage.ends("revoke", "gone")


def test_what_is_no_failure_uses_up_no_retry(place: Path | str, router: TaskRouter) -> None:
    """A task without retries waits for as long as it takes."""
    tries = threading.Semaphore(0)

    @router.handles("t")
    def busy(context: RawTask, about: TaskContext) -> None:
        tries.release()
        if about.retried == 0 and tries._value < 3:
            raise TimeoutError("busy")

    with staged(
        place,
        router,
        is_failure=lambda error: not isinstance(error, TimeoutError),
        retry_delay=lambda *_: 0.0,
    ) as stage:
        stage.put("t", max_retry=0)
        assert stage.ends("t", "gone")
        assert stage.engine.queue_info("default").failed == 0


def test_a_result_is_kept_with_a_retained_task(place: Path | str, router: TaskRouter) -> None:
    """What the handler returned; or, where that is nothing, what it wrote."""

    @router.handles("returns")
    def returns(_task: RawTask) -> dict[str, int]:
        return {"rows": 3}

    @router.handles("writes")
    async def writes(_task: RawTask, context: TaskContext) -> None:
        await context.awrite_result([1, 2])

    with staged(place, router) as stage:
        for name in ("returns", "writes"):
            stage.put(name, name, retention=60)
            assert stage.ends(name, "completed")
        assert stage.engine.task("default", "returns").result == b'{"rows":3}'
        assert stage.engine.task("default", "writes").result == b"[1,2]"


@pytest.mark.parametrize(("after_cancel", "state"), [("retry", "retry"), ("archive", "archived")])
@pytest.mark.parametrize("kind", ["loops", "awaits"])
def test_a_cancelled_task_ends_and_the_processor_goes_on(
    place: Path | str, router: TaskRouter, kind: str, after_cancel: str, state: str
) -> None:
    """A handler on a thread is interrupted, a coroutine cancelled; the next task gets a worker at once."""
    started, handled = threading.Event(), threading.Event()

    @router.handles("loops")
    def loops(_task: RawTask) -> None:
        started.set()
        while True:
            pass

    @router.handles("awaits")
    async def awaits(_task: RawTask) -> None:
        started.set()
        await asyncio.sleep(3600)

    router.add("t", lambda _task: handled.set())
    with staged(place, router, concurrency=1, after_cancel=after_cancel) as stage:
        stage.put("c", kind)
        assert started.wait(PATIENCE)
        stage.engine.cancel("c")
        assert stage.ends("c", state)
        assert stage.error_of("c").startswith("0xFFF6 task.cancelled: ")
        stage.put("next")
        assert handled.wait(PATIENCE)


def test_a_handler_that_does_not_end_in_time_is_ended(place: Path | str, router: TaskRouter) -> None:
    """Its task is tried again; whatever it still returns is not taken."""
    gate, started = threading.Event(), threading.Event()

    @router.handles("t")
    def stuck(_task: RawTask, context: TaskContext) -> None:
        started.set()
        while not context.cancelled:
            gate.wait(0.01)

    with staged(place, router) as stage:
        stage.put("t", timeout=1)
        assert started.wait(PATIENCE)
        assert stage.ends("t", "retry")
        assert stage.error_of("t").startswith("0xFFF6 task.deadline.passed: ")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_handler_is_not_called_after_the_deadline(place: Path | str, router: TaskRouter, kind: str) -> None:
    """A task that waited for longer than it may is a failed attempt."""
    called: list[str] = []

    async def note_in_a_coroutine(task: RawTask) -> None:
        called.append(task.type)

    router.add("t", note_in_a_coroutine if kind == "async def" else lambda task: called.append(task.type))
    with staged(place, router) as stage:
        stage.put("t", deadline=1.0)
        assert stage.ends("t", "retry")
        assert stage.error_of("t").startswith("0xFFF6 task.deadline.passed: ")
    assert called == []


def test_an_attempt_ends_with_its_lease_while_the_storage_is_away(
    place: Path | str, router: TaskRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may be at its task by then, and what it comes to would be refused."""
    started, ended = threading.Event(), threading.Event()

    @router.handles("t")
    async def hold(_task: RawTask) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def away(*_arguments: Any) -> Any:
        raise StorageError("the storage is away")

    engine = open_engine(url_of(place))
    engine.close()
    kind = type(engine)
    with staged(place, router) as stage:
        stage.put("t")
        assert started.wait(PATIENCE)
        monkeypatch.setattr(kind, "extend", away)
        now = kind.now
        monkeypatch.setattr(kind, "now", lambda engine: now(engine) + 31)
        assert ended.wait(PATIENCE)
        monkeypatch.undo()


def test_a_stop_waits_for_what_is_handled(place: Path | str, router: TaskRouter) -> None:
    """And takes nothing more."""
    gate, started = threading.Event(), threading.Event()

    @router.handles("t")
    def hold(_task: RawTask) -> None:
        started.set()
        gate.wait(PATIENCE)

    with staged(place, router, concurrency=1) as stage:
        stage.put("first")
        stage.put("second")
        assert started.wait(PATIENCE)
        processor: object = next(cell for cell in stage.system.cells() if cell.path == "tasks/processor").actor
        stop = threading.Thread(target=stage.system.stop)
        stop.start()
        assert isinstance(processor, Processor)
        crew = processor._crew
        assert crew is not None
        assert eventually(lambda: not crew.fetching)
        gate.set()
        stop.join(PATIENCE)
        assert stage.state("first") == "gone"
        assert stage.state("second") == "pending"
        assert stage.engine.servers() == []


def test_a_stop_requeues_what_is_not_finished_in_time(place: Path | str, router: TaskRouter) -> None:
    """As if it had not been taken: no retry is used up, and it is first in the queue."""
    started = threading.Semaphore(0)

    @router.handles("loops")
    def loops(_task: RawTask) -> None:
        started.release()
        while True:
            pass

    @router.handles("awaits")
    async def awaits(_task: RawTask) -> None:
        started.release()
        await asyncio.sleep(3600)

    with staged(place, router, concurrency=2, shutdown_timeout=0.1) as stage:
        stage.put("a", "loops")
        stage.put("b", "awaits")
        stage.put("waiting")
        assert started.acquire(timeout=PATIENCE)
        assert started.acquire(timeout=PATIENCE)
        assert stage.system.stop()
        info = {task.id: task.message.retried for task in stage.engine.tasks("default", TaskState.PENDING)}
        assert info == {"a": 0, "b": 0, "waiting": 0}
        assert stage.engine.queue_info("default").processed == 0


def test_fetching_can_be_stopped_and_resumed(place: Path | str, router: TaskRouter) -> None:
    """What is being handled goes on meanwhile."""
    handled = threading.Event()
    router.add("t", lambda _task: handled.set())
    with staged(place, router) as stage:
        stage.system.ask("tasks/processor", StopFetching())
        stage.put("t")
        assert not handled.wait(0.2)
        stage.system.ask("tasks/processor", ResumeFetching())
        assert handled.wait(PATIENCE)


def test_fetching_has_stopped_when_that_is_answered(
    place: Path | str, router: TaskRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being taken just then is still processed, and nothing after it."""
    taking, go_on = threading.Event(), threading.Event()
    handled: queue.Queue[bytes] = queue.Queue()
    router.add("t", lambda task: handled.put(task.payload))
    engine = open_engine(url_of(place))
    engine.close()
    kind = type(engine)
    dequeue = kind.dequeue

    def slow(engine: Any, queues: Sequence[str], count: int) -> list[Lease]:
        taking.set()
        assert go_on.wait(PATIENCE)
        return dequeue(engine, queues, count)

    with staged(place, router) as stage:
        monkeypatch.setattr(kind, "dequeue", slow)
        stage.put("1", payload=b"1")
        assert taking.wait(PATIENCE)
        stopping = stage.system.ask("tasks/processor", StopFetching(), block=False, timeout=PATIENCE)
        with pytest.raises(AskTimeout):
            stopping.get(timeout=0.2)
        go_on.set()
        stopping.get(timeout=PATIENCE)
        stage.put("2", payload=b"2")
        assert handled.get(timeout=PATIENCE) == b"1"
        with pytest.raises(queue.Empty):
            handled.get(timeout=0.2)
        assert stage.state("2") == "pending"


def test_a_task_whose_processor_died_is_recovered(place: Path | str, router: TaskRouter) -> None:
    """Once its lease has ended, it is tried again; with its retries used up it is archived."""
    with staged(place, router, recover=0.05) as stage:
        stage.system.ask("tasks/processor", StopFetching())
        stage.put("again")
        stage.put("dead", max_retry=0)
        past = engine_at(place, lambda: stage.engine.now() - 40)
        assert len(past.dequeue(["default"], 2)) == 2
        past.close()
        assert stage.ends("again", "retry")
        assert stage.ends("dead", "archived")
        assert stage.error_of("dead").startswith("0xFFF6 task.lease.expired: ")


def test_a_long_task_keeps_its_lease(place: Path | str, router: TaskRouter) -> None:
    """The heartbeat extends it, and shows who works on what."""
    gate, started = threading.Event(), threading.Event()

    @router.handles("t")
    def hold(_task: RawTask) -> None:
        started.set()
        gate.wait(PATIENCE)

    with staged(place, router, heartbeat=0.05) as stage:
        stage.put("t")
        assert started.wait(PATIENCE)
        now = stage.engine.now()

        def extended() -> bool:
            shown = [worker.task_id for server in stage.engine.servers() for worker in server.workers]
            return shown == ["t"] and stage.engine.now() > now + 0.2 and not stage.engine.expired(["default"])

        assert eventually(extended)
        gate.set()
        assert stage.ends("t", "gone")


def test_a_group_becomes_one_task(place: Path | str, router: TaskRouter) -> None:
    """As soon as it is full."""
    handled: list[bytes] = []
    done = threading.Event()

    def aggregate(group: str, messages: Any) -> RawTask:
        return RawTask("batch", group.encode() + b":" + b",".join(message.payload for message in messages))

    @router.handles("batch")
    def batch(task: RawTask) -> None:
        handled.append(task.payload)
        done.set()

    with staged(place, router, aggregate=aggregate, group_grace=1.0, group_max_size=3) as stage:
        for number in range(3):
            stage.put(str(number), payload=b"%d" % number, group="g")
        assert done.wait(PATIENCE)
        assert handled == [b"g:0,1,2"]


def came_back(cell: Cell) -> bool:
    return cell.incarnation == 2 and cell.state == RUNNING


def test_the_parts_are_supervised_actors(place: Path | str, router: TaskRouter) -> None:
    """Each has a name in the tree; one that is killed comes back, and work goes on."""
    handled = threading.Event()
    router.add("t", lambda _task: handled.set())
    with staged(place, router) as stage:
        parts = {cell.path.removeprefix("tasks/processor/") for cell in stage.system.cells()}
        names = {"syncer", "heartbeater", "workers", "subscriber", "recoverer", "forwarder", "janitor", "fetcher"}
        assert names <= parts
        for name in names:
            cell = next(cell for cell in stage.system.cells() if cell.path == f"tasks/processor/{name}")
            lifecycle.kill(cell)
            assert eventually(partial(came_back, cell))
        stage.put("t")
        assert handled.wait(PATIENCE)
        assert stage.ends("t", "gone")


def test_strict_queues_are_served_by_weight_and_others_by_share() -> None:
    """Of weighted queues each comes first as often as its weight says."""
    chance = random.Random(1)
    weights = {"low": 1, "high": 6, "mid": 3, "off": 0}
    assert QueueOrder(weights, strict=True, chance=chance).draw() == ("high", "mid", "low")
    order = QueueOrder(weights, strict=False, chance=chance)
    first = [order.draw()[0] for _ in range(10_000)]
    shares = [first.count(name) / 10_000 for name in ("high", "mid", "low")]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.02)
    assert set(order.draw()) == {"high", "mid", "low"}
    wrongs: list[dict[str, Any]] = [{}, {"a": 0}, {" ": 1}, {"a": 1.5}, {"a": True}]
    for wrong in wrongs:
        with pytest.raises(SpecInvalid):
            QueueOrder(wrong, strict=False, chance=chance)


def test_the_default_delay_is_asynqs() -> None:
    """n⁴ + 15 + a random part that grows with n."""
    chance = random.Random(1)
    for retried, least, most in ((0, 15, 44), (1, 16, 74), (3, 96, 212)):
        drawn = [retry_seconds(retried, chance) for _ in range(1_000)]
        assert (min(drawn), max(drawn)) == (least, most)


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 1.5},
        {"heartbeat": 0},
        {"shutdown_timeout": -1},
        {"group_grace": 0.5},
        {"janitor_batch": 0},
        {"after_cancel": "drop"},
        {"retry_delay": 5},
        {"sync": float("nan")},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_refused_by_name(wrong: dict[str, Any]) -> None:
    """Where it is declared, not where it would be used."""
    with pytest.raises(SpecInvalid, match=next(iter(wrong))) as caught:
        ProcessorSettings(**wrong)
    assert caught.value.kind == "config.task_processing.invalid"


def test_a_processor_needs_handlers() -> None:
    """What has none is refused."""
    with pytest.raises(SpecInvalid, match="routes"):
        Processor("no tasks")  # type: ignore[arg-type]  # that is the point


def test_functions_of_the_users_that_raise_change_nothing() -> None:
    """Their defaults are taken."""

    def broken(*_: object) -> Any:
        raise RuntimeError("broken")

    settings = ProcessorSettings(is_failure=broken, retry_delay=broken, error_handler=broken)
    message = TaskMessage("t", b"", "t")
    assert settings.counts_as_failure(ValueError())
    assert settings.delay_of(message, ValueError()) is None
    settings.tell_failure(message, ValueError())
    assert ProcessorSettings(retry_delay=lambda *_: -5.0).delay_of(message, ValueError()) is None

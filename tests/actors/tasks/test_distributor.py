"""Distributing: what a program gives to the distributor is stored, or refused with a coded error."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy import NO_PAYLOAD, ActorSystem, Child, Supervisor
from understudy.actors.tasks.distributor import ActorTaskDistributor, Distributor
from understudy.messages.errors import CodecError, StorageError, TaskDuplicate, TaskError, TaskIdConflict
from understudy.messages.tasks import DistributeTask, RawTask, TaskInfo, TaskPayload, TaskState

from .stage import url_of


class Mail(TaskPayload[None]):
    task_type = "task:mail"

    to: str


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[ActorTaskDistributor]:
    tree = Supervisor("tasks", children=[Child(Distributor, (f"sqlite:///{tmp_path}/t.db",), name="distributor")])
    with ActorSystem("test", tree) as system:
        yield ActorTaskDistributor(system.lookup("tasks/distributor"))


def test_every_option_is_taken(tasks: ActorTaskDistributor) -> None:
    """And the answer says where the task stands."""
    info = tasks.distribute(
        Mail("ada"),
        max_retry=10,
        process_in=5,
        queue="critical",
        task_id="m1",
        timeout=30,
        unique=60,
        retention=3600,
        headers={"trace": "1"},
    )
    assert (info.id, info.queue, info.state, info.type) == ("m1", "critical", TaskState.SCHEDULED, "task:mail")
    message = info.message
    assert (message.max_retry, message.timeout, message.retention, message.headers) == (10, 30, 3600, {"trace": "1"})
    assert message.payload == b'{"to":"ada"}'
    assert message.unique_key.startswith("asynq:{critical}:unique:task:mail:")


def test_a_coroutine_distributes_without_blocking_its_loop(tasks: ActorTaskDistributor) -> None:
    """It awaits the answer."""
    info = asyncio.run(tasks.distribute_async(Mail("ada"), queue="mail"))
    assert (info.state, info.queue) == (TaskState.PENDING, "mail")


def test_a_refused_task_raises_why(tasks: ActorTaskDistributor) -> None:
    """And the distributor lives."""
    tasks.distribute(Mail("a"), task_id="t", unique=60)
    with pytest.raises(TaskDuplicate):
        tasks.distribute(Mail("a"), unique=60)
    with pytest.raises(TaskIdConflict):
        tasks.distribute(Mail("b"), task_id="t")
    with pytest.raises(TaskError, match="queue"):
        tasks.distribute(Mail("a"), queue=" ")
    with pytest.raises(TaskError, match="max_retry"):
        tasks.distribute(Mail("a"), max_retrys=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(CodecError):
        tasks.distribute(Mail("x" * 2 * 2**20))
    with pytest.raises(TaskError):
        tasks.distribute("no payload")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert tasks.distribute(Mail("c")).state == TaskState.PENDING
    assert tasks._distributor.incarnation == 1


def test_a_batch_is_stored_in_one_step_and_answered_one_by_one(tasks: ActorTaskDistributor) -> None:
    """A task that is refused does not keep the others out."""
    outcomes = tasks.distribute_batch(
        [
            DistributeTask(Mail("a"), {"task_id": "t"}),
            DistributeTask(Mail("b"), {"task_id": "t"}),
            DistributeTask(RawTask("raw", b"\x00"), {"queue": " "}),
            DistributeTask(RawTask("raw", b"\x00")),
        ]
    )
    kinds = [str(each.state) if isinstance(each, TaskInfo) else str(each.kind) for each in outcomes]
    assert kinds == ["pending", "task.id.conflict", "task.option.invalid", "pending"]
    assert tasks.distribute_batch([]) == []


def test_a_store_that_cannot_be_written_is_told_to_everybody(tmp_path: Path) -> None:
    """To each of a batch, and nothing was stored."""
    path = tmp_path / "t.db"
    tree = Supervisor("tasks", children=[Child(Distributor, (f"sqlite:///{path}",), name="distributor")])
    with ActorSystem("test", tree) as system:
        tasks = ActorTaskDistributor(system.lookup("tasks/distributor"))
        db = sqlite3.connect(path)
        with db:
            db.execute("DROP TABLE task_tasks")
        db.close()
        with pytest.raises(StorageError):
            tasks.distribute(Mail("a"))
        with pytest.raises(StorageError):
            tasks.distribute_batch([DistributeTask(Mail("a"))])


def test_a_file_that_another_process_writes_to_is_waited_for_no_longer_than_the_asker_does(tmp_path: Path) -> None:
    """Not for the five seconds that it has for those without a deadline; also where the asker runs the actor itself."""
    path = tmp_path / "t.db"
    tree = Supervisor("tasks", children=[Child(Distributor, (f"sqlite:///{path}",), name="distributor")])
    with ActorSystem("test", tree) as system:
        distributor = system.lookup("tasks/distributor")
        tasks = ActorTaskDistributor(distributor, timeout=0.5)
        other = sqlite3.connect(path, isolation_level=None)
        for quick in (True, False):
            Distributor._table.quick[DistributeTask] = quick
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(StorageError) as refused:
                tasks.distribute(Mail("a"))
            assert time.monotonic() - began < 4.0
            assert refused.value.kind == "storage.sqlite.unavailable"
            other.execute("ROLLBACK")
        other.close()
        assert ActorTaskDistributor(distributor, timeout=60.0).distribute(Mail("a")).state == TaskState.PENDING


def test_a_redis_that_does_not_answer_is_waited_for_no_longer_than_the_asker_does() -> None:
    """Not for the three seconds that it has by default; also where the asker runs the actor itself."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0?timeout=60"
        tree = Supervisor("tasks", children=[Child(Distributor, (url,), name="distributor")])
        with ActorSystem("test", tree) as system:
            tasks = ActorTaskDistributor(system.lookup("tasks/distributor"), timeout=0.5)
            for quick in (True, False):
                Distributor._table.quick[DistributeTask] = quick
                began = time.monotonic()
                with pytest.raises(StorageError) as refused:
                    tasks.distribute(Mail("a"))
                assert time.monotonic() - began < 4.0
                assert refused.value.kind == "storage.redis.unavailable"


UNWRITABLE: dict[str, tuple[RawTask, Any]] = {
    "payload of text": (RawTask("x", "text"), {}),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "payload of nothing": (RawTask("x", None), {}),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "payload of a number": (RawTask("x", 7), {}),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "type without UTF-8": (RawTask("x\ud800"), {}),
    "header without UTF-8": (RawTask("x"), {"headers": {"a": "\ud800"}}),
    "name of a header without UTF-8": (RawTask("x"), {"headers": {"\ud800": "a"}}),
    "lock that is too long": (RawTask("x"), {"unique": 9e15, "process_in": 9e15}),
    "options that are none": (RawTask("x"), None),
}


@pytest.mark.parametrize("wrong", UNWRITABLE)
def test_what_cannot_be_written_is_refused_alone(place: Path | str, wrong: str) -> None:
    """The others of its batch are stored, and the distributor goes on, however often that comes."""
    tree = Supervisor("tasks", children=[Child(Distributor, (url_of(place),), name="distributor")])
    with ActorSystem("test", tree) as system:
        distributor = system.lookup("tasks/distributor")
        tasks = ActorTaskDistributor(distributor)
        bad = DistributeTask(*UNWRITABLE[wrong])
        for _ in range(5):
            with pytest.raises(TaskError) as refused:
                distributor.ask(bad, timeout=60)
            assert refused.value.kind in ("task.option.invalid", "task.type.invalid")
        outcomes = tasks.distribute_batch([DistributeTask(RawTask("a")), bad, DistributeTask(RawTask("b"))])
        assert [isinstance(each, TaskInfo) for each in outcomes] == [True, False, True]
        assert distributor.incarnation == 1


def test_no_payload_is_not_an_empty_one_and_its_lock_is_that_of_a_go_process(place: Path | str) -> None:
    """As asynq has it: the digest of an empty payload, and nothing where there is none."""
    tree = Supervisor("tasks", children=[Child(Distributor, (url_of(place),), name="distributor")])
    with ActorSystem("test", tree) as system:
        tasks = ActorTaskDistributor(system.lookup("tasks/distributor"))
        none = tasks.distribute(RawTask("x", NO_PAYLOAD), unique=60)
        assert (none.message.payload, none.message.unique_key) == (b"", "asynq:{default}:unique:x:")
        empty = tasks.distribute(RawTask("x"), unique=60)
        assert empty.message.unique_key == "asynq:{default}:unique:x:d41d8cd98f00b204e9800998ecf8427e"
        for payload in (NO_PAYLOAD, b""):
            with pytest.raises(TaskDuplicate):
                tasks.distribute(RawTask("x", payload), unique=60)

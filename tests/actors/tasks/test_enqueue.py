"""Enqueueing: where a task goes, and what is refused. The same for every engine."""

from __future__ import annotations

from collections.abc import Callable

from understudy.actors.tasks.engine import ARCHIVE_SIZE
from understudy.actors.tasks.options import plan
from understudy.messages.errors import TaskError
from understudy.messages.tasks import RawTask, TaskInfo, TaskState

from .conftest import NOON, Client, Clock


def test_tasks_are_served_in_the_order_in_which_they_came(client: Client) -> None:
    """First in, first out, whoever takes how many."""
    for number in range(5):
        client.put(f"t{number}")
    assert client.take_ids(2) == ["t0", "t1"]
    assert client.take_ids(9) == ["t2", "t3", "t4"]
    assert client.take_ids(1) == []


def test_everything_that_was_said_about_a_task_comes_back(client: Client) -> None:
    """Payload, options and headers, byte for byte."""
    client.put("t", b"\x00\xff", max_retry=3, timeout=20, deadline=NOON + 60, retention=5, headers={"a": "ä"})
    (lease,) = client.take()
    message = lease.message
    assert (message.type, message.payload, message.id, message.queue) == ("echo", b"\x00\xff", "t", "default")
    assert (message.max_retry, message.retried, message.timeout, message.deadline) == (3, 0, 20, NOON + 60)
    assert (message.retention, message.headers) == (5, {"a": "ä"})
    assert lease.expires_at == NOON + 30


def test_a_task_whose_time_is_to_come_is_scheduled(client: Client, clock: Clock) -> None:
    """It is not served before it was forwarded, and not forwarded before its time."""
    info = client.put("later", process_in=60)
    assert isinstance(info, TaskInfo)
    assert (info.state, info.next_process_at) == (TaskState.SCHEDULED, NOON + 60)
    clock.at += 59
    assert client.engine.forward(["default"]) == 0
    assert client.take_ids() == []
    clock.at += 1
    assert client.engine.forward(["default"]) == 1
    assert client.take_ids() == ["later"]


def test_a_time_that_has_passed_is_now(client: Client) -> None:
    """The task is pending at once."""
    client.put("t", process_at=NOON - 1)
    assert client.state("t") == "pending"


def test_a_task_with_a_group_waits_in_it_once_its_time_has_come(client: Client, clock: Clock) -> None:
    """Where it is scheduled it is scheduled first."""
    client.put("now", group="g")
    client.put("later", group="g", process_in=5)
    assert (client.state("now"), client.state("later")) == ("aggregating", "scheduled")
    clock.at += 5
    client.engine.forward(["default"])
    assert client.state("later") == "aggregating"
    assert client.engine.groups("default") == ["g"]


def test_an_id_is_taken_by_one_task_of_a_queue(client: Client) -> None:
    """Another queue may have one of the same id."""
    client.put("t")
    assert client.put("t") == "task.id.conflict"
    assert isinstance(client.put("t", queue="other"), TaskInfo)


def test_a_unique_task_keeps_others_like_it_away(client: Client) -> None:
    """The same type and payload in the same queue, while the lock lasts."""
    client.put("a", b"same", unique=60)
    assert client.put("b", b"same", unique=60) == "task.duplicate"
    assert isinstance(client.put("c", b"other", unique=60), TaskInfo)
    assert isinstance(client.put("d", b"same", unique=60, queue="elsewhere"), TaskInfo)
    assert isinstance(client.put("e", b"same"), TaskInfo), "one that is not unique minds no lock"


def test_an_id_conflict_leaves_no_lock_behind(client: Client) -> None:
    """Else nobody could enqueue a task like it until the lock has run out."""
    client.put("taken")
    assert client.put("taken", b"p", unique=600) == "task.id.conflict"
    assert isinstance(client.put("free", b"p", unique=600), TaskInfo)


def test_the_lock_of_a_scheduled_task_lasts_from_its_time_on(client: Client, clock: Clock) -> None:
    """Until it may be processed, and as long as was said from then."""
    client.put("a", b"p", unique=10, process_in=100)
    clock.at += 105
    assert client.put("b", b"p", unique=10) == "task.duplicate"
    clock.at += 6
    assert isinstance(client.put("c", b"p", unique=10), TaskInfo)


def test_a_lock_ends_with_its_task_and_stays_while_it_is_retried(client: Client, clock: Clock) -> None:
    """Done releases it; a retry and an archived task keep it."""
    client.put("a", b"p", unique=600)
    client.end(client.next(), "retry", at=clock.at)
    assert client.put("b", b"p", unique=600) == "task.duplicate"
    client.engine.forward(["default"])
    client.end(client.next())
    assert isinstance(client.put("c", b"p", unique=600), TaskInfo)
    client.end(client.next(), "archive")
    assert client.put("d", b"p", unique=600) == "task.duplicate"
    client.engine.delete("default", "c")
    assert isinstance(client.put("e", b"p", unique=600), TaskInfo)


def test_a_task_releases_no_lock_that_is_another_ones_by_now(client: Client, clock: Clock) -> None:
    """Its own had run out."""
    client.put("a", b"p", unique=5)
    (lease,) = client.take()
    clock.at += 6
    client.put("b", b"p", unique=600)
    assert client.end(lease)
    assert client.put("c", b"p", unique=600) == "task.duplicate"


def test_a_batch_answers_for_each_of_its_tasks(client: Client) -> None:
    """A refused one does not keep the others out."""
    client.put("t1")
    outcomes = client.put_all(("t0", b"", {}), ("t1", b"", {}), ("t2", b"", {"queue": "q2"}), ("t0", b"", {}))
    assert [each if isinstance(each, str) else each.state for each in outcomes] == [
        "pending",
        "task.id.conflict",
        "pending",
        "task.id.conflict",
    ]
    assert client.engine.queues() == ["default", "q2"]


def test_ten_thousand_tasks_in_one_batch_are_all_there(client: Client) -> None:
    """And served in their order."""
    outcomes = client.put_all(*((str(number), b"", {}) for number in range(10_000)))
    assert all(isinstance(each, TaskInfo) for each in outcomes)
    assert client.take_ids(10_000) == [str(number) for number in range(10_000)]


def test_the_archive_keeps_the_latest(client: Client, clock: Clock) -> None:
    """Not more than 9,999, and none longer than 90 days."""
    client.put_all(*((str(number), b"", {}) for number in range(ARCHIVE_SIZE + 11)))
    assert client.engine.archive_all("default", TaskState.PENDING) == ARCHIVE_SIZE + 11
    assert client.engine.queue_info("default").sizes[TaskState.ARCHIVED] == ARCHIVE_SIZE
    assert client.state("10") == "gone"
    assert client.state("11") == "archived"
    clock.at += 90 * 86_400
    client.engine.sweep(["default"], 100)
    assert client.engine.queue_info("default").size == 0


def test_what_one_connection_stores_another_one_serves(connect: Callable[[], Client]) -> None:
    """There is one queue, however many connections."""
    connect().put("t")
    assert connect().take_ids() == ["t"]


def test_an_id_may_stay_taken_after_its_task_is_done(client: Client, clock: Clock) -> None:
    """For those that ask for it, and for as long as they say: it makes enqueueing again harmless."""
    task = plan(RawTask("echo"), {"task_id": "t"}, NOON)._replace(once_for=60.0)

    def enqueue_again() -> str:
        (outcome,) = client.engine.enqueue([task])
        return str(outcome.kind) if isinstance(outcome, TaskError) else str(outcome.state)

    assert enqueue_again() == "pending"
    assert client.end(client.next())
    assert client.state("t") == "gone"
    assert enqueue_again() == "task.id.conflict"
    clock.at += 61
    assert enqueue_again() == "pending"

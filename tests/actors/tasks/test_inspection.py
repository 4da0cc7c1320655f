"""Looking at queues, and managing them. The same for every engine."""

from __future__ import annotations

import pytest

from understudy.messages.errors import TaskError, TaskNotFound, TaskRefused
from understudy.messages.tasks import TaskInfo, TaskState

from .conftest import NOON, Client, Clock


def one_of_each(client: Client, clock: Clock) -> None:
    """One task in each state, named by it."""
    for name in ("completed", "archived", "retry", "active"):
        client.put(name, retention=600)
    client.end(client.next())
    client.end(client.next(), "archive", error="boom")
    client.end(client.next(), "retry", at=NOON + 600)
    client.take()
    client.put("scheduled", process_in=600)
    client.put("aggregating", group="g")
    client.put("pending")
    clock.at += 5


def test_a_queue_is_shown_with_all_its_states(client: Client, clock: Clock) -> None:
    """Sizes, latency, groups, today's counters."""
    one_of_each(client, clock)
    info = client.engine.queue_info("default")
    assert info.sizes == dict.fromkeys(TaskState, 1)
    assert info.size == 7
    assert (info.latency, info.groups, info.paused) == (5.0, 1, False)
    assert (info.processed, info.failed) == (3, 2)


@pytest.mark.parametrize("state", TaskState)
def test_the_tasks_of_a_state_are_listed(client: Client, clock: Clock, state: TaskState) -> None:
    """Each state for itself."""
    one_of_each(client, clock)
    assert [info.id for info in client.engine.tasks("default", state)] == [str(state)]
    assert client.engine.task("default", str(state)).state == state


def test_a_long_list_is_read_page_by_page(client: Client) -> None:
    """Counted from 1; past the end there is nothing."""
    client.put_all(*((str(number), b"", {}) for number in range(7)))
    pages = [[info.id for info in client.engine.tasks("default", TaskState.PENDING, page, 3)] for page in (1, 3, 4)]
    assert pages == [["0", "1", "2"], ["6"], []]


@pytest.mark.parametrize(
    ("what", "allowed"),
    [
        ("run", {"scheduled", "retry", "archived", "completed", "aggregating"}),
        ("archive", {"scheduled", "retry", "pending", "completed", "aggregating"}),
        ("delete", {"scheduled", "retry", "pending", "completed", "aggregating", "archived"}),
    ],
)
def test_a_task_is_run_archived_or_deleted_where_its_state_allows(
    client: Client, clock: Clock, what: str, allowed: set[str]
) -> None:
    """An active task can only be cancelled; nothing is done twice."""
    one_of_each(client, clock)
    for state in TaskState:
        before = client.state(state)
        operation = getattr(client.engine, what)
        if state in allowed:
            operation("default", str(state))
            assert client.state(state) == {"run": "pending", "archive": "archived", "delete": "gone"}[what]
        else:
            with pytest.raises(TaskRefused, match=f"is {state}"):
                operation("default", str(state))
            assert client.state(state) == before


def test_all_of_a_state_are_run_archived_or_deleted_at_once(client: Client) -> None:
    """And counted."""
    for number in range(3):
        client.put(f"t{number}", process_in=60)
    assert client.engine.archive_all("default", TaskState.SCHEDULED) == 3
    assert client.engine.run_all("default", TaskState.ARCHIVED) == 3
    assert client.engine.delete_all("default", TaskState.PENDING) == 3
    assert client.engine.queue_info("default").size == 0
    for operation in (client.engine.run_all, client.engine.archive_all, client.engine.delete_all):
        with pytest.raises(TaskRefused):
            operation("default", TaskState.ACTIVE)


def test_a_task_that_is_run_by_hand_goes_behind_those_that_wait(client: Client) -> None:
    """It was their turn first."""
    client.put("later", process_in=60)
    client.put("waiting")
    client.engine.run("default", "later")
    assert client.take_ids(2) == ["waiting", "later"]


def test_the_payload_of_a_scheduled_task_can_be_replaced(client: Client) -> None:
    """And of no other."""
    client.put("later", b"old", process_in=60)
    client.put("now")
    client.engine.update_payload("default", "later", b"new")
    assert client.engine.task("default", "later").message.payload == b"new"
    with pytest.raises(TaskRefused):
        client.engine.update_payload("default", "now", b"new")


def test_a_queue_is_removed_only_when_nothing_is_lost(client: Client) -> None:
    """With force, waiting tasks go with it; never active ones."""
    client.put("a", b"p", unique=600)
    with pytest.raises(TaskRefused) as caught:
        client.engine.remove_queue("default")
    assert caught.value.kind == "task.queue.not_empty"
    (lease,) = client.take()
    with pytest.raises(TaskRefused):
        client.engine.remove_queue("default", force=True)
    client.end(lease, "requeue")
    client.engine.remove_queue("default", force=True)
    assert client.engine.queues() == []
    assert isinstance(client.put("b", b"p", unique=600), TaskInfo)


def test_what_is_not_there_is_said_not_to_be(client: Client) -> None:
    """A queue and a task are told apart."""
    client.put("t")
    for operation in (client.engine.task, client.engine.run, client.engine.archive, client.engine.delete):
        with pytest.raises(TaskNotFound) as caught:
            operation("default", "nobody")
        assert caught.value.kind == "task.not_found"
        with pytest.raises(TaskNotFound) as caught:
            operation("nowhere", "t")
        assert caught.value.kind == "task.queue.unknown"
    for asked in (client.engine.queue_info, client.engine.remove_queue, client.engine.unpause):
        with pytest.raises(TaskError) as wrong:
            asked("nowhere")
        assert wrong.value.kind == "task.queue.unknown"


def test_groups_are_shown_with_their_sizes(client: Client) -> None:
    """Without what is being aggregated."""
    assert client.engine.group_sizes("default") == {}
    for number, group in enumerate("bab"):
        client.put(str(number), group=group)
    assert client.engine.group_sizes("default") == {"a": 1, "b": 2}
    assert client.engine.gather("default", "b", grace=0, max_delay=0, max_size=1) is not None
    assert client.engine.group_sizes("default") == {"a": 1, "b": 1}


def test_the_memory_of_a_queue_grows_with_its_tasks(client: Client, clock: Clock) -> None:
    """In every state; about as much as their payloads have, or more."""
    with pytest.raises(TaskNotFound):
        client.engine.memory_usage("default")
    one_of_each(client, clock)
    little = client.engine.memory_usage("default")
    assert 0 < little < 20_000
    client.put_all(*((f"more{number}", b"x" * 1_000, {}) for number in range(100)))
    client.put_all(*((f"group{number}", b"x" * 1_000, {"group": str(number)}) for number in range(100)))
    assert 200_000 < client.engine.memory_usage("default") - little < 500_000


def test_without_a_cluster_a_queue_has_no_slot(client: Client) -> None:
    client.put("a")
    assert client.engine.cluster_slot("default") is None
    assert client.engine.cluster_nodes("default") == []

"""Groups: tasks that are gathered to be made into one. The same for every engine."""

from __future__ import annotations

import pytest

from understudy.actors.tasks.options import plan
from understudy.messages.errors import TaskDuplicate
from understudy.messages.tasks import RawTask, TaskInfo, TaskState

from .conftest import Client, Clock

GRACE, DELAY, SIZE = 10.0, 60.0, 3


def gather(client: Client, group: str = "g") -> tuple[str, list[str]] | None:
    found = client.engine.gather("default", group, grace=GRACE, max_delay=DELAY, max_size=SIZE)
    return None if found is None else (found[0], [message.id for message in found[1]])


def test_a_group_is_gathered_once_it_is_quiet(client: Client, clock: Clock) -> None:
    """Ten seconds after its newest task."""
    client.put("a", group="g")
    clock.at += 9
    client.put("b", group="g")
    clock.at += 9
    assert gather(client) is None
    clock.at += 1
    found = gather(client)
    assert found is not None
    assert found[1] == ["a", "b"]
    assert gather(client) is None
    assert client.engine.groups("default") == []


def test_a_group_is_gathered_once_it_is_old(client: Client, clock: Clock) -> None:
    """However busy it is."""
    for number in range(2):
        client.put(f"t{number}", group="g")
        clock.at += 30
    client.put("t2", group="h")
    found = gather(client)
    assert found is not None
    assert found[1] == ["t0", "t1"]


def test_a_full_group_is_gathered_at_once_and_not_more_than_fits(client: Client) -> None:
    """The oldest go first."""
    for number in range(4):
        client.put(f"t{number}", group="g")
    found = gather(client)
    assert found is not None
    assert found[1] == ["t0", "t1", "t2"]
    assert gather(client) is None
    assert client.engine.groups("default") == ["g"]


def test_what_was_made_of_a_set_takes_its_place(client: Client, clock: Clock) -> None:
    """In one step, with the locks of its members released."""
    client.put("a", b"p", group="g", unique=600)
    clock.at += 10
    found = gather(client)
    assert found is not None
    made = plan(RawTask("batch", b"a"), {"task_id": "made"}, clock.at)
    assert client.engine.drop_set("default", found[0], made)
    assert client.state("a") == "gone"
    assert client.take_ids() == ["made"]
    assert isinstance(client.put("b", b"p", unique=600), TaskInfo)


def test_a_set_that_nobody_dropped_goes_back_to_its_group(client: Client, clock: Clock) -> None:
    """After two minutes; whoever comes later with what was made of it is refused."""
    client.put("a", group="g")
    clock.at += 10
    found = gather(client)
    assert found is not None
    clock.at += 119
    assert client.engine.reclaim(["default"]) == 0
    clock.at += 1
    made = plan(RawTask("batch", b"a"), {"task_id": "made"}, clock.at)
    assert not client.engine.drop_set("default", found[0], made)
    assert client.state("made") == "gone"
    assert client.engine.reclaim(["default"]) == 1
    assert client.engine.groups("default") == ["g"]
    again = gather(client)
    assert again is not None
    assert again[1] == ["a"]


def test_a_task_may_be_taken_out_of_its_group(client: Client) -> None:
    """Run, archived or deleted by its group's name."""
    for name in ("a", "b", "c"):
        client.put(name, group=name)
    assert client.engine.run_all("default", TaskState.AGGREGATING, "a") == 1
    assert client.engine.archive_all("default", TaskState.AGGREGATING, "b") == 1
    assert client.engine.delete_all("default", TaskState.AGGREGATING, "c") == 1
    assert [client.state(name) for name in ("a", "b", "c")] == ["pending", "archived", "gone"]


def test_the_locks_of_a_set_are_kept_when_nothing_comes_of_it(client: Client, clock: Clock) -> None:
    """What was made of it is refused, since a task like it is there: the members are still to be done, and unique."""
    client.put("a", b"p", group="g", unique=600)
    client.put("other", b"q", unique=600)
    clock.at += 10
    found = gather(client)
    assert found is not None
    made = plan(RawTask("echo", b"q"), {"task_id": "made", "unique": 600}, clock.at)
    with pytest.raises(TaskDuplicate):
        client.engine.drop_set("default", found[0], made)
    assert client.put("b", b"p", unique=600) == "task.duplicate"

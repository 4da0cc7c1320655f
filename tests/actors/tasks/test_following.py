"""What follows a task: stored with its end, once, and told how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy import DistributeTask, Periodic, Previous, RevokeTask, SkipRetry, TaskContext, TaskPayload, TaskRouter
from understudy.actors.tasks.engine import Ending, Lease
from understudy.actors.tasks.following import MAX_STEPS, OURS, chain, following
from understudy.actors.tasks.options import new_task, plan
from understudy.actors.tasks.outcome import followed
from understudy.messages.errors import TaskError
from understudy.messages.tasks import RawTask, TaskMessage

from .conftest import NOON, Client, Clock
from .stage import PATIENCE, engine_at, staged

BEFORE = Previous("a", "t", "default")


class Add(TaskPayload[int]):
    task_type = "task:add"
    task_options = {"queue": "sums"}  # noqa: RUF012 -- as in README

    amount: int


def end_with_next(client: Client, lease: Lease, task_id: str = "next", **options: Any) -> bool:
    task = plan(RawTask("echo"), {"task_id": task_id, **options}, NOON)._replace(once_for=60.0)
    return client.end(lease, "done", next=task)


# --- engines -------------------------------------------------------------------------------------------------


def test_what_follows_is_stored_with_the_end(client: Client, clock: Clock) -> None:
    """In whichever queue, and at whichever time."""
    client.put("t")
    client.put("u")
    first, second = client.take(2)
    assert end_with_next(client, first, queue="other")
    assert end_with_next(client, second, "later", process_in=5)
    assert client.take_ids(9, "other") == ["next"]
    assert client.state("later") == "scheduled"
    assert client.engine.queues() == ["default", "other"]


def test_nothing_follows_an_end_that_is_refused(client: Client, clock: Clock) -> None:
    """Another attempt is at it."""
    client.put("t")
    lease = client.next()
    clock.at += 31
    assert not end_with_next(client, lease)
    assert client.state("next") == "gone"


def test_what_is_there_already_is_stored_once(client: Client) -> None:
    """The end is accepted all the same."""
    client.put("t")
    client.put("next")
    lease = client.next()
    assert end_with_next(client, lease)
    assert (client.state("t"), client.state("next")) == ("gone", "pending")
    assert client.take_ids(9) == ["next"]


# --- what is written -----------------------------------------------------------------------------------------


def test_what_follows_has_its_id_from_the_beginning() -> None:
    """However often the end is stored, it is the same task."""
    message = plan(RawTask("a"), {"on_success": [Add(1), {"process_in": 5}]}, NOON).message
    stored = [followed(Ending(Lease(message, 1, NOON), "done"), NOON + at).next for at in (0, 10)]
    assert stored[0] is not None
    assert stored[1] is not None
    assert stored[0].message == stored[1].message
    assert (stored[0].message.queue, stored[0].message.type) == ("sums", "task:add")
    assert (stored[0].process_at, stored[1].process_at) == (NOON + 5, NOON + 15)
    assert stored[0].once_for > 0


def test_a_chain_carries_its_rest_along() -> None:
    """Each step has those behind it in its headers, however many there are."""
    steps = [RawTask(f"s{number}") for number in range(MAX_STEPS)]
    first = chain(*steps)
    message = plan(first.payload, first.options, NOON).message
    seen = [message.type]
    while (step := following(message.headers, "on_success")) is not None:
        assert message.headers.keys() <= {OURS + "on_success", OURS + "previous"}
        message = new_task(step, BEFORE, NOON).message
        seen.append(message.type)
    assert seen == [step.type for step in steps]


def test_a_chain_may_have_one_for_all_that_fail() -> None:
    """A step's own goes before it."""
    own = RawTask("own")
    first = chain(RawTask("a"), [RawTask("b"), {"on_failure": own}], on_failure=RawTask("all"))
    assert first.options.get("on_failure") == RawTask("all")
    second = first.options.get("on_success")
    assert isinstance(second, DistributeTask)
    assert second.options.get("on_failure") == own


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: plan(RawTask("a"), {"on_success": 5}, NOON), "on_success=5"),
        (lambda: plan(RawTask("a"), {"on_success": [RawTask("b"), {"queu": "x"}]}, NOON), "queue"),
        (lambda: plan(RawTask("a"), {"on_failure": [RawTask("b")]}, NOON), "on_failure"),
        (lambda: plan(RawTask("a"), {"on_failure": [5, {}]}, NOON), "payload"),
        (lambda: plan(RawTask("a"), {"on_success": RawTask("b"), "group": "g"}, NOON), "group"),
        (lambda: plan(RawTask("a"), {"headers": {"understudy.x": "y"}}, NOON), "understudy."),
        (lambda: plan(RawTask("a"), {"on_success": RawTask("b", b"x" * 2**20)}, NOON), "1,048,576"),
        (chain, "1 to 100"),
        (lambda: chain(*[RawTask("a")] * 101), "1 to 100"),
        (lambda: chain([RawTask("a"), {"on_success": RawTask("b")}], RawTask("c")), "last"),
    ],
)
def test_what_cannot_follow_is_refused(make: Callable[[], object], says: str) -> None:
    """Where it is distributed."""
    with pytest.raises(TaskError, match=says) as caught:
        make()
    assert caught.value.kind in ("task.option.invalid", "task.type.invalid")


def test_a_circle_is_refused() -> None:
    """It has no end."""
    options: dict[str, Any] = {}
    options["on_success"] = [RawTask("a"), options]
    with pytest.raises(TaskError, match="in a row"):
        plan(RawTask("a"), options, NOON)


def test_a_task_that_nothing_follows_is_written_as_before() -> None:
    """Not a byte more."""
    assert plan(RawTask("a"), {"on_success": None, "task_id": "t"}, NOON) == plan(RawTask("a"), {"task_id": "t"}, NOON)


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"message":[1,2]}', "[" * 5000])
def test_a_header_that_somebody_else_wrote_does_not_keep_a_task_from_its_end(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log."""
    message = TaskMessage("t", b"", "a", headers={OURS + "on_success": text})
    ending = Ending(Lease(message, 1, NOON), "done")
    assert followed(ending, NOON) == ending
    assert "task.record.invalid" in caplog.text


def test_periodic_tasks_differ_by_what_follows_them() -> None:
    """And are the same where that is the same."""
    ids = [Periodic("@hourly", RawTask("a"), {"on_success": Add(amount)}).id for amount in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


# --- processors ----------------------------------------------------------------------------------------------


class Seen:
    """What handlers found of the task before."""

    def __init__(self) -> None:
        self.found: dict[str, Previous | None] = {}
        self.changed = threading.Condition()

    def note(self, context: TaskContext) -> None:
        with self.changed:
            self.found[context.task.type] = context.previous
            self.changed.notify_all()

    def has(self, name: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: name in self.found, PATIENCE)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def router(seen: Seen) -> TaskRouter:
    router = TaskRouter()

    @router.handles(Add)
    def add(payload: Add, context: TaskContext) -> int:
        seen.note(context)
        assert not context.headers
        before = 0 if context.previous is None else context.previous.value
        return int(before) + payload.amount

    @router.handles("fails")
    def fail(_task: RawTask, context: TaskContext) -> None:
        seen.note(context)
        raise SkipRetry("no use")

    @router.handles("revoked")
    def revoke(_task: RawTask, context: TaskContext) -> None:
        seen.note(context)
        raise RevokeTask

    @router.handles("writes")
    def write(_task: RawTask, context: TaskContext) -> None:
        context.write_result({"a": 1})

    @router.handles("then")
    def then(_task: RawTask, context: TaskContext) -> None:
        seen.note(context)

    return router


def test_each_step_of_a_chain_has_the_result_of_the_one_before(
    place: Path | str, router: TaskRouter, seen: Seen
) -> None:
    """Through several queues, and though no result is kept."""
    with staged(place, router, queues={"default": 1, "sums": 1}) as stage:
        info = stage.tasks.chain(Add(1), [Add(2), {"queue": "default"}], Add(3), RawTask("then"))
        assert (info.queue, info.state) == ("sums", "pending")
        assert seen.has("then")
    found = seen.found["then"]
    assert found is not None
    assert (found.value, found.type, found.queue, found.error) == (6, "task:add", "sums", "")


def test_what_a_handler_wrote_is_handed_on(place: Path | str, router: TaskRouter, seen: Seen) -> None:
    """Where it returned nothing."""
    with staged(place, router) as stage:
        stage.put("w", "writes", on_success=RawTask("then"))
        assert seen.has("then")
    found = seen.found["then"]
    assert found is not None
    assert (found.value, found.id) == ({"a": 1}, "w")


def test_what_follows_a_failure_knows_its_error(place: Path | str, router: TaskRouter, seen: Seen) -> None:
    """What was to follow its success does not."""
    with staged(place, router) as stage:
        stage.put("f", "fails", on_failure=[RawTask("then"), {"task_id": "n"}], on_success=RawTask("fails"))
        assert seen.has("then")
        assert stage.ends("n", "gone")
        assert stage.engine.queue_info("default").sizes["archived"] == 1  # type: ignore[index]
    found = seen.found["then"]
    assert found is not None
    assert found.error == "0xFFF6 task.handler.failed: SkipRetry: no use"


def test_nothing_follows_a_task_that_is_revoked(place: Path | str, router: TaskRouter, seen: Seen) -> None:
    """It is neither done nor failed."""
    with staged(place, router) as stage:
        stage.put("r", "revoked", on_failure=RawTask("then"), on_success=RawTask("then"))
        assert seen.has("revoked")
        assert stage.ends("r", "gone")
        assert stage.engine.queue_info("default").size == 0
    assert "then" not in seen.found


def test_an_attempt_that_was_let_down_for_good_is_followed(place: Path | str, router: TaskRouter, seen: Seen) -> None:
    """By whoever recovers it."""
    with staged(place, router) as stage:
        stage.engine.pause("default")
        stage.put("gone", "t", max_retry=0, on_failure=RawTask("then"))
    engine = engine_at(place, lambda: time.time() - 60)
    engine.unpause("default")
    ((lease),) = engine.dequeue(["default"], 1)
    engine.close()
    with staged(place, router):
        assert seen.has("then")
    found = seen.found["then"]
    assert found is not None
    assert (found.id, "task.lease.expired" in found.error) == (lease.message.id, True)


def test_a_chain_may_be_one_of_a_batch(place: Path | str, router: TaskRouter, seen: Seen) -> None:
    """It is a task with options like any other."""
    with staged(place, router) as stage:
        outcomes = stage.tasks.distribute_batch([chain(RawTask("writes"), RawTask("then")), DistributeTask(Add(1))])
        assert [str(getattr(outcome, "state", outcome)) for outcome in outcomes] == ["pending", "pending"]
        assert seen.has("then")

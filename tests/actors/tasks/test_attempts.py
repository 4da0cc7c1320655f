"""Attempts: how a task is dequeued, kept, ended and recovered. The same for every engine."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from understudy.actors.tasks.engine import Ending
from understudy.actors.tasks.options import plan
from understudy.messages.errors import TaskRefused
from understudy.messages.tasks import RawTask, TaskState

from .conftest import NOON, Client, Clock


def test_queues_are_served_in_the_order_in_which_they_are_named(client: Client) -> None:
    """The second one when the first has no more."""
    for name in ("low", "high"):
        client.put(f"{name}1", queue=name)
        client.put(f"{name}2", queue=name)
    assert client.take_ids(3, "high", "low") == ["high1", "high2", "low1"]
    assert client.take_ids(3, "unknown", "low") == ["low2"]


def test_a_paused_queue_serves_nothing_until_it_is_unpaused(client: Client) -> None:
    """Tasks are taken meanwhile."""
    client.put("t")
    client.engine.pause("default")
    client.put("u")
    assert client.take_ids(2) == []
    assert client.engine.queue_info("default").paused
    with pytest.raises(TaskRefused):
        client.engine.pause("default")
    client.engine.unpause("default")
    with pytest.raises(TaskRefused):
        client.engine.unpause("default")
    assert client.take_ids(2) == ["t", "u"]


def test_a_done_task_is_gone(client: Client) -> None:
    """And counted."""
    client.put("t")
    assert client.end(client.next())
    info = client.engine.queue_info("default")
    assert client.state("t") == "gone"
    assert (info.processed, info.failed, info.processed_total) == (1, 0, 1)


def test_a_done_task_with_a_retention_is_kept_for_so_long(client: Client, clock: Clock) -> None:
    """With its result, and the instant of its completion."""
    client.put("t", retention=60)
    client.end(client.next(), result=b"42")
    info = client.engine.task("default", "t")
    assert (info.state, info.result, info.message.completed_at) == (TaskState.COMPLETED, b"42", NOON)
    clock.at += 59
    assert client.engine.sweep(["default"], 100) == 0
    clock.at += 1
    assert client.engine.sweep(["default"], 100) == 1
    assert client.state("t") == "gone"


def test_a_revoked_task_is_gone_in_spite_of_its_retention(client: Client) -> None:
    """It is counted as processed."""
    client.put("t", retention=60)
    client.end(client.next(), forget=True)
    assert client.state("t") == "gone"
    assert client.engine.queue_info("default").processed == 1


def test_a_failed_task_waits_for_its_next_attempt(client: Client, clock: Clock) -> None:
    """It knows how often and when it failed, and why."""
    client.put("t")
    client.end(client.next(), "retry", error="boom", at=NOON + 20)
    info = client.engine.task("default", "t")
    assert (info.state, info.next_process_at) == (TaskState.RETRY, NOON + 20)
    assert (info.message.retried, info.message.error_msg, info.message.last_failed_at) == (1, "boom", NOON)
    clock.at += 20
    assert client.engine.forward(["default"]) == 1
    assert client.take()[0].message.retried == 1
    counted = client.engine.queue_info("default")
    assert (counted.processed, counted.failed) == (1, 1)


def test_what_is_no_failure_uses_up_no_retry(client: Client) -> None:
    """And is not counted; when it was is noted, as asynq does."""
    client.put("t")
    client.end(client.next(), "retry", error="busy", at=NOON, failure=False)
    assert client.engine.task("default", "t").message.last_failed_at == int(NOON)
    info = client.engine.queue_info("default")
    assert client.retried("t") == 0
    assert (info.processed, info.failed) == (0, 0)


def test_an_archived_task_is_kept_and_not_tried_again(client: Client, clock: Clock) -> None:
    """Its last attempt counts as a failure, and not as a retry."""
    client.put("t")
    client.end(client.next(), "archive", error="boom")
    clock.at += 10_000
    assert client.engine.forward(["default"]) == 0
    assert client.take() == []
    info = client.engine.task("default", "t")
    assert (info.state, info.message.error_msg, info.message.retried) == (TaskState.ARCHIVED, "boom", 0)
    assert client.engine.queue_info("default").failed == 1


def test_a_requeued_task_is_served_next(client: Client) -> None:
    """Before those that wait, as if it had not been dequeued."""
    client.put("first")
    client.put("second")
    client.end(client.next(), "requeue")
    info = client.engine.queue_info("default")
    assert (info.processed, info.failed) == (0, 0)
    assert client.take_ids(2) == ["first", "second"]


def test_a_late_completion_of_a_recovered_task_is_refused(client: Client, clock: Clock) -> None:
    """The attempt is fenced by its token, also where the next one is under way."""
    client.put("t")
    (stale,) = client.take()
    clock.at += 31
    (expired,) = client.engine.expired(["default"])
    assert client.engine.finish([Ending(expired, "retry", at=clock.at)], recovering=True) == [True]
    client.engine.forward(["default"])
    (fresh,) = client.take()
    assert not client.end(stale)
    assert not client.end(stale, "retry")
    assert not client.engine.write_result(stale, b"x")
    assert client.engine.extend([stale]) == [None]
    assert client.state("t") == "active"
    assert client.end(fresh)


def test_a_completion_after_the_lease_is_refused_even_if_nobody_recovered_the_task(
    client: Client, clock: Clock
) -> None:
    """It is the recoverer's from then on."""
    client.put("t")
    (lease,) = client.take()
    clock.at += 30
    assert not client.end(lease)
    assert client.engine.extend([lease]) == [None]
    assert client.state("t") == "active"
    assert client.engine.task("default", "t").orphaned


def test_an_extended_lease_holds(client: Client, clock: Clock) -> None:
    """30 seconds from each extension."""
    client.put("t")
    (lease,) = client.take()
    for _ in range(5):
        clock.at += 20
        extended = client.engine.extend([lease])[0]
        assert extended is not None
        assert extended.expires_at == clock.at + 30
    assert client.engine.expired(["default"]) == []
    assert client.end(lease)


def test_nobody_recovers_an_attempt_that_has_its_lease(client: Client, clock: Clock) -> None:
    """Also if it had expired when it was listed, and the clock was set back since."""
    client.put("t")
    (lease,) = client.take()
    clock.at += 31
    (expired,) = client.engine.expired(["default"])
    clock.at -= 31
    assert client.engine.finish([Ending(expired, "archive")], recovering=True) == [False]
    assert client.end(lease)


def test_a_result_is_there_at_once(client: Client) -> None:
    """While the attempt goes on, and after it where the task is kept."""
    client.put("t", retention=60)
    (lease,) = client.take()
    assert client.engine.write_result(lease, b"half")
    assert client.engine.task("default", "t").result == b"half"
    client.end(lease)
    assert client.engine.task("default", "t").result == b"half"


def test_many_attempts_end_at_once_each_in_its_own_way(client: Client) -> None:
    """One that is stale does not hold the others up."""
    client.put_all(*((name, b"", {}) for name in ("done", "retry", "archive", "requeue", "stale")))
    leases = client.take(5)
    stale = leases[4]._replace(token=leases[4].token - 1)
    accepted = client.engine.finish(
        [
            Ending(leases[0], "done"),
            Ending(leases[1], "retry", at=NOON + 9),
            Ending(leases[2], "archive"),
            Ending(leases[3], "requeue"),
            Ending(stale, "done"),
        ]
    )
    assert accepted == [True, True, True, True, False]
    states = [client.state(name) for name in ("done", "retry", "archive", "requeue", "stale")]
    assert states == ["gone", "retry", "archived", "pending", "active"]


def test_a_task_that_was_deleted_and_stored_again_is_another_one(client: Client, clock: Clock) -> None:
    """A late completion of the first does not end the second."""
    client.put("t")
    (stale,) = client.take()
    clock.at += 31
    (expired,) = client.engine.expired(["default"])
    client.engine.finish([Ending(expired, "archive")], recovering=True)
    client.engine.delete("default", "t")
    clock.at -= 31
    client.put("t")
    client.take()
    assert not client.end(stale)
    assert client.state("t") == "active"


def test_counters_are_those_of_the_day(client: Client, clock: Clock) -> None:
    """In UTC; the totals go on, and what is older than 90 days is forgotten."""
    client.put_all(("a", b"", {}), ("b", b"", {}))
    client.end(client.next())
    clock.at += 86_400
    client.end(client.next(), "archive")
    assert client.engine.history("default", 3) == [
        ("2023-11-15", 1, 1),
        ("2023-11-14", 1, 0),
        ("2023-11-13", 0, 0),
    ]
    info = client.engine.queue_info("default")
    assert (info.processed, info.failed, info.processed_total, info.failed_total) == (1, 1, 2, 1)
    clock.at += 90 * 86_400 - 60
    client.engine.sweep(["default"], 100)
    assert client.engine.history("default", 92)[-2:] == [("2023-11-15", 1, 1), ("2023-11-14", 0, 0)]


def test_an_enqueue_of_another_connection_ends_a_wait(connect: Callable[[], Client]) -> None:
    """The waiter need not ask again and again."""
    waiter, other = connect(), connect()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(waiter.engine.wait(["default"], 30.0)))
    thread.start()
    other.put("t")
    thread.join(10.0)
    assert found == [True]


def test_a_wait_ends_when_it_is_woken_or_time_is_up(client: Client) -> None:
    """With the answer that nothing was found."""
    assert client.engine.wait(["default"], 0.0) is False
    found: list[bool] = []
    started = threading.Event()

    def wait() -> None:
        started.set()
        found.append(client.engine.wait(["default"], 30.0))

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait(10.0)
    while thread.is_alive():
        client.engine.wake()
        thread.join(0.01)
    assert found == [False]


def test_attempts_end_and_others_begin_in_one_step(client: Client, clock: Clock) -> None:
    """Each end is accepted or refused by itself; what follows one may be what begins."""
    for task_id in ("a", "b", "c", "d"):
        client.put(task_id)
    first, second = client.take(2)
    endings = [Ending(first, "done"), Ending(first, "done"), Ending(second, "retry", at=clock.at + 60)]
    accepted, leases = client.engine.turn(endings, ["default"], 5)
    assert accepted == [True, False, True]
    assert [lease.message.id for lease in leases] == ["c", "d"]
    assert (client.state("a"), client.state("b"), client.state("c")) == ("gone", "retry", "active")
    following = plan(RawTask("echo"), {"task_id": "e"}, clock.at)
    accepted, (lease,) = client.engine.turn([Ending(leases[0], "done", next=following)], ["default"], 1)
    assert (accepted, lease.message.id) == ([True], "e")
    assert client.engine.turn([Ending(lease, "requeue")], ["default"], 0) == ([True], [])
    assert client.engine.turn([], ["default"], 0) == ([], [])
    assert client.state("e") == "pending"

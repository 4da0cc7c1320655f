"""Limits: how often tasks begin, whoever asks; the same for every engine. And what a processor does with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy import ProcessorSettings, Rate, TaskPayload, TaskRouter
from understudy.actors.tasks.engine import Turn
from understudy.actors.tasks.limits import Limiter, limits_of
from understudy.actors.tasks.opening import open_engine
from understudy.messages.errors import SpecInvalid, StorageError
from understudy.messages.tasks import RawTask

from .conftest import NOON, Client, Clock
from .stage import PATIENCE, eventually, staged, url_of

EVERY = 0.5


class Mail(TaskPayload[None]):
    task_type = "task:mail"


def ask(client: Client, *tasks: str, burst: int = 1, patience: float = 0.1) -> list[tuple[bool, float]]:
    """Whether tasks may begin, and when: seconds since noon."""
    turns = client.engine.admit("mail", EVERY, burst, tasks, patience)
    assert all(isinstance(turn, Turn) for turn in turns)
    return [(turn.granted, round(turn.at - NOON, 6)) for turn in turns]


def test_one_may_begin_and_the_others_stand_in_line(client: Client) -> None:
    """Each has an instant of its own, in the order in which they came."""
    assert ask(client, "a", "b", "c") == [(True, 0), (False, 0.5), (False, 1.0)]
    assert ask(client, "d") == [(False, 1.5)]


def test_who_comes_back_at_its_place_may_begin_and_nobody_overtakes_it(client: Client, clock: Clock) -> None:
    """Not even somebody who comes at that very moment."""
    ask(client, "a", "b", "c")
    clock.at += 0.5
    assert ask(client, "new") == [(False, 1.5)]
    assert ask(client, "c") == [(False, 1.0)], "it came early, and keeps its place"
    assert ask(client, "b") == [(True, 0.5)]
    clock.at += 0.5
    assert ask(client, "c") == [(True, 1.0)]


def test_a_pause_is_not_saved_up(client: Client, clock: Clock) -> None:
    """When all come late, they begin one after the other all the same."""
    ask(client, "a", "b", "c", "d")
    clock.at += 100
    assert ask(client, "b", "c", "d") == [(True, 100), (False, 100.5), (False, 101)]


def test_a_burst_may_begin_at_once(client: Client, clock: Clock) -> None:
    """And after a while another one."""
    assert ask(client, "a", "b", "c", "d", burst=3) == [(True, 0), (True, 0), (True, 0), (False, 0.5)]
    clock.at += 100
    assert ask(client, "e", "f", "g", "h", burst=3) == [(True, 100), (True, 100), (True, 100), (False, 100.5)]


def test_who_can_wait_a_moment_is_granted_that_moment(client: Client) -> None:
    """It need not go back and come again."""
    assert ask(client, "a", "b", "c", "d", patience=1.0) == [(True, 0), (True, 0.5), (True, 1.0), (False, 1.5)]


def test_what_has_no_name_has_no_place(client: Client, clock: Clock) -> None:
    """It is told when to ask again."""
    assert ask(client, "", "", "") == [(True, 0), (False, 0.5), (False, 0.5)]
    clock.at += 0.5
    assert ask(client, "", "") == [(True, 0.5), (False, 1.0)]


def test_limits_hold_for_all_who_share_the_queues(connect: Callable[[], Client]) -> None:
    """And each is of its own."""
    one, other = connect(), connect()
    assert ask(one, "a") == [(True, 0)]
    assert ask(other, "b") == [(False, 0.5)]
    assert other.engine.admit("other", EVERY, 1, ["b"], 0.1) == [Turn(granted=True, at=NOON)]


def test_a_deferred_task_is_scheduled_and_keeps_its_retries(client: Client, clock: Clock) -> None:
    """Nothing is counted, and nothing about it is changed."""
    client.put("t", headers={"a": "b"})
    lease = client.next()
    assert client.end(lease, "defer", at=NOON + 5)
    assert client.state("t") == "scheduled"
    assert not client.end(lease, "done")
    clock.at += 5
    assert client.engine.forward(["default"]) == 1
    assert client.next().message == lease.message
    assert client.engine.queue_info("default").processed_total == 0


def test_a_task_with_the_id_of_a_deferred_one_is_not_due_with_it(client: Client, clock: Clock) -> None:
    """When that one was deleted meanwhile."""
    client.put("t")
    client.end(client.next(), "defer", at=NOON + 5.5)
    client.engine.delete("default", "t")
    client.put("t", process_in=3600)
    clock.at += 6
    assert client.engine.forward(["default"]) == 0
    assert client.state("t") == "scheduled"


@pytest.mark.parametrize(
    "limits",
    [
        {"queue:": Rate(1)},
        {" ": Rate(1)},
        {5: Rate(1)},
        {int: Rate(1)},
        {"t": 5},
        {Mail: Rate(1), "task:mail": Rate(1)},
    ],
)
def test_limits_that_cannot_be_are_refused(limits: Any) -> None:
    """Where they are declared."""
    with pytest.raises(SpecInvalid) as caught:
        ProcessorSettings(limits=limits)
    assert caught.value.kind == "config.task_processing.invalid"


@pytest.mark.parametrize("wrong", [(0,), (-1,), (1.5,), (True,), (1, 0), (1, float("nan")), (1, "x"), (1, 1, 0)])
def test_a_rate_that_cannot_be_is_refused(wrong: Any) -> None:
    """Where it is declared."""
    with pytest.raises(SpecInvalid):
        Rate(*wrong)


@pytest.mark.parametrize("key", ["queue:default", "echo"])
def test_tasks_go_back_if_nobody_can_say_whether_they_may_begin(
    client: Client, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """They have not begun: no retry is used up, and who is tried only once is not archived."""

    def away(*_arguments: Any) -> Any:
        raise StorageError("the storage is away")

    client.put("a", max_retry=0)
    client.put("b", max_retry=0)
    monkeypatch.setattr(client.engine, "admit", away)
    admitted = Limiter(client.engine, {key: Rate(100, burst=2)}).take(["default"], 2)
    assert admitted.leases == []
    assert client.engine.finish(admitted.endings) == [True, True]
    assert [(lease.message.id, lease.message.retried) for lease in client.take(2)] == [("a", 0), ("b", 0)]


def test_a_payload_class_stands_for_its_type() -> None:
    """A queue is named with a prefix."""
    assert limits_of({Mail: Rate(1), "queue:q": Rate(2)}) == {"task:mail": Rate(1), "queue:q": Rate(2)}


class Log:
    """When tasks began."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = []
        self.changed = threading.Condition()

    def note(self, task: RawTask) -> None:
        with self.changed:
            self.began.append((task.payload.decode(), time.monotonic()))
            self.changed.notify_all()

    def has(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.began) >= count, 4 * PATIENCE)


@pytest.mark.parametrize(("limit", "tasks"), [(Rate(5, per=1.0), 8), (Rate(200, per=1.0), 60)])
@pytest.mark.parametrize("key", ["queue:default", "t"])
def test_processors_together_begin_no_more_than_the_limit_lets(
    place: Path | str, key: str, limit: Rate, tasks: int
) -> None:
    """Two of them on the same queues; none of the tasks uses up a retry, and the last is done in time."""
    log = Log()
    router = TaskRouter()
    router.add("t", log.note)
    with (
        staged(place, router, limits={key: limit}) as stage,
        staged(place, router, limits={key: limit}),
    ):
        began = time.monotonic()
        for number in range(tasks):
            stage.put(f"t{number}", payload=f"{number}".encode(), max_retry=0)
        assert log.has(tasks)
        took = time.monotonic() - began
        assert eventually(lambda: stage.engine.queue_info("default").size == 0)
        counted = stage.engine.queue_info("default")
    assert (counted.processed_total, counted.failed_total) == (tasks, 0)
    assert took >= (tasks - 1.2) * limit.every, "timers may differ by a fifth of an interval"
    assert sorted(name for name, _ in log.began) == sorted(str(number) for number in range(tasks))


def test_a_limited_type_does_not_hold_up_the_others_of_its_queue(place: Path | str) -> None:
    """They go before it."""
    log = Log()
    router = TaskRouter()
    router.add("slow", log.note)
    router.add("quick", log.note)
    with staged(place, router, limits={"slow": Rate(1, per=600.0)}) as stage:
        for number in range(5):
            stage.put(f"s{number}", "slow", f"slow{number}".encode())
        for number in range(5):
            stage.put(f"q{number}", "quick", f"quick{number}".encode())
        assert log.has(6)
        assert eventually(lambda: stage.engine.queue_info("default").sizes["scheduled"] == 4)  # type: ignore[index]
    assert sorted(name for name, _ in log.began) == ["quick0", "quick1", "quick2", "quick3", "quick4", "slow0"]


def test_a_limited_queue_keeps_its_tasks_pending_and_in_order(place: Path | str) -> None:
    """And does not hold up other queues."""
    log = Log()
    router = TaskRouter()
    router.add("t", log.note)
    settings: dict[str, Any] = {"limits": {"queue:slow": Rate(1, per=600.0)}, "queues": {"slow": 9, "default": 1}}
    with staged(place, router, **settings) as stage:
        for number in range(5):
            stage.put(f"s{number}", payload=f"slow{number}".encode(), queue="slow")
        for number in range(5):
            stage.put(f"q{number}", payload=f"quick{number}".encode())
        assert log.has(6)
        assert eventually(lambda: stage.engine.queue_info("slow").sizes["pending"] == 4)  # type: ignore[index]
        assert [info.id for info in stage.engine.tasks("slow", "pending")] == ["s1", "s2", "s3", "s4"]  # type: ignore[arg-type]
    assert "slow0" in dict(log.began)
    assert len(log.began) == 6


def test_tasks_that_are_held_in_hand_are_given_back_by_a_stop(place: Path | str) -> None:
    """Those that were to begin in a moment, too."""
    log = Log()
    router = TaskRouter()
    router.add("t", log.note)
    with staged(place, router, limits={"t": Rate(20)}, shutdown_timeout=0.0) as stage:
        for number in range(40):
            stage.put(f"t{number}", payload=b"t")
        assert log.has(3)
    engine = open_engine(url_of(place))
    sizes = engine.queue_info("default").sizes
    engine.close()
    assert sum(sizes.values()) == 40 - len(log.began)
    assert sizes["active"] == 0  # type: ignore[index]

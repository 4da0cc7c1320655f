"""Periodic tasks: when they are due, and that each due instant is enqueued once, by one scheduler or its successor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from understudy import ActorSystem, Child, StartFailed, Supervisor
from understudy.actors.tasks import scheduler as scheduling
from understudy.actors.tasks.cron import Spec
from understudy.actors.tasks.engine import EnqueueEvent
from understudy.actors.tasks.periodic import Periodic, go_duration, option_texts
from understudy.actors.tasks.scheduler import Scheduler
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.messages.errors import SpecInvalid, StorageError, TaskError
from understudy.messages.tasks import RawTask, TaskState

from .conftest import NOON, Clock
from .stage import eventually


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("spec", "moment", "due"),
    [
        ("*/5 * * * *", "2024-01-01 10:02:30", "2024-01-01 10:05:00"),
        ("*/5 * * * *", "2024-01-01 10:05:00", "2024-01-01 10:10:00"),
        ("0 9 * * 1", "2024-01-01 09:00:00", "2024-01-08 09:00:00"),
        ("0 0 29 2 *", "2024-03-01 00:00:00", "2028-02-29 00:00:00"),
        ("@hourly", "2024-01-01 10:02:30", "2024-01-01 11:00:00"),
        ("@daily", "2024-12-31 10:02:30", "2025-01-01 00:00:00"),
        ("@every 90s", "2024-01-01 00:00:00", "2024-01-01 00:01:30"),
        ("@every 1h30m", "2024-01-01 00:10:00", "2024-01-01 01:30:00"),
        ("CRON_TZ=Europe/Berlin 0 9 * * *", "2024-01-01 00:00:00", "2024-01-01 08:00:00"),
        ("TZ=Europe/Berlin 0 9 * * *", "2024-07-01 00:00:00", "2024-07-01 07:00:00"),
        ("CRON_TZ=Europe/Berlin 30 2 * * *", "2024-03-31 00:00:00", "2024-03-31 01:30:00"),
    ],
)
def test_a_schedule_says_when_it_is_due_next(spec: str, moment: str, due: str) -> None:
    """In UTC unless it names a zone; an hour that a summer time skips is made up for."""
    found = datetime.fromtimestamp(Spec(spec).after(at(moment)), UTC)
    if "30 2" in spec:  # 02:30 does not exist on that day: any instant of the day will do, but there must be one
        assert found.date() == datetime(2024, 3, 31, tzinfo=UTC).date()
    else:
        assert found.isoformat(sep=" ") == f"{due}+00:00"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "@often",
        "@every",
        "@every 5",
        "@every 1x",
        "@every 0.5s",
        "@every -5s",
        "CRON_TZ=Mars/Base * * * * *",
        "CRON_TZ=../etc/passwd * * * * *",
        "0 0 31 2 *",
        5,
    ],
)
def test_a_schedule_that_cannot_be_read_is_refused(spec: Any) -> None:
    """Where it is declared."""
    with pytest.raises(SpecInvalid) as caught:
        Periodic(spec, RawTask("t"))
    assert caught.value.kind == "config.task_processing.invalid"


def test_a_periodic_tasks_options_are_checked_where_it_is_declared() -> None:
    """Not when it is due."""
    with pytest.raises(TaskError):
        Periodic("@hourly", RawTask("t"), {"queue": " "})


def test_options_are_shown_as_asynq_shows_them() -> None:
    """So that its tools can read them."""
    options: dict[str, Any] = {
        "queue": "x",
        "max_retry": 3,
        "timeout": 30,
        "unique": 60,
        "process_in": 5400,
        "retention": 0.25,
        "deadline": at("2024-01-02 03:04:05"),
        "task_id": "a",
        "group": "g",
        "headers": {"k": "v"},
    }
    assert option_texts(options) == [
        'Queue("x")',
        "MaxRetry(3)",
        "Timeout(30s)",
        "Unique(1m0s)",
        "ProcessIn(1h30m0s)",
        "Retention(250ms)",
        "Deadline(Tue Jan  2 03:04:05 UTC 2024)",
        'TaskID("a")',
        'Group("g")',
        'Header(["k","v"])',
    ]
    assert [go_duration(seconds) for seconds in (0, 1.5, 3600.5)] == ["0s", "1.5s", "1h0m0.5s"]


class Room:
    """Schedulers on the same queues, each in a system of its own, on a clock that a test sets."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.engine = SqliteEngine(path, clock)
        self.systems: list[ActorSystem] = []

    def start(self, tasks: Any, **more: Any) -> ActorSystem:
        tree = Supervisor("cron", children=[Child(Scheduler, (tasks,), more, name="scheduler")])
        self.systems.append(ActorSystem(f"cron{len(self.systems)}", tree))
        return self.systems[-1]

    def enqueued(self) -> list[str]:
        """The instants, in seconds since noon, that were enqueued so far."""
        found = self.engine.tasks("default", TaskState.PENDING, size=1_000) if self.engine.queues() else []
        return [str(int(float(info.id.partition(":")[2]) - NOON)) for info in found]

    def goes_on(self, seconds: float, expected: list[str]) -> bool:
        self.clock.at += seconds
        return eventually(lambda: self.enqueued() == expected)


@pytest.fixture
def room(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    path = str(tmp_path / "t.db")
    monkeypatch.setattr(scheduling, "open_engine", lambda *_: SqliteEngine(path, clock))
    monkeypatch.setattr(scheduling, "TICK", 0.01)
    room = Room(path, clock)
    yield room
    for system in room.systems:
        system.stop()
    room.engine.close()


def leads(room: Room) -> bool:
    return bool(room.engine._rows("SELECT 1 FROM task_leaders WHERE expires_at > ?", room.clock.at))


EVERY = Periodic("@every 10s", RawTask("t"))


def test_a_due_task_is_enqueued_once_however_many_schedulers_there_are(room: Room) -> None:
    """Each due instant, also those of a look that came late."""
    for _ in range(3):
        room.start([EVERY])
    assert eventually(lambda: leads(room))
    assert room.goes_on(10, ["10"])
    assert room.goes_on(25, ["10", "20", "30"])
    (event, *_) = room.engine.enqueued(EVERY.id)
    assert (event.task_id, event.at) == (f"{EVERY.id}:{int(NOON) + 30}", NOON + 30)


def test_another_scheduler_takes_over_what_became_due_meanwhile(room: Room) -> None:
    """When the leader ends in good order it does so at once, else when the leader's time is up."""
    first = room.start([EVERY])
    assert eventually(lambda: leads(room))
    assert room.goes_on(10, ["10"])
    first.stop()
    room.start([EVERY])
    assert room.goes_on(10, ["10", "20"])


def test_a_leader_that_is_not_heard_of_is_replaced(room: Room) -> None:
    """What became due in between is enqueued by its successor."""
    assert room.engine.lead("scheduler", "the one that died", 20.0)
    room.start([EVERY])
    room.clock.at += 15
    assert not room.enqueued()
    assert room.goes_on(10, ["10", "20"])


def test_what_was_missed_for_long_is_not_made_up_for(room: Room) -> None:
    """Only the last minute's."""
    room.start([EVERY])
    assert eventually(lambda: leads(room))
    assert room.goes_on(3605, [str(seconds) for seconds in range(3550, 3601, 10)])


def test_the_periodic_tasks_are_read_again(room: Room) -> None:
    """A failure to read them leaves them as they are."""
    answers: list[Callable[[], list[Periodic]]] = [lambda: [EVERY]]

    def provide() -> list[Periodic]:
        return answers[-1]()

    room.start(provide, refresh=5.0)
    assert eventually(lambda: leads(room))
    assert room.goes_on(10, ["10"])

    def broken() -> list[Periodic]:
        raise OSError("no file")

    answers.append(broken)
    assert room.goes_on(10, ["10", "20"])
    answers.append(lambda: [Periodic("@every 1m", RawTask("u"))])
    assert room.goes_on(6, ["10", "20"])
    room.clock.at += 10
    assert eventually(lambda: [entry.spec for entry in room.engine.schedule()] == ["@every 1m"])
    assert room.goes_on(24, ["10", "20", "60"])


@pytest.mark.parametrize("tasks", [[EVERY, EVERY], ["@hourly"], lambda: 1 / 0], ids=["twice", "no task", "raises"])
def test_a_scheduler_does_not_start_with_what_is_wrong(room: Room, tasks: Any) -> None:
    """The first reading must succeed."""
    with pytest.raises(StartFailed):
        room.start(tasks)


def test_a_storage_that_is_away_is_waited_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what became due meanwhile is enqueued."""
    system = room.start([EVERY])
    assert eventually(lambda: leads(room))
    calls: list[int] = []
    lead = SqliteEngine.lead

    def away(self: SqliteEngine, name: str, holder: str, ttl: float) -> bool:
        calls.append(1)
        raise StorageError("away")

    monkeypatch.setattr(SqliteEngine, "lead", away)
    room.clock.at += 10
    assert eventually(lambda: len(calls) > 2)
    monkeypatch.setattr(SqliteEngine, "lead", lead)
    assert room.goes_on(0, ["10"])
    assert system.lookup("cron/scheduler").incarnation == 1


def test_a_due_task_is_enqueued_once_though_it_cannot_be_noted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same scheduler and by its successor, and though the task is done and deleted by then."""
    noted: list[float] = []

    def away(self: SqliteEngine, entry_id: str, event: EnqueueEvent) -> None:
        noted.append(event.at - NOON)
        raise StorageError("away")

    monkeypatch.setattr(SqliteEngine, "note_enqueued", away)
    first = room.start([EVERY])
    assert eventually(lambda: leads(room))
    assert room.goes_on(10, ["10"])
    room.engine.delete_all("default", TaskState.PENDING)
    assert room.goes_on(10, ["20"])
    room.engine.delete_all("default", TaskState.PENDING)
    first.stop()
    room.start([EVERY])
    assert room.goes_on(10, ["30"])
    assert noted == [10, 20, 30]


@pytest.mark.parametrize("instant", [1e12, 1e15])
@pytest.mark.parametrize("name", ["deadline", "process_at"])
def test_an_instant_that_no_calendar_has_is_refused_where_it_is_declared(name: str, instant: float) -> None:
    options: Any = {name: instant}
    with pytest.raises(TaskError) as refused:
        Periodic("@every 1s", RawTask("x"), options)
    assert refused.value.kind == "task.option.invalid"
    assert name in str(refused.value)


@pytest.mark.parametrize("spec", ["@every 100000000000h", "@every 2562048h", "@every 999999999999h999999999999h"])
def test_an_interval_that_go_cannot_have_is_refused(spec: str) -> None:
    with pytest.raises(SpecInvalid, match="292 years"):
        Spec(spec)
    assert Spec("@every 2562047h").after(NOON) > NOON


def test_instants_and_durations_are_shown_as_go_shows_them() -> None:
    """In UTC, whatever zone they were given in; in nanoseconds."""
    east = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert option_texts({"deadline": east}) == ["Deadline(Fri Jan  2 01:04:05 UTC 2026)"]
    assert go_duration(59.9999999999) == "1m0s"
    assert go_duration(3599.9999999999) == "1h0m0s"
    assert go_duration(0.99999999999) == "1s"

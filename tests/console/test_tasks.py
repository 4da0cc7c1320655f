"""``understudy tasks``: what it shows of queues, and what it does to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from understudy.actors.tasks.engine import EnqueueEvent, SchedulerEntry, ServerInfo, WorkerInfo
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.console.cli import NOT_STARTED, main
from understudy.messages.errors import TaskError
from understudy.messages.tasks import RawTask

Say = Callable[..., str]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(str(tmp_path / "tasks.db"))
    for task_id, options in (("a", {}), ("b", {"process_in": 3600}), ("c", {"queue": "mail", "headers": {"k": "v"}})):
        engine.enqueue([plan(RawTask("echo", b"hi\x1b[2J\xff"), {"task_id": task_id, **options}, engine.now())])
    yield engine
    engine.close()


@pytest.fixture
def say(engine: SqliteEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command and returns what it printed."""

    def run(*words: str, status: int = 0) -> str:
        assert main(["tasks", *words, "--url", f"sqlite:///{tmp_path}/tasks.db"]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return run


def state(engine: SqliteEngine, task_id: str, queue: str = "default") -> str:
    try:
        return str(engine.task(queue, task_id).state)
    except TaskError:
        return "gone"


def test_the_queues_are_shown_with_the_number_of_tasks_in_each_state(say: Say, engine: SqliteEngine) -> None:
    """All, or those that are named."""
    engine.pause("mail")
    heads, default, mail = say("stats").splitlines()
    assert heads.split()[:4] == ["QUEUE", "PENDING", "ACTIVE", "SCHEDULED"]
    assert default.split()[:4] == ["default", "1", "0", "1"]
    assert mail.split()[-1] == "paused"
    (line,) = say("stats", "mail", "--json").splitlines()
    shown = json.loads(line)
    assert (shown["queue"], shown["pending"], shown["paused"]) == ("mail", 1, True)


def test_tasks_are_listed_by_state_and_nothing_moves_the_terminals_cursor(say: Say) -> None:
    """Whatever is in a payload."""
    heads, row = say("ls", "default").splitlines()
    assert heads.split() == ["ID", "TYPE", "NEXT", "RETRIED", "PAYLOAD", "ERROR"]
    assert row.split()[:2] == ["a", "echo"]
    assert "\\x1b[2J\\xff" in row
    assert say("ls", "default", "--state", "scheduled", "--size", "1").splitlines()[1].split()[0] == "b"
    (line,) = say("ls", "mail", "--json").splitlines()
    assert json.loads(line)["headers"] == {"k": "v"}
    assert len(say("ls", "default", "--page", "2").splitlines()) == 1


def test_one_task_is_shown_with_everything(say: Say) -> None:
    """A line for each field."""
    shown = dict(line.split(": ", 1) for line in say("show", "mail", "c").splitlines() if ": " in line)
    assert (shown["id"], shown["state"], shown["max_retry"]) == ("c", "pending", "25")
    assert shown["payload"] == "hi\\x1b[2J\\xff"


@pytest.mark.parametrize(
    ("words", "said", "queue", "task_id", "after"),
    [
        (("run", "default", "b"), "pending: queue default, id b", "default", "b", "pending"),
        (("archive", "default", "a"), "archived: queue default, id a", "default", "a", "archived"),
        (("delete", "mail", "c"), "deleted: queue mail, id c", "mail", "c", "gone"),
        (("run", "default", "--all", "scheduled"), "pending: queue default, number 1", "default", "b", "pending"),
        (("archive", "mail", "--all", "pending"), "archived: queue mail, number 1", "mail", "c", "archived"),
        (("delete", "mail", "--all", "pending"), "deleted: queue mail, number 1", "mail", "c", "gone"),
    ],
)
def test_tasks_are_changed_one_by_one_or_all_of_a_state(
    say: Say, engine: SqliteEngine, words: tuple[str, ...], said: str, queue: str, task_id: str, after: str
) -> None:
    """It says what it did."""
    assert say(*words) == f"{said}\n"
    assert state(engine, task_id, queue) == after


def test_queues_are_paused_resumed_and_removed(say: Say, engine: SqliteEngine) -> None:
    """A queue that has tasks only by force."""
    assert say("pause", "mail") == "paused: queue mail\n"
    assert engine.queue_info("mail").paused
    assert json.loads(say("resume", "mail", "--json")) == {"done": "resumed", "queue": "mail"}
    assert not engine.queue_info("mail").paused
    assert "task.queue.not_empty" in say("rm", "mail", status=NOT_STARTED)
    assert say("rm", "mail", "--force") == "removed: queue mail\n"
    assert engine.queues() == ["default"]


def test_a_cancellation_reaches_the_processors(say: Say, engine: SqliteEngine) -> None:
    """Those that run."""
    position, _ = engine.cancellations(None, 0.0)
    assert say("cancel", "a") == "told every processor to cancel: id a\n"
    assert engine.cancellations(position, 0.0)[1] == ["a"]


def test_processors_schedules_and_history_are_shown(say: Say, engine: SqliteEngine) -> None:
    """As tables, or as JSON."""
    now = engine.now()
    worker = WorkerInfo("a", "echo", "default", b"", now, 0.0)
    engine.beat(ServerInfo("h:1:u", "h", 1, 4, {"default": 2}, False, "active", now, (worker,)), 60.0)
    engine.report_schedule("s", [SchedulerEntry("e", "@hourly", "echo", b"", ("MaxRetry(3)",), now, 0.0)], 60.0)
    engine.note_enqueued("e", EnqueueEvent("a", now))
    assert say("servers").splitlines()[1].split()[:5] == ["h", "1", "active", "1/4", "default:2"]
    assert json.loads(say("servers", "--json"))["workers"][0]["id"] == "a"
    assert say("cron").splitlines()[1].split()[:2] == ["@hourly", "echo"]
    assert json.loads(say("cron", "--json"))["options"] == ["MaxRetry(3)"]
    assert len(say("history", "default", "--days", "3").splitlines()) == 4
    assert json.loads(say("history", "default", "--days", "1", "--json"))["processed"] == 0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("ls", "nowhere"), "task.queue.unknown"),
        (("show", "default", "nobody"), "task.not_found"),
        (("run", "default", "a"), "task.state.invalid"),
        (("run", "default", "--all", "active"), "task.state.invalid"),
        (("resume", "default"), "task.state.invalid"),
        (("ls", "default", "--page", "0"), "task.option.invalid"),
    ],
)
def test_what_is_refused_is_said_with_its_code(say: Say, words: tuple[str, ...], kind: str) -> None:
    """And with a status of its own."""
    assert kind in say(*words, status=NOT_STARTED)


def test_a_url_that_names_no_queues_is_refused_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    """It may stand in a log."""
    assert main(["tasks", "stats", "--url", "ftp://user:hunter2@host"]) == NOT_STARTED
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("fly",), ("run", "default"), ("run", "default", "a", "--all", "pending")])
def test_a_wrong_command_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """With the usage."""
    with pytest.raises(SystemExit) as caught:
        main(["tasks", *words])
    assert caught.value.code == NOT_STARTED
    assert "usage: understudy tasks" in capsys.readouterr().err


def test_a_task_is_enqueued_with_its_options(say: Say, engine: SqliteEngine) -> None:
    """Or refused, like one of a program's."""
    words = ("enqueue", "echo", "--payload", "häh", "--queue", "mail", "--task-id", "new", "--process-in", "60")
    assert say(*words, "--max-retry", "3").strip() == "scheduled: queue mail, id new"
    message = engine.task("mail", "new").message
    assert (message.type, message.payload, message.max_retry) == ("echo", "häh".encode(), 3)
    assert "task.id.conflict" in say(*words, status=NOT_STARTED)
    assert json.loads(say("enqueue", "bare", "--json"))["done"] == "pending"


def test_groups_are_shown_and_managed_one_by_one(say: Say, engine: SqliteEngine) -> None:
    for number, group in enumerate("bab"):
        say("enqueue", "echo", "--group", group, "--task-id", f"g{number}")
    assert [line.split() for line in say("groups", "default").splitlines()] == [
        ["GROUP", "SIZE"],
        ["a", "1"],
        ["b", "2"],
    ]
    say("run", "default", "--all", "aggregating", "--group", "b")
    assert [json.loads(line) for line in say("groups", "default", "--json").splitlines()] == [{"group": "a", "size": 1}]
    assert (state(engine, "g0"), state(engine, "g1")) == ("pending", "aggregating")


def test_when_a_periodic_task_was_enqueued_is_shown(say: Say, engine: SqliteEngine) -> None:
    """The latest first."""
    for number in range(2):
        engine.note_enqueued("entry", EnqueueEvent(f"t{number}", 1_700_000_000.0 + number))
    assert [line.split()[-1] for line in say("cron", "--history", "entry").splitlines()] == ["TASK", "t1", "t0"]
    assert json.loads(say("cron", "--history", "entry", "--json").splitlines()[0])["id"] == "t1"


def test_the_memory_of_a_queue_is_shown(say: Say) -> None:
    assert "KIB" in say("stats").splitlines()[0]
    assert json.loads(say("stats", "mail", "--json"))["memory"] > 0

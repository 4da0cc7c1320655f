"""The inspector, and its words; what the operations do is in the engines' own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.tasks.inspector import Inspector
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.messages.errors import StorageError, TaskError, TaskNotFound, UrlInvalid
from understudy.messages.tasks import RawTask, TaskPayload, TaskState


class Mail(TaskPayload[None]):
    task_type = "task:mail"

    to: str


@pytest.fixture
def inspector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inspector]:
    """On queues with three scheduled tasks, found by the environment."""
    monkeypatch.setenv("UNDERSTUDY_TASKS_URL", f"sqlite:///{tmp_path}/t.db")
    engine = SqliteEngine(str(tmp_path / "t.db"))
    for name in ("a", "b", "c"):
        options = {"task_id": name, "process_in": 60, "queue": "mail"}
        engine.enqueue([plan(RawTask("t"), options, engine.now())])
    engine.close()
    with Inspector() as opened:
        yield opened


def test_queues_and_tasks_are_shown(inspector: Inspector) -> None:
    """States may be given as texts."""
    assert inspector.queues() == ["mail"]
    assert inspector.queue("mail").size == 3
    assert [info.id for info in inspector.tasks("mail", "scheduled", size=2)] == ["a", "b"]
    assert [info.id for info in inspector.each("mail", TaskState.SCHEDULED)] == ["a", "b", "c"]
    assert inspector.task("mail", "a").state == TaskState.SCHEDULED
    assert (inspector.groups("mail"), inspector.servers(), inspector.schedule()) == ([], [], [])
    assert inspector.enqueued("nobody") == []
    assert [counts[1:] for counts in inspector.history("mail", 2)] == [(0, 0), (0, 0)]


def test_tasks_are_managed(inspector: Inspector) -> None:
    """One by one, and all of a state."""
    inspector.run("mail", "a")
    inspector.archive("mail", "b")
    inspector.update_payload("mail", "c", Mail("ada"))
    assert inspector.task("mail", "c").message.payload == b'{"to":"ada"}'
    inspector.delete("mail", "c")
    assert inspector.archive_all("mail", "pending") == 1
    assert inspector.run_all("mail", "archived") == 2
    assert inspector.delete_all("mail", "pending") == 2
    inspector.pause("mail")
    assert inspector.queue("mail").paused
    inspector.unpause("mail")
    inspector.cancel("nobody")
    inspector.remove_queue("mail")
    with pytest.raises(TaskNotFound):
        inspector.queue("mail")


@pytest.mark.parametrize(
    ("what", "arguments", "named"),
    [
        ("tasks", {"queue": "mail", "state": "running"}, "pending"),
        ("tasks", {"queue": "mail", "state": "pending", "page": 0}, "page"),
        ("tasks", {"queue": "mail", "state": "pending", "size": True}, "size"),
        ("tasks", {"queue": "mail", "state": "pending", "size": 2**40}, "size"),
        ("history", {"queue": "mail", "days": -1}, "days"),
        ("run_all", {"queue": "mail", "state": ""}, "state"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(
    inspector: Inspector, what: str, arguments: dict[str, Any], named: str
) -> None:
    """By its name."""
    with pytest.raises(TaskError, match=named) as caught:
        getattr(inspector, what)(**arguments)
    assert caught.value.kind == "task.option.invalid"


def test_it_says_what_it_cannot_open(tmp_path: Path) -> None:
    """With a coded error."""
    with pytest.raises(UrlInvalid):
        Inspector("nonsense://")
    with pytest.raises(StorageError):
        Inspector(f"sqlite:///{tmp_path}/nowhere/t.db")

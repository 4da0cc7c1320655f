"""What only the SQLite engine can do wrong: the file, its schema, several processes, a kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from understudy.actors.embedded import Embedded
from understudy.actors.tasks import sqlite_inspection
from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.messages.errors import StorageError, TaskNotFound, UrlInvalid
from understudy.messages.tasks import RawTask, TaskInfo, TaskState

ENQUEUE_FOR_EVER = """
import sys
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.sqlite import SqliteEngine
from understudy.messages.tasks import RawTask
engine = SqliteEngine(sys.argv[1])
number = 0
while True:
    engine.enqueue([plan(RawTask("echo"), {"task_id": str(number)}, engine.now())])
    print(number, flush=True)
    number += 1
"""

WORK_UNTIL_EMPTY = """
import sys
from understudy.actors.tasks.engine import Ending
from understudy.actors.tasks.sqlite import SqliteEngine
engine = SqliteEngine(sys.argv[1])
while leases := engine.dequeue(["default"], 3):
    assert all(engine.finish([Ending(lease, "done") for lease in leases]))
    for lease in leases:
        print(lease.message.id)
"""


def _put(engine: SqliteEngine, *ids: str) -> None:
    outcomes = engine.enqueue([plan(RawTask("echo"), {"task_id": each}, engine.now()) for each in ids])
    assert all(isinstance(each, TaskInfo) for each in outcomes)


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """A process that enqueues is ended by SIGKILL in its middle: every task it was told of is there."""
    path = tmp_path / "tasks.db"
    process = subprocess.Popen([sys.executable, "-c", ENQUEUE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().split()
    process.wait(10.0)
    process.stdout.close()
    engine = SqliteEngine(str(path))
    stored = {lease.message.id for lease in engine.dequeue(["default"], 1_000_000)}
    engine.close()
    assert set(acknowledged) <= stored
    assert len(stored) <= len(acknowledged) + 1


def test_several_processes_share_the_tasks_of_one_file(tmp_path: Path) -> None:
    """Each task is processed once, by one of them."""
    path = str(tmp_path / "tasks.db")
    engine = SqliteEngine(path)
    _put(engine, *map(str, range(200)))
    command = [sys.executable, "-c", WORK_UNTIL_EMPTY, path]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    done = Counter(task_id for process in processes for task_id in process.communicate(timeout=60)[0].split())
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert done == Counter(map(str, range(200)))
    assert engine.queue_info("default").processed_total == 200
    engine.close()


def test_a_record_that_cannot_be_read_is_archived_as_it_is(tmp_path: Path) -> None:
    """It does not keep the others from being served, and can be looked at and deleted."""
    path = str(tmp_path / "tasks.db")
    engine = SqliteEngine(path)
    _put(engine, "bad", "good")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE task_tasks SET msg = x'C1' WHERE id = 'bad'")
    db.close()
    assert [lease.message.id for lease in engine.dequeue(["default"], 1)] == ["good"]
    (info,) = engine.tasks("default", TaskState.ARCHIVED)
    assert (info.id, info.message.payload) == ("bad", b"\xc1")
    assert "task.record.invalid" in info.message.error_msg
    engine.delete("default", "bad")
    engine.close()


def test_an_attempt_whose_record_was_damaged_can_be_recovered(tmp_path: Path) -> None:
    """It is archived with its record untouched."""
    path = str(tmp_path / "tasks.db")
    at = [1_000.0]
    engine = SqliteEngine(path, lambda: at[0])
    _put(engine, "bad")
    engine.dequeue(["default"], 1)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE task_tasks SET msg = x'C1', score = NULL")
    db.close()
    from understudy.actors.tasks.engine import Ending

    (lease,) = engine.expired(["default"])
    assert engine.finish([Ending(lease, "archive")], recovering=True) == [True]
    assert engine.task("default", "bad").message.payload == b"\xc1"
    engine.close()


def test_a_file_that_cannot_be_opened_is_an_error_with_its_name(tmp_path: Path) -> None:
    """A folder that is not there, a file that is no database."""
    with pytest.raises(StorageError) as caught:
        SqliteEngine(str(tmp_path / "nowhere" / "tasks.db"))
    assert caught.value.kind == "storage.sqlite.unavailable"
    assert "nowhere" in str(caught.value)
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(StorageError):
        SqliteEngine(str(tmp_path / "text"))


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """Rather than guessed at."""
    path = str(tmp_path / "tasks.db")
    SqliteEngine(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO task_migrations VALUES (99)")
    db.close()
    with pytest.raises(StorageError) as caught:
        SqliteEngine(path)
    assert caught.value.kind == "storage.migration.failed"


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    """Every operation, with a code."""
    engine = SqliteEngine(str(tmp_path / "tasks.db"))
    engine.close()
    engine.close()
    with pytest.raises(StorageError) as caught:
        engine.queues()
    assert caught.value.kind == "storage.sqlite.unavailable"


def test_a_lock_that_another_process_keeps_is_an_error_after_a_while(tmp_path: Path) -> None:
    """Nothing hangs; trying again can help."""
    path = str(tmp_path / "tasks.db")
    engine = SqliteEngine(path, busy_timeout=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as caught:
        _put(engine, "t")
    assert caught.value.kind == "storage.sqlite.unavailable"
    assert caught.value.response.retryable
    other.execute("ROLLBACK")
    other.close()
    _put(engine, "t")
    engine.close()


def test_a_task_that_ends_while_it_is_looked_at_is_shown_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown is the state of one moment."""
    engine, other = SqliteEngine(str(tmp_path / "tasks.db")), SqliteEngine(str(tmp_path / "tasks.db"))
    _put(engine, "t")
    look = sqlite_inspection._state

    def interrupted(db: sqlite3.Connection, queue: str, task_id: str) -> TaskState:
        state = look(db, queue, task_id)
        if db is engine._db:
            other.delete(queue, task_id)
        return state

    monkeypatch.setattr(sqlite_inspection, "_state", interrupted)
    assert engine.task("default", "t").state is TaskState.PENDING
    with pytest.raises(TaskNotFound):
        engine.task("default", "t")
    engine.close()
    other.close()


def test_the_queues_share_a_file_with_the_store(tmp_path: Path) -> None:
    """Both default to the same one."""
    from understudy.actors.mutator.sqlite import SqliteStore

    path = str(tmp_path / "understudy.db")
    store, engine = SqliteStore(path), SqliteEngine(path)
    _put(engine, "t")
    assert store.count(None) == 0
    store.close()
    engine.close()
    SqliteStore(path).close()


def test_a_url_names_the_engine(tmp_path: Path) -> None:
    """A file, or a memory that all connections of a system share; nothing else."""
    engine = open_engine(f"sqlite:///{tmp_path}/a%20b.db")
    engine.close()
    assert (tmp_path / "a b.db").exists()
    embedded = Embedded()
    assert open_engine("sqlite:///:memory:", embedded) is open_engine("sqlite:///:memory:", embedded)
    embedded.close()
    for wrong in ("sqlite://host/file", "sqlite:///", "mysql://x", "nonsense"):
        with pytest.raises(UrlInvalid):
            open_engine(wrong)

"""SQLite beyond the contract: files that are not databases, locked files, migrations, any order of calls."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from understudy.actors.mutator.actor import Mutator
from understudy.actors.mutator.migrating import migrate
from understudy.actors.mutator.migrations import Migration
from understudy.actors.mutator.sqlite import SqliteStore
from understudy.actors.mutator.sqlite_migrations import SQLITE, migrate_sqlite
from understudy.messages.errors import StorageError
from understudy.messages.lock import Fence
from understudy.messages.mutator import AllNotifs, NotifsOfOwner, StoreNotifEvent
from understudy.messages.notifications import NotifData
from understudy.supervisors.system import ActorSystem

Make = Callable[..., NotifData]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to an empty file, as a migration gets it."""
    connection = sqlite3.connect(tmp_path / "plain.db", isolation_level=None)
    yield connection
    connection.close()


def test_a_file_in_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        SqliteStore(str(tmp_path / "missing" / "store.db"))
    assert caught.value.kind == "storage.sqlite.unavailable"
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_a_file_that_is_no_database_is_unavailable_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 100)
    with pytest.raises(StorageError) as caught:
        SqliteStore(str(path))
    assert caught.value.kind == "storage.sqlite.unavailable"
    assert path.read_text().startswith("Dear reader")


def test_a_path_with_a_nul_is_unavailable() -> None:
    with pytest.raises(StorageError) as caught:
        SqliteStore("a\0b")
    assert caught.value.kind == "storage.sqlite.unavailable"


def test_a_file_that_another_process_holds_locked_is_unavailable_for_the_moment(
    tmp_path: Path, make_notif: Make
) -> None:
    path = str(tmp_path / "store.db")
    store = SqliteStore(path, busy_timeout=0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    events = [StoreNotifEvent(message=make_notif(nid)) for nid in ("a", "b")]
    for outcome in store.store(events, lambda: None):
        assert isinstance(outcome, StorageError)
        assert outcome.kind == "storage.sqlite.unavailable"
        assert outcome.response.retryable
    other.execute("ROLLBACK")
    other.close()
    assert store.store(events, lambda: None) == [True, True]
    store.close()


def test_another_process_s_lock_is_waited_for_no_longer_than_the_asker_waits(tmp_path: Path, make_notif: Make) -> None:
    path = str(tmp_path / "store.db")
    other = sqlite3.connect(path, isolation_level=None)
    with ActorSystem("shop") as system:
        mutator = system.spawn(Mutator, f"sqlite:///{path}", name="mutator")
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StorageError) as caught:
            mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=1)
        assert time.monotonic() - started < 1
        assert caught.value.kind == "storage.sqlite.unavailable"
        other.execute("ROLLBACK")
        other.close()
        assert mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=5) is True


def test_a_database_that_breaks_fails_the_whole_batch_and_keeps_nothing(tmp_path: Path, make_notif: Make) -> None:
    path = str(tmp_path / "store.db")
    store = SqliteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON notifs WHEN NEW.nid = 'b' BEGIN SELECT json('not json'); END")
    events = [StoreNotifEvent(message=make_notif(nid)) for nid in ("a", "b", "c")]
    for outcome in store.store(events, lambda: None):
        assert isinstance(outcome, StorageError)
        assert outcome.kind == "storage.sqlite.failed"
    assert store.count(None) == 0
    other.execute("DROP TRIGGER full")
    other.close()
    assert store.store(events, lambda: None) == [True, True, True]
    store.close()


@pytest.mark.parametrize(("column", "value"), [("action_data", "{"), ("action_type", "Unheard")])
def test_a_row_that_somebody_spoilt_is_reported_with_its_number(
    tmp_path: Path, make_notif: Make, column: str, value: str
) -> None:
    path = str(tmp_path / "store.db")
    store = SqliteStore(path)
    store.store([StoreNotifEvent(message=make_notif("a"))], lambda: None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"UPDATE notifs SET {column} = ?", (value,))
    other.close()
    with pytest.raises(StorageError, match="row 1: ") as caught:
        store.all(AllNotifs())
    assert caught.value.kind == "storage.row.invalid"
    store.close()


def test_memory_is_a_store_of_its_own(make_notif: Make) -> None:
    one, two = SqliteStore(":memory:"), SqliteStore(":memory:")
    one.store([StoreNotifEvent(message=make_notif("a"))], lambda: None)
    assert (one.count(None), two.count(None)) == (1, 0)
    one.close()
    two.close()


def test_threads_may_take_turns_on_one_connection(make_notif: Make) -> None:
    store = SqliteStore(":memory:")

    def write(number: int) -> None:
        for turn in range(50):
            # Every id is written by two threads.
            store.store([StoreNotifEvent(message=make_notif(f"{number // 2}-{turn}"))], lambda: None)
            store.of_owner(NotifsOfOwner(owner="1"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count(None) == 100
    store.close()


def test_closing_does_not_wait_for_a_handler_that_is_stuck(tmp_path: Path, make_notif: Make) -> None:
    """The handler's incarnation was ended by force: its work is not kept, and it closes the connection behind it."""
    path = str(tmp_path / "store.db")
    store = SqliteStore(path)
    inside, go_on, fenced = threading.Event(), threading.Event(), threading.Event()

    def stuck() -> None:
        inside.set()
        assert go_on.wait(10)
        raise RuntimeError("this incarnation has ended")

    def handle() -> None:
        try:
            store.store([StoreNotifEvent(message=make_notif("a"))], stuck)
        except RuntimeError:
            fenced.set()

    handler = threading.Thread(target=handle)
    handler.start()
    assert inside.wait(10)
    store.close()
    go_on.set()
    handler.join()
    assert fenced.is_set()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store._db.execute("SELECT 1")
    understudy = SqliteStore(path)
    assert understudy.store([StoreNotifEvent(message=make_notif("b"))], lambda: None) == [True]
    assert understudy.count(None) == 1
    understudy.close()


# --- migrations


def tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_each_migration_is_applied_once(db: sqlite3.Connection) -> None:
    assert migrate_sqlite(db) == [step.number for step in SQLITE]
    assert migrate_sqlite(db) == []
    assert {"notifs", "fences", "migrations"} <= tables(db)


def test_only_what_is_missing_is_applied(db: sqlite3.Connection) -> None:
    migrate_sqlite(db, SQLITE[:1])
    assert "fences" not in tables(db)
    assert migrate_sqlite(db) == [2, 3]


def test_migrations_are_numbered_without_gaps_and_their_text_is_frozen() -> None:
    assert [step.number for step in SQLITE] == list(range(1, len(SQLITE) + 1))
    assert [step.digest[:12] for step in SQLITE] == ["f9c62a66e021", "8590d866245c", "449b9a7919d5"], (
        "append a migration, never edit one"
    )


def test_a_migration_that_fails_leaves_the_schema_as_it_was(db: sqlite3.Connection) -> None:
    broken = Migration(len(SQLITE) + 1, "broken", ("CREATE TABLE half (a)", "CREATE TABEL typo (a)"))
    with pytest.raises(StorageError, match=r"migration \d+ \(broken\): ") as caught:
        migrate_sqlite(db, (*SQLITE, broken))
    assert caught.value.kind == "storage.migration.failed"
    assert tables(db) == set()


def test_an_edited_migration_is_refused(db: sqlite3.Connection) -> None:
    migrate_sqlite(db)
    edited = replace(SQLITE[1], statements=("CREATE TABLE fences (lock)",))
    with pytest.raises(StorageError, match=r"migration 2 .* was edited") as caught:
        migrate_sqlite(db, (SQLITE[0], edited, *SQLITE[2:]))
    assert caught.value.kind == "storage.migration.failed"


def test_a_database_from_a_later_version_is_refused(db: sqlite3.Connection) -> None:
    later = Migration(len(SQLITE) + 1, "from the future", ("CREATE TABLE future (a)",))
    migrate_sqlite(db, (*SQLITE, later))
    with pytest.raises(StorageError, match="from the future") as caught:
        migrate_sqlite(db)
    assert caught.value.kind == "storage.migration.failed"


def test_two_programs_may_start_at_the_same_time(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        barrier.wait()
        try:
            SqliteStore(str(tmp_path / "store.db")).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# --- any order of calls

EVENTS = st.builds(
    lambda nid, owner, fired_at, lock, token: StoreNotifEvent(
        message=NotifData(id=nid, receiver_info=owner, action_data=nid, actioner_info="2", fired_at=fired_at),
        fence=Fence(lock, token) if token else None,
    ),
    st.sampled_from("abcdef"),
    st.sampled_from(["1", "10", "2"]),
    st.integers(-2, 5),
    st.sampled_from(["x", "y"]),
    st.integers(0, 4),
)


@given(st.lists(st.one_of(st.lists(EVENTS, max_size=6), st.sampled_from("abcdef")), max_size=8))
def test_any_order_of_batches_agrees_with_a_dictionary(steps: list[Any]) -> None:
    """Batches of events to be stored, and between them ids to be marked as seen."""
    store, rows, tokens = SqliteStore(":memory:"), dict[str, tuple[NotifData, bool]](), dict[str, int]()

    def expect(event: StoreNotifEvent) -> bool | str:
        fence, notif = event.fence, event.message
        if fence is not None:
            if fence.token < tokens.get(fence.lock, 0):
                return "storage.fencing.stale"
            tokens[fence.lock] = fence.token
        if notif.fired_at < 0:
            return "storage.row.invalid"
        return rows.setdefault(notif.id, (notif, False))[0] is notif

    try:
        for step in steps:
            if isinstance(step, str):
                assert store.mark_seen([step], lambda: None) == [step in rows]
                if step in rows:
                    rows[step] = (rows[step][0], True)
                continue
            outcomes = store.store(step, lambda: None)
            shown = [each.kind if isinstance(each, StorageError) else each for each in outcomes]
            assert shown == [expect(event) for event in step]
        order = {nid: place for place, nid in enumerate(rows)}
        for owner in ("1", "10", "2"):
            mine = [row for row, seen in rows.values() if row.receiver_info == owner and not seen]
            mine.sort(key=lambda row: (row.fired_at, order[row.id]), reverse=True)
            found = store.of_owner(NotifsOfOwner(owner=owner))
            assert [row.nid for row in found] == [row.id for row in mine][:10]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("table", "says"),
    [("notifs (a INT)", "notifs already exists"), ("migrations (version TEXT)", "no such column: number")],
)
def test_a_table_that_is_in_the_way_is_said_with_the_file_that_has_it(tmp_path: Path, table: str, says: str) -> None:
    path = str(tmp_path / "store.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE {table}")
    for bring_up in (lambda: migrate(f"sqlite:///{path}"), lambda: SqliteStore(path)):
        with pytest.raises(StorageError) as caught:
            bring_up()
        assert caught.value.kind == "storage.migration.failed"
        assert not caught.value.response.retryable
        assert path in str(caught.value)
        assert says in str(caught.value)

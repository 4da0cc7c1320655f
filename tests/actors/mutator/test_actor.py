"""The mutator and accessor actors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.mutator.accessor import Accessor
from understudy.actors.mutator.actor import BATCH, Mutator
from understudy.actors.mutator.sqlite import SqliteStore
from understudy.messages import (
    AllNotifs,
    CountNotifs,
    Fence,
    Message,
    NotifById,
    NotifData,
    NotifsOfOwner,
    ReadStatement,
    SeenNotif,
    SpecInvalid,
    StorageError,
    StoreNotifEvent,
    WriteStatement,
    statement,
)
from understudy.supervisors.system import ActorSystem
from understudy.testing import SimulatedDispatcher

Make = Callable[..., NotifData]


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem("shop", dispatcher=SimulatedDispatcher(1)) as running:
        yield running


@pytest.fixture
def mutator(system: ActorSystem) -> Any:
    return system.spawn(Mutator, "sqlite:///:memory:", name="mutator")


def later(ref: Any, *messages: Message[Any]) -> list[Any]:
    """Ask all at once; the outcomes, an error as its kind."""
    futures = [ref.ask(message, block=False) for message in messages]
    outcomes: list[Any] = []
    for future in futures:
        try:
            outcomes.append(future.get())
        except StorageError as error:
            outcomes.append(str(error.kind))
    return outcomes


def test_each_message_has_its_answer(mutator: Any, make_notif: Make) -> None:
    assert mutator.ask(StoreNotifEvent(message=make_notif("a"))) is True
    assert mutator.ask(StoreNotifEvent(message=make_notif("a"))) is False
    assert [row.nid for row in mutator.ask(NotifsOfOwner(owner="1"))] == ["a"]
    assert mutator.ask(SeenNotif("a")) is True
    assert mutator.ask(SeenNotif("b")) is False
    assert mutator.ask(NotifsOfOwner(owner="1")) == []
    assert [row.is_seen for row in mutator.ask(AllNotifs())] == [True]
    assert mutator.ask(NotifById("a")).nid == "a"
    assert mutator.ask(NotifById("b")) is None
    assert mutator.ask(CountNotifs()) == 1


def test_what_waits_is_one_transaction(system: ActorSystem, make_notif: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = SqliteStore.store

    def counted(self: SqliteStore, events: Any, *rest: Any) -> Any:
        sizes.append(len(events))
        return original(self, events, *rest)

    monkeypatch.setattr(SqliteStore, "store", counted)
    mutator = system.spawn(Mutator, "sqlite:///:memory:", name="mutator")
    events = [StoreNotifEvent(message=make_notif(str(number))) for number in range(2 * BATCH + 7)]
    assert later(mutator, *events) == [True] * len(events)
    assert sizes == [BATCH, BATCH, 7]


@statement("CREATE TABLE visits (name TEXT PRIMARY KEY, n INTEGER NOT NULL)")
class CreateVisits(WriteStatement[None]):
    """Make the table."""


@statement("INSERT INTO visits (name, n) VALUES (%(name)s, 1)")
class AddVisitor(WriteStatement[int]):
    name: str


@statement("UPDATE visits SET n = n + 1 WHERE name = %(name)s")
class Visit(WriteStatement[bool]):
    name: str


@statement("SELECT n FROM visits WHERE name = %(name)s")
class Visits(ReadStatement[int | None]):
    name: str


class Undeclared(ReadStatement[int | None]):
    """Somebody forgot the decorator."""


def test_statements_of_all_types_are_one_transaction_and_answered_each(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = SqliteStore.write

    def counted(self: SqliteStore, statements: Any, *rest: Any) -> Any:
        sizes.append(len(statements))
        return original(self, statements, *rest)

    monkeypatch.setattr(SqliteStore, "write", counted)
    mutator = system.spawn(Mutator, "sqlite:///:memory:", name="mutator")
    reader = system.spawn(Accessor, "sqlite:///:memory:", name="reader")
    mutator.ask(CreateVisits())
    mutator.ask(AddVisitor("ada"))
    mutator.ask(Visit("ada"))
    found = later(mutator, Visit("ada"), AddVisitor("ada"), AddVisitor("bob"), Visit("bob"), Visit("eve"))
    assert found == [True, "storage.row.invalid", 1, True, False]
    assert sizes == [1, 1, 1, 5]
    assert [reader.ask(Visits(name)) for name in ("ada", "bob", "eve")] == [3, 2, None]
    assert mutator.ask(Visits("ada")) == 3


def test_a_statement_that_nobody_declared_is_refused_and_ends_nobody(mutator: Any) -> None:
    with pytest.raises(SpecInvalid) as caught:
        mutator.ask(Undeclared())
    assert caught.value.kind == "config.statement.invalid"
    assert mutator.incarnation == 1


def test_in_a_batch_each_request_has_its_own_outcome(mutator: Any, make_notif: Make) -> None:
    outcomes = later(
        mutator,
        StoreNotifEvent(message=make_notif("a"), fence=Fence("lock", 7)),
        StoreNotifEvent(message=make_notif("poison", fired_at=-1)),
        StoreNotifEvent(message=make_notif("a")),
        StoreNotifEvent(message=make_notif("late"), fence=Fence("lock", 6)),
        StoreNotifEvent(message=make_notif("b")),
    )
    assert outcomes == [True, "storage.row.invalid", False, "storage.fencing.stale", True]
    assert mutator.incarnation == 1


def test_a_refusal_says_where(mutator: Any, make_notif: Make) -> None:
    with pytest.raises(StorageError) as caught:
        mutator.ask(StoreNotifEvent(message=make_notif("poison", fired_at=-1)))
    error = caught.value
    assert (error.actor, error.incarnation, error.message_type) == ("mutator", 1, "StoreNotifEvent")
    assert error.method == "test_a_refusal_says_where.mutator.ask"
    with pytest.raises(StorageError) as caught:
        mutator.ask(NotifsOfOwner(owner="1", from_=9, to=1))
    assert caught.value.kind == "storage.query.invalid"


def test_a_told_event_that_cannot_be_stored_is_a_dead_letter(
    system: ActorSystem, mutator: Any, make_notif: Make
) -> None:
    mutator.tell(StoreNotifEvent(message=make_notif("a")))
    mutator.tell(StoreNotifEvent(message=make_notif("poison", fired_at=-1)))
    assert mutator.ask(CountNotifs()) == 1
    assert system.dead_letters == 1


def test_an_accessor_reads_what_the_mutator_wrote(system: ActorSystem, tmp_path: Path, make_notif: Make) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    mutator, accessor = system.spawn(Mutator, url, name="mutator"), system.spawn(Accessor, url, name="accessor")
    mutator.ask(StoreNotifEvent(message=make_notif("a")))
    assert [row.nid for row in accessor.ask(NotifsOfOwner(owner="1"))] == ["a"]
    assert accessor.ask(CountNotifs()) == 1


class Stuck(Mutator):
    """A mutator that is ended by force in the middle of a transaction."""

    def _may_commit(self) -> None:
        self._cell.actor = None  # what killing an incarnation does first
        super()._may_commit()
        raise AssertionError("it may commit")


def test_an_incarnation_that_was_given_up_on_commits_nothing(system: ActorSystem, make_notif: Make) -> None:
    stuck = system.spawn(Stuck, "sqlite:///:memory:", name="stuck")
    other = system.spawn(Mutator, "sqlite:///:memory:", name="other")
    other.ask(StoreNotifEvent(message=make_notif("a")))
    stuck.tell(SeenNotif("a"))
    row = other.ask(NotifById("a"))
    assert row is not None
    assert row.is_seen is False


def test_rows_outlive_the_mutator(system: ActorSystem, tmp_path: Path, make_notif: Make) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    fallen = system.spawn(Mutator, url, name="fallen")
    fallen.ask(StoreNotifEvent(message=make_notif("a"), fence=Fence("lock", 7)))
    fallen.stop()
    understudy = system.spawn(Mutator, url, name="understudy")
    assert understudy.ask(StoreNotifEvent(message=make_notif("a"))) is False
    with pytest.raises(StorageError) as caught:
        understudy.ask(StoreNotifEvent(message=make_notif("b"), fence=Fence("lock", 6)))
    assert caught.value.kind == "storage.fencing.stale"

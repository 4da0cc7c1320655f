"""The store contract: one row for each id, batches, fences, and reading by owner."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy.messages.errors import StorageError
from understudy.messages.lock import Fence
from understudy.messages.mutator import AllNotifs, NotifRow, NotifsOfOwner, StoreNotifEvent
from understudy.messages.notifications import ActionType

Make = Callable[..., Any]


def test_a_stored_notification_is_read_as_it_was(client: Any, make_notif: Make) -> None:
    data = {"pid": 200.4, "none": None, "list": [1, {"é": "☃"}]}
    sent = make_notif("unqie-id0", action_data=data, action_type=ActionType.EVENT_LOCKED)
    assert client.store(sent) == [True]
    row = client.backend.by_id("unqie-id0")
    assert row == NotifRow(
        id=row.id,
        receiver_info="1",
        nid="unqie-id0",
        action_data=data,
        actioner_info="2",
        action_type=ActionType.EVENT_LOCKED,
        fired_at=1714316645,
        is_seen=False,
    )


@pytest.mark.parametrize("data", [None, True, 0, 1.5, "", "null", [], {}, 2**63 - 1])
def test_any_json_value_may_be_the_data(client: Any, make_notif: Make, data: object) -> None:
    assert client.store(make_notif("a", action_data=data)) == [True]
    assert client.backend.by_id("a").action_data == data


def test_a_known_id_changes_nothing_and_is_no_error(client: Any, make_notif: Make) -> None:
    assert client.store(make_notif("a"), make_notif("b"), make_notif("a")) == [True, True, False]
    assert client.store(make_notif("a", receiver_info="other")) == [False]
    assert client.backend.count(None) == 2
    assert client.backend.by_id("a").receiver_info == "1"


def test_a_row_that_cannot_be_stored_fails_alone(client: Any, make_notif: Make) -> None:
    outcomes = client.store(
        make_notif("a"),
        make_notif("b", action_data=object()),
        make_notif("c", receiver_info="\ud800"),
        make_notif("d", fired_at=2**70),
        make_notif("e", fired_at=-1),
        make_notif("f", actioner_info=None),
        make_notif("g", action_data=float("nan")),
        make_notif("h", is_seen=7),
        make_notif(""),
        make_notif("z"),
    )
    assert outcomes == [True, *["storage.row.invalid"] * 8, True]
    assert client.ids() == ["z", "a"]


def test_a_refused_row_says_which_and_why(client: Any, make_notif: Make) -> None:
    (error,) = client.backend.store([StoreNotifEvent(message=make_notif("x7", action_data=float("inf")))], lambda: None)
    assert str(error).startswith("notification 'x7': ")
    assert "reply" not in str(error)


def test_what_was_stored_outlives_the_connection(connect: Callable[[], Any], make_notif: Make) -> None:
    fallen = connect()
    fallen.store(make_notif("a"))
    fallen.backend.close()
    fallen.backend.close()
    understudy = connect()
    assert understudy.ids() == ["a"]
    assert understudy.store(make_notif("a")) == [False]


def test_a_closed_connection_refuses_everything(client: Any, make_notif: Make) -> None:
    client.backend.close()
    kinds = client.store(make_notif("a"), make_notif("b"))
    assert kinds in ([f"storage.{store}.unavailable"] * 2 for store in ("sqlite", "postgres"))
    calls: list[tuple[Callable[..., object], tuple[object, ...]]] = [
        (client.seen, ("a",)),
        (client.ids, ()),
        (client.backend.count, (None,)),
        (client.backend.by_id, ("a",)),
    ]
    for call, arguments in calls:
        with pytest.raises(StorageError) as caught:
            call(*arguments)
        assert caught.value.kind == kinds[0]
        assert caught.value.response.retryable


def test_connections_see_each_others_rows(connect: Callable[[], Any], make_notif: Make) -> None:
    writer, reader = connect(), connect()
    assert reader.ids() == []
    writer.store(make_notif("a"))
    assert reader.ids() == ["a"]
    assert reader.store(make_notif("a"), make_notif("b")) == [False, True]


# --- fences


def test_an_older_token_than_was_seen_is_refused(client: Any, make_notif: Make) -> None:
    assert client.store(make_notif("a"), fence=("invoices", 3)) == [True]
    assert client.store(make_notif("b"), fence=("invoices", 2)) == ["storage.fencing.stale"]
    assert client.store(make_notif("c"), fence=("invoices", 3)) == [True]
    assert client.store(make_notif("d"), fence=("invoices", 7)) == [True]
    assert client.store(make_notif("e"), fence=("invoices", 3)) == ["storage.fencing.stale"]
    assert client.store(make_notif("f"), fence=("other", 1)) == [True]
    assert client.store(make_notif("g")) == [True]
    assert sorted(client.ids()) == ["a", "c", "d", "f", "g"]


def test_a_stale_row_fails_alone_in_its_batch(client: Any, make_notif: Make) -> None:
    tokens = (("a", 1), ("b", 5), ("c", 4), ("d", 5))
    events = [StoreNotifEvent(message=make_notif(nid), fence=Fence("lock", token)) for nid, token in tokens]
    assert client.run(*events) == [True, True, "storage.fencing.stale", True]


def test_a_stale_token_is_refused_for_a_known_id_too(client: Any, make_notif: Make) -> None:
    client.store(make_notif("a"), fence=("lock", 2))
    assert client.store(make_notif("a"), fence=("lock", 1)) == ["storage.fencing.stale"]
    assert client.store(make_notif("a"), fence=("lock", 2)) == [False]


def test_a_token_counts_as_seen_even_if_its_row_was_invalid(client: Any, make_notif: Make) -> None:
    assert client.store(make_notif("a", fired_at=-1), fence=("lock", 9)) == ["storage.row.invalid"]
    assert client.store(make_notif("b"), fence=("lock", 8)) == ["storage.fencing.stale"]


def test_tokens_outlive_the_connection(connect: Callable[[], Any], make_notif: Make) -> None:
    fallen = connect()
    fallen.store(make_notif("a"), fence=("lock", 9))
    fallen.backend.close()
    assert connect().store(make_notif("b"), fence=("lock", 8)) == ["storage.fencing.stale"]


def test_whoever_writes_at_the_same_time_no_older_token_comes_after_a_newer_one(
    connect: Callable[[], Any], make_notif: Make
) -> None:
    """Four connections present rising tokens of one lock, each at its own pace; rows are numbered as they came."""
    clients = [connect() for _ in range(4)]
    outcomes: list[Any] = []

    def work(number: int) -> None:
        for token in range(1 + number, 60, 1 + number):
            outcomes.extend(clients[number].store(make_notif(f"{number}.{token}", fired_at=token), fence=("l", token)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = sorted(clients[0].backend.all(AllNotifs(to=1_000, page_size=1_000)), key=lambda row: row.id)
    tokens = [row.fired_at for row in rows]
    assert tokens == sorted(tokens)
    assert set(outcomes) <= {True, "storage.fencing.stale"}
    assert outcomes.count(True) == len(rows)


def test_a_fence_that_cannot_be_fails_alone(client: Any, make_notif: Make) -> None:
    events = [
        StoreNotifEvent(message=make_notif("a"), fence=Fence("lock", 2**70)),
        StoreNotifEvent(message=make_notif("b"), fence=Fence("\ud800", 1)),
        StoreNotifEvent(message=make_notif("c"), fence=Fence("lock", 1)),
    ]
    assert client.run(*events) == ["storage.row.invalid", "storage.row.invalid", True]


# --- the guard


def test_nothing_is_kept_if_the_guard_refuses_the_commit(client: Any, make_notif: Make) -> None:
    class Fenced(Exception):
        pass

    def refuse() -> None:
        raise Fenced

    client.store(make_notif("a"))
    with pytest.raises(Fenced):
        client.backend.store([StoreNotifEvent(message=make_notif("b"), fence=Fence("lock", 9))], refuse)
    with pytest.raises(Fenced):
        client.backend.mark_seen(["a"], refuse)
    assert client.ids(unseen_only=True) == ["a"]
    assert client.store(make_notif("c"), fence=("lock", 1)) == [True]


# --- reading


def test_owners_are_compared_for_equality(client: Any, make_notif: Make) -> None:
    for number, owner in enumerate(("1", "10", "01", "%", "1%", "", "Ä")):
        client.store(make_notif(f"id{number}", receiver_info=owner))
    assert client.ids(owner="1") == ["id0"]
    assert client.ids(owner="%") == ["id3"]
    assert client.ids(owner="") == ["id5"]
    assert client.ids(owner="ä") == []
    assert (client.backend.count("1"), client.backend.count("nobody"), client.backend.count(None)) == (1, 0, 7)


def test_newest_come_first_and_later_stored_before_earlier(client: Any, make_notif: Make) -> None:
    for nid, fired_at in (("a", 5), ("b", 9), ("c", 1), ("d", 5)):
        client.store(make_notif(nid, fired_at=fired_at))
    assert client.ids(owner="1") == ["b", "d", "a", "c"]
    assert client.ids() == ["b", "d", "a", "c"]


def test_seen_ones_are_left_out_unless_asked_for(client: Any, make_notif: Make) -> None:
    client.store(make_notif("a"), make_notif("b"), make_notif("c", is_seen=True))
    assert client.seen("a", "unknown", "\ud800") == [True, False, False]
    assert client.seen("a") == [True]
    assert client.ids(owner="1") == ["b"]
    assert client.ids(owner="1", unseen_only=False) == ["c", "b", "a"]
    assert client.ids() == ["c", "b", "a"]
    assert client.ids(unseen_only=True) == ["b"]
    assert client.backend.by_id("a").is_seen is True


def test_pages(client: Any, make_notif: Make) -> None:
    client.store(*(make_notif(f"{number:02}", fired_at=number) for number in range(25)))
    newest = [f"{number:02}" for number in reversed(range(25))]
    assert client.ids(owner="1") == newest[:10]
    assert client.ids(owner="1", from_=5, to=100, page_size=7) == newest[5:12]
    assert client.ids(owner="1", from_=5, to=8) == newest[5:8]
    assert client.ids(owner="1", from_=20, to=40, page_size=40) == newest[20:]
    assert client.ids(owner="1", from_=30, to=40) == []
    assert client.ids(owner="1", to=0) == []
    assert client.ids(from_=10, to=12) == newest[10:12]


@pytest.mark.parametrize(
    "page", [{"from_": -1}, {"to": -1}, {"page_size": -1}, {"from_": 11}, {"to": 10**9, "page_size": 10**9}]
)
def test_a_page_that_cannot_be_is_refused(client: Any, page: dict[str, int]) -> None:
    for read in (client.ids, lambda **query: client.ids(owner="1", **query)):
        with pytest.raises(StorageError) as caught:
            read(**page)
        assert caught.value.kind == "storage.query.invalid"


def test_what_cannot_be_asked_for_is_refused(client: Any) -> None:
    with pytest.raises(StorageError) as caught:
        client.backend.of_owner(NotifsOfOwner(owner="\ud800"))
    assert caught.value.kind == "storage.query.invalid"
    with pytest.raises(StorageError) as caught:
        client.backend.of_owner(NotifsOfOwner(owner="1", from_=2**70, to=2**70 + 1))
    assert caught.value.kind == "storage.query.invalid"
    assert client.backend.by_id("unknown") is None

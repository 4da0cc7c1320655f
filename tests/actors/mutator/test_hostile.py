"""Rows that nobody sane would send, and disks that are full: coded errors, nothing half stored, nobody dead."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import pytest
from psycopg import sql

from understudy.actors.mutator.actor import Mutator
from understudy.actors.mutator.sqlite import SqliteStore
from understudy.messages import CountNotifs, NotifById, NotifsOfOwner, SeenNotif, StorageError
from understudy.messages.lock import Fence
from understudy.messages.mutator import StoreNotifEvent
from understudy.messages.notifications import ActionType, NotifData
from understudy.supervisors.system import ActorSystem

from ...servers.availability import unavailable
from ...servers.private import PrivatePostgres

Make = Callable[..., NotifData]

TEXTS = (
    "", "1", "a\0b", "\0", "\ud800", "\udfff\ud800", "'; DROP TABLE notifs; --", "%s %(x)s %", "{}{0}", "\\", "\\x00",
    "☃" * 300, "x" * 10_000, "\r\n\t\x01\x7f", "\u202e\ufeff", "NULL", '"', "$1", None, 7, b"bytes", ["list"], 1.5,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *TEXTS, True, -1, 2**63, 2**64, -(2**63) - 1, float("nan"), float("inf"), 1e308, {"\0": "\0"}, {"\ud800": 1},
    {"a": {"b": [None, {}, []]}}, object(), {1: 2}, {"x"}, [[[[[[]]]]]], "x" * 100_000,
)  # fmt: skip
TIMES: tuple[Any, ...] = (
    0,
    1,
    1714316645,
    253_402_300_799,
    253_402_300_800,
    -1,
    2**31,
    2**63,
    2**70,
    True,
    None,
    1.5,
    "1",
)
FLAGS: tuple[Any, ...] = (True, False, False, None, 0, 1, "t")
TOKENS: tuple[Any, ...] = (1, 2, 3, 0, -1, 2**63 - 1, 2**63, None, "1")


def fuzzed(number: int, chance: random.Random) -> StoreNotifEvent:
    """One event with mostly sane fields, so that it is not always the first that is at fault."""

    def pick(values: tuple[Any, ...], sane: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.3 else sane

    nid: Any = f"id{chance.randrange(20_000)}"
    if chance.random() < 0.1:
        text = chance.choice(TEXTS)
        nid = f"{number}{text}" if isinstance(text, str) and len(text) < 200 else text
    notif = NotifData(
        id=nid,
        receiver_info=pick(TEXTS, "1"),
        action_data=pick(VALUES, {"pid": 200.4}),
        actioner_info=pick(TEXTS, "2"),
        action_type=pick((*ActionType, "Unheard", None), ActionType.ZERLOG),
        fired_at=pick(TIMES, 1714316645),
        is_seen=pick(FLAGS, False),
    )
    fence = Fence(chance.choice(("a", "b", "\0", "\ud800")), chance.choice(TOKENS)) if chance.random() < 0.1 else None
    return StoreNotifEvent(message=notif, fence=fence)


REFUSALS = {"storage.row.invalid", "storage.fencing.stale"}


def test_ten_thousand_fuzzed_rows_are_stored_as_they_are_or_refused_alone(client: Any) -> None:
    chance, stored, refused = random.Random(8), dict[str, NotifData](), 0
    for batch in range(20):
        events = [fuzzed(500 * batch + number, chance) for number in range(500)]
        for event, outcome in zip(events, client.backend.store(events, lambda: None), strict=True):
            if outcome is True:
                assert event.message.id not in stored
                stored[event.message.id] = event.message
            elif outcome is False:
                assert event.message.id in stored
            else:
                assert outcome.kind in REFUSALS, outcome
                assert outcome.response.to_json()
                refused += 1
    assert refused > 1_000
    assert client.backend.count(None) == len(stored) > 1_000
    for nid in chance.sample(sorted(stored), 300):
        row, notif = client.backend.by_id(nid), stored[nid]
        assert row.receiver_info == notif.receiver_info
        assert row.actioner_info == notif.actioner_info
        assert (row.fired_at, row.is_seen) == (notif.fired_at, notif.is_seen)
        assert row.action_data == msgspec.to_builtins(notif.action_data, str_keys=True)


def test_hostile_reads_are_answered_or_refused(client: Any, make_notif: Make) -> None:
    client.store(make_notif("a"))
    for text in TEXTS:
        if text == "1":  # whose notification it is
            continue
        assert [look_for(client.backend, text, each) for each in range(3)] == [is_sane(text)] * 3, text
        assert client.seen(text) == [False]
    assert client.ids() == ["a"]


def is_sane(text: Any) -> bool:
    return isinstance(text, str) and "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def look_for(backend: Any, text: Any, read: int) -> bool:
    """Whether a read is answered, with nothing; else it is refused as what it is."""
    try:
        if read == 0:
            assert backend.of_owner(NotifsOfOwner(owner=text)) == []
        elif read == 1:
            assert backend.by_id(text) is None
        else:
            assert backend.count(object() if text is None else text) == 0
    except StorageError as error:
        return error.kind != "storage.query.invalid"
    return True


# --- a full disk


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MB, open to the users that servers run as."""
    folder = Path(tempfile.mkdtemp(prefix="understudy-small-"))
    folder.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        unavailable(f"no small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def fill(mutator: Any, make_notif: Make, kind: str) -> int:
    """Store rows of 20 kB of noise until there is no room; returns how many were acknowledged."""
    stored = 0
    while True:
        notif = make_notif(f"big{stored}", action_data=os.urandom(10_000).hex())
        try:
            assert mutator.ask(StoreNotifEvent(message=notif), timeout=20) is True
        except StorageError as error:
            assert error.kind == kind, error  # noqa: PT017  # when it comes is not known
            assert error.response.retryable  # noqa: PT017
            return stored
        stored += 1
        assert stored < 3_000


def goes_on(mutator: Any, stored: int) -> None:
    """What was acknowledged is there, reads are answered, and nobody fell."""
    assert mutator.ask(CountNotifs(), timeout=20) == stored
    assert mutator.ask(NotifById(f"big{stored}"), timeout=20) is None
    assert mutator.ask(NotifById("big0"), timeout=20) is not None
    assert mutator.incarnation == 1


def test_a_full_disk_under_sqlite_is_a_coded_error_and_loses_nothing(small_disk: Path, make_notif: Make) -> None:
    with ActorSystem("shop") as system:
        mutator = system.spawn(Mutator, f"sqlite:///{small_disk}/store.db", name="mutator")
        stored = fill(mutator, make_notif, "storage.sqlite.failed")
        goes_on(mutator, stored)
    store = SqliteStore(str(small_disk / "store.db"))
    assert store.count(None) == stored
    store.close()


def test_a_full_disk_under_postgres_is_a_coded_error_and_loses_nothing(
    small_disk: Path, private_postgres: PrivatePostgres, make_notif: Make
) -> None:
    """The tables are on the small disk; where the write-ahead log has no room, PostgreSQL itself ends."""
    space = small_disk / "space"
    space.mkdir(mode=0o777)
    space.chmod(0o777)
    subprocess.run(["chown", "postgres:postgres", str(space)], check=False)
    with psycopg.connect(private_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(space)))
        db.execute("CREATE DATABASE small TABLESPACE small")
    url = urlsplit(private_postgres.url)._replace(path="/small").geturl()
    try:
        with ActorSystem("shop") as system:
            mutator = system.spawn(Mutator, url, name="mutator")
            stored = fill(mutator, make_notif, "storage.postgres.failed")
            goes_on(mutator, stored)
            assert mutator.ask(SeenNotif("nobody"), timeout=20) is False
        with psycopg.connect(url) as db:
            assert db.execute("SELECT count(*) FROM notifs").fetchone() == (stored,)
    finally:
        with psycopg.connect(private_postgres.url, autocommit=True) as db:
            db.execute("DROP DATABASE small WITH (FORCE)")
            db.execute("DROP TABLESPACE small")

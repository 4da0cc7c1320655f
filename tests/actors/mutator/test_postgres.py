"""PostgreSQL beyond the contract: migrations, rights, secrets, what the server refuses, commits nobody heard of."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any

import psycopg
import pytest
from psycopg import sql

from understudy.actors.lock.postgres import PostgresLock
from understudy.actors.mutator.backend import Attempt
from understudy.actors.mutator.migrating import migrate
from understudy.actors.mutator.migrations import Migration
from understudy.actors.mutator.postgres.connection import Target
from understudy.actors.mutator.postgres.migrations import POSTGRES, migrate_postgres, postgres_script
from understudy.actors.mutator.postgres.store import PostgresStore
from understudy.messages.errors import ActorError, StorageError, UrlInvalid
from understudy.messages.lock import Fence
from understudy.messages.mutator import StoreNotifEvent
from understudy.messages.notifications import NotifData
from understudy.messages.statements import WriteStatement, statement

from ...servers.private import PrivatePostgres
from ...servers.proxy import FaultyProxy

Make = Callable[..., NotifData]
SECRET = "hunter2-p%40ss"  # as it stands in a URL
BARE_SECRET = "hunter2-p@ss"


@pytest.fixture
def db(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection to an empty database, as a migration gets it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def events(make_notif: Make, *nids: str, **given: Any) -> list[StoreNotifEvent]:
    return [StoreNotifEvent(message=make_notif(nid, **given)) for nid in nids]


# --- migrations


def tables(db: psycopg.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_each_migration_is_applied_once(db: psycopg.Connection) -> None:
    assert migrate_postgres(db) == [step.number for step in POSTGRES]
    assert migrate_postgres(db) == []
    assert tables(db) == {"notifs", "fences", "statements_done", "understudy_migrations"}


def test_only_what_is_missing_is_applied(db: psycopg.Connection) -> None:
    migrate_postgres(db, POSTGRES[:1])
    assert migrate_postgres(db) == [2, 3]


def test_migrations_are_numbered_without_gaps_and_their_text_is_frozen() -> None:
    assert [step.number for step in POSTGRES] == list(range(1, len(POSTGRES) + 1))
    frozen = ["fca6d2767687", "a9af8ca35ec7", "2f360ea792fa"]
    assert [step.digest[:12] for step in POSTGRES] == frozen, "append a migration, never edit one"


def test_a_migration_that_fails_leaves_the_schema_as_it_was(db: psycopg.Connection) -> None:
    broken = Migration(len(POSTGRES) + 1, "broken", ("CREATE TABLE half (a INT)", "CREATE TABEL typo (a INT)"))
    with pytest.raises(StorageError, match=r"migration \d+ \(broken\): ") as caught:
        migrate_postgres(db, (*POSTGRES, broken))
    assert caught.value.kind == "storage.migration.failed"
    assert tables(db) == set()


def test_an_edited_migration_and_one_of_a_later_version_are_refused(db: psycopg.Connection) -> None:
    later = Migration(len(POSTGRES) + 1, "from the future", ("CREATE TABLE future (a INT)",))
    migrate_postgres(db, (*POSTGRES, later))
    with pytest.raises(StorageError, match="from the future"):
        migrate_postgres(db)
    edited = replace(POSTGRES[1], statements=("CREATE TABLE fences (lock TEXT)",))
    with pytest.raises(StorageError, match=r"migration 2 .* was edited"):
        migrate_postgres(db, (POSTGRES[0], edited, *POSTGRES[2:], later))


def test_a_table_that_is_in_the_way_is_said_with_the_database_that_has_it(
    db: psycopg.Connection, postgres_url: str
) -> None:
    db.execute("CREATE TABLE notifs (a INT)")
    name = postgres_url.rpartition("/")[2]
    for bring_up in (lambda: migrate(postgres_url), lambda: PostgresStore(postgres_url)):
        with pytest.raises(StorageError, match=rf"{name}: .*\"notifs\" already exists") as caught:
            bring_up()
        assert caught.value.kind == "storage.migration.failed"
        assert not caught.value.response.retryable


def test_a_table_of_migrations_that_is_somebody_elses_is_no_reason_to_try_again(
    db: psycopg.Connection, postgres_url: str
) -> None:
    db.execute("CREATE TABLE understudy_migrations (version TEXT)")
    with pytest.raises(StorageError, match=r"understudy_migrations") as caught:
        migrate(postgres_url)
    assert caught.value.kind == "storage.migration.failed"
    assert not caught.value.response.retryable
    assert tables(db) == {"understudy_migrations"}


def test_of_many_that_migrate_at_once_one_does_the_work(postgres_url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        applied = [each.result() for each in [threads.submit(migrate, postgres_url) for _ in range(8)]]
    assert sorted(applied)[-1] == [(step.number, step.name) for step in POSTGRES]
    assert applied.count([]) == 7


def test_the_script_does_what_the_command_does(postgres_url: str) -> None:
    psql = ["psql", "-q", "-v", "ON_ERROR_STOP=1", postgres_url]
    subprocess.run(psql, input=postgres_script(), text=True, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert migrate(postgres_url) == []
    PostgresStore(postgres_url).close()


# --- what the server refuses


def test_rows_that_the_server_refuses_fail_alone(db: psycopg.Connection, postgres_url: str, make_notif: Make) -> None:
    """The client cannot know beforehand: a trigger and a constraint of the user's turn some down."""
    store = PostgresStore(postgres_url)
    db.execute("ALTER TABLE notifs ADD CHECK (actioner_info <> 'banned')")
    db.execute(
        "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.nid LIKE 'bad%' THEN RAISE EXCEPTION 'no bad ones'; END IF; RETURN NEW; END $$"
    )
    db.execute("CREATE TRIGGER picky BEFORE INSERT ON notifs FOR EACH ROW EXECUTE FUNCTION picky()")
    batch = events(make_notif, *(f"{'bad' if number % 7 == 3 else 'good'}{number}" for number in range(100)))
    batch.insert(50, *events(make_notif, "banned", actioner_info="banned"))
    batch.insert(60, *events(make_notif, "good1"))
    batch[20] = StoreNotifEvent(message=batch[20].message, fence=Fence("lock", 5))
    batch[30] = StoreNotifEvent(message=batch[30].message, fence=Fence("lock", 4))
    outcomes = store.store(batch, lambda: None)
    refused = {place: str(outcome.kind) for place, outcome in enumerate(outcomes) if isinstance(outcome, StorageError)}
    bad = [place for place, event in enumerate(batch) if event.message.id[:3] in ("bad", "ban")]
    assert refused == {**dict.fromkeys(bad, "storage.row.invalid"), 30: "storage.fencing.stale"}
    assert [outcome for outcome in outcomes if isinstance(outcome, bool)].count(False) == 1
    assert outcomes[60] is False
    assert store.count(None) == outcomes.count(True)
    assert "no bad ones" in str(outcomes[bad[0]])
    store.close()


@statement("INSERT INTO child (id, parent) VALUES (%(id)s, %(parent)s)")
class AddChild(WriteStatement[int]):
    id: int
    parent: int


@statement("INSERT INTO above_nought (id) VALUES (%(id)s)")
class AddAboveNought(WriteStatement[int]):
    id: int


@statement("SELECT strict(%(id)s)")
class AskStrictly(WriteStatement[int | None]):
    id: int


@statement("SELECT custom(%(id)s)")
class AskCustom(WriteStatement[int | None]):
    id: int


ONES_OWN = """
CREATE TABLE parent (id INT PRIMARY KEY);
INSERT INTO parent VALUES (1);
CREATE TABLE child (id INT PRIMARY KEY, parent INT REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE t (id INT);
CREATE VIEW above_nought AS SELECT * FROM t WHERE id > 0 WITH CHECK OPTION;
CREATE FUNCTION strict(i INT) RETURNS INT LANGUAGE plpgsql AS
$$ DECLARE r INT; BEGIN IF i < 0 THEN SELECT id INTO STRICT r FROM parent WHERE id = i; END IF; RETURN i; END $$;
CREATE FUNCTION custom(i INT) RETURNS INT LANGUAGE plpgsql AS
$$ BEGIN IF i < 0 THEN RAISE EXCEPTION 'not below' USING ERRCODE = 'ZX001'; END IF; RETURN i; END $$;
"""
BAD_AMONG_GOOD: dict[str, list[WriteStatement[Any]]] = {
    "a deferred constraint": [AddChild(1, 1), AddChild(2, 99), AddChild(3, 1)],
    "a view's check": [AddAboveNought(1), AddAboveNought(-2), AddAboveNought(3)],
    "a function that finds nothing": [AskStrictly(1), AskStrictly(-2), AskStrictly(3)],
    "an error code of the user's": [AskCustom(1), AskCustom(-2), AskCustom(3)],
}


@pytest.mark.parametrize("what", BAD_AMONG_GOOD)
def test_a_statement_that_anything_of_the_users_refuses_fails_alone(
    db: psycopg.Connection, postgres_url: str, what: str
) -> None:
    """Whatever its code; and trying it again would not help."""
    db.execute(ONES_OWN)
    store = PostgresStore(postgres_url)
    first, refused, last = store.write(BAD_AMONG_GOOD[what], lambda: None, Attempt())
    assert not isinstance(first, Exception)
    assert not isinstance(last, Exception)
    assert isinstance(refused, StorageError)
    assert refused.kind == "storage.row.invalid"
    assert not refused.response.retryable
    store.close()


@pytest.mark.parametrize("deferred", [False, True])
def test_a_notification_that_a_users_code_or_a_deferred_constraint_refuses_fails_alone(
    db: psycopg.Connection, postgres_url: str, make_notif: Make, deferred: bool
) -> None:
    store = PostgresStore(postgres_url)
    db.execute(
        "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.nid = 'bad' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'ZX001'; END IF; RETURN NEW; END $$"
    )
    kind = "CONSTRAINT TRIGGER picky AFTER" if deferred else "TRIGGER picky BEFORE"
    when = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    db.execute(f"CREATE {kind} INSERT ON notifs {when} FOR EACH ROW EXECUTE FUNCTION picky()".encode())
    good, bad, other = store.store(events(make_notif, "a", "bad", "c"), lambda: None)
    assert (good, other) == (True, True)
    assert isinstance(bad, StorageError)
    assert bad.kind == "storage.row.invalid"
    assert store.count(None) == 2
    store.close()


def test_a_schema_that_somebody_broke_fails_the_batch_and_keeps_nothing(
    db: psycopg.Connection, postgres_url: str, make_notif: Make
) -> None:
    store = PostgresStore(postgres_url)
    db.execute("ALTER TABLE notifs RENAME COLUMN actioner_info TO oops")
    for outcome in store.store(events(make_notif, "a", "b"), lambda: None):
        assert isinstance(outcome, StorageError)
        assert outcome.kind == "storage.postgres.failed"
    db.execute("ALTER TABLE notifs RENAME COLUMN oops TO actioner_info")
    assert store.store(events(make_notif, "a", "b"), lambda: None) == [True, True]
    store.close()


def test_writers_in_opposite_order_get_through(postgres_url: str, make_notif: Make) -> None:
    """Each waits for a row of the other: the server ends one of the two, which is then repeated."""
    stores = [PostgresStore(postgres_url) for _ in range(2)]
    outcomes: list[Any] = []

    def work(store: PostgresStore, *, backwards: bool) -> None:
        for turn in range(20):
            nids = [f"{turn}-{number}" for number in range(200)]
            outcomes.extend(store.store(events(make_notif, *(nids[::-1] if backwards else nids)), lambda: None))

    threads = [
        threading.Thread(target=work, args=(store,), kwargs={"backwards": bool(number)})
        for number, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == outcomes.count(False) == 20 * 200
    assert stores[0].count(None) == 20 * 200
    for store in stores:
        store.close()


# --- commits of which nobody heard


@pytest.mark.parametrize("fence", [None, Fence("lock", 3)])
def test_a_commit_whose_answer_was_lost_is_recognised(
    postgres_url: str, new_proxy: Callable[[str], FaultyProxy], make_notif: Make, fence: Fence | None
) -> None:
    """The proxy cuts the answer at every byte: each row is added by the request that added it, once."""
    proxy = new_proxy(postgres_url)
    store, plain = PostgresStore(proxy.url), PostgresStore(postgres_url)
    plain.store(events(make_notif, "known"), lambda: None)
    again = 0
    for cut in range(0, 240, 8):
        batch = [StoreNotifEvent(message=make_notif(nid), fence=fence) for nid in (f"{cut}-a", "known", f"{cut}-b")]
        attempts: list[int] = []
        healing = threading.Timer(0.1, proxy.heal)

        def fail_once(cut: int = cut, attempts: list[int] = attempts, healing: threading.Timer = healing) -> None:
            """Called before the commit is sent."""
            if not attempts:
                proxy.cut_replies(cut)
                healing.start()
            attempts.append(cut)

        assert store.store(batch, fail_once, Attempt(timeout=20)) == [True, False, True]
        again += len(attempts) > 1
        healing.join()
    assert again > 5
    assert plain.count(None) == 1 + 2 * 30
    store.close()
    plain.close()


# --- rights, secrets, URLs


@pytest.fixture
def guarded(private_postgres: PrivatePostgres) -> str:
    """Host and port of a server that asks the user `ada` for her password."""
    rules = private_postgres.folder / "data" / "pg_hba.conf"
    rules.write_text("host all postgres 127.0.0.1/32 trust\nhost all ada 127.0.0.1/32 scram-sha-256\n")
    with psycopg.connect(private_postgres.url, autocommit=True) as db:
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
        if not db.execute("SELECT 1 FROM pg_roles WHERE rolname = 'ada'").fetchall():
            db.execute(sql.SQL("CREATE ROLE ada LOGIN PASSWORD {}").format(BARE_SECRET))
        db.execute("SELECT pg_reload_conf()")
    return f"127.0.0.1:{private_postgres.port}"


def everything_said(error: ActorError, log: pytest.LogCaptureFixture) -> str:
    return f"{error!r} {error} {error.response.to_json()!r} {error.response!r} {log.text}"


@pytest.mark.parametrize(
    ("user", "database", "says"),
    [
        ("ada:wrong-{secret}", "postgres", "password authentication failed"),
        ("ada", "postgres", "no password supplied"),
        ("bob:{secret}", "postgres", "no pg_hba.conf entry"),
        ("ada:{secret}", "nowhere", "does not exist"),
    ],
)
def test_wrong_credentials_have_a_code_and_say_no_secret(
    guarded: str, caplog: pytest.LogCaptureFixture, user: str, database: str, says: str
) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        PostgresStore(f"postgresql://{user.format(secret=SECRET)}@{guarded}/{database}")
    assert caught.value.kind == "storage.postgres.denied"
    assert not caught.value.response.retryable
    said = everything_said(caught.value, caplog)
    assert BARE_SECRET not in said
    assert SECRET not in said


def test_a_database_without_rights_refuses_each_thing_with_a_code(
    guarded: str, private_postgres: PrivatePostgres, caplog: pytest.LogCaptureFixture, make_notif: Make
) -> None:
    url = f"postgresql://ada:{SECRET}@{guarded}/postgres"
    with pytest.raises(StorageError) as caught:  # she may not make the tables
        PostgresStore(url)
    assert caught.value.kind == "storage.postgres.denied"
    assert BARE_SECRET not in everything_said(caught.value, caplog)
    migrate(private_postgres.url)
    with psycopg.connect(private_postgres.url, autocommit=True) as db:
        db.execute("GRANT USAGE ON SCHEMA public TO ada")
        db.execute("GRANT SELECT ON understudy_migrations, notifs TO ada")
    store = PostgresStore(url)  # a schema that is up to date is only looked at
    assert store.count(None) == 0
    (refused,) = store.store(events(make_notif, "a"), lambda: None)
    assert isinstance(refused, StorageError)
    assert refused.kind == "storage.postgres.denied"
    assert BARE_SECRET not in everything_said(refused, caplog)
    with psycopg.connect(private_postgres.url, autocommit=True) as db:
        db.execute("GRANT INSERT ON notifs TO ada")
    assert store.store(events(make_notif, "a"), lambda: None) == [True]
    store.close()


@pytest.mark.parametrize(
    "rest",
    [
        "ada:hunt%zzer2@h/x",
        "ada:hunter2@h:port/x",
        "ada:hunter2@h/x?no_such=1",
        "ada:hunter2@[h/x",
        "ada:hunter2@h/\ud800",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(rest: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ActorError) as caught:
        PostgresStore(f"postgresql://{rest}")
    assert isinstance(caught.value, (UrlInvalid, StorageError))
    assert "hunt" not in everything_said(caught.value, caplog)


@pytest.mark.parametrize(
    "password",
    [
        "hunt@er2",
        "hunt/er2",
        "hunt@/er2",
        "hunt/@er2",
        "12/er2",
        "er2@12",
        "er2?12/@34",
        "12?er2",
        "12?a=er2/34",
        "@er2",
    ],
)
@pytest.mark.parametrize("database", ["127.0.0.1:1/shop", "127.0.0.1:1/shop?connect_timeout=2", "127.0.0.1"])
def test_a_password_with_bare_marks_is_never_taken_for_a_host_or_a_database(
    password: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """libpq ends it at the first @ or /, and would quote the rest of it as a host's or a database's name."""
    url = f"postgresql://ada:{password}@{database}"
    for open_it in (lambda: PostgresStore(url), lambda: PostgresLock(url, monotonic)):
        with pytest.raises(UrlInvalid, match="percent-encoded") as caught:
            open_it()
        said = everything_said(caught.value, caplog)
        assert "er2" not in said
        assert "hunt" not in said


def test_a_url_without_a_host_does_not_show_its_password_as_a_port() -> None:
    with pytest.raises(UrlInvalid) as caught:
        PostgresStore("postgresql://ada:hunter2/shop")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://ada:p%40s%2Fs@h:5432/shop", "postgresql://h:5432/shop"),
        ("postgresql://ada@h1:1,h2:2/shop", "postgresql://h1,h2:1,2/shop"),
        ("postgresql://h1,h2/shop", "postgresql://h1,h2/shop"),
        ("postgresql:///shop?host=/tmp&user=ada&password=p@s/s", "postgresql:///tmp/shop"),
        ("postgresql://h/a%40b", "postgresql://h/a@b"),
        ("postgresql://[::1]:5432/shop", "postgresql://::1:5432/shop"),
        ("postgresql://", "postgresql://localhost/"),
    ],
)
def test_any_other_url_is_libpqs(url: str, name: str) -> None:
    """Percent-encoded marks, several hosts, and a password among the options, where nothing divides it."""
    assert Target(url).name == name

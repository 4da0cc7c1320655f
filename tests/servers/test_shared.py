"""Each test gets its own part of the running servers, and a missing server is a reason."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from . import shared
from .availability import REQUIRED, unavailable
from .private import PrivateRabbitMQ
from .shared import AMQP, LEFT_BEHIND, POSTGRES, VirtualHosts, is_left_behind, new_name, virtual_hosts


@pytest.mark.parametrize("again", [False, True])
def test_each_test_has_a_database_of_its_own(postgres_url: str, again: bool) -> None:
    """The second run would not find it empty if it were the first one's."""
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE mine (id int)")


def test_what_a_run_made_that_is_over_counts_as_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [new_name("-"), new_name("_")]
    assert not any(map(is_left_behind, ours))
    over = subprocess.Popen(["true"])
    over.wait()
    monkeypatch.setattr("os.getpid", lambda: over.pid)
    assert is_left_behind(new_name("-"))
    assert is_left_behind(new_name("_"))
    assert not any(map(is_left_behind, ["/", "test", "understudy", "understudy-old", f"my-{ours[0]}"]))


def test_what_a_run_on_another_machine_made_counts_as_left_behind_after_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes cannot be seen from here."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(shared, "_process_numbers", lambda: 7)
        theirs = [new_name("-"), new_name("_")]
    assert not any(map(is_left_behind, theirs))
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + LEFT_BEHIND + 1)
    assert all(map(is_left_behind, theirs))


def test_virtual_hosts_that_were_given_back_go_when_others_are_made() -> None:
    """A server that kept them all would run out of open files, and then let nobody connect."""
    told: list[str] = []

    def control(*arguments: str) -> str:
        told.append(arguments[-1])
        return ""

    hosts = VirtualHosts("amqp://host", control)
    taken = [hosts.take() for _ in range(10)]
    for url in taken[:9]:
        hosts.give_back(url)
    hosts.take()
    removed = told[-1].partition("]")[0]
    assert [url.rpartition("/")[2] in removed for url in taken] == [True] * 9 + [False]
    hosts.remove()
    assert taken[9].rpartition("/")[2] in told[-1].partition("]")[0]


def test_a_database_that_a_killed_run_left_behind_is_removed(request: pytest.FixtureRequest) -> None:
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=60)
    except psycopg.OperationalError as error:
        unavailable(f"no PostgreSQL: {error}")
    name = f"understudy_1000000000_0_1_{uuid4().hex[:12]}"
    with connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        request.getfixturevalue("postgres_url")
        left = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall()
    assert left == []


@pytest.fixture
def sessions() -> Iterator[list[psycopg.Connection]]:
    """Connections that are closed at the end; asked for first, so that its end comes last."""
    opened: list[psycopg.Connection] = []
    yield opened
    for connection in opened:
        connection.close()


def test_a_session_left_open_does_not_keep_the_database(sessions: list[psycopg.Connection], postgres_url: str) -> None:
    """The fixture's end would fail."""
    sessions.append(psycopg.connect(postgres_url))
    assert sessions[0].execute("SELECT 1").fetchone() == (1,)


prefixes: list[str] = []


@pytest.mark.parametrize("again", [False, True])
def test_each_test_has_a_prefix_and_its_keys_go_with_it(redis_url: str, redis_prefix: str, again: bool) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert redis_prefix not in prefixes
        assert not any(client.exists(f"{prefix}key") for prefix in prefixes)
        client.set(f"{redis_prefix}key", "1")
    prefixes.append(redis_prefix)


hosts: list[str] = []


@pytest.mark.parametrize("again", [False, True])
def test_each_test_has_a_virtual_host_of_its_own(amqp_url: str, again: bool) -> None:
    assert amqp_url.startswith("amqp://")
    assert amqp_url not in hosts
    hosts.append(amqp_url)


def test_where_rabbitmqctl_may_not_be_run_the_virtual_hosts_are_of_a_private_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if reason := PrivateRabbitMQ.missing():
        unavailable(reason)
    monkeypatch.setenv("UNDERSTUDY_TEST_RABBITMQCTL", "false")
    with virtual_hosts() as hosts:
        url = hosts.take()
        assert urlsplit(url).port != urlsplit(AMQP).port


def test_without_its_server_a_test_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Redis at all"):
        unavailable("no Redis at all")


def test_where_services_are_required_a_missing_one_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "required")
    with pytest.raises(pytest.fail.Exception, match="no Redis at all"):
        unavailable("no Redis at all")

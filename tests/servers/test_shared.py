"""Each test gets its own part of the running servers, and a missing server is a reason."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from .availability import REQUIRED, unavailable
from .private import PrivateRabbitMQ
from .shared import AMQP, LEFT_BEHIND, POSTGRES, is_old, new_name, virtual_hosts


@pytest.mark.parametrize("again", [False, True])
def test_each_test_has_a_database_of_its_own(postgres_url: str, again: bool) -> None:
    """The second run would not find it empty if it were the first one's."""
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE mine (id int)")


def test_only_what_a_run_of_long_ago_made_counts_as_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    names = [new_name("-"), new_name("_")]
    assert not any(map(is_old, names))
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0 + LEFT_BEHIND + 1)
    assert all(map(is_old, names))
    assert not any(map(is_old, ["/", "test", "understudy", "understudy-old", f"my-{names[0]}"]))


def test_a_database_that_a_killed_run_left_behind_is_removed(request: pytest.FixtureRequest) -> None:
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=60)
    except psycopg.OperationalError as error:
        unavailable(f"no PostgreSQL: {error}")
    name = f"understudy_1000000000_{uuid4().hex}"
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

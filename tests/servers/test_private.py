"""Private servers do what the tests that use them rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from .availability import unavailable
from .private import PrivatePostgres, PrivateRabbitMQ, PrivateRedis
from .process import PrivateServer, poll

pytestmark = pytest.mark.timeout(600)  # servers are started here, several to a test; seconds, but for a slow machine


@pytest.fixture(params=[PrivatePostgres, PrivateRabbitMQ, PrivateRedis], ids=lambda kind: kind.name, scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    kind: type[PrivateServer] = request.param
    if reason := kind.missing():
        unavailable(reason)
    with kind() as server:
        yield server


@pytest.fixture
def server(running: PrivateServer) -> PrivateServer:
    """One that is up, whatever the test before did to it."""
    running.ensure_running()
    return running


def test_a_server_that_was_started_answers(server: PrivateServer) -> None:
    assert server.running
    poll(server.is_ready, "an answer")


def test_a_killed_server_is_gone_at_once_and_starts_again_at_the_same_url(server: PrivateServer) -> None:
    url = server.url
    server.kill()
    assert (server.running, server.is_ready()) == (False, False)
    server.start()
    poll(server.is_ready, "an answer")
    assert (server.running, server.url) == (True, url)


def test_a_restarted_server_answers(server: PrivateServer) -> None:
    server.restart()
    poll(server.is_ready, "an answer")


def test_a_paused_server_does_not_answer_until_it_is_resumed(server: PrivateServer) -> None:
    server.pause()
    assert (server.running, server.is_ready()) == (True, False)
    server.resume()
    poll(server.is_ready, "an answer")


def test_a_running_server_is_not_started_twice(server: PrivateServer) -> None:
    with pytest.raises(RuntimeError, match="is running"):
        server.start()


def test_a_server_that_is_down_is_neither_killed_nor_stopped(server: PrivateServer) -> None:
    server.kill()
    with pytest.raises(RuntimeError, match="is not running"):
        server.kill()
    with pytest.raises(RuntimeError, match="is not running"):
        server.stop()


def test_a_killed_postgres_keeps_what_was_committed(private_postgres: PrivatePostgres) -> None:
    with psycopg.connect(private_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        private_postgres.kill()
    private_postgres.start()
    with psycopg.connect(private_postgres.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_a_killed_redis_keeps_what_it_acknowledged(private_redis: PrivateRedis) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.set("kept", "1")
    private_redis.kill()
    private_redis.start()
    with redis.Redis.from_url(private_redis.url) as client:
        assert client.get("kept") == b"1"


def test_a_memory_alarm_of_rabbitmq_is_raised_and_cleared(private_rabbitmq: PrivateRabbitMQ) -> None:
    def alarms() -> str:
        return private_rabbitmq.control("eval", "rabbit_alarm:get_alarms().").strip()

    private_rabbitmq.raise_memory_alarm()
    assert "resource_limit,memory" in alarms()
    private_rabbitmq.clear_memory_alarm()
    assert alarms() == "[]"


def test_options_reach_the_server() -> None:
    if reason := PrivateRedis.missing():
        unavailable(reason)
    with PrivateRedis({"maxmemory": "7mb"}) as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(7 * 1024 * 1024)}


def test_a_server_that_cannot_start_says_what_it_printed_and_leaves_nothing(tmp_path: Path) -> None:
    if reason := PrivateRedis.missing():
        unavailable(reason)
    with (
        pytest.raises(RuntimeError, match=r"(?s)ended before it was ready.*no-such-setting"),
        PrivateRedis({"no-such-setting": "1"}, folder=tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [PrivatePostgres, PrivateRedis], ids=lambda kind: kind.name)
def test_a_server_ends_with_the_process_that_started_it_even_if_that_is_killed(kind: type[PrivateServer]) -> None:
    """Paused, too: a stopped process is deaf to everything but SIGKILL."""
    if reason := kind.missing():
        unavailable(reason)
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.servers.private import {kind.__name__}
server = {kind.__name__}()
server.start()
server.pause()
print(server.folder, *server._process.family(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    folder, *family = done.stdout.split()
    assert family
    poll(lambda: not any(_command_runs(pid) for pid in family), "the end of the server")
    poll(lambda: not os.path.exists(folder), "the end of its folder")


def _command_runs(pid: str) -> bool:
    try:
        return bool(Path("/proc", pid, "cmdline").read_bytes())
    except OSError:
        return False

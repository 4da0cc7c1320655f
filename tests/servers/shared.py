"""Fixtures: a part of the running servers for each test, and servers of the tests' own.

The running ones are those of ``compose.yaml``; other addresses are named by the variables below. Virtual hosts are made
by ``rabbitmqctl``, or by what ``UNDERSTUDY_TEST_RABBITMQCTL`` names: ``docker compose exec -T rabbitmq rabbitmqctl``.
A test gets a virtual host, a database or a prefix for its keys that nobody else uses, and that is gone after it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import pytest

from .availability import unavailable
from .private import PrivatePostgres, PrivateRabbitMQ, PrivateRedis, run
from .process import PATIENCE, PrivateServer, talk
from .proxy import FaultyProxy

__all__ = [
    "amqp_url",
    "amqp_vhosts",
    "new_proxy",
    "postgres_url",
    "private_postgres",
    "private_rabbitmq",
    "private_redis",
    "redis_prefix",
    "redis_url",
    "running_private_postgres",
    "running_private_rabbitmq",
    "running_private_redis",
]

Server = TypeVar("Server", bound=PrivateServer)

AMQP = os.environ.get("UNDERSTUDY_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
POSTGRES = os.environ.get("UNDERSTUDY_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
REDIS = os.environ.get("UNDERSTUDY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")

TOOL_FOLDERS = ("/usr/local/sbin", "/usr/sbin")
"""Where rabbitmqctl is, also for whoever is not an administrator or has no shell's PATH."""


LEFT_BEHIND = 6 * 3600
"""Seconds after which no run elsewhere can still be using what it made: a run that was killed removed nothing."""


def new_name(separator: str) -> str:
    """A name that nobody else has, and that says when it was given, and by which process."""
    numbers = [int(time.time()), _process_numbers(), os.getpid()]
    return separator.join(["understudy", *map(str, numbers), uuid4().hex[:12]])


def is_left_behind(name: str) -> bool:
    """Whether it is a name of ours, from a run that cannot be going on any more."""
    given = re.fullmatch(r"understudy[-_](\d{10})[-_](\d+)[-_](\d+)[-_][0-9a-f]{12}", name)
    if given is None:
        return False
    at, numbers, process = map(int, given.groups())
    if numbers and numbers == _process_numbers():
        return not Path("/proc", str(process)).exists()
    return time.time() - at > LEFT_BEHIND


def _process_numbers() -> int:
    """What says whose process numbers are meant: a container has its own. 0: that is not known here."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


# --- the running servers ------------------------------------------------------------------------------------


class VirtualHosts:
    """Virtual hosts of a RabbitMQ, made ten at a time: the tool that makes them takes half a second.

    Args:
        url: The server's.
        control: Runs ``rabbitmqctl`` on it.
    """

    def __init__(self, url: str, control: Callable[..., str]) -> None:
        self._url, self._control = url, control
        self._made: list[str] = []
        self._free: list[str] = []
        self._used: list[str] = []

    def take(self) -> str:
        """The URL of a virtual host that is empty and that nobody has had."""
        if not self._free:
            self.make()
        return f"{self._url}/{self._free.pop()}"

    def give_back(self, url: str) -> None:
        """Have it removed when the next ones are made.

        Each keeps files open, of which a server may have a thousand; one that runs short lets nobody connect.
        """
        self._used.append(url.rpartition("/")[2])

    def make(self) -> None:
        """Have some ready."""
        self._free = [new_name("-") for _ in range(10)]
        self._replace(self._used, self._free)

    def remove(self) -> None:
        """Remove all that there are, and what runs left behind that were killed."""
        left_behind = [name for name in self._control("list_vhosts", "name").split() if is_left_behind(name)]
        self._replace(self._made + left_behind, [])

    def _replace(self, old: list[str], new: list[str]) -> None:
        rights = 'rabbit_auth_backend_internal:set_permissions(<<"guest">>, V, <<".*">>, <<".*">>, <<".*">>, A)'
        self._control(
            "eval",
            f'A = <<"tests">>, [rabbit_vhost:delete(V, A) || V <- {_erlang(old)}],'
            f" [begin rabbit_vhost:add(V, A), {rights} end || V <- {_erlang(new)}].",
        )
        self._made = [name for name in self._made if name not in old] + new
        self._used = [name for name in self._used if name not in old]


def _erlang(names: list[str]) -> str:
    return "[" + ", ".join(f'<<"{name}">>' for name in names) + "]"


def _rabbitmqctl(*arguments: str) -> str:
    """Run ``rabbitmqctl`` on the running RabbitMQ.

    Raises:
        RuntimeError: There is no such tool here, or it may not be run.
    """
    found = shutil.which("rabbitmqctl", path=os.pathsep.join([os.environ["PATH"], *TOOL_FOLDERS]))
    command = shlex.split(os.environ.get("UNDERSTUDY_TEST_RABBITMQCTL", found or ""))
    if not command:
        raise RuntimeError("no rabbitmqctl here to make virtual hosts with")
    return run([*command, "-q", *arguments])


@contextmanager
def virtual_hosts() -> Iterator[VirtualHosts]:
    """Virtual hosts of the running RabbitMQ; where that is not ours to look after, of one of our own."""
    address = urlsplit(AMQP)
    if not talk(address.port or 5672, b"AMQP\0\0\x09\x01", b"\x01\0\0", PATIENCE):
        unavailable(f"no RabbitMQ at {address.hostname}:{address.port}")
    with ExitStack() as stack:
        hosts = VirtualHosts(AMQP, _rabbitmqctl)
        try:
            hosts.make()
        except RuntimeError as error:
            if reason := PrivateRabbitMQ.missing():
                unavailable(f"{error}; {reason}")
            server = stack.enter_context(PrivateRabbitMQ())
            hosts = VirtualHosts(server.url, server.control)
        try:
            yield hosts
        finally:
            hosts.remove()


@pytest.fixture(scope="session")
def amqp_vhosts() -> Iterator[VirtualHosts]:
    """Virtual hosts of the running RabbitMQ."""
    with virtual_hosts() as hosts:
        yield hosts


@pytest.fixture
def amqp_url(amqp_vhosts: VirtualHosts) -> Iterator[str]:
    """The URL of an empty virtual host of the running RabbitMQ."""
    url = amqp_vhosts.take()
    yield with_options(url)
    amqp_vhosts.give_back(url)


def with_options(url: str, **options: float) -> str:
    """An AMQP URL with other options; one that names no time for connecting gets much: the machine may be slow."""
    parts = urlsplit(url)
    query = {"connection_timeout": PATIENCE, **dict(parse_qsl(parts.query)), **options}
    return parts._replace(path=parts.path or "/", query=urlencode(query)).geturl()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL of an empty database of the running PostgreSQL."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=60)
    except psycopg.OperationalError as error:
        unavailable(f"no PostgreSQL: {error}")
    name = new_name("_")
    with connection:
        for (left_behind,) in connection.execute("SELECT datname FROM pg_database").fetchall():
            if is_left_behind(left_behind):
                connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(left_behind)))
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        yield urlsplit(POSTGRES)._replace(path=f"/{name}").geturl()
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def redis_url() -> str:
    """The URL of the running Redis; use it together with ``redis_prefix``."""
    import redis

    try:
        with redis.Redis.from_url(REDIS, socket_timeout=60) as client:
            client.ping()
    except redis.RedisError as error:
        unavailable(f"no Redis: {error}")
    return REDIS


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """What the names of a test's keys begin with; the keys are removed after it."""
    import redis

    prefix = f"understudy:{uuid4().hex}:"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        keys: list[Any] = list(client.scan_iter(match=prefix + "*", count=1000))
        if keys:
            client.unlink(*keys)


# --- servers of the tests' own ------------------------------------------------------------------------------
# Started once per module, because RabbitMQ takes seconds; running again at the start of each test.


def _started(kind: type[Server]) -> Iterator[Server]:
    if reason := kind.missing():
        unavailable(reason)
    with kind() as server:
        yield server


@pytest.fixture(scope="module")
def running_private_rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ that this module alone uses."""
    yield from _started(PrivateRabbitMQ)


@pytest.fixture(scope="module")
def running_private_postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL that this module alone uses."""
    yield from _started(PrivatePostgres)


@pytest.fixture(scope="module")
def running_private_redis() -> Iterator[PrivateRedis]:
    """A Redis that this module alone uses."""
    yield from _started(PrivateRedis)


@pytest.fixture
def private_rabbitmq(running_private_rabbitmq: PrivateRabbitMQ) -> PrivateRabbitMQ:
    """A RabbitMQ that may be killed, stopped, paused; what earlier tests of the module declared is still there."""
    running_private_rabbitmq.ensure_running()
    return running_private_rabbitmq


@pytest.fixture
def private_postgres(running_private_postgres: PrivatePostgres) -> PrivatePostgres:
    """A PostgreSQL that may be killed, stopped, paused; what earlier tests of the module stored is still there."""
    running_private_postgres.ensure_running()
    return running_private_postgres


@pytest.fixture
def private_redis(running_private_redis: PrivateRedis) -> PrivateRedis:
    """A Redis that may be killed, stopped, paused; what earlier tests of the module wrote is still there."""
    running_private_redis.ensure_running()
    return running_private_redis


@pytest.fixture
def new_proxy() -> Iterator[Callable[[str], FaultyProxy]]:
    """Puts a proxy that fails on order in front of the server at a URL."""
    proxies: list[FaultyProxy] = []

    def new(url: str) -> FaultyProxy:
        proxies.append(FaultyProxy(url))
        return proxies[-1]

    yield new
    for proxy in proxies:
        proxy.close()

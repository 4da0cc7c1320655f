"""Who is struck in a run, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ..servers.private import PrivatePostgres, PrivateRabbitMQ, PrivateRedis
from ..servers.process import PrivateServer

TIMES: Mapping[str, int] = {"rabbitmq": 3, "postgres": 3, "redis": 3, "consumer": 10}

SERVERS: tuple[type[PrivateServer], ...] = (PrivateRabbitMQ, PrivatePostgres, PrivateRedis)


def missing() -> str | None:
    """Why the servers cannot be started here; None if they can."""
    return next((reason for kind in SERVERS if (reason := kind.missing())), None)


@contextmanager
def private_servers() -> Iterator[dict[str, PrivateServer]]:
    """The servers by name, started."""
    with ExitStack() as stack:
        yield {kind.name: stack.enter_context(kind()) for kind in SERVERS}


def urls_of(servers: Mapping[str, PrivateServer]) -> tuple[str, str, str]:
    """Of the broker, the store and the cache."""
    return servers["rabbitmq"].url, servers["postgres"].url, servers["redis"].url

"""Which engine a URL names. An engine is imported when a URL asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ...messages.errors import UrlInvalid
from ..embedded import Embedded
from ..redis_url import REDIS_SCHEMES, RedisUrl
from ..service import Opener, missing_client, open_by_scheme
from .engine import TaskEngine

__all__ = ["DEFAULT_URL", "VARIABLE", "open_engine"]

VARIABLE: Final = "UNDERSTUDY_TASKS_URL"
SIMULATED_START: Final = 1_704_067_200.0
"""When simulations begin: 2024 in UTC."""
DEFAULT_URL: Final = "sqlite:///understudy.db"


def open_engine(url: str, embedded: Embedded | None = None, clock: Callable[[], float] = time.monotonic) -> TaskEngine:
    """Connect to the queues that a URL names.

    Args:
        url: ``sqlite:///file.db`` (four slashes for an absolute path), or ``sqlite:///:memory:`` for queues that last
            as long as the system; or a Redis, as `redis_url` says, whose queues are asynq's.
        embedded: the system's embedded servers; None: there is no system.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such engine.
        StorageError: it cannot be opened.
    """
    openers: dict[str, Opener[TaskEngine]] = {"sqlite": _sqlite}
    openers.update({scheme: partial(_redis, scheme) for scheme in REDIS_SCHEMES})
    return open_by_scheme(url, openers, embedded or Embedded(), clock, service="tasks")


def _sqlite(rest: str, embedded: Embedded, clock: Callable[[], float]) -> TaskEngine:
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    path = unquote(path)
    if host or not slash or not path or "?" in path:
        raise UrlInvalid("tasks: write sqlite:///file.db, sqlite:////absolute/file.db or sqlite:///:memory:")
    from .sqlite import SharedSqliteEngine, SqliteEngine
    from .sqlite_file import MEMORY

    now = wall_clock(clock)
    if path == MEMORY:
        return embedded.server("tasks", MEMORY, lambda: SharedSqliteEngine(now), SharedSqliteEngine.end)
    return SqliteEngine(path, now)


def _redis(scheme: str, rest: str, embedded: Embedded, clock: Callable[[], float]) -> TaskEngine:
    wanted = RedisUrl.of(scheme, rest, "tasks")
    if wanted.prefix:
        raise UrlInvalid(f"tasks: {scheme}://: asynq's keys are fixed, so there is no prefix: take another database")
    try:
        from .redis.engine import RedisEngine
    except ImportError as error:
        raise missing_client("tasks", scheme, "tasks") from error
    return RedisEngine(wanted)


def wall_clock(clock: Callable[[], float]) -> Callable[[], float]:
    """Unix seconds that go as the system's clock does: in a simulation from a fixed instant on."""
    return time.time if clock is time.monotonic else lambda: SIMULATED_START + clock()

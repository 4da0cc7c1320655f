"""A Redis for the tests of tasks: asynq's keys have no prefix, so it is one of their own, emptied for each test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from understudy.actors.redis_url import RedisUrl
from understudy.actors.tasks.redis.engine import RedisEngine

from ...servers.availability import unavailable
from ...servers.private import PrivateRedis

# Redis measures the time of locks and reports by its own clock: this lets the test's time pass for them. Those are
# whole seconds; what the test itself took is given back.
LET_PASS = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, math.ceil(left / 1000) * 1000 - ARGV[1]) end
end
"""


class TasksRedis:
    """A private Redis, and a client that looks into it."""

    def __init__(self) -> None:
        # What it keeps is kept in memory: only tests that kill a server need a disk.
        self.server = PrivateRedis({"appendonly": "no"})
        self.server.start()
        self.look: Any = redis.Redis.from_url(self.url)

    @property
    def url(self) -> str:
        return self.server.url

    def empty(self) -> None:
        self.look.flushall()

    def let_pass(self, seconds: float) -> None:
        """Let the time of all keys pass; they cannot come back when the clock is set back."""
        self.look.eval(LET_PASS, 0, round(seconds * 1000))

    def close(self) -> None:
        self.look.close()
        self.server.close()


_running: list[TasksRedis] = []


def redis_of_this_run() -> TasksRedis:
    """The one server, started when it is first needed."""
    if not _running:
        if reason := PrivateRedis.missing():
            unavailable(reason)
        _running.append(TasksRedis())
    return _running[0]


def close_redis_of_this_run() -> None:
    while _running:
        _running.pop().close()


def open_redis(url: str, now: Callable[[], float]) -> RedisEngine:
    """An engine on a URL of ``redis://``, with a clock."""
    scheme, _, rest = url.partition("://")
    return RedisEngine(RedisUrl.of(scheme, rest, "tasks"), now)

"""What processes tell each other through Redis: who runs, who leads, what is to be cancelled, what is scheduled."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from ....messages.errors import ErrorKind, StorageError
from ...redis_link import Command, Script, ServerDenied, ServerLost
from ..engine import EnqueueEvent, SchedulerEntry, ServerInfo
from . import keys
from .link import RedisConnection
from .wire import (
    read_entry,
    read_event,
    read_server,
    read_worker,
    write_entry,
    write_event,
    write_server,
    write_worker,
)

__all__ = ["RedisPresence"]

HISTORY: Final = 1_000
"""How many enqueueings of a periodic task are remembered."""
HISTORY_SECONDS: Final = 30 * 86_400
"""How long that is, where nothing is added: a schedule that was changed has another key."""
SUBSCRIBE_TIMEOUT: Final = 3.0

_BEAT: Final = Script(
    """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
for at = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
"""
)
_LEAD: Final = Script(
    """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)
_RESIGN: Final = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")


class _Place:
    """Where a listener for cancellations goes on: its own connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.using = threading.Lock()

    def leave(self) -> None:
        """Disconnect."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnect()


class RedisPresence(RedisConnection):
    """The part of the engine that processes meet in."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._places: list[_Place] = []

    def close(self) -> None:
        """See ``TaskEngine.close``."""
        super().close()
        for place in self._places:
            with place.using:  # whoever waits on it was interrupted
                place.leave()

    # --- cancellations -----------------------------------------------------------------------------------

    def cancel(self, task_id: str) -> None:
        """See ``TaskEngine.cancel``."""
        self._ask("PUBLISH", keys.CANCEL, task_id)

    def cancellations(self, after: Any, timeout: float) -> tuple[Any, list[str]]:
        """See ``TaskEngine.cancellations``. What is told while the connection is lost is not heard, as with asynq."""
        if after is None:
            place = _Place(self._subscribe())
            self._places.append(place)
            if self._link.closed:  # by another thread, which may not have seen this one
                place.leave()
            return place, []
        place = after
        with place.using:
            try:
                if place.connection is None:
                    place.connection = self._subscribe()
                return place, self._hear_ids(place.connection, time.monotonic() + timeout)
            except (StorageError, ServerLost) as error:
                place.leave()
                if isinstance(error, ServerLost):
                    self._fail(error)
                raise

    def _subscribe(self) -> Any:
        try:
            return self._link.subscription(keys.CANCEL, time.monotonic() + SUBSCRIBE_TIMEOUT)
        except (ServerLost, ServerDenied) as error:
            self._fail(error)

    def _hear_ids(self, connection: Any, until: float) -> list[str]:
        """Wait for the first id, and take all that were told by then."""
        ids: list[str] = []
        while True:
            message = self._link.next_message(connection, time.monotonic() if ids else until)
            if message is not None:
                ids.append(message.decode("utf-8", "replace"))
            elif ids or time.monotonic() >= until:
                return ids

    # --- processors --------------------------------------------------------------------------------------

    def beat(self, server: ServerInfo, ttl: float) -> None:
        """See ``TaskEngine.beat``."""
        until, milliseconds = math.ceil(self._now() + ttl), max(1, math.ceil(ttl * 1000))
        self._each_key(
            ("ZADD", keys.SERVERS, until, keys.server(server.id)),
            ("ZADD", keys.WORKERS, until, keys.workers(server.id)),
        )
        working: list[Any] = []
        for worker in server.workers:
            working += (worker.task_id, write_worker(server, worker))
        own = keys.server(server.id)
        report = (own, keys.workers(server.id), write_server(server), milliseconds, *working)
        self._send([("EVALSHA", _BEAT, 2, *report)], own)

    def leave(self, server_id: str) -> None:
        """See ``TaskEngine.leave``."""
        server, workers = keys.server(server_id), keys.workers(server_id)
        self._each_key(
            ("ZREM", keys.SERVERS, server), ("ZREM", keys.WORKERS, workers), ("DEL", server), ("DEL", workers)
        )

    def servers(self) -> list[ServerInfo]:
        """See ``TaskEngine.servers``."""
        found: list[ServerInfo] = []
        for key in self._alive(keys.SERVERS):
            key_of_workers = keys.WORKERS + key.removeprefix(keys.SERVERS)
            blob, working = self._each_key(("GET", key), ("HVALS", key_of_workers))
            workers = [worker for each in working if (worker := read_worker(each)) is not None]
            workers.sort(key=lambda worker: (worker.started_at, worker.task_id))
            server = read_server(blob, tuple(workers)) if blob else None
            if server is not None:
                found.append(server)
        return sorted(found, key=lambda server: server.id)

    def _alive(self, key: bytes) -> list[bytes]:
        """The members of a set of reports whose time is not up; the others are dropped, by who may write."""
        now = f"{self._now():.6f}"
        try:
            self._ask("ZREMRANGEBYSCORE", key, "-inf", now)
        except StorageError as error:
            if error.kind != ErrorKind.REDIS_DENIED:
                raise
        return self._ask("ZRANGE", key, f"({now}", "+inf", "BYSCORE")  # type: ignore[no-any-return]

    def _each_key(self, *commands: Command) -> list[Any]:
        """Send commands whose keys may be in several slots; at once, where there are no slots."""
        if not self._link.clustered:
            return self._send(commands, commands[0][1])
        return [self._ask(*command) for command in commands]

    # --- leaders and schedulers --------------------------------------------------------------------------

    def lead(self, name: str, holder: str, ttl: float) -> bool:
        """See ``TaskEngine.lead``."""
        milliseconds = max(1, math.floor(ttl * 1000))
        return bool(self._alone(_LEAD, keys.leader(name), holder, milliseconds))

    def resign(self, name: str, holder: str) -> None:
        """See ``TaskEngine.resign``."""
        self._alone(_RESIGN, keys.leader(name), holder)

    def _alone(self, script: Script, key: bytes, *arguments: Any) -> Any:
        return self._send([("EVALSHA", script, 1, key, *arguments)], key)[0]

    def report_schedule(self, scheduler_id: str, entries: Sequence[SchedulerEntry], ttl: float) -> None:
        """See ``TaskEngine.report_schedule``."""
        key = keys.scheduler(scheduler_id)
        if not entries or ttl <= 0:
            self._each_key(("ZREM", keys.SCHEDULERS, key), ("DEL", key))
            return
        self._ask("ZADD", keys.SCHEDULERS, math.ceil(self._now() + ttl), key)
        milliseconds = max(1, math.ceil(ttl * 1000))
        self._send([("DEL", key), ("RPUSH", key, *map(write_entry, entries)), ("PEXPIRE", key, milliseconds)], key)

    def schedule(self) -> list[SchedulerEntry]:
        """See ``TaskEngine.schedule``."""
        return [
            entry
            for key in sorted(self._alive(keys.SCHEDULERS))
            for blob in self._ask("LRANGE", key, 0, -1)
            if (entry := read_entry(blob)) is not None
        ]

    def note_enqueued(self, entry_id: str, event: EnqueueEvent) -> None:
        """See ``TaskEngine.note_enqueued``."""
        key = keys.history(entry_id)
        kept = ("EXPIRE", key, HISTORY_SECONDS)
        self._send(
            [("ZADD", key, int(event.at), write_event(event)), ("ZREMRANGEBYRANK", key, 0, -HISTORY - 1), kept], key
        )

    def enqueued(self, entry_id: str, page: int = 1, size: int = 30) -> list[EnqueueEvent]:
        """See ``TaskEngine.enqueued``."""
        first = (page - 1) * size
        blobs = self._ask("ZREVRANGE", keys.history(entry_id), first, first + size - 1)
        return [event for blob in blobs if (event := read_event(blob)) is not None]

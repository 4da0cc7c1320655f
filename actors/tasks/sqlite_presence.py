"""What processes tell each other through SQLite: who runs, who leads, what is to be cancelled, what is scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .engine import EnqueueEvent, SchedulerEntry, ServerInfo
from .sqlite_file import SqliteFile

__all__ = ["SqlitePresence"]

HISTORY: Final = 1_000
"""How many enqueueings of a periodic task are remembered."""

_server = msgspec.msgpack.Decoder(ServerInfo)
_entries = msgspec.msgpack.Decoder(list[SchedulerEntry])
_encode = msgspec.msgpack.Encoder().encode


class SqlitePresence(SqliteFile):
    """The part of the engine that processes meet in."""

    def cancel(self, task_id: str) -> None:
        """See ``TaskEngine.cancel``."""
        with self._writing(tell=True, synced=False) as db:
            db.execute("INSERT INTO task_cancels (id, at) VALUES (?, ?)", (task_id, self._now()))

    def cancellations(self, after: Any, timeout: float) -> tuple[Any, list[str]]:
        """See ``TaskEngine.cancellations``."""
        if after is None:
            ((latest,),) = self._rows("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'task_cancels'")
            return latest, []
        found: list[tuple[int, str]] = []

        def look() -> bool:
            found.extend(self._rows("SELECT number, id FROM task_cancels WHERE number > ? ORDER BY number", after))
            return bool(found)

        self._wait_for(look, timeout)
        return (found[-1][0] if found else after), [task_id for _, task_id in found]

    def beat(self, server: ServerInfo, ttl: float) -> None:
        """See ``TaskEngine.beat``."""
        with self._writing(synced=False) as db:
            db.execute(
                "INSERT OR REPLACE INTO task_servers VALUES (?, ?, ?)", (server.id, _encode(server), self._now() + ttl)
            )

    def leave(self, server_id: str) -> None:
        """See ``TaskEngine.leave``."""
        with self._writing(synced=False) as db:
            db.execute("DELETE FROM task_servers WHERE id = ?", (server_id,))

    def servers(self) -> list[ServerInfo]:
        """See ``TaskEngine.servers``."""
        rows = self._rows("SELECT info FROM task_servers WHERE expires_at > ? ORDER BY id", self._now())
        return [_server.decode(info) for (info,) in rows]

    def lead(self, name: str, holder: str, ttl: float) -> bool:
        """See ``TaskEngine.lead``."""
        with self._writing(synced=False) as db:
            now = self._now()
            taken = db.execute(
                "INSERT INTO task_leaders VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET holder = excluded.holder, expires_at = excluded.expires_at "
                "WHERE holder = excluded.holder OR expires_at <= ?",
                (name, holder, now + ttl, now),
            )
            return taken.rowcount > 0

    def resign(self, name: str, holder: str) -> None:
        """See ``TaskEngine.resign``."""
        with self._writing(synced=False) as db:
            db.execute("DELETE FROM task_leaders WHERE name = ? AND holder = ?", (name, holder))

    def report_schedule(self, scheduler_id: str, entries: Sequence[SchedulerEntry], ttl: float) -> None:
        """See ``TaskEngine.report_schedule``."""
        with self._writing(synced=False) as db:
            db.execute(
                "INSERT OR REPLACE INTO task_schedulers VALUES (?, ?, ?)",
                (scheduler_id, _encode(list(entries)), self._now() + ttl),
            )

    def schedule(self) -> list[SchedulerEntry]:
        """See ``TaskEngine.schedule``."""
        rows = self._rows("SELECT entries FROM task_schedulers WHERE expires_at > ? ORDER BY id", self._now())
        return [entry for (entries,) in rows for entry in _entries.decode(entries)]

    def note_enqueued(self, entry_id: str, event: EnqueueEvent) -> None:
        """See ``TaskEngine.note_enqueued``."""
        with self._writing(synced=False) as db:
            db.execute("INSERT INTO task_enqueued (entry, task, at) VALUES (?, ?, ?)", (entry_id, *event))
            db.execute(
                "DELETE FROM task_enqueued WHERE entry = ? AND number <= (SELECT number FROM task_enqueued "
                "WHERE entry = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (entry_id, entry_id, HISTORY),
            )

    def enqueued(self, entry_id: str, page: int = 1, size: int = 30) -> list[EnqueueEvent]:
        """See ``TaskEngine.enqueued``."""
        rows = self._rows(
            "SELECT task, at FROM task_enqueued WHERE entry = ? ORDER BY number DESC LIMIT ? OFFSET ?",
            entry_id,
            size,
            (page - 1) * size,
        )
        return [EnqueueEvent(*row) for row in rows]

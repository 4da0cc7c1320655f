"""Limits in SQLite: who may begin, and the line of those who may not."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from .engine import Turn
from .sqlite_file import SqliteFile

__all__ = ["SqliteLimits"]

NEXT: Final = ""
TAIL: Final = " "
FORGOTTEN: Final = 3600.0
"""Seconds after which a place in line that nobody took is forgotten."""


class SqliteLimits(SqliteFile):
    """The part of the engine that says how often tasks may begin."""

    def admit(self, limit: str, every: float, burst: int, tasks: Sequence[str], patience: float) -> list[Turn]:
        """See ``TaskEngine.admit``."""
        with self._writing(synced=False) as db:
            now = self._now()
            line = _Line(db, limit, now, every)
            db.execute("DELETE FROM task_limits WHERE name = ? AND at <= ?", (limit, now - FORGOTTEN))
            turns = [line.turn(task, (burst - 1) * every, patience) for task in tasks]
            line.save()
        return turns


class _Line:
    """One limit, in a transaction."""

    def __init__(self, db: sqlite3.Connection, limit: str, now: float, every: float) -> None:
        self._db, self._limit, self._now, self._every = db, limit, now, every
        self._next = self._at(NEXT) or 0.0
        self._tail = self._at(TAIL) or 0.0

    def turn(self, task: str, slack: float, patience: float) -> Turn:
        place = self._at(task) if task else None
        at = max(self._now, self._next - slack, place or 0.0)
        if at <= self._now + patience and (place is not None or self._tail <= self._now):
            self._next = max(self._next, at) + self._every
            if place is not None:
                self._db.execute("DELETE FROM task_limits WHERE name = ? AND task = ?", (self._limit, task))
            return Turn(granted=True, at=at)
        if place is not None and place > self._now:
            return Turn(granted=False, at=place)
        if task:
            at = max(at, self._tail)
            self._tail = at + self._every
            self._put(task, at)
        return Turn(granted=False, at=at)

    def save(self) -> None:
        self._put(NEXT, self._next)
        self._put(TAIL, self._tail)

    def _at(self, task: str) -> float | None:
        rows = self._db.execute(
            "SELECT at FROM task_limits WHERE name = ? AND task = ?", (self._limit, task)
        ).fetchall()
        return float(rows[0][0]) if rows else None

    def _put(self, task: str, at: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO task_limits VALUES (?, ?, ?)", (self._limit, task, at))

"""Looking at queues in Redis, and managing them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec

from ....messages.errors import ErrorKind, TaskNotFound, TaskRefused
from ....messages.tasks import TaskInfo, TaskState
from ..engine import ARCHIVE_SECONDS, STATS_DAYS, QueueInfo
from . import inspection_lua as lua
from . import keys
from .link import RedisConnection
from .wire import read_task, show, write_task

__all__ = ["RedisInspection"]

MANAGE_AT_ONCE: Final = 500

_STATES: Final = (
    TaskState.PENDING,
    TaskState.ACTIVE,
    TaskState.SCHEDULED,
    TaskState.RETRY,
    TaskState.ARCHIVED,
    TaskState.COMPLETED,
    TaskState.AGGREGATING,
)
"""In the order in which the scripts have them."""


class RedisInspection(RedisConnection):
    """The part of the engine that inspectors use."""

    # --- looking -----------------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """See ``TaskEngine.queues``."""
        return sorted(name.decode("utf-8", "replace") for name in self._ask("SMEMBERS", keys.QUEUES))

    def queue_info(self, queue: str) -> QueueInfo:
        """See ``TaskEngine.queue_info``."""
        prefix, now = self._known(queue), self._now()
        counted, groups, paused, since, counters = self._run(lua.INFO, [prefix], _day(now))
        processed, failed, processed_total, failed_total = (int(number or 0) for number in counters)
        return QueueInfo(
            queue,
            dict(zip(_STATES, counted, strict=True)),
            max(0.0, now - int(since) / 1e9) if since else 0.0,
            processed,
            failed,
            processed_total,
            failed_total,
            paused=bool(paused),
            groups=groups,
        )

    def group_sizes(self, queue: str) -> dict[str, int]:
        """See ``TaskEngine.group_sizes``."""
        found = self._run(lua.GROUP_SIZES, [keys.of_queue(queue)])
        return {name.decode("utf-8", "replace"): size for name, size in zip(found[::2], found[1::2], strict=True)}

    def memory_usage(self, queue: str) -> int:
        """See ``TaskEngine.memory_usage``. As asynq samples: 20 tasks of each state, and five groups."""
        return int(self._run(lua.MEMORY, [self._known(queue)]))

    def cluster_slot(self, queue: str) -> int | None:
        """See ``TaskEngine.cluster_slot``."""
        return self._slot(keys.of_queue(queue))

    def cluster_nodes(self, queue: str) -> list[str]:
        """See ``TaskEngine.cluster_nodes``."""
        prefix = keys.of_queue(queue)
        slot = self._slot(prefix)
        if slot is None:
            return []
        (ranges,) = self._send([("CLUSTER", "SLOTS")], prefix)
        return [
            f"{node[0].decode()}:{node[1]}" for first, last, *nodes in ranges if first <= slot <= last for node in nodes
        ]

    def history(self, queue: str, days: int) -> list[tuple[str, int, int]]:
        """See ``TaskEngine.history``."""
        prefix, now = self._known(queue), self._now()
        asked = [_day(now - 86_400 * back) for back in range(days)]
        names = [b"%b%b:%b" % (prefix, name, day.encode()) for day in asked for name in (b"processed", b"failed")]
        numbers = [int(number or 0) for number in self._ask("MGET", *names)] if names else []
        return list(zip(asked, numbers[::2], numbers[1::2], strict=True))

    def tasks(self, queue: str, state: TaskState, page: int = 1, size: int = 30, group: str = "") -> list[TaskInfo]:
        """See ``TaskEngine.tasks``."""
        prefix, now, first = self._known(queue), self._now(), (page - 1) * size
        found = self._run(lua.LIST, [prefix], str(state), first, first + size - 1, group)
        return [
            show(queue, task_id.decode("utf-8", "replace"), state, _score(score), blob, result, now)
            for task_id, score, blob, result in _in_fours(found)
        ]

    def task(self, queue: str, task_id: str) -> TaskInfo:
        """See ``TaskEngine.task``."""
        found = self._run(lua.LOOK, [self._known(queue)], task_id)
        if not found:
            self._missing(queue, task_id)
        state, score, blob, result = found
        return show(queue, task_id, _state(queue, task_id, state), _score(score), blob, result, self._now())

    # --- managing ----------------------------------------------------------------------------------------

    def run(self, queue: str, task_id: str) -> None:
        """See ``TaskEngine.run``."""
        self._manage("run", queue, task_id, TaskState.ACTIVE, TaskState.PENDING)

    def archive(self, queue: str, task_id: str) -> None:
        """See ``TaskEngine.archive``."""
        self._manage("archive", queue, task_id, TaskState.ACTIVE, TaskState.ARCHIVED)

    def delete(self, queue: str, task_id: str) -> None:
        """See ``TaskEngine.delete``. Also what has no state that asynq knows."""
        self._manage("delete", queue, task_id, TaskState.ACTIVE)

    def _manage(self, what: str, queue: str, task_id: str, *refused: TaskState) -> None:
        prefix = self._known(queue)
        now = self._now()
        instants = (int(now * 1e9), int(now), int(now) - ARCHIVE_SECONDS)
        state = self._run_once(lua.MANAGE, [prefix], what, task_id, *instants)
        if not state:
            self._missing(queue, task_id)
        if what == "delete" and state != TaskState.ACTIVE.value.encode():
            return
        if _state(queue, task_id, state) in refused:
            raise TaskRefused(f"task {task_id!r} of queue {queue} is {state.decode()}")

    def run_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """See ``TaskEngine.run_all``."""
        return self._manage_all("run", queue, state, group, TaskState.ACTIVE, TaskState.PENDING)

    def archive_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """See ``TaskEngine.archive_all``."""
        return self._manage_all("archive", queue, state, group, TaskState.ACTIVE, TaskState.ARCHIVED)

    def delete_all(self, queue: str, state: TaskState, group: str = "") -> int:
        """See ``TaskEngine.delete_all``."""
        return self._manage_all("delete", queue, state, group, TaskState.ACTIVE)

    def _manage_all(self, what: str, queue: str, state: TaskState, group: str, *refused: TaskState) -> int:
        prefix = self._known(queue)
        if state in refused:
            raise TaskRefused(f"queue {queue}: this cannot be done to all tasks that are {state}")
        managed = 0
        most = self.queue_info(queue).sizes[state]  # what is added meanwhile is left alone, roughly
        while managed < most:
            now = self._now()
            instants = (int(now * 1e9), int(now), int(now) - ARCHIVE_SECONDS)
            at_once = min(MANAGE_AT_ONCE, most - managed)
            number = self._run(lua.MANAGE_ALL, [prefix], what, str(state), group, at_once, *instants)
            managed += number
            if number < at_once:
                break
        return managed

    def update_payload(self, queue: str, task_id: str, payload: bytes) -> None:
        """See ``TaskEngine.update_payload``."""
        prefix = self._known(queue)
        while True:
            found = self._run(lua.LOOK, [prefix], task_id)
            if not found:
                self._missing(queue, task_id)
            state, _, blob, _ = found
            message = read_task(blob, queue, task_id)
            if state != TaskState.SCHEDULED.value.encode() or message is None:
                text = f"task {task_id!r} of queue {queue} is {state.decode()}: only a scheduled one can be changed"
                raise TaskRefused(text)
            changed = write_task(msgspec.structs.replace(message, payload=payload))
            if self._run(lua.REPLACE, [prefix], task_id, blob, changed):
                return

    def pause(self, queue: str) -> None:
        """See ``TaskEngine.pause``. A queue may be paused before its first task."""
        self._ask("SADD", keys.QUEUES, queue)
        if self._run_once(lua.PAUSE, [keys.of_queue(queue)], int(self._now())) != b"1":
            raise TaskRefused(f"queue {queue} is paused already")

    def unpause(self, queue: str) -> None:
        """See ``TaskEngine.unpause``."""
        if self._run_once(lua.UNPAUSE, [self._known(queue)]) != b"1":
            raise TaskRefused(f"queue {queue} is not paused")

    def remove_queue(self, queue: str, *, force: bool = False) -> None:
        """See ``TaskEngine.remove_queue``. The locks of its tasks go with it."""
        prefix = self._known(queue)
        sizes = self.queue_info(queue).sizes
        active = sizes[TaskState.ACTIVE]
        if force and active:
            self._not_empty(queue, f"{active} active tasks")
        if force:
            for state in _STATES:
                if state is not TaskState.ACTIVE:
                    self._manage_all("delete", queue, state, "", TaskState.ACTIVE)
        days = [_day(self._now() - 86_400 * back) for back in range(STATS_DAYS + 1)]
        if number := self._run(lua.REMOVE, [prefix], *days):
            self._not_empty(queue, f"{number} tasks")
        self._ask("SREM", keys.QUEUES, queue)

    # --- what is not there -------------------------------------------------------------------------------

    def _known(self, queue: str) -> bytes:
        """The prefix of a queue that is there; raises ``TaskNotFound`` where there is no such queue."""
        if not self._ask("SISMEMBER", keys.QUEUES, queue):
            raise TaskNotFound(f"there is no queue {queue!r}", kind=ErrorKind.TASK_QUEUE_UNKNOWN)
        return keys.of_queue(queue)

    @staticmethod
    def _missing(queue: str, task_id: str) -> NoReturn:
        raise TaskNotFound(f"queue {queue} has no task {task_id!r}")

    @staticmethod
    def _not_empty(queue: str, what: str) -> NoReturn:
        raise TaskRefused(f"queue {queue} has {what}", kind=ErrorKind.TASK_QUEUE_NOT_EMPTY)


def _day(now: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now)).strftime("%Y-%m-%d")


def _in_fours(flat: list[Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    return zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)


def _score(text: bytes) -> float | None:
    return float(text) if text else None


def _state(queue: str, task_id: str, state: bytes) -> TaskState:
    try:
        return TaskState(state.decode("utf-8", "replace"))
    except ValueError as error:
        text = f"what is kept as task {task_id!r} of queue {queue} is no task of asynq's: it can only be deleted"
        raise TaskRefused(text, cause=error) from error

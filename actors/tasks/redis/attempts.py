"""The way of a task through its queue in Redis: stored, attempted, ended, recovered."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ....messages.errors import ErrorKind, TaskDuplicate, TaskError, TaskIdConflict
from ....messages.tasks import TaskInfo, TaskMessage, TaskState
from ...redis_link import Command
from ...redis_url import RedisUrl
from ..engine import ARCHIVE_SECONDS, LEASE_SECONDS, Ending, Lease
from ..options import NewTask
from . import attempts_lua as lua
from . import keys
from .arguments import destination, of_ending, planned
from .link import RedisConnection, chunks, text_of_time
from .wire import read_task, unreadable

__all__ = ["RedisAttempts"]

FORWARD_AT_ONCE: Final = 100
DEQUEUE_AT_ONCE: Final = 500
REGISTER_AGAIN: Final = 10.0
"""Seconds after which a Cluster is told again that a queue is used: somebody may have removed it."""


class RedisAttempts(RedisConnection):
    """The part of the engine that processors and distributors use."""

    def __init__(self, url: RedisUrl, now: Callable[[], float] = time.time) -> None:
        super().__init__(url, now)
        self._registered: dict[str, float] = {}

    # --- stored ------------------------------------------------------------------------------------------

    def enqueue(self, tasks: Sequence[NewTask], timeout: float | None = None) -> list[TaskInfo | TaskError]:
        """See ``TaskEngine.enqueue``."""
        now = self._now()
        until = None if timeout is None else time.monotonic() + timeout
        outcomes: list[TaskInfo | TaskError | None] = [None] * len(tasks)
        for group in self._by_slot(range(len(tasks)), lambda number: tasks[number].message.queue):
            for part in chunks(group, lambda number: len(tasks[number].message.payload)):
                for number, code in zip(part, self._store([tasks[number] for number in part], now, until), strict=True):
                    outcomes[number] = _outcome(tasks[number], code, now)
        return [outcome for outcome in outcomes if outcome is not None]

    def _store(self, tasks: list[NewTask], now: float, until: float | None) -> str:
        names = list(dict.fromkeys(task.message.queue for task in tasks))
        places = {name: place for place, name in enumerate(names, 1)}
        arguments: list[Any] = [int(now * 1e9), b"" if self._link.clustered else keys.QUEUES]
        if self._link.clustered:
            self._registration(names, now)
        for task in tasks:
            arguments += planned(task, places[task.message.queue], now)
        prefixes = list(map(keys.of_queue, names))
        codes: bytes = self._run_once(lua.ENQUEUE, prefixes, *arguments, until=until)
        return codes.decode()

    def _registration(self, names: Sequence[str], now: float) -> list[tuple[bytes, ...]]:
        """What tells that these queues are used; a Cluster, which has that in another slot, is told now and then."""
        if not self._link.clustered:
            return [(b"SADD", keys.QUEUES, *(name.encode() for name in names))] if names else []
        new = [name for name in names if not 0 <= now - self._registered.get(name, -math.inf) < REGISTER_AGAIN]
        if new:
            self._ask("SADD", keys.QUEUES, *new)
            self._registered.update(dict.fromkeys(new, now))
        return []

    # --- attempted ---------------------------------------------------------------------------------------

    def dequeue(self, queues: Sequence[str], count: int) -> list[Lease]:
        """See ``TaskEngine.dequeue``."""
        leases: list[Lease] = []
        for _, together in itertools.groupby(queues, lambda queue: self._slot(keys.of_queue(queue))):
            group = list(together)
            while count > len(leases):
                wanted = min(count - len(leases), DEQUEUE_AT_ONCE)
                found = self._begin(group, wanted)
                leases += [lease for lease in found if lease.message.type]
                self._bury([lease for lease in found if not lease.message.type])
                if len(found) < wanted:
                    break
        return leases

    def turn(self, endings: Sequence[Ending], queues: Sequence[str], count: int) -> tuple[list[bool], list[Lease]]:
        """See ``TaskEngine.turn``. Where it fits, both scripts are sent at once."""
        parts = list(chunks(range(len(endings)), lambda number: _size(endings[number])))
        if self._link.clustered or len(parts) != 1 or not 0 < count <= DEQUEUE_AT_ONCE:
            return self.finish(endings), self.dequeue(queues, count)
        token, until = random.getrandbits(53), int(self._now() + LEASE_SECONDS)
        prefixes = list(map(keys.of_queue, queues))
        commands = [
            *self._end_commands(list(endings), recovering=False),
            self._once(lua.DEQUEUE, prefixes, count, token, until, line=b":turn"),
        ]
        *_, codes, found = self._send(commands, prefixes[0])
        leases = _leases(found, queues, token, until)
        self._bury([lease for lease in leases if not lease.message.type])
        return [code == "1" for code in codes.decode()], [lease for lease in leases if lease.message.type]

    def _begin(self, queues: Sequence[str], count: int) -> list[Lease]:
        token, until = random.getrandbits(53), int(self._now() + LEASE_SECONDS)
        prefixes = list(map(keys.of_queue, queues))
        return _leases(self._run_once(lua.DEQUEUE, prefixes, count, token, until), queues, token, until)

    def _bury(self, leases: Sequence[Lease]) -> None:
        """Archive what cannot be read: nobody could process it."""
        if leases:
            error = f"{TaskError.code.hex} {ErrorKind.TASK_RECORD_INVALID}: its record cannot be read"
            self.finish([Ending(lease, "archive", error=error) for lease in leases])

    def extend(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """See ``TaskEngine.extend``."""
        extended: list[Lease | None] = [None] * len(leases)
        for group in self._by_slot(range(len(leases)), lambda number: leases[number].message.queue):
            for part in chunks(group, lambda _number: 0):
                now = self._now()
                until = int(now + LEASE_SECONDS)
                prefixes, places = _prefixes([leases[number].message.queue for number in part])
                arguments: list[Any] = [text_of_time(now), until]
                for number in part:
                    message = leases[number].message
                    arguments += (places[message.queue], message.id, leases[number].token)
                for number, code in zip(part, self._run(lua.EXTEND, prefixes, *arguments).decode(), strict=True):
                    extended[number] = leases[number]._replace(expires_at=float(until)) if code == "1" else None
        return extended

    def write_result(self, lease: Lease, result: bytes) -> bool:
        """See ``TaskEngine.write_result``."""
        message = lease.message
        prefix = keys.of_queue(message.queue)
        return bool(self._run(lua.WRITE_RESULT, [prefix], text_of_time(self._now()), message.id, lease.token, result))

    # --- ended -------------------------------------------------------------------------------------------

    def finish(self, endings: Sequence[Ending], *, recovering: bool = False) -> list[bool]:
        """See ``TaskEngine.finish``."""
        accepted = [False] * len(endings)
        if self._link.clustered:
            endings = self._store_what_is_elsewhere(endings)
        for group in self._by_slot(range(len(endings)), lambda number: endings[number].lease.message.queue):
            for part in chunks(group, lambda number: _size(endings[number])):
                codes = self._end([endings[number] for number in part], recovering=recovering)
                for number, code in zip(part, codes, strict=True):
                    accepted[number] = code == "1"
        return accepted

    def _store_what_is_elsewhere(self, endings: Sequence[Ending]) -> list[Ending]:
        """Store what follows in a queue of another slot, and return the ends without it: its id is taken once."""
        slots = [
            (
                self._slot(keys.of_queue(ending.lease.message.queue)),
                self._slot(keys.of_queue(ending.next.message.queue)),
            )
            if ending.next is not None
            else (None, None)
            for ending in endings
        ]
        elsewhere = [own != other for own, other in slots]
        self.enqueue([each.next for each, far in zip(endings, elsewhere, strict=True) if far and each.next is not None])
        return [each._replace(next=None) if far else each for each, far in zip(endings, elsewhere, strict=True)]

    def _end(self, endings: list[Ending], *, recovering: bool) -> str:
        *first, command = self._end_commands(endings, recovering=recovering)
        codes: bytes = self._send([*first, command], keys.of_queue(endings[0].lease.message.queue))[-1]
        return codes.decode()

    def _end_commands(self, endings: list[Ending], *, recovering: bool) -> list[Command]:
        now = self._now()
        following = [ending.next.message.queue for ending in endings if ending.next is not None]
        prefixes, places = _prefixes([*(ending.lease.message.queue for ending in endings), *following])
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        arguments: list[Any] = [text_of_time(now), int(now * 1e9), day, int(now) - ARCHIVE_SECONDS]
        for ending in endings:
            message = ending.lease.message
            if recovering:  # whoever sets a lease sets another one: a lease that stands for itself is the attempt's
                fence = "" if ending.lease.expires_at == 0.0 else repr(ending.lease.expires_at)
                arguments += (places[message.queue], message.id, "recover", fence)
            else:
                arguments += (places[message.queue], message.id, "hold", ending.lease.token)
            arguments += of_ending(ending, now)
            if ending.next is None:
                arguments.append(0)
            else:  # in one step with the end, so never twice
                following_task = ending.next._replace(once_for=0.0)
                arguments += planned(following_task, places[following_task.message.queue], now)
        registration = self._registration(list(dict.fromkeys(following)), now)
        return [*registration, self._once(lua.FINISH, prefixes, *arguments)]

    # --- recovered and moved on --------------------------------------------------------------------------

    def expired(self, queues: Sequence[str]) -> list[Lease]:
        """See ``TaskEngine.expired``. Also what is active without a lease, or without a record."""
        leases: list[Lease] = []
        for queue in queues:
            found = self._run(lua.EXPIRED, [keys.of_queue(queue)], text_of_time(self._now()))
            for task_id, score, attempt, blob in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True):
                name = task_id.decode("utf-8", "replace")
                token, _, until = attempt.partition(b":")
                leases.append(
                    Lease(
                        read_task(blob, queue, name) or unreadable(blob, queue, name),
                        int(token) if until and until == score else 0,
                        float(score or 0.0),
                    )
                )
        return leases

    def forward(self, queues: Sequence[str]) -> int:
        """See ``TaskEngine.forward``."""
        moved = 0
        for group in self._by_slot(queues, str):
            prefixes = list(map(keys.of_queue, group))
            more = 1
            while more:
                now = self._now()
                instants = (int(now), int(now * 1e9), FORWARD_AT_ONCE, text_of_time(now))
                step, more = self._run(lua.FORWARD, prefixes, *instants)
                moved += step
        return moved

    def sweep(self, queues: Sequence[str], batch: int) -> int:
        """See ``TaskEngine.sweep``."""
        swept = 0
        for group in self._by_slot(queues, str):
            now = int(self._now())
            swept += self._run(lua.SWEEP, list(map(keys.of_queue, group)), now, batch, now - ARCHIVE_SECONDS)
        return swept


def _outcome(task: NewTask, code: str, now: float) -> TaskInfo | TaskError:
    message = task.message
    if code == "d":
        return TaskDuplicate(f"queue {message.queue}: a task like this {message.type!r} is there already")
    if code == "c":
        return TaskIdConflict(f"queue {message.queue}: the id {message.id!r} is taken by another task")
    state, _ = destination(task, now)
    due = now if state is TaskState.PENDING else task.process_at if state is TaskState.SCHEDULED else 0.0
    return TaskInfo(message, state, due)


def _prefixes(queues: Sequence[str]) -> tuple[list[bytes], dict[str, int]]:
    """The prefixes of queues, each once, and the place of each."""
    names = list(dict.fromkeys(queues))
    return list(map(keys.of_queue, names)), {name: place for place, name in enumerate(names, 1)}


def _leases(found: Sequence[Any], queues: Sequence[str], token: int, until: int) -> list[Lease]:
    """Attempts that a script has begun; one whose record cannot be read has no type."""
    leases: list[Lease] = []
    for place, task_id, blob in zip(found[::3], found[1::3], found[2::3], strict=True):
        queue, name = queues[int(place) - 1], task_id.decode("utf-8", "replace")
        leases.append(Lease(read_task(blob, queue, name) or unreadable(blob, queue, name), token, float(until)))
    return leases


def _queue_of(message: TaskMessage) -> str:
    return message.queue


def _size(ending: Ending) -> int:
    return len(ending.lease.message.payload) + (len(ending.next.message.payload) if ending.next is not None else 0)

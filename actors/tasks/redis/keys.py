"""The keys: asynq's, and a few beside them that no asynq process looks at.

Those of a queue are in one slot of a Cluster: the queue's name is in braces, as asynq has it.
"""

from __future__ import annotations

from typing import Final

from ...redis_keys import in_slot

__all__ = [
    "CANCEL",
    "QUEUES",
    "SCHEDULERS",
    "SERVERS",
    "WAKE",
    "WORKERS",
    "history",
    "leader",
    "limit",
    "memo",
    "of_queue",
    "scheduler",
    "server",
    "workers",
]

QUEUES: Final = b"asynq:queues"
SERVERS: Final = b"asynq:servers"
WORKERS: Final = b"asynq:workers"
SCHEDULERS: Final = b"asynq:schedulers"
CANCEL: Final = b"asynq:cancel"
"""The channel on which ids are told that are to be cancelled."""
WAKE: Final = b"understudy:tasks:pending"
"""The channel on which it is told that a queue has pending tasks, and had none. Ours: asynq looks every second."""


def of_queue(queue: str) -> bytes:
    """What the keys of a queue begin with.

    Beside them are ours, in ``understudy:{queue}:``: ``attempts``, a hash of id to token and lease; ``due``, a set of
    ids of scheduled tasks that are due at a fraction of a second; ``once:<id>``, where an id stays taken.
    """
    return b"asynq:{%b}:" % queue.encode()


def server(server_id: str) -> bytes:
    """Where a processor reports itself."""
    return b"asynq:servers:{%b}" % server_id.encode()


def workers(server_id: str) -> bytes:
    """Where a processor reports what it works on."""
    return b"asynq:workers:{%b}" % server_id.encode()


def scheduler(scheduler_id: str) -> bytes:
    """Where a scheduler reports its periodic tasks."""
    return b"asynq:schedulers:{%b}" % scheduler_id.encode()


def history(entry_id: str) -> bytes:
    """Where it is noted when a periodic task was enqueued."""
    return b"asynq:scheduler_history:%b" % entry_id.encode()


def leader(name: str) -> bytes:
    """Who leads under a name."""
    return b"understudy:tasks:leader:%b" % name.encode()


def limit(name: str) -> bytes:
    """The line of those who may begin under a limit."""
    return b"understudy:tasks:limit:%b" % name.encode()


def memo(caller: bytes, slot: int | None) -> bytes:
    """Where it is kept what a caller's last script came to, for a while.

    Args:
        caller: the connection and the thread.
        slot: of the script's keys; None: there are no slots.
    """
    place = b"" if slot is None else b":{%b}" % in_slot(slot)
    return b"understudy:tasks%b:calls:%b" % (place, caller)

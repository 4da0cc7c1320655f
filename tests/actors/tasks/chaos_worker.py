"""A processor in a process of its own, for tests that kill, stop and end it: ``python chaos_worker.py URL LOG``.

Each handler writes the task's id and its process to the log before it returns. Leases last a second here; in Redis,
which has whole seconds, up to two.
"""

from __future__ import annotations

import os
import sys
import time

from understudy import ActorSystem, Child, Processor, ProcessorSettings, RawTask, Supervisor, TaskContext, TaskRouter
from understudy.actors.tasks import sqlite_attempts
from understudy.actors.tasks.redis import attempts as redis_attempts

CONCURRENCY = 4


def lease_of(url: str) -> float:
    """How long a lease lasts at most."""
    return 1.0 if url.startswith("sqlite:") else 2.0


def main(url: str, log_path: str) -> int:
    """Process tasks until a signal says otherwise."""
    attempts = sqlite_attempts if url.startswith("sqlite:") else redis_attempts
    setattr(attempts, "LEASE_SECONDS", lease_of(url))  # noqa: B010 -- checkers see a constant that is not exported
    log = os.open(log_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    router = TaskRouter()

    def note(context: TaskContext) -> str:
        os.write(log, f"{context.id} {os.getpid()}\n".encode())
        return str(os.getpid())

    @router.handles("quick")
    def quick(_task: RawTask, context: TaskContext) -> str:
        time.sleep(0.002)
        return note(context)

    @router.handles("slow")
    def slow(task: RawTask, context: TaskContext) -> str:
        receipt = note(context)
        until = time.monotonic() + float(task.payload)
        while time.monotonic() < until:
            time.sleep(0.01)
        return receipt

    settings = ProcessorSettings(
        concurrency=CONCURRENCY,
        heartbeat=0.2,
        recover=0.2,
        forward=0.05,
        shutdown_timeout=0.3,
        retry_delay=lambda *_: 0.0,
    )
    processor = Child(Processor, (router, url, settings), name="processor")
    return ActorSystem.serve("chaos", Supervisor("tasks", children=[processor]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

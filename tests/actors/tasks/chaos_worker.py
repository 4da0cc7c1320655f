"""A processor in a process of its own, for tests that kill, stop and end it: ``python chaos_worker.py DATABASE LOG``.

Each handler writes the task's id and its process to the log before it returns. Leases last a second here.
"""

from __future__ import annotations

import os
import sys
import time

from understudy import ActorSystem, Child, Processor, ProcessorSettings, RawTask, Supervisor, TaskContext, TaskRouter
from understudy.actors.tasks import sqlite_attempts

LEASE = 1.0
CONCURRENCY = 4


def main(database: str, log_path: str) -> int:
    """Process tasks until a signal says otherwise."""
    setattr(sqlite_attempts, "LEASE_SECONDS", LEASE)  # noqa: B010 -- checkers see a constant that is not exported
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
    processor = Child(Processor, (router, f"sqlite:///{database}", settings), name="processor")
    return ActorSystem.serve("chaos", Supervisor("tasks", children=[processor]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

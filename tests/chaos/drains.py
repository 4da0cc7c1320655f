"""``make chaos``, the third part: processors of durable tasks that are told to end while they are busy.

100 times SIGTERM: each ends with status 0 within its grace, and what it did not finish waits in its queue as before.
Then 5 times a second signal at once: it is forced down, or was done already.
"""

from __future__ import annotations

# ruff: noqa: T201 - a command prints
import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from understudy.actors.tasks.engine import TaskEngine
from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.options import plan
from understudy.messages.tasks import RawTask, TaskState

from ..actors.tasks.chaos_worker import CONCURRENCY
from ..servers.private import PrivateRedis
from .tasks import WORKER

GRACE = 5.0
"""Seconds in which a processor must have ended."""
PATIENCE = 30.0
FORCED = 5


class Drains:
    """Processors that are ended one after the other, on tasks that take longer than all of it."""

    def __init__(self, url: str, engine: TaskEngine, log: Path) -> None:
        self.url, self.engine, self.log = url, engine, log
        self.log.touch()
        self.problems: list[str] = []
        self.times: list[float] = []
        task, now = RawTask("slow", b"3600"), engine.now()
        engine.enqueue([plan(task, {"task_id": str(each)}, now) for each in range(CONCURRENCY + 1)])

    def end(self, name: str, signals: list[signal.Signals], statuses: tuple[int, ...]) -> None:
        """Start a processor, wait until it is as busy as can be, and send it signals."""
        before = self.begun()
        process = subprocess.Popen([sys.executable, str(WORKER), self.url, str(self.log)])
        try:
            until = time.monotonic() + PATIENCE
            while self.begun() < before + CONCURRENCY and time.monotonic() < until:
                time.sleep(0.005)
            sent = time.monotonic()
            for each in signals:
                process.send_signal(each)
            status = process.wait(GRACE)
            self.times.append(time.monotonic() - sent)
            if status not in statuses:
                self.problems.append(f"{name} ended with {status}")
        except subprocess.TimeoutExpired:
            self.problems.append(f"{name} had not ended within {GRACE} s")
        finally:
            process.kill()
            process.wait()

    def begun(self) -> int:
        """How many attempts have begun."""
        return self.log.read_bytes().count(b"\n")

    def look(self, name: str) -> None:
        """Whether every task waits, and has used up no retry."""
        waiting = self.engine.tasks("default", TaskState.PENDING)
        if len(waiting) != CONCURRENCY + 1 or any(info.message.retried for info in waiting):
            self.problems.append(f"{name} left {[(info.id, info.message.retried) for info in waiting]} pending")


def run(url: str, folder: Path, times: int) -> list[str]:
    """End ``times`` processors with one signal, and a few with two.

    Returns:
        what is wrong; nothing, if all is well.
    """
    engine = open_engine(url)
    try:
        drains = Drains(url, engine, folder / "drains")
        for turn in range(1, times + 1):
            drains.end(f"processor {turn}", [signal.SIGTERM], (0,))
            drains.look(f"processor {turn}")
        right = times - len(drains.problems)
        print(f"{right} of {times} ended well by SIGTERM; the longest took {max(drains.times):.2f} s of {GRACE} s")
        drains.times.clear()
        # What these leave behind is recovered by the next one, once its lease has ended.
        for turn in range(1, FORCED + 1):
            # Two signals that are pending at once come in the order of their numbers: either may be the second.
            forced = (0, 128 + signal.SIGTERM, 128 + signal.SIGINT)
            drains.end(f"forced processor {turn}", [signal.SIGTERM, signal.SIGINT], forced)
        print(f"{FORCED} times a second signal; the longest took {max(drains.times):.2f} s")
    finally:
        engine.close()
    return drains.problems


def main() -> int:
    """Run once; the exit status is 0 if everything was as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drains", type=int, default=100, help="how many processors are ended by one signal")
    options, _ = parser.parse_known_args()  # the other parts have others
    if reason := PrivateRedis.missing():
        print(reason)
        return 2
    with tempfile.TemporaryDirectory(prefix="understudy-drains-") as folder, PrivateRedis() as server:
        problems = run(server.url, Path(folder), options.drains)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""``make chaos``, the second part: durable tasks in a Redis that is killed, by processors that are killed.

10,000 tasks, 20 kills of a processor, 3 of Redis, which keeps a log of its writes. No task may be lost; none may be
done again that was not in hand of somebody who was killed; what was in hand is taken up again in time.
"""

from __future__ import annotations

# ruff: noqa: T201 - a command prints
import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from understudy.actors.tasks.engine import TaskEngine
from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.options import plan
from understudy.messages.tasks import RawTask

from ..actors.tasks.chaos_worker import CONCURRENCY, lease_of
from ..servers.private import PrivateRedis

WORKER = Path(__file__).parents[1] / "actors" / "tasks" / "chaos_worker.py"
PROCESSORS = 3
RECOVER = 0.2
ATTEMPTS = "understudy:{default}:attempts"


@dataclass
class Tally:
    """What is seen of a run."""

    kills: int = 0
    restarts: int = 0
    late: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds from a kill until everything that was in hand then was in hand no longer."""


class Run:
    """Processors on queues in a private Redis, and what happens to them."""

    def __init__(self, server: PrivateRedis, folder: Path, count: int, chance: random.Random) -> None:
        self.server, self.log, self.count, self.chance = server, folder / "log", count, chance
        self.log.touch()
        self.tally = Tally()
        self.in_hand: list[tuple[float, set[tuple[bytes, bytes]]]] = []
        self.processors: list[subprocess.Popen[bytes]] = []
        self.limit = lease_of(server.url) + RECOVER + 1.0

    def fill(self, engine: TaskEngine) -> None:
        """Enqueue all tasks."""
        now = engine.now()
        engine.enqueue([plan(RawTask("quick"), {"task_id": str(number)}, now) for number in range(self.count)])

    def start_processor(self) -> None:
        """One more."""
        self.processors.append(subprocess.Popen([sys.executable, str(WORKER), self.server.url, str(self.log)]))

    def strike(self, what: str) -> None:
        """Kill a processor, or Redis, and start another one."""
        if what == "redis":
            self.server.kill()
            self.server.start()
            self.tally.restarts += 1
            self.in_hand.clear()  # who could not ask for a while is not late
            return
        victim = self.processors.pop(self.chance.randrange(len(self.processors)))
        victim.kill()
        victim.wait()
        self.tally.kills += 1
        self.in_hand.append((time.monotonic(), self.attempts()))
        self.start_processor()

    def attempts(self) -> set[tuple[bytes, bytes]]:
        """Id and token of each attempt that is under way."""
        with redis.Redis.from_url(self.server.url) as client:
            found: Any = client.hgetall(ATTEMPTS)
        return {(task_id, mark.partition(b":")[0]) for task_id, mark in found.items()}

    def look(self) -> int:
        """How many attempts came to their end; also see what is late."""
        now, current = time.monotonic(), self.attempts()
        waiting = []
        for since, attempts in self.in_hand:
            left = attempts & current
            if not left:
                self.tally.longest = max(self.tally.longest, now - since)
            elif now - since > self.limit:
                self.tally.late += [f"{task_id.decode()} after {now - since:.1f} s" for task_id, _ in left]
            else:
                waiting.append((since, left))
        self.in_hand = waiting
        return self.log.read_bytes().count(b"\n")

    def close(self) -> None:
        """End the processors."""
        for process in self.processors:
            process.kill()
            process.wait()


def run(server: PrivateRedis, folder: Path, count: int, strikes: list[str], seed: int, patience: float) -> list[str]:
    """Have tasks processed while processors and Redis are struck.

    Args:
        server: a Redis that keeps what it has acknowledged; running.
        folder: for the log.
        count: how many tasks.
        strikes: ``processor`` or ``redis``, in their order; the moments are spread over the run.
        seed: of the moments.
        patience: seconds in which it must have ended.

    Returns:
        what is wrong; nothing, if all is well.
    """
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0.05, 0.9) * count for _ in strikes)
    field = Run(server, folder, count, chance)
    engine = open_engine(server.url)
    began = time.monotonic()
    try:
        field.fill(engine)
        for _ in range(PROCESSORS):
            field.start_processor()
        for moment, what in zip(moments, strikes, strict=True):
            while field.look() < moment and time.monotonic() - began < patience:
                time.sleep(0.02)
            field.strike(what)
        while engine.queue_info("default").size and time.monotonic() - began < patience:
            field.look()
            time.sleep(0.02)
        field.look()
        left = engine.queue_info("default").size
    finally:
        field.close()
        engine.close()
    done = Counter(line.split()[0] for line in field.log.read_text().splitlines())
    tally = field.tally
    again, allowed = done.total() - len(done), tally.kills * CONCURRENCY
    seconds = time.monotonic() - began
    print(
        f"{count} tasks in {seconds:.1f} s · {tally.kills} processors and {tally.restarts} times Redis killed · "
        f"lost {count - len(done)} · again {again} of {allowed} · late {len(tally.late)}; "
        f"the longest {tally.longest:.1f} s of {field.limit:.1f} s"
    )
    problems = [f"late: {each}" for each in tally.late]
    if len(done) != count or left:
        problems.append(f"lost {count - len(done)}, left {left}")
    if again > allowed:
        problems.append(f"{again} were done again")
    return problems


def main() -> int:
    """Run once; the exit status is 0 if everything was as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="how many")
    parser.add_argument("--kills", type=int, default=20, help="of processors")
    parser.add_argument("--restarts", type=int, default=3, help="of Redis")
    parser.add_argument("--seed", type=int, default=None, help="which moments; by default others every time")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds in which it must have ended")
    options, _ = parser.parse_known_args()  # the first part has others
    if reason := PrivateRedis.missing():
        print(reason)
        return 2
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}: {options.tasks} durable tasks", flush=True)
    strikes = ["processor"] * options.kills + ["redis"] * options.restarts
    random.Random(seed).shuffle(strikes)
    with tempfile.TemporaryDirectory(prefix="understudy-tasks-") as folder, PrivateRedis() as server:
        problems = run(server, Path(folder), options.tasks, strikes, seed, options.patience)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""``make chaos``, the fourth part: a RabbitMQ whose memory is used up, for a minute.

Publishers get the code for back-pressure, each by its deadline; when the alarm is over everything resumes, and
whatever was confirmed is consumed.
"""

from __future__ import annotations

# ruff: noqa: T201 - a command prints
import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from understudy import (
    ActorError,
    ActorSystem,
    Broker,
    Cache,
    Child,
    ConsumeNotif,
    CountNotifs,
    Mutator,
    NotifData,
    ProduceNotif,
    Supervisor,
)

from ..servers.private import PrivateRabbitMQ

DEADLINE = 2.0
"""Seconds that a publisher waits."""
PUBLISHERS = 4
PATIENCE = 60.0
SPARES = 8
"""How many more threads there may be afterwards: the pool keeps its spares for some seconds."""


class Publishers:
    """Threads that publish one notification after the other, each with a deadline."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.confirmed: set[str] = set()
        self.codes: Counter[str] = Counter()
        self.longest = 0.0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._publish, args=(each,)) for each in range(PUBLISHERS)]

    def _publish(self, publisher: int) -> None:
        number = 0
        while not self.over.wait(0.01):
            number += 1
            name = f"{publisher}.{number}"
            notif = NotifData(id=name, receiver_info="1", actioner_info="2", action_data={}, fired_at=1714316645)
            produce = ProduceNotif(notif_data=notif, exchange_name="SavageEx", exchange_type="fanout")
            began = time.monotonic()
            try:
                self.system.ask("chaos/broker", produce, timeout=DEADLINE)
                self.confirmed.add(name)
                code = "confirmed"
            except ActorError as error:
                code = str(error.kind)
            self.longest = max(self.longest, time.monotonic() - began)
            self.codes[code] += 1

    def take(self) -> Counter[str]:
        """What publishers were told since the last time."""
        taken, self.codes = self.codes, Counter()
        return taken


def run(server: PrivateRabbitMQ, folder: Path, seconds: float) -> list[str]:
    """Publish and consume before, during and after the alarm.

    Returns:
        what is wrong; nothing, if all is well.
    """
    tree = Supervisor(
        "chaos",
        children=[
            Child(Cache, name="cache", args=("memory://",)),
            Child(Mutator, name="mutator", args=(f"sqlite:///{folder}/notifs.db",)),
            Child(Broker, name="broker", args=(server.url,)),
        ],
    )
    problems: list[str] = []
    with ActorSystem("alarm", tree) as system:
        consume = ConsumeNotif(
            queue="TestOnion", exchange_name="SavageEx", tag="alarm", redis_cache_exp=300, store_in_db=True
        )
        system.ask("chaos/broker", consume, timeout=PATIENCE)
        publishers = Publishers(system)
        for thread in publishers.threads:
            thread.start()
        time.sleep(2.0)
        before, threads = publishers.take(), threading.active_count()
        server.raise_memory_alarm()
        time.sleep(seconds)
        during = publishers.take()
        server.clear_memory_alarm()
        cleared = time.monotonic()
        sound = len(publishers.confirmed)
        while len(publishers.confirmed) == sound and time.monotonic() - cleared < PATIENCE:
            time.sleep(0.01)
        resumed = time.monotonic() - cleared
        time.sleep(2.0)
        publishers.over.set()
        for thread in publishers.threads:
            thread.join(PATIENCE)
        hung = sum(thread.is_alive() for thread in publishers.threads)
        stored, until = 0, time.monotonic() + PATIENCE
        while stored < len(publishers.confirmed) and time.monotonic() < until:
            stored = system.ask("chaos/mutator", CountNotifs(), timeout=PATIENCE)
            time.sleep(0.05)
        more = threading.active_count() - threads + PUBLISHERS
        after = publishers.take()
    print(f"before {dict(before)} · {seconds:.0f} s of alarm {dict(during)} · after {dict(after)}")
    print(
        f"resumed in {resumed:.2f} s · confirmed {len(publishers.confirmed)}, stored {stored} · hung threads {hung}, "
        f"more threads than before {more} · the longest wait {publishers.longest:.2f} s of {DEADLINE} s"
    )
    if hung:
        problems.append(f"{hung} publishers hang")
    if more > SPARES:
        problems.append(f"{more} threads more than before")
    if not during["broker.blocked"]:
        problems.append("nobody was told of the back-pressure")
    if publishers.longest > DEADLINE + 0.5:
        problems.append(f"a publisher waited {publishers.longest:.2f} s")
    if stored < len(publishers.confirmed) or resumed >= PATIENCE:
        problems.append(f"confirmed {len(publishers.confirmed)}, stored {stored}, resumed in {resumed:.1f} s")
    return problems


def main() -> int:
    """Run once; the exit status is 0 if everything was as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alarm", type=float, default=60.0, help="seconds")
    options, _ = parser.parse_known_args()  # the other parts have others
    if reason := PrivateRabbitMQ.missing():
        print(reason)
        return 2
    with tempfile.TemporaryDirectory(prefix="understudy-alarm-") as folder, PrivateRabbitMQ() as server:
        problems = run(server, Path(folder), options.alarm)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

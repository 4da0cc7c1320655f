"""The faults of a run: what happens to whom, at which moment, for how long; all of it from a seed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..servers.process import PrivateServer

LAST = 95
"""Of a hundred: how far the run is at the last fault."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong once.

    Args:
        victim: Whom it strikes: ``rabbitmq``, ``postgres``, ``redis`` or ``consumer``.
        at: When: after this many notifications were stored.
        down: Seconds that a server stays down.
    """

    victim: str
    at: int
    down: float


def plan(seed: int, count: int, times: Mapping[str, int]) -> list[Fault]:
    """Choose the moments for a run of ``count`` notifications; ``times`` says how often each victim is struck.

    The moments lie between one and `LAST` of a hundred, one in each of as many equal spans as a victim is
    struck: what falls together with another victim's fault is left to chance, the same one twice at once is not.
    """
    dice = random.Random(seed)
    faults: list[Fault] = []
    for victim, number in times.items():
        span = (LAST - 1) / 100 / number if number else 0.0
        for position in range(number):
            share = 0.01 + span * (position + dice.random() * 0.9)
            faults.append(Fault(victim, int(count * share), dice.uniform(0.1, 2.0)))
    return sorted(faults, key=lambda fault: fault.at)


@dataclass
class Striker:
    """Does what was planned, each victim's faults in a thread of its own, as the run's progress reaches them.

    Args:
        faults: What was planned.
        servers: The servers, by name.
        crash: Makes the consumer actor fall.
    """

    faults: Sequence[Fault]
    servers: Mapping[str, PrivateServer]
    crash: Callable[[], None]
    done: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._progress = 0
        self._news = threading.Condition()
        self._over = False
        self._began = time.monotonic()
        victims = {fault.victim for fault in self.faults}
        self._threads = [
            threading.Thread(target=self._strike_all, args=(victim,), name=f"strikes-{victim}") for victim in victims
        ]

    @property
    def over(self) -> bool:
        """Whether everything that was planned has happened."""
        return not any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begin to watch the progress."""
        for thread in self._threads:
            thread.start()

    def reached(self, progress: int) -> None:
        """So many notifications are stored now."""
        with self._news:
            self._progress = max(progress, self._progress)
            self._news.notify_all()

    def finish(self) -> None:
        """Strike no more; returns when every server is up again."""
        with self._news:
            self._over = True
            self._news.notify_all()
        for thread in self._threads:
            thread.join()

    def _strike_all(self, victim: str) -> None:
        try:
            for fault in self.faults:
                if fault.victim == victim:
                    with self._news:
                        self._news.wait_for(lambda at=fault.at: self._over or self._progress >= at)  # type: ignore[misc]
                        if self._over:
                            return
                    self._strike(fault)
        except BaseException as error:
            self.failures.append(error)

    def _strike(self, fault: Fault) -> None:
        began = time.monotonic()
        if fault.victim == "consumer":
            what = "crashed"
            self.crash()
        else:
            server = self.servers[fault.victim]
            if fault.victim == "redis":
                what = "stopped"
                server.stop()
            else:
                what = "killed"
                server.kill()
            time.sleep(fault.down)  # how long it is gone, as planned
            server.start()
        now = time.monotonic()
        self.done.append(
            f"{began - self._began:6.1f} s, at {fault.at}: {fault.victim} {what}, back after {now - began:.1f} s"
        )

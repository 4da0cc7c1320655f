"""A network that resets, stalls, cuts replies and trickles: 10,000 operations, none lost, none applied twice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from understudy.actors.mutator.actor import Mutator
from understudy.messages import ActorError, CountNotifs, Fence, Message, NotifData, StoreNotifEvent
from understudy.messages.statements import WriteStatement, statement
from understudy.supervisors.system import ActorSystem

from ...servers.proxy import FaultyProxy

Make = Callable[..., NotifData]
HEALED_WITHIN = 5.0
DEADLINE = 2.0


@statement("CREATE TABLE counters (name TEXT PRIMARY KEY, n BIGINT NOT NULL)")
class CreateCounters(WriteStatement[None]):
    """Make the table."""


@statement(
    "INSERT INTO counters (name, n) VALUES (%(name)s, 1) ON CONFLICT (name) DO UPDATE SET n = counters.n + 1 "
    "RETURNING n"
)
class Increment(WriteStatement[int | None]):
    """Nothing about it is idempotent; only its key is."""

    name: str


class Load:
    """Threads that each do one operation after the other, again and again until it has succeeded."""

    def __init__(self, mutator: Any, make_notif: Make, total: int) -> None:
        self._mutator, self._make, self._total = mutator, make_notif, total
        self._lock = threading.Condition()
        self._next = self.done = 0
        self.last_success = time.monotonic()
        self.failures: dict[str, int] = {}
        self.late: list[float] = []

    def run(self) -> None:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= self._total:
                return
            message = self._message(number)
            while not self._try(message):
                pass
            with self._lock:
                self.done += 1
                self.last_success = time.monotonic()
                self._lock.notify_all()

    def wait_for(self, done: int, timeout: float) -> bool:
        """Wait until so many operations have succeeded."""
        with self._lock:
            return self._lock.wait_for(lambda: self.done >= min(done, self._total), timeout)

    def _message(self, number: int) -> Message[Any]:
        if number % 3 == 0:
            return Increment(f"c{number % 7}", key=f"k{number}")
        fence = Fence(f"lock{number % 5}", 1) if number % 3 == 1 else None
        return StoreNotifEvent(message=self._make(f"n{number}"), fence=fence)

    def _try(self, message: Message[Any]) -> bool:
        started = time.monotonic()
        try:
            self._mutator.ask(message, timeout=DEADLINE)
        except ActorError as error:
            taken = time.monotonic() - started
            if not error.response.retryable:
                raise
            with self._lock:
                self.failures[error.kind] = self.failures.get(error.kind, 0) + 1
                if taken > DEADLINE + 0.5:
                    self.late.append(taken)
            return False
        return True


@pytest.mark.timeout(300)
def test_ten_thousand_operations_through_a_network_that_fails(
    postgres_url: str, new_proxy: Callable[[str], FaultyProxy], make_notif: Make
) -> None:
    total, chance = 10_000, random.Random(20261122)
    proxy = new_proxy(postgres_url)

    def cut() -> None:
        proxy.cut_replies(chance.randrange(2_000))

    faults: list[tuple[Callable[[], None], float]] = [
        (proxy.reset, 0.0),
        (proxy.stall, 2.5),
        (cut, 0.3),
        (proxy.trickle, 2.5),
        (proxy.refuse, 0.3),
        (proxy.reset, 0.0),
        (cut, 0.3),
        (cut, 0.0),
    ]
    with ActorSystem("shop") as system:
        mutator = system.spawn(Mutator, proxy.url, name="mutator")
        mutator.ask(CreateCounters())
        load = Load(mutator, make_notif, total)
        with ThreadPoolExecutor(40) as threads:
            workers = [threads.submit(load.run) for _ in range(40)]
            for number, (fault, seconds) in enumerate(faults, start=1):
                assert load.wait_for(number * total // (len(faults) + 2), timeout=60)
                fault()
                time.sleep(seconds)
                before = load.done
                proxy.heal()
                assert load.wait_for(before + 50, timeout=HEALED_WITHIN), f"fault {number}: {load.failures}"
            for worker in workers:
                worker.result()
        assert load.late == []
        assert mutator.ask(CountNotifs(), timeout=10) == total - len(range(0, total, 3))
        assert mutator.incarnation == 1
    with psycopg.connect(postgres_url) as db:
        counted: dict[str, int] = dict(db.execute("SELECT name, n FROM counters").fetchall())
    expected = {f"c{each}": len([n for n in range(0, total, 3) if n % 7 == each]) for each in range(7)}
    assert counted == expected
    assert load.failures, "the faults were felt"


@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_a_slow_network_ends_at_the_deadline(
    postgres_url: str, new_proxy: Callable[[str], FaultyProxy], make_notif: Make, fault: str
) -> None:
    proxy = new_proxy(postgres_url)
    with ActorSystem("shop") as system:
        mutator = system.spawn(Mutator, proxy.url, name="mutator")
        getattr(proxy, fault)()
        for timeout in (1.0, 2.0):
            started = time.monotonic()
            with pytest.raises(ActorError) as caught:
                mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=timeout)
            assert time.monotonic() - started < timeout
            assert caught.value.kind == "storage.postgres.unavailable"
        proxy.heal()
        assert mutator.ask(StoreNotifEvent(message=make_notif("a")), timeout=HEALED_WITHIN) is True

"""PostgreSQL through the mutator actor and through bare psycopg, in turn, in one run.

Every measurement is a process of its own, so that neither side's threads or garbage are in the other's way. Both
store the same notification, into tables that the mutator's migrations made, in a database of their own. psycopg
commits each row, as a program without a mutator does; the mutator is asked by one thread that has 4,000 rows in
flight. What is timed is said with each; connecting is not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

URL: Final = os.environ.get("UNDERSTUDY_BENCH_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
IN_FLIGHT: Final = 4_000
PATIENCE: Final = 120.0

NUMBERS: Final = {
    ("rows", "understudy"): 20_000,
    ("rows", "psycopg"): 2_000,
    ("light", "understudy"): 1_000,
    ("light", "psycopg"): 1_000,
}
"""How many rows each side is measured with; a slow side with fewer."""

LIGHT_PAUSE: Final = 0.002
"""Seconds between two rows at light load."""

DATA: Final = {"pid": 200.4}
INSERT: Final = (
    "INSERT INTO notifs (receiver_info, nid, action_data, actioner_info, action_type, fired_at, is_seen, written_by) "
    "VALUES (%s, %s, %s, %s, %s, to_timestamp(%s), %s, %s) ON CONFLICT (nid) DO NOTHING"
)


def _ours(what: str, url: str, number: int) -> Any:
    from understudy import ActorSystem, Mutator, NotifData, StoreNotifEvent

    run = uuid4().hex

    def event(place: int) -> StoreNotifEvent:
        notif = NotifData(
            id=f"{run}-{place}", receiver_info="1", action_data=DATA, actioner_info="2", fired_at=1714316645
        )
        return StoreNotifEvent(message=notif)

    with ActorSystem("bench") as system:
        mutator = system.spawn(Mutator, url, name="mutator")
        for place in range(20):
            mutator.ask(event(-1 - place), timeout=PATIENCE)
        if what == "light":
            return _latencies(number, lambda place: mutator.ask(event(place), timeout=PATIENCE))
        started = time.perf_counter()
        waiting: deque[Any] = deque()
        for place in range(number):
            if len(waiting) >= IN_FLIGHT:
                assert waiting.popleft().get() is True
            waiting.append(mutator.ask(event(place), block=False, timeout=PATIENCE))
        for future in waiting:
            assert future.get() is True
        return number / (time.perf_counter() - started)


def _theirs(what: str, url: str, number: int) -> Any:
    import psycopg

    run = uuid4().hex

    with psycopg.connect(url, autocommit=True) as db:

        def store(place: int) -> None:
            data = json.dumps(DATA)
            db.execute(INSERT, ("1", f"{run}-{place}", data, "2", "ProductPurchased", 1714316645, False, 0))

        for place in range(20):
            store(-1 - place)
        if what == "light":
            return _latencies(number, store)
        started = time.perf_counter()
        for place in range(number):
            store(place)
        return number / (time.perf_counter() - started)


def _latencies(number: int, store: Callable[[int], object]) -> list[float]:
    """The median and the 99th percentile of one row at a time, microseconds."""
    taken = []
    for place in range(number):
        time.sleep(LIGHT_PAUSE)
        started = time.perf_counter()
        store(place)
        taken.append((time.perf_counter() - started) * 1e6)
    taken.sort()
    return [taken[number // 2], taken[number * 99 // 100]]


# --- the run --------------------------------------------------------------------------------------------------


@contextmanager
def _database() -> Iterator[str]:
    """The URL of a database that is gone afterwards."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    from understudy.actors.mutator.migrating import migrate

    name = f"understudy_bench_{uuid4().hex}"
    with psycopg.connect(URL, autocommit=True) as db:
        db.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            url = urlsplit(URL)._replace(path=f"/{name}").geturl()
            migrate(url)
            yield url
        finally:
            db.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _measure(what: str, side: str, url: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.services_mutator", what, side, url]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=2 * PATIENCE)
    return json.loads(done.stdout)


def measure_and_print(rounds: int) -> dict[str, Any]:
    """Measure both sides in turn, print the medians and their ratios, and return them."""
    figures: dict[str, Any] = {}
    with _database() as url:
        for what in ("rows", "light"):
            taken: dict[str, list[Any]] = {"understudy": [], "psycopg": []}
            for _ in range(rounds):
                for side, results in taken.items():
                    results.append(_measure(what, side, url))
            if what == "rows":
                ours, theirs = (statistics.median(taken[side]) for side in ("understudy", "psycopg"))
                figures["rows"] = {"understudy": ours, "psycopg": theirs, "ratio": ours / theirs, "aim": 10}
                print(f"  stored rows/s    understudy {ours:9.0f}  psycopg autocommit {theirs:9.0f}", end="")
                print(f"  {ours / theirs:5.1f}×  (aim 10×)")
                continue
            for place, name in enumerate(("p50", "p99")):
                ours, theirs = (
                    statistics.median(each[place] for each in taken[side]) for side in ("understudy", "psycopg")
                )
                figures[name] = {"understudy": ours, "psycopg": theirs, "ratio": ours / theirs, "aim": 2}
                print(f"  {name} of one, µs    understudy {ours:9.0f}  psycopg autocommit {theirs:9.0f}", end="")
                print(f"  {ours / theirs:5.2f}×  (aim: at most 2×)")
    return figures


if __name__ == "__main__":
    what, side, url = sys.argv[1:]
    print(json.dumps({"understudy": _ours, "psycopg": _theirs}[side](what, url, NUMBERS[what, side])))

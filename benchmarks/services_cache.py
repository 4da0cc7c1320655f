"""Redis through the cache actor and through bare redis-py, in turn, in one run.

Every measurement is a process of its own, so that neither side's threads or garbage are in the other's way. Both set
the same small values with an expiry, under keys of their own. redis-py waits for each reply, as a program without a
cache actor does; the actor is asked by one thread that has 4,000 sets in flight. What is timed is said with each;
connecting is not.
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
from uuid import uuid4

URL: Final = os.environ.get("UNDERSTUDY_BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
IN_FLIGHT: Final = 4_000
PATIENCE: Final = 60.0
LIGHT_PAUSE: Final = 0.002
"""Seconds between two requests at light load."""
VALUE: Final = {"pid": 200.4}
SIDES: Final = ("understudy", "redis-py")

NUMBERS: Final = {
    ("sets", "understudy"): 40_000,
    ("sets", "redis-py"): 8_000,
    ("gets", "understudy"): 40_000,
    ("gets", "redis-py"): 8_000,
    ("light set", "understudy"): 1_000,
    ("light set", "redis-py"): 1_000,
    ("light get", "understudy"): 1_000,
    ("light get", "redis-py"): 1_000,
}
"""How many operations each side is measured with; a slow side with fewer."""


def _ours(what: str, prefix: str, number: int) -> Any:
    from understudy import ActorSystem, Cache, CacheGet, CacheSet

    with ActorSystem("bench") as system:
        cache = system.spawn(Cache, f"{URL}?prefix={prefix}", name="cache")
        cache.ask(CacheSet("key", VALUE))
        cache.ask(CacheGet("key"))
        if what == "light set":
            return light(lambda: cache.ask(CacheSet("key", VALUE, expires=60), timeout=PATIENCE), number)
        if what == "light get":
            return light(lambda: cache.ask(CacheGet("key"), timeout=PATIENCE), number)
        started = time.perf_counter()
        futures: deque[Any] = deque()
        for turn in range(number):
            if len(futures) == IN_FLIGHT:
                futures.popleft().get(timeout=PATIENCE)
            key = f"key {turn % 1000}"
            futures.append(
                cache.ask(CacheSet(key, VALUE, expires=60) if what == "sets" else CacheGet(key), block=False)
            )
        for future in futures:
            future.get(timeout=PATIENCE)
        return number / (time.perf_counter() - started)


def _theirs(what: str, prefix: str, number: int) -> Any:
    import orjson
    import redis

    client = redis.Redis.from_url(URL)
    key = f"{prefix}key"
    client.set(key, orjson.dumps(VALUE))
    if what == "light set":
        return light(lambda: client.set(key, orjson.dumps(VALUE), ex=60), number)
    if what == "light get":
        return light(lambda: orjson.loads(client.get(key) or b""), number)
    started = time.perf_counter()
    for turn in range(number):
        if what == "sets":
            client.set(f"{prefix}key {turn % 1000}", orjson.dumps(VALUE), ex=60)
        else:
            orjson.loads(client.get(f"{prefix}key {turn % 1000}") or b"null")
    return number / (time.perf_counter() - started)


def light(work: Callable[[], object], number: int) -> list[float]:
    """Microseconds for one at light load: the median and the 99th percentile."""
    times: list[float] = []
    for _ in range(number):
        time.sleep(LIGHT_PAUSE)
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e6)
    times.sort()
    return [times[number // 2], times[number * 99 // 100]]


@contextmanager
def keys_of_its_own() -> Iterator[str]:
    """A prefix for keys, which are removed at the end."""
    import redis

    prefix = f"understudy-bench-{uuid4().hex}:"
    with redis.Redis.from_url(URL) as client:
        try:
            yield prefix
        finally:
            keys: list[Any] = list(client.scan_iter(match=prefix + "*", count=1_000))
            if keys:
                client.unlink(*keys)


def measure_in_turn(module: str, what: str, sides: tuple[str, str], prefix: str, rounds: int) -> list[list[Any]]:
    """Measure both sides in processes of their own, in turn; the results of each side."""
    taken: list[list[Any]] = [[], []]
    for _ in range(rounds):
        for side, results in zip(sides, taken, strict=True):
            command = [sys.executable, "-m", module, what, side, prefix]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=2 * PATIENCE)
            results.append(json.loads(done.stdout))
    return taken


def compare_rates(name: str, sides: tuple[str, str], taken: list[list[Any]], aim: str) -> dict[str, Any]:
    """Print and return the medians of how many a second, and their ratio."""
    ours, theirs = (statistics.median(results) for results in taken)
    print(f"  {name:<18} {sides[0]} {ours:9.0f}/s  {sides[1]} {theirs:9.0f}/s  {ours / theirs:5.2f}×  (aim {aim})")
    return {"understudy": ours, sides[1]: theirs, "ratio": ours / theirs, "aim": aim}


def compare_tails(name: str, sides: tuple[str, str], taken: list[list[Any]]) -> dict[str, Any]:
    """Print and return the medians of the p50 and of the p99 of one request at light load, and their ratios."""
    figures: dict[str, Any] = {}
    for place, which in enumerate(("p50", "p99")):
        ours, theirs = (statistics.median(each[place] for each in results) for results in taken)
        print(f"  {f'{name} {which}, µs':<18} {sides[0]} {ours:9.0f}    {sides[1]} {theirs:9.0f}    ", end="")
        print(f"{ours / theirs:5.2f}×  (aim: at most 2×)")
        figures[which] = {"understudy": ours, sides[1]: theirs, "ratio": ours / theirs, "aim": "at most 2"}
    return figures


def measure_and_print(rounds: int) -> dict[str, Any]:
    """Measure both sides in turn, print the medians and their ratios, and return them."""
    figures: dict[str, Any] = {}
    with keys_of_its_own() as prefix:
        for what, aim in (("sets", "5×"), ("gets", "-")):
            taken = measure_in_turn("benchmarks.services_cache", what, SIDES, prefix, rounds)
            figures[what] = compare_rates(what, SIDES, taken, aim)
        for what in ("light set", "light get"):
            taken = measure_in_turn("benchmarks.services_cache", what, SIDES, prefix, rounds)
            figures[what] = compare_tails(what, SIDES, taken)
    return figures


if __name__ == "__main__":
    what, side, prefix = sys.argv[1:]
    print(json.dumps({"understudy": _ours, "redis-py": _theirs}[side](what, prefix, NUMBERS[what, side])))

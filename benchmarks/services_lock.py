"""Locks in Redis through the lock actor and through redis-py's ``Lock``, in turn, in one run.

Every measurement is a process of its own. A cycle is one acquire and one release: of one thread after the other has
done, or of eight threads that want the same lock at the same time, each with a connection (or an actor) of its own as
in eight processes. redis-py's lock looks every 100 ms whether it is free, as it does unless told otherwise.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any, Final

from .services_cache import PATIENCE, URL, compare_rates, compare_tails, keys_of_its_own, light, measure_in_turn

SIDES: Final = ("understudy", "redis-py Lock")
CONTENDERS: Final = 8

NUMBERS: Final = {
    ("alone", "understudy"): 4_000,
    ("alone", "redis-py Lock"): 4_000,
    ("contended", "understudy"): 2_000,
    ("contended", "redis-py Lock"): 400,
    ("light", "understudy"): 1_000,
    ("light", "redis-py Lock"): 1_000,
}
"""How many cycles each side is measured with; a slow side with fewer."""


def _ours(what: str, prefix: str, number: int) -> Any:
    from understudy import AcquireLock, ActorSystem, Lock, ReleaseLock

    with ActorSystem("bench") as system:

        def cycle(lock: Any) -> None:
            lease = lock.ask(AcquireLock("lock", "bench", wait=PATIENCE))
            lock.ask(ReleaseLock("lock", lease.token))

        url = f"{URL}?prefix={prefix}"
        locks = [system.spawn(Lock, url, name=f"lock {each}") for each in range(_clients(what))]
        for lock in locks:
            cycle(lock)
        if what == "light":
            return light(lambda: cycle(locks[0]), number)
        return _rate([lambda lock=each: cycle(lock) for each in locks], number)


def _theirs(what: str, prefix: str, number: int) -> Any:
    import redis

    clients = [redis.Redis.from_url(URL) for _ in range(_clients(what))]

    def cycle(client: Any) -> None:
        with client.lock(f"{prefix}lock", timeout=30):
            pass

    for client in clients:
        cycle(client)
    if what == "light":
        return light(lambda: cycle(clients[0]), number)
    return _rate([lambda client=each: cycle(client) for each in clients], number)


def _clients(what: str) -> int:
    """How many want the lock at the same time."""
    return CONTENDERS if what == "contended" else 1


def _rate(cycles: list[Any], number: int) -> float:
    """How many cycles a second, each in a thread of its own."""

    def work(cycle: Any) -> None:
        for _ in range(number // len(cycles)):
            cycle()

    threads = [threading.Thread(target=work, args=(cycle,)) for cycle in cycles]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number / (time.perf_counter() - started)


def measure_and_print(rounds: int) -> dict[str, Any]:
    """Measure both sides in turn, print the medians and their ratios, and return them."""
    figures: dict[str, Any] = {}
    with keys_of_its_own() as prefix:
        for what in ("alone", "contended"):
            taken = measure_in_turn("benchmarks.services_lock", what, SIDES, prefix, rounds)
            figures[what] = compare_rates(f"cycles, {what}", SIDES, taken, "1×")
        taken = measure_in_turn("benchmarks.services_lock", "light", SIDES, prefix, rounds)
        figures["light"] = compare_tails("cycle", SIDES, taken)
    return figures


if __name__ == "__main__":
    what, side, prefix = sys.argv[1:]
    print(json.dumps({"understudy": _ours, "redis-py Lock": _theirs}[side](what, prefix, NUMBERS[what, side])))

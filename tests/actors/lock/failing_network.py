"""A network that fails again and again while threads work through it."""

import random
import threading
from collections.abc import Callable, Sequence

from ...servers.proxy import FaultyProxy

WELL_FOR = 150
"""Cycles that are done between two faults. It is no time: on a slow machine nothing would be done in it."""


def fail_now_and_then(
    proxy: FaultyProxy,
    threads: Sequence[threading.Thread],
    done: Callable[[], int],
    chance: random.Random,
    longest_reply: int,
) -> int:
    """Reset, cut, stall and trickle in turn until the threads are done.

    Args:
        proxy: what they work through.
        threads: they run.
        done: how many cycles they have done so far.
        chance: decides how long a fault lasts, and where a reply is cut.
        longest_reply: bytes.

    Returns:
        How many faults there were.
    """
    faults: list[Callable[[], None]] = [
        proxy.reset,
        lambda: proxy.cut_replies(chance.randrange(longest_reply)),
        proxy.stall,
        proxy.trickle,
    ]
    pause, number = threading.Event(), 0

    def is_at_work() -> bool:
        return any(thread.is_alive() for thread in threads)

    while is_at_work():
        faults[number % len(faults)]()
        pause.wait(chance.random() * 0.1)
        proxy.heal()
        number += 1
        enough = done() + WELL_FOR
        while is_at_work() and done() < enough:
            pause.wait(0.01)
    return number

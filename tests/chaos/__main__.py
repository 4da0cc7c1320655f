"""``make chaos``: notifications through servers that are killed at random moments; nothing may be lost or done twice.

Private RabbitMQ, PostgreSQL and Redis; 60,000 notifications; the moments come from a seed, which is printed.
"""

from __future__ import annotations

# ruff: noqa: T201 - a command prints
import argparse
import logging
import random
import sys
import tempfile
from contextlib import ExitStack

from ..servers.process import PrivateServer
from .faults import plan
from .pipeline import DEADLINE, run
from .victims import TIMES, missing, private_servers, urls_of


def main() -> int:
    """Run once; the exit status is 0 if everything was as it must be."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--count", type=int, default=60_000, help="how many notifications")
    parser.add_argument("--seed", type=int, default=None, help="which moments; by default others every time")
    parser.add_argument("--embedded", action="store_true", help="no servers: only the consumer is crashed")
    parser.add_argument("--only", nargs="*", choices=sorted(TIMES), help="whom faults strike; none: no faults at all")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds in which it must have ended")
    parser.add_argument("--verbose", action="store_true", help="log restarts and errors")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    logging.getLogger().setLevel(logging.INFO if options.verbose else logging.CRITICAL + 1)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL + 1)
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
    print(f"seed {seed}: {options.count} notifications", flush=True)
    with ExitStack() as stack:
        if options.embedded:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-chaos-"))
            running: dict[str, PrivateServer] = {}
            urls = ("memory://", f"sqlite:///{folder}/notifs.db", "memory://")
            times = {"consumer": TIMES["consumer"]}
        else:
            if reason := missing():
                print(reason)
                return 2
            running, times = stack.enter_context(private_servers()), dict(TIMES)
            urls = urls_of(running)
        if options.only is not None:
            times = {victim: number for victim, number in times.items() if victim in options.only}
        faults = plan(seed, options.count, times)
        outcome = run(
            options.count, urls, faults, running, patience=options.patience, tell=lambda text: print(text, flush=True)
        )
    for fault in outcome.done:
        print(fault)
    for kind_of_error, number in outcome.errors.most_common():
        print(f"{number:7} × {kind_of_error}, and again")
    print(
        f"{outcome.published} published in {outcome.seconds:.1f} s · {len(outcome.done)} of {len(faults)} faults · "
        f"lost {len(outcome.missing)} · uncached {len(outcome.uncached)} · twice "
        f"{len(outcome.stored_twice) + len(outcome.cached_twice)} · dead letters {len(outcome.dead_letters)} · the "
        f"longest wait {outcome.longest_wait:.2f} s of {DEADLINE:g} s"
    )
    problems = outcome.problems()
    if len(outcome.done) != len(faults):
        problems.append(f"only {len(outcome.done)} of {len(faults)} faults took place")
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

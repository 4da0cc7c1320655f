"""``make bench-tasks``: durable tasks, dramatiq and celery in turn on one Redis; ratios of medians.

python -m benchmarks.tasks [--url URL] [--rounds N] [--only WHAT] [--scale F] [--json FILE]

Without a URL it starts a Redis of its own. With ``sqlite:`` it measures Understudy alone, on a file of its own; with
another URL it uses that Redis, and deletes what it put there. Every measurement is a process of its own. What is timed
is said in ``tasks_sides.py``; starting and connecting are not.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

OURS: Final = "understudy"
SIDES: Final = (OURS, "dramatiq", "celery")
PATIENCE: Final = 600.0
NUMBERS: Final[dict[str, dict[str, int]]] = {
    "enqueue": {OURS: 4_000, "dramatiq": 4_000, "celery": 2_000},
    "batch": {OURS: 40_000},
    "process": {OURS: 40_000, "dramatiq": 8_000, "celery": 4_000},
    "latency": {OURS: 500, "dramatiq": 200, "celery": 200},
    "memory": {OURS: 200_000},
}
"""How many tasks each side is measured with; a slow side with fewer."""
AIMS: Final = {
    ("process", "dramatiq"): 5.0,
    ("process", "celery"): 10.0,
    ("enqueue", "dramatiq"): 1.0,
    ("batch", "dramatiq"): 10.0,
}
LATENCY_AIM: Final = 10.0
"""Milliseconds."""


def main() -> int:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="make bench-tasks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="sqlite: for a file, or a Redis; by default a Redis of its own")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (%(default)s)")
    parser.add_argument("--only", choices=sorted(NUMBERS), help="only this measurement")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many tasks (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    with _queues(options.url) as url:
        print(f"CPython {platform.python_version()}, {platform.machine()}, {url.partition(':')[0]}")
        figures = measure_all(url, options.rounds, options.only, options.scale)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


@contextmanager
def _queues(url: str | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        if url is not None and not url.startswith("sqlite:"):
            yield url
        elif url is not None:
            yield f"sqlite:///{folder}/tasks.db"
        else:
            from tests.servers.private import PrivateRedis

            with PrivateRedis({"appendonly": "no"}) as server:
                yield server.url


def measure_all(url: str, rounds: int, only: str | None, scale: float) -> dict[str, Any]:
    """Measure everything, the sides in turn, and print it."""
    figures: dict[str, Any] = {}
    for what, numbers in NUMBERS.items():
        if only not in (None, what, "enqueue" if what == "batch" else what):
            continue
        sides = [side for side in numbers if side == OURS or not url.startswith("sqlite:")]
        taken: dict[str, list[Any]] = {side: [] for side in sides}
        for _ in range(1 if what == "memory" else rounds):
            for side in sides:
                taken[side].append(measure(side, what, max(100, int(numbers[side] * scale)), url))
        figures[what] = _SHOW[what](taken)
        if what == "batch" and "dramatiq" in figures.get("enqueue", {}):
            _compare("batch", "dramatiq", figures["batch"][OURS], figures["enqueue"]["dramatiq"])
    return figures


def measure(side: str, what: str, number: int, url: str) -> Any:
    """One measurement, in a process of its own, on a queue of its own."""
    command = [sys.executable, "-m", "benchmarks.tasks_sides", side, what, str(number), url, f"bench-{uuid4().hex[:8]}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _show_rates(what: str, taken: dict[str, list[Any]], detail: str) -> dict[str, float]:
    medians = {side: statistics.median(run["rate"] for run in runs) for side, runs in taken.items()}
    for side, runs in taken.items():
        spread = f"{min(run['rate'] for run in runs):,.0f} to {max(run['rate'] for run in runs):,.0f}"
        trips = [run["trips"] for run in runs if run.get("trips") is not None]
        more = f"; {statistics.median(trips):.3f} reads of the server per task" if trips else ""
        if "cpu" in runs[0]:
            more += f"; {statistics.median(run['cpu'] for run in runs):.0f} µs of CPU per task"
        print(f"  {what:8} {side:11} {medians[side]:>9,.0f}/s  ({spread}{more}){detail if side == OURS else ''}")
    for side, rate in medians.items():
        if side != OURS:
            _compare(what, side, medians[OURS], rate)
    return medians


def _compare(what: str, side: str, ours: float, theirs: float) -> None:
    aim = AIMS.get((what, side))
    said = "" if aim is None else f"  (aim: {aim:g}×: {'met' if ours / theirs >= aim else 'NOT met'})"
    print(f"  {what:8} to {side:8} {ours / theirs:>8.2f}×{said}")


def _show_latency(taken: dict[str, list[Any]]) -> dict[str, Any]:
    figures = {}
    for side, runs in taken.items():
        median, tail = (statistics.median(run[name] for run in runs) for name in ("median", "p99"))
        said = "" if side != OURS else f"  (aim: {LATENCY_AIM:g} ms: {'met' if tail <= LATENCY_AIM else 'NOT met'})"
        print(f"  {'latency':8} {side:11} median {median:.2f} ms, p99 {tail:.2f} ms{said}")
        figures[side] = {"median": median, "p99": tail}
    return figures


def _show_memory(taken: dict[str, list[Any]]) -> dict[str, Any]:
    (run,) = taken[OURS]
    steps = ", ".join(f"{kib / 1024:.1f}" for kib in run["kib"])
    print(f"  memory   {OURS:11} MiB after each tenth of {run['number']:,} tasks: {steps}")
    return {OURS: run}


_SHOW: Final[dict[str, Any]] = {
    "enqueue": lambda taken: _show_rates("enqueue", taken, ""),
    "batch": lambda taken: _show_rates("batch", taken, "  1,000 at a time"),
    "process": lambda taken: _show_rates("process", taken, ""),
    "latency": _show_latency,
    "memory": _show_memory,
}


if __name__ == "__main__":
    sys.exit(main())

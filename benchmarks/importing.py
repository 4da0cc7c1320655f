"""What an import costs, in a fresh process each time."""

from __future__ import annotations

import statistics
import subprocess
import sys

CLIENTS = ("pika", "redis", "psycopg", "psycopg_pool", "rich", "asyncio")

STATEMENTS = ("import understudy", "from understudy import Actor, ActorSystem, Message, handles", "import pykka")

PROGRAM = """
import sys, time
started = time.perf_counter()
{statement}
print((time.perf_counter() - started) * 1e3)
print(*[name for name in {clients!r} if name in sys.modules])
"""


def measure_and_print(rounds: int) -> dict[str, float]:
    """Print and return the medians in milliseconds."""
    print(f"\nimports in fresh processes, medians of {rounds}, ms")
    figures: dict[str, float] = {}
    for statement in (
        "import understudy",
        "from understudy import Actor, ActorSystem, Message, handles",
        "import pykka",
    ):
        times, loaded = [], ""
        for _ in range(rounds + 1):
            program = PROGRAM.format(statement=statement, clients=CLIENTS)
            output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
            took, loaded = output.splitlines()[0], " ".join(output.splitlines()[1:]).strip()
            times.append(float(took))
        figures[statement] = statistics.median(times[1:])
        print(
            f"{figures[statement]:8.1f}  {statement}  (of {', '.join(CLIENTS)} loaded: {loaded or 'none'})", flush=True
        )
    return figures

"""A million supervised actors alive at once: told, asked and stopped, on a few threads.

Garbage collection is off while they are built, as it would be by ``gc.freeze`` in a service that starts so many; memory
is the growth of the process's resident set.
"""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

from understudy import ActorRef, ActorSystem

from .pairs import Add, Counter

FIRST = 10_000


def resident_bytes() -> int:
    """The process's resident set."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def one_size(count: int) -> dict[str, float]:
    """Build, tell, ask and stop ``count`` actors; microseconds and KiB for each."""
    gc.collect()
    message = Add(1)
    figures: dict[str, float] = {"actors": count}
    with ActorSystem("million") as system:
        warm = system.spawn(Counter)
        warm.ask(message)
        gc.disable()
        try:
            before = resident_bytes()
            refs = _timed(figures, "spawn", count, lambda: [system.spawn(Counter) for _ in range(count)])

            def tell_all() -> None:
                for ref in refs:
                    ref.tell(message)
                while any(waiting(ref) for ref in reversed(refs)):  # the last ones told are the last ones handled
                    time.sleep(0.001)

            _timed(figures, "tell", count, tell_all)
            total = _timed(figures, "ask", count, lambda: sum(ref.ask(message) for ref in refs))
            assert total == 2 * count, f"{total} instead of {2 * count}: a message was lost"
            # The list of references is the caller's, not the actors': 8 bytes each and the references themselves.
            figures["KiB"] = (resident_bytes() - before) / count / 1024
            figures["threads"] = threading.active_count()
            assert system.root.count_children().active == count + 1
            # The whole stop may take as long as so many need: the usual 30 seconds are for a service's tree.
            _timed(figures, "stop", count, lambda: system.stop(timeout=600.0))
            assert system.abandoned == 0
        finally:
            gc.enable()
        assert not any(ref.is_alive() for ref in refs)
    return figures


def waiting(ref: ActorRef[Any]) -> bool:
    """Whether the actor has yet to handle something."""
    return not ref.actor_inbox.empty()


def _timed(figures: dict[str, float], name: str, count: int, work: Any) -> Any:
    started = time.perf_counter()
    result = work()
    figures[name] = (time.perf_counter() - started) / count * 1e6
    return result


def measure_and_print(actors: int) -> list[dict[str, float]]:
    """Measure 10,000 actors and ``actors``; print and return the figures."""
    print("\nsupervised actors alive at once, each told and asked; µs and KiB for each")
    print(f"{'actors':>10} {'spawn':>8} {'tell':>8} {'ask':>8} {'stop':>8} {'KiB':>6} {'threads':>8}")
    rows = []
    for count in (FIRST, actors):
        row = one_size(count)
        rows.append(row)
        print(
            f"{count:10,} {row['spawn']:8.2f} {row['tell']:8.2f} {row['ask']:8.2f} {row['stop']:8.2f} "
            f"{row['KiB']:6.2f} {row['threads']:8.0f}",
            flush=True,
        )
    return rows

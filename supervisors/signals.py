"""Running a system until a signal: SIGTERM and SIGINT drain it, a second one forces it down."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .system import ActorSystem

__all__ = ["CLEAN", "FORCED_BASE", "GIVEN_UP", "KILLED_SOME", "run_until_signal"]

CLEAN = 0
"""The tree ended normally, or everything stopped in order after a signal."""

GIVEN_UP = 1
"""A supervisor at the top gave up: restarts did not help."""

KILLED_SOME = 3
"""It stopped after a signal, but something did not end in its time and was killed."""

FORCED_BASE = 128
"""Plus the signal's number: a second signal cut the ordered stop short."""

LOOK_EVERY = 0.5


def run_until_signal(system: ActorSystem, *, drain: float = 5.0, timeout: float = 30.0) -> int:
    """Wait until the system ends by itself or a signal ends it. Call it on the main thread.

    The first SIGTERM or SIGINT lets the mailboxes run empty and then stops everything in order; the second one
    kills what still runs. The handlers that were installed before are put back.

    Args:
        system: a running system.
        drain: seconds that mailboxes get to run empty.
        timeout: seconds that the stop may take altogether; what still runs then is killed.

    Returns:
        the exit status for the process: ``CLEAN``, ``GIVEN_UP``, ``KILLED_SOME``, or ``FORCED_BASE`` plus the
        second signal's number.
    """
    received: list[int] = []
    stopper: threading.Thread | None = None

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    previous: dict[int, Any] = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not system.wait(0.05 if received else LOOK_EVERY):
            if len(received) >= 2:
                system.kill()
                return FORCED_BASE + received[1]
            if received and stopper is None:
                cause = f"signal {signal.Signals(received[0]).name}"
                stopper = threading.Thread(
                    target=system.stop,
                    kwargs={"timeout": timeout, "drain": drain, "cause": cause},
                    name=f"{system.name}-stop",
                    daemon=True,
                )
                stopper.start()
        if system.outcome == "gave_up":
            return GIVEN_UP
        return CLEAN if system.abandoned == 0 else KILLED_SOME
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""Running a system until a signal: SIGTERM and SIGINT drain it, a second one forces it down.

SIGTSTP has processors of tasks take no more, as asynq's do; where there are none it suspends the process as ever.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..actors.timeouts import as_timeout

if TYPE_CHECKING:
    from .system import ActorSystem

__all__ = ["CLEAN", "FORCED_BASE", "GIVEN_UP", "KILLED_SOME", "Signals", "run_until_signal"]

logger = logging.getLogger("understudy.signals")

CLEAN = 0
"""The tree ended normally, or everything stopped in order after a signal."""

GIVEN_UP = 1
"""A supervisor at the top gave up: restarts did not help."""

KILLED_SOME = 3
"""It stopped after a signal, but something did not end in its time and was killed."""

FORCED_BASE = 128
"""Plus the signal's number: a second signal cut the ordered stop short."""

FORCE_TIMEOUT = 2.0
"""Seconds that a forced stop may take; then the process ends without it."""

LOOK_EVERY = 0.5
"""Seconds after which a wait is begun anew: on some platforms a signal does not interrupt it."""


_PAUSE: Final[int | None] = getattr(signal, "SIGTSTP", None)
"""Not on every platform."""


class Signals:
    """Takes SIGTERM, SIGINT and SIGTSTP while its ``with`` block runs, on the main thread.

    Then it puts back who took them.

    Attributes:
        pausing: whether a SIGTSTP came that nobody has dealt with.
        received: the numbers of those that came, in order.
        starting: whether there is nothing yet that could be stopped: a second signal then ends the process.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.starting = False
        self.pausing = False
        self._previous: dict[int, Any] = {}
        # Of all that threads can wait for, only this may be used by a signal handler: it interrupts anything.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._take)
        if _PAUSE is not None:
            self._previous[_PAUSE] = signal.signal(_PAUSE, self._pause)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # what was not installed from Python cannot be put back
                signal.signal(number, handler)

    def wake(self) -> None:
        """Let ``wait`` return."""
        self._news.put(None)

    def wait(self) -> None:
        """Wait until a signal comes, ``wake`` is called, or some time has passed."""
        try:
            self._news.get(timeout=LOOK_EVERY)
        except queue.Empty:
            return

    def _pause(self, _number: int, _frame: FrameType | None) -> None:
        self.pausing = True
        self._news.put(None)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        if self.starting and len(self.received) >= 2:
            os._exit(FORCED_BASE + number)
        self._news.put(None)


def run_until_signal(
    system: ActorSystem, *, drain: float | None = 5.0, timeout: float | None = 30.0, signals: Signals | None = None
) -> int:
    """Wait until the system ends by itself or a signal ends it. Call it on the main thread.

    The first SIGTERM or SIGINT lets the mailboxes run empty and then stops everything in order; the second one
    kills what still runs. The handlers that were installed before are put back.

    Args:
        system: a running system.
        drain: seconds that mailboxes get to run empty; None for no limit.
        timeout: seconds that the stop may take altogether, None for no limit; what still runs then is killed.
        signals: what takes the signals already, where some may have come while the system started.

    Returns:
        the exit status for the process: ``CLEAN``, ``GIVEN_UP``, ``KILLED_SOME``, or ``FORCED_BASE`` plus the
        second signal's number.

    Raises:
        ValueError: not called on the main thread, which alone gets signals.
        SpecInvalid: ``config.timeout.invalid``: a time is no number.
    """
    timeout = as_timeout(timeout, verb="run")
    drain = as_timeout(drain, name="drain", verb="run")
    if signals is None:
        with Signals() as signals:
            return run_until_signal(system, drain=drain, timeout=timeout, signals=signals)
    system.on_down(signals.wake)
    stopping = False
    while not system.down:
        if len(signals.received) >= 2:
            _aside(system, system.kill).join(FORCE_TIMEOUT)
            return FORCED_BASE + signals.received[1]
        if signals.received and not stopping:
            stopping = True
            cause = f"signal {signal.Signals(signals.received[0]).name}"
            _aside(system, partial(system.stop, timeout=timeout, drain=drain, cause=cause))
        if signals.pausing:
            signals.pausing = False
            _be_quiet(system)
        signals.wait()
    if system.outcome == "gave_up":
        return GIVEN_UP
    return CLEAN if system.left_behind == 0 else KILLED_SOME


def _be_quiet(system: ActorSystem) -> None:
    """Have nobody take new work; where nobody does that, do what the signal does to other programs."""
    quieting = tuple(system.runtime.quieting)
    if not quieting:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    logger.info("%s: SIGTSTP: no more tasks are taken; those that are being processed go on", system.name)
    for tell in quieting:
        tell()


def _aside(system: ActorSystem, job: Any) -> threading.Thread:
    """Do it on another thread: this one waits for signals."""
    thread = threading.Thread(target=job, name=f"{system.name}-stop", daemon=True)
    thread.start()
    return thread

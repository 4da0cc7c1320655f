"""The thread that all input and output of one RabbitMQ client runs on, and the one door into it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pika.adapters.select_connection import IOLoop as PikaLoop

from . import hush

logger = logging.getLogger("understudy.broker")

Job = Callable[[], None]

END_TIMEOUT: Final = 2.0
"""Seconds that `join` waits for the thread."""


class IoLoop:
    """pika's loop on a thread of its own.

    Jobs that threads submit wake it once, however many there are. Whatever a job raises is logged, and the loop
    goes on: it must never end by accident, for everybody who waits for a server waits for it.

    Args:
        name: The thread's.
    """

    def __init__(self, name: str) -> None:
        self.pika = PikaLoop()
        self._jobs: deque[Job] = deque()
        self._awake = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether it is this thread that asks."""
        return threading.current_thread() is self._thread

    def submit(self, job: Job) -> None:
        """Have a job run, in the order of submission. Any thread may; after the loop's end nothing is run."""
        self._jobs.append(job)
        # The loop lowers the flag before it looks at the jobs: whoever sees it up was early enough.
        if not self._awake:
            self._awake = True
            self._wake()

    def after(self, seconds: float, job: Job) -> Any:
        """Have a job run in a while; for `cancel`. Only on the loop's own thread."""
        return self.pika.call_later(max(0.0, seconds), lambda: self.guard(job))

    def cancel(self, timer: Any) -> None:
        """Do not run it. Only on the loop's own thread; harmless when it has run."""
        if timer is not None:
            self.pika.remove_timeout(timer)

    def guard(self, job: Job) -> None:
        """Run a job, and log what it raises."""
        try:
            job()
        except Exception:
            logger.exception("the broker's input and output: a step failed")

    def stop(self) -> None:
        """End the thread after what was submitted before."""
        self.submit(self._stop)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(END_TIMEOUT)

    def _stop(self) -> None:
        self._stopped = True
        self.pika.stop()

    def _wake(self) -> None:
        try:
            self.pika.add_callback_threadsafe(self._work)
        except Exception:
            if not self._stopped:  # else the loop was just closed, and nothing is run any more
                raise

    def _work(self) -> None:
        self._awake = False
        # Only as many as there are now: what they submit runs after the sockets had their turn.
        for _ in range(len(self._jobs)):
            self.guard(self._jobs.popleft())
        if self._jobs and not self._awake:
            self._awake = True
            self._wake()

    def _run(self) -> None:
        hush.begin()
        while not self._stopped:
            try:
                self.pika.start()
            except Exception:  # a bug, in pika or here; the connections notice by themselves
                logger.exception("the broker's input and output failed, and goes on")
        self.pika.close()
        hush.end()

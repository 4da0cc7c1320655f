"""Hearing from Redis whose turn it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from ..redis_link import RedisLink, ServerDenied, ServerLost

__all__ = ["Listener"]

CONNECT_TIMEOUT: Final = 2.0
SILENCE: Final = 30.0
"""Seconds without a message after which the connection is tried."""
PAUSE: Final = 0.5
"""Seconds until a lost connection is made again. Nobody waits for it: who is in line also looks by itself."""


class Listener:
    """A thread that listens on a channel, from the first ``start`` on, through losses of the connection.

    Args:
        link: Where to connect to.
        channel: What to listen on.
        told: Called on the thread with each message; with None when some may have been missed.
    """

    def __init__(self, link: RedisLink, channel: bytes, told: Callable[[str | None], None]) -> None:
        self._link, self._channel, self._told = link, channel, told
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin to listen, if that was not begun before."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="lock-listener", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; what it waits for was closed with the link."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                connection = self._link.subscription(self._channel, time.monotonic() + CONNECT_TIMEOUT)
            except (ServerLost, ServerDenied):
                self._closing.wait(PAUSE)
                continue
            try:
                self._told(None)
                self._listen(connection)
            except ServerLost:
                self._closing.wait(PAUSE)
            finally:
                connection.disconnect()

    def _listen(self, connection: Any) -> None:
        while not self._closing.is_set():
            message = self._link.next_message(connection, time.monotonic() + SILENCE)
            if message is not None:
                self._told(message.decode("utf-8", "replace"))

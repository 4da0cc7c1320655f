"""redis-py's connections on sockets whose every wait ends in time.

A socket's own time-out begins anew with each byte, and a server may send one byte a second. So who works sets a limit
for its thread, and each wait is given what is left of it.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

import redis

__all__ = ["Plain", "Socket", "Tls", "limit"]

LONGEST_WAIT: Final = 1e6
"""Seconds; a socket cannot be told to wait for ages."""


class Limit(threading.local):
    """Until when the work of this thread may take, in seconds of ``time.monotonic``."""

    at = 0.0
    sockets: set[Socket] | None = None
    """Where those are noted that are opened now."""

    def left(self) -> float:
        """Seconds that are left; raises ``TimeoutError`` if none are."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        return min(left, LONGEST_WAIT)


limit = Limit()


class Socket:
    """A socket whose every wait ends at the thread's limit, however many waits there are."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain
        self._blocks = True
        self._told = -1.0
        self._noted = limit.sockets
        if self._noted is not None:
            self._noted.add(self)

    def interrupt(self) -> None:
        """Let the thread that waits for it see that it has ended; that thread closes it."""
        with suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it."""
        if self._noted is not None:
            self._noted.discard(self)
        self._plain.close()

    def settimeout(self, seconds: float | None) -> None:
        """Only whether to wait at all is taken over; for how long is the limit's matter."""
        self._blocks = seconds != 0

    def _prepare(self) -> None:
        self._wait_at_most(limit.left() if self._blocks else 0)

    def _wait_at_most(self, seconds: float) -> None:
        # Setting it is a call of the system's, and from one command to the next it hardly changes.
        if not 0.9 * seconds <= self._told <= 1.001 * seconds:
            self._plain.settimeout(seconds)
            self._told = seconds

    def recv(self, *args: Any) -> bytes:
        """Receive; raises ``TimeoutError`` at the limit."""
        self._prepare()
        data: bytes = self._plain.recv(*args)
        return data

    def recv_into(self, *args: Any) -> int:
        """Receive; raises ``TimeoutError`` at the limit."""
        self._prepare()
        return int(self._plain.recv_into(*args))

    def sendall(self, data: Any) -> None:
        """Send all of it; raises ``TimeoutError`` at the limit."""
        self._wait_at_most(limit.left())
        self._plain.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class Plain(redis.Connection):
    """A connection that keeps to the thread's limit."""

    def _connect(self) -> Any:
        self.socket_connect_timeout = limit.left()
        return Socket(super()._connect())  # type: ignore[no-untyped-call]  # redis-py's own


class Tls(redis.SSLConnection):
    """An encrypted connection that keeps to the thread's limit, with its handshake."""

    def _connect(self) -> Any:
        # A server that speaks no TLS says nothing at all, and the handshake waits as long as the socket's own time-out.
        usual = self.socket_timeout
        self.socket_connect_timeout = self.socket_timeout = limit.left()
        try:
            return Socket(super()._connect())  # type: ignore[no-untyped-call]  # redis-py's own
        finally:
            self.socket_timeout = usual

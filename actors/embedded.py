"""The servers that a system has inside itself: an in-memory broker, a cache, locks, a store.

They take the place of RabbitMQ, Redis and a database, so they must behave like them: an actor that uses one may
fall and come back, and what it had there is still there. They belong to the system, not to the actor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Embedded"]

S = TypeVar("S")


class Embedded:
    """The embedded servers of one system, by service and name. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, str], Any] = {}
        self._closers: list[Callable[[], None]] = []

    def server(self, service: str, name: str, make: Callable[[], S], close: Callable[[S], None] | None = None) -> S:
        """The server of that name, made now if it is the first time that anybody asks.

        Args:
            service: which kind of server; names of different services do not meet.
            name: the server's name, as the URL says it.
            make: makes it.
            close: called with it when the system has stopped.
        """
        with self._lock:
            found = self._servers.get((service, name))
            if found is None:
                server = found = self._servers[service, name] = make()
                if close is not None:
                    self._closers.append(lambda: close(server))
            return found

    def close(self) -> None:
        """The system has stopped: close what has to be closed, and forget everything."""
        with self._lock:
            closers, self._closers = self._closers, []
            self._servers.clear()
        for close in closers:
            close()

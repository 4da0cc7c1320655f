"""Where replies to this client's requests come in: a queue of its connection's own, which goes when that goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Publication
from .loop import IoLoop
from .operations import Operations, Steps
from .wire import publication_of


class Replies:
    """The queue for replies of one client.

    Args:
        loop: The thread it runs on.
        operations: Runs requests on the connection to consume.
    """

    def __init__(self, loop: IoLoop, operations: Operations) -> None:
        self._loop = loop
        self._operations = operations
        self._address: str | None = None

    def down(self) -> None:
        """The connection is lost, and the queue with it."""
        self._address = None

    def address(self, take: Callable[[Publication], None], deadline: float | None) -> str:
        """The queue's name; it is declared if there is none. Not on the loop's own thread.

        Args:
            take: Called with each reply.
            deadline: By when to tell, in `time.monotonic` seconds; None has no limit.

        Raises:
            BrokerError: it cannot be declared.
        """
        known = self._address
        if known is not None:
            return known
        return self._operations.perform("declare a queue for replies", lambda: self._declare(take), deadline, keep=True)

    def _declare(self, take: Callable[[Publication], None]) -> Steps[str]:
        declared = yield lambda channel, then: channel.queue_declare("", exclusive=True, callback=then)
        name: str = declared.method.queue

        def consume(channel: Any, then: Callable[[Any], None]) -> None:
            channel.add_on_close_callback(lambda *_: self.down())
            channel.basic_consume(
                name,
                lambda _, method, properties, body: self._loop.guard(
                    lambda: take(publication_of(method, properties, body))
                ),
                auto_ack=True,
                callback=then,
            )

        yield consume
        self._address = name
        return name

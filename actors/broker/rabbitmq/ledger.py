"""What all connections of one system to one server know together about messages that come again.

RabbitMQ counts every return of a message as a failed delivery: also when its consumer was stopped, or when the
connection was lost. Ours counts only failures, so it keeps the number itself, for as long as the message is
neither done nor dead. For a message that it does not know, RabbitMQ's own number is taken.

And when a connection is lost on which a message was acknowledged, or published, nobody knows whether that got
through: the message may come once more. What this process has done already it does not do again.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from typing import Final, Protocol, TypeAlias
from weakref import WeakSet

Key: TypeAlias = tuple[str, str]
"""A queue and the id of a message in it."""

KEPT: Final = 100_000
"""Messages that are remembered; beyond that, the one that came back longest ago is forgotten."""


DONE_KEPT: Final = 50_000
"""Messages that are known to be done: more than there can be on the way when a connection is lost."""


class CountsUnsettled(Protocol):
    """A client that knows which deliveries are out with it."""

    def unsettled(self, queue: str) -> int:
        """How many of a queue are."""
        ...


class Ledger:
    """What is known about messages, by queue and id. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[Key, int] = OrderedDict()
        self._clients: WeakSet[CountsUnsettled] = WeakSet()
        self._ghosts: Counter[Key] = Counter()
        self._done: set[int] = set()
        self._done_in_order: deque[int] = deque()

    def failures(self, key: Key) -> int | None:
        """How often a message failed that came back; None when it is not known."""
        return self._failures.get(key) if key[1] else None

    def returned(self, key: Key, failures: int) -> None:
        """A message goes back to its queue."""
        if key[1]:
            with self._lock:
                self._failures[key] = failures
                self._failures.move_to_end(key)
                if len(self._failures) > KEPT:
                    self._failures.popitem(last=False)

    def forget(self, key: Key) -> None:
        """A message is done, or dead."""
        if key in self._failures:
            with self._lock:
                self._failures.pop(key, None)

    def finish(self, queue: str, message_id: str, body: bytes) -> None:
        """A message is done: should it come again, it need not be."""
        self.forget((queue, message_id))
        if message_id:
            # No lock: each of these is one step for other threads, and a mark more or less does not matter.
            mark = hash((queue, message_id, body))
            self._done.add(mark)
            self._done_in_order.append(mark)
            if len(self._done_in_order) > DONE_KEPT:
                self._done.discard(self._done_in_order.popleft())

    def is_done(self, queue: str, message_id: str, body: bytes) -> bool:
        """Whether a message that came again was done before: the same id in the same queue, with the same body."""
        return bool(message_id) and hash((queue, message_id, body)) in self._done

    def join(self, counts: CountsUnsettled) -> None:
        """Have a client's deliveries counted with the others'."""
        self._clients.add(counts)

    def unsettled(self, queue: str) -> int:
        """How many deliveries of a queue are out."""
        return sum(client.unsettled(queue) for client in list(self._clients))

    def expect_ghost(self, key: Key) -> None:
        """A message is a dead letter, and will come once more: RabbitMQ was not reached to be told."""
        if key[1]:
            with self._lock:
                self._ghosts[key] += 1
                if len(self._ghosts) > KEPT:
                    del self._ghosts[next(iter(self._ghosts))]

    def lay_ghost(self, key: Key) -> bool:
        """Whether a message that came is such a one."""
        if not self._ghosts or key not in self._ghosts:
            return False
        with self._lock:
            self._ghosts[key] -= 1
            if self._ghosts[key] <= 0:
                del self._ghosts[key]
        return True

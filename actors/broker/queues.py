"""One queue of the in-memory broker: what waits, what is out with consumers, what was given up.

A queue does not lock; the server that owns it does. It calls nobody back either: what has to be handed over
is returned, so that no callback ever runs under the server's lock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from msgspec.structs import replace

from ...messages.broker import DeadLetter, QueueCounts
from .backend import Publication, Subscription
from .topology import DEFAULT_DELIVERY_LIMIT, DEFAULT_QUEUE_LENGTH, Queue


@dataclass(slots=True, order=True)
class Entry:
    """A message in a queue. Its number is its place, which it keeps however often it comes back."""

    number: int
    publication: Publication = field(compare=False)
    failures: int = field(default=0, compare=False)
    redelivered: bool = field(default=False, compare=False)


@dataclass(slots=True, eq=False)
class Consumer:
    """A subscription and what its consumer has not settled yet, in the order of delivery."""

    subscription: Subscription
    unsettled: dict[int, Entry] = field(default_factory=dict)
    open: bool = True

    @property
    def has_room(self) -> bool:
        """Whether it may be given another delivery."""
        return len(self.unsettled) < self.subscription.prefetch


class MemoryQueue:
    """The messages of one queue and its consumers, which take turns."""

    def __init__(self, declared: Queue) -> None:
        self.max_length = DEFAULT_QUEUE_LENGTH if declared.max_length is None else declared.max_length
        self.delivery_limit = DEFAULT_DELIVERY_LIMIT if declared.delivery_limit is None else declared.delivery_limit
        self.declared = replace(declared, max_length=self.max_length, delivery_limit=self.delivery_limit)
        self._numbers = count()
        self._fresh: deque[Entry] = deque()
        # Every entry that came back is older than every fresh one, so the two parts make one ordered queue.
        self._returned: list[Entry] = []
        self._dead: deque[tuple[Entry, str]] = deque()
        self._consumers: deque[Consumer] = deque()
        self._unsettled = 0

    @property
    def is_full(self) -> bool:
        """Whether it holds as much as it may. Dead letters keep their place, so nothing is ever dropped."""
        held = len(self._fresh) + len(self._returned) + self._unsettled + len(self._dead)
        return held >= self.max_length

    @property
    def counts(self) -> QueueCounts:
        """How many messages it holds, by where they are."""
        return QueueCounts(
            ready=len(self._fresh) + len(self._returned),
            unsettled=self._unsettled,
            dead=len(self._dead),
            consumers=len(self._consumers),
        )

    def put(self, publication: Publication) -> None:
        """Add a message at the end."""
        self._fresh.append(Entry(next(self._numbers), publication))

    def attach(self, consumer: Consumer) -> None:
        """Add a consumer."""
        self._consumers.append(consumer)

    def detach(self, consumer: Consumer) -> None:
        """Remove a consumer; what it did not settle comes back in order and is not counted as a failure."""
        consumer.open = False
        self._consumers.remove(consumer)
        for entry in consumer.unsettled.values():
            self._give_back(entry)
        consumer.unsettled.clear()

    def assign(self, handles: count[int]) -> list[tuple[Consumer, int, Entry]]:
        """Give what waits to consumers with room, in turn; return who was given what under which handle."""
        assigned: list[tuple[Consumer, int, Entry]] = []
        while (self._returned or self._fresh) and (consumer := self._next_consumer()) is not None:
            entry = heapq.heappop(self._returned) if self._returned else self._fresh.popleft()
            handle = next(handles)
            consumer.unsettled[handle] = entry
            self._unsettled += 1
            assigned.append((consumer, handle, entry))
        return assigned

    def finish(self, consumer: Consumer, handle: int) -> bool:
        """Forget a delivery: its work is done."""
        if consumer.unsettled.pop(handle, None) is None:
            return False
        self._unsettled -= 1
        return True

    def retry(self, consumer: Consumer, handle: int) -> bool:
        """Count a failure and take the message back, or give it up when it has failed too often."""
        entry = consumer.unsettled.pop(handle, None)
        if entry is None:
            return False
        entry.failures += 1
        if entry.failures > self.delivery_limit:
            self._bury(entry, "delivery_limit")
        else:
            self._give_back(entry)
        return True

    def reject(self, consumer: Consumer, handle: int) -> bool:
        """Count a failure and give the message up."""
        entry = consumer.unsettled.pop(handle, None)
        if entry is None:
            return False
        entry.failures += 1
        self._bury(entry, "rejected")
        return True

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        return [
            DeadLetter(
                queue=self.declared.name,
                message_id=entry.publication.message_id,
                attempts=entry.failures,
                reason=reason,
                exchange=entry.publication.exchange,
                routing_key=entry.publication.routing_key,
                body=entry.publication.body,
                headers=dict(entry.publication.headers),
            )
            for entry, reason in islice(self._dead, min(limit, len(self._dead)))
        ]

    def replay(self, message_ids: Sequence[str] | None) -> int:
        """Put dead letters back at the end."""
        letters = self._exhume(message_ids)
        for letter in letters:
            self._fresh.append(Entry(next(self._numbers), letter.publication, redelivered=True))
        return len(letters)

    def purge(self, message_ids: Sequence[str] | None) -> int:
        """Forget dead letters."""
        return len(self._exhume(message_ids))

    def _next_consumer(self) -> Consumer | None:
        for _ in range(len(self._consumers)):
            consumer = self._consumers[0]
            self._consumers.rotate(-1)
            if consumer.has_room:
                return consumer
        return None

    def _give_back(self, entry: Entry) -> None:
        self._unsettled -= 1
        entry.redelivered = True
        heapq.heappush(self._returned, entry)

    def _bury(self, entry: Entry, reason: str) -> None:
        self._unsettled -= 1
        self._dead.append((entry, reason))

    def _exhume(self, message_ids: Sequence[str] | None) -> list[Entry]:
        """Take the dead letters out that have one of these ids, or all."""
        wanted = None if message_ids is None else frozenset(message_ids)
        taken: list[Entry] = []
        kept: deque[tuple[Entry, str]] = deque()
        for entry, reason in self._dead:
            if wanted is None or entry.publication.message_id in wanted:
                taken.append(entry)
            else:
                kept.append((entry, reason))
        self._dead = kept
        return taken

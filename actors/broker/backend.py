"""What the broker actor needs from a message broker, whichever it is.

A backend is one client's connection to a broker. Declarations block until the broker agreed; publishing
and consuming do not: outcomes and deliveries are handed to callbacks. A callback may come on any thread, even
before the call that asked for it returned, but never two at once for one consumer. It must be quick and must
not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from ...messages.broker import DeadLetter, HeaderValue, QueueCounts
from ...messages.errors import BrokerError, ErrorKind
from .topology import Binding, Exchange, Queue, are_short, check_name


class Publication(msgspec.Struct, frozen=True):
    """A message on its way into the broker.

    Args:
        exchange: Where it is published; the empty one goes straight to the queue that the routing key names.
        routing_key: What direct and topic exchanges route by.
        body: The payload.
        message_id: Stays the same when it is published again after an outage, so that a consumer can tell.
        headers: What headers exchanges route by.
        content_type: Of the body.
        persistent: Whether it outlives a restart of the broker.
        reply_to: Where a reply is waited for: a routing key of the default exchange. Empty: nowhere.
        correlation_id: What a reply says, so that it is known which request it belongs to.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str = ""
    headers: Mapping[str, HeaderValue] = msgspec.field(default_factory=dict)
    content_type: str = "application/json"
    persistent: bool = True
    reply_to: str = ""
    correlation_id: str = ""

    def __post_init__(self) -> None:
        if are_short(self.exchange, self.routing_key, self.message_id, self.reply_to, self.correlation_id):
            return
        check_name("exchange", self.exchange)
        check_name("routing_key", self.routing_key)
        check_name("message_id", self.message_id)
        if self.reply_to or self.correlation_id:
            check_name("reply_to", self.reply_to)
            check_name("correlation_id", self.correlation_id)


Report: TypeAlias = Callable[[int, BrokerError | None], None]
"""Told once for each publication, by its position: None when the broker has it, else what became of it:

- `broker.unroutable`: no queue takes it, the broker gave it back;
- `broker.publish.nacked`: the broker cannot take it now, a queue is full;
- `broker.exchange.unknown`: it was published to an exchange that does not exist;
- `broker.closed`: this connection is closed, it was not sent.

A backend over a network adds those of the way there:

- `broker.publish.unknown`: it was sent, and the broker's answer has not come; it is sent again under the same id;
- `broker.blocked`, `broker.publish.backlog`, `broker.unavailable`, `broker.refused`: it was not sent;
- `broker.message.invalid`: it cannot be sent, whatever the broker.
"""


class Delivery(msgspec.Struct, frozen=True, eq=False):
    """A message handed to a consumer, to be settled exactly once on the backend that delivered it.

    Args:
        queue: Where it waited.
        tag: The consumer it was handed to.
        handle: The backend's own mark for this delivery; a redelivery has another.
        attempt: 1 for the first; counts how often a consumer failed on it, plus one.
        final: Whether one more failure makes it a dead letter.
        redelivered: Whether any consumer may have seen it before.
        publication: The message, as it was published.
    """

    queue: str
    tag: str
    handle: int
    attempt: int
    final: bool
    redelivered: bool
    publication: Publication


class Subscription(msgspec.Struct, frozen=True):
    """What a consumer asks for.

    Args:
        queue: Where to consume from.
        tag: The consumer's name, unique on its connection.
        prefetch: How many deliveries it may have unsettled at a time.
        deliver: Called with each delivery. If it raises, the consumer is cancelled.
        cancelled: Called once if the broker ends the subscription, with the reason; not after `cancel`.
    """

    queue: str
    tag: str
    prefetch: int
    deliver: Callable[[Delivery], object]
    cancelled: Callable[[BrokerError], None]

    def __post_init__(self) -> None:
        try:
            check_name("tag", self.tag)
        except BrokerError as error:
            raise BrokerError(f"consumer: {error}", kind=ErrorKind.CONSUMER_INVALID, cause=error) from error


class BrokerBackend(Protocol):
    """A connection to a broker."""

    def declare_exchange(self, exchange: Exchange) -> None:
        """Make sure that an exchange exists.

        Raises:
            BrokerError: ``broker.exchange.mismatch`` naming the argument, when it exists with another;
                ``broker.declaration.invalid`` for a name that is the broker's own; ``broker.closed``.
        """
        ...

    def declare_queue(self, queue: Queue) -> None:
        """Make sure that a queue exists, and a place for its dead letters.

        Raises:
            BrokerError: ``broker.queue.mismatch`` naming the argument, when it exists with another;
                ``broker.closed``.
        """
        ...

    def bind(self, binding: Binding) -> None:
        """Make sure that messages flow from an exchange into a queue.

        Raises:
            BrokerError: ``broker.exchange.unknown``, ``broker.queue.unknown``, ``broker.closed``;
                ``broker.declaration.invalid`` for the default exchange, which binds by itself.
        """
        ...

    def publish(
        self, publications: Sequence[Publication], report: Report, deadlines: Sequence[float | None] = ()
    ) -> None:
        """Send messages in order; `report` is told what became of each, in any order, once. Never raises.

        Args:
            publications: The messages.
            report: Told what became of them.
            deadlines: When their publishers stop waiting, in seconds of the clock that the backend was opened
                with; by then `report` is told, if need be that the outcome is unknown. None, or nothing, waits as
                long as it takes.
        """
        ...

    def consume(self, subscription: Subscription) -> None:
        """Start handing a queue's messages to a consumer.

        Raises:
            BrokerError: ``broker.queue.unknown``; ``broker.consumer.invalid`` for a tag in use or a prefetch
                below 1; ``broker.closed``.
        """
        ...

    def cancel(self, tag: str) -> bool:
        """End a consumer; what it has not settled goes back to its queue in order, marked as redelivered.

        Going back this way does not count as an attempt. False when there is no such consumer.
        """
        ...

    def reply_address(self, take: Callable[[Publication], None]) -> str:
        """Where replies to this connection's requests are to be published: a routing key of the default exchange.

        It ends with the connection; after a reconnect it is another one.

        Args:
            take: Called with each reply.

        Raises:
            BrokerError: ``broker.closed``; ``broker.unavailable``.
        """
        ...

    def ack(self, delivery: Delivery) -> bool:
        """Say that the work is done. False when the delivery is no longer ours: it will come again."""
        ...

    def requeue(self, delivery: Delivery) -> bool:
        """Say that the work failed: deliver it again, in its old place, until the queue's limit is reached.

        False when the delivery is no longer ours.
        """
        ...

    def reject(self, delivery: Delivery) -> bool:
        """Say that the work can never be done: make it a dead letter. False when it is no longer ours."""
        ...

    def dead_letters(self, queue: str, limit: int) -> list[DeadLetter]:
        """Look at the oldest dead letters of a queue.

        Raises:
            BrokerError: ``broker.queue.unknown``, ``broker.closed``.
        """
        ...

    def replay_dead_letters(self, queue: str, message_ids: Sequence[str] | None) -> int:
        """Put dead letters (all, or those with the given ids) at the end of their queue, attempts at zero.

        Returns:
            How many were put back.

        Raises:
            BrokerError: ``broker.queue.unknown``, ``broker.closed``.
        """
        ...

    def purge_dead_letters(self, queue: str, message_ids: Sequence[str] | None) -> int:
        """Delete dead letters (all, or those with the given ids).

        Returns:
            How many were deleted.

        Raises:
            BrokerError: ``broker.queue.unknown``, ``broker.closed``.
        """
        ...

    def counts(self, queue: str) -> QueueCounts:
        """Count a queue's messages.

        Raises:
            BrokerError: ``broker.queue.unknown``, ``broker.closed``.
        """
        ...

    def close(self) -> None:
        """Cancel the consumers and end the connection; what they have not settled goes back. Idempotent."""
        ...

"""The broker that needs no server: exchanges and queues in this process's memory.

`MemoryServer` is the broker, `MemoryBroker` a client's connection to it. They are two things, as with a real
broker, so that queues outlive the actor that used them: when it falls, its connection is closed, and what it
had not acknowledged is delivered to its understudy.

There are no threads here. A message is pushed to its consumer by whichever thread published it or made room
for it; if another thread is pushing already, that one takes it along, so a consumer is never called twice at
a time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from ...messages.broker import DeadLetter, QueueCounts
from ...messages.errors import BrokerError, ErrorKind
from .backend import Delivery, Publication, Report, Subscription
from .queues import Consumer, Entry, MemoryQueue
from .routing import ROUTES
from .topology import DEFAULT_EXCHANGE, PREDECLARED, Binding, Exchange, Queue, require_same

_log = logging.getLogger(__name__)


class MemoryServer:
    """Exchanges, queues, bindings, and deliveries on their way to consumers. Safe to use from any thread.

    Args:
        identity: Tells its addresses for replies from those of other processes.
    """

    def __init__(self, identity: str = "") -> None:
        self.identity = identity
        self.lock = threading.Lock()
        self.exchanges = {name: Exchange(name, kind) for name, kind in PREDECLARED.items()}
        self.queues: dict[str, MemoryQueue] = {}
        self._bindings: dict[str, list[Binding]] = {}
        self._handles = count(1)
        self.addresses = count(1)
        self._outbox: deque[tuple[Consumer, int, Entry]] = deque()
        self._pushing = threading.Lock()

    # Everything from here to `push` is called with the lock held.

    def queue(self, name: str) -> MemoryQueue:
        """Find a queue.

        Raises:
            BrokerError: ``broker.queue.unknown``.
        """
        found = self.queues.get(name)
        if found is None:
            raise BrokerError(f"there is no queue {name!r}", kind=ErrorKind.QUEUE_UNKNOWN)
        return found

    def bind(self, binding: Binding) -> None:
        """Add a binding, once."""
        bindings = self._bindings.setdefault(binding.exchange, [])
        if binding not in bindings:
            bindings.append(binding)

    def accept(self, publication: Publication) -> BrokerError | None:
        """Put a message into every queue that takes it, or into none: then say why."""
        queues, refusal = self._queues_for(publication)
        if refusal is None:
            for queue in queues:
                queue.put(publication)
                self.assign(queue)
        return refusal

    def refusal(self, publication: Publication) -> BrokerError | None:
        """Why `accept` would not take a message now; None if it would."""
        return self._queues_for(publication)[1]

    def _queues_for(self, publication: Publication) -> tuple[list[MemoryQueue], BrokerError | None]:
        where = f"{publication.exchange!r} with routing key {publication.routing_key!r}"
        exchange = self.exchanges.get(publication.exchange)
        if exchange is None:
            return [], _refused(f"publish to {where}: no such exchange", ErrorKind.EXCHANGE_UNKNOWN, publication)
        queues = [self.queues[name] for name in self._route(exchange, publication)]
        if not queues:
            return [], _refused(f"publish to {where}: no queue takes it", ErrorKind.UNROUTABLE, publication)
        for queue in queues:
            if queue.is_full:
                full = f"queue {queue.declared.name!r} is full, it holds {queue.max_length}"
                return [], _refused(f"publish to {where}: {full}", ErrorKind.PUBLISH_NACKED, publication)
        return queues, None

    def assign(self, queue: MemoryQueue) -> None:
        """Give what a queue has to consumers with room; `push` hands it over."""
        self._outbox.extend(queue.assign(self._handles))

    def _route(self, exchange: Exchange, publication: Publication) -> list[str]:
        if exchange.name == DEFAULT_EXCHANGE:
            return [publication.routing_key] if publication.routing_key in self.queues else []
        takes = ROUTES[exchange.type]
        return list(
            dict.fromkeys(
                binding.queue
                for binding in self._bindings.get(exchange.name, ())
                if takes(binding, publication.routing_key, publication.headers)
            )
        )

    # Called without the lock.

    def push(self) -> None:
        """Hand over what was assigned, unless a thread is at it already: then that one does it."""
        # Looked at again after letting go: something may have come while the other thread was about to leave.
        while self._outbox and self._pushing.acquire(blocking=False):
            try:
                while self._outbox:
                    self._deliver(*self._outbox.popleft())
            finally:
                self._pushing.release()

    def _deliver(self, consumer: Consumer, handle: int, entry: Entry) -> None:
        subscription = consumer.subscription
        with self.lock:
            if handle not in consumer.unsettled:
                return  # cancelled meanwhile, and the message went back
            delivery = Delivery(
                queue=subscription.queue,
                tag=subscription.tag,
                handle=handle,
                attempt=entry.failures + 1,
                final=entry.failures >= self.queues[subscription.queue].delivery_limit,
                redelivered=entry.redelivered,
                publication=entry.publication,
            )
        try:
            subscription.deliver(delivery)
        except Exception as error:
            # A consumer that cannot take deliveries is no reason to give up the message: it goes back.
            self._end(consumer, error)

    def _end(self, consumer: Consumer, error: Exception) -> None:
        subscription = consumer.subscription
        with self.lock:
            if not consumer.open:
                return
            queue = self.queues[subscription.queue]
            queue.detach(consumer)
            self.assign(queue)
        reason = BrokerError(
            f"consumer {subscription.tag!r} of queue {subscription.queue!r} failed to take a delivery",
            kind=ErrorKind.CONSUMER_CANCELLED,
            cause=error,
        )
        try:
            subscription.cancelled(reason)
        except Exception:
            _log.exception("consumer %r could not be told that it was cancelled", subscription.tag)


class MemoryBroker:
    """A connection to a `MemoryServer`; a backend of the broker actor.

    Args:
        server: The broker to connect to; a new one of its own if not given.
    """

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = server or MemoryServer()
        self._consumers: dict[str, Consumer] = {}
        self._closed = False
        self._replies: str | None = None

    def declare_exchange(self, exchange: Exchange) -> None:
        """See `BrokerBackend.declare_exchange`."""
        with self.server.lock:
            self._require_open()
            existing = self.server.exchanges.get(exchange.name)
            if existing is not None:
                require_same("exchange", existing, exchange, ErrorKind.EXCHANGE_MISMATCH)
            elif exchange.name.startswith("amq."):
                raise BrokerError(
                    f"exchange {exchange.name!r}: names that begin with 'amq.' are the broker's own",
                    kind=ErrorKind.DECLARATION_INVALID,
                )
            else:
                self.server.exchanges[exchange.name] = exchange

    def declare_queue(self, queue: Queue) -> None:
        """See `BrokerBackend.declare_queue`."""
        with self.server.lock:
            self._require_open()
            existing = self.server.queues.get(queue.name)
            if existing is not None:
                require_same("queue", existing.declared, queue, ErrorKind.QUEUE_MISMATCH)
            else:
                self.server.queues[queue.name] = MemoryQueue(queue)

    def bind(self, binding: Binding) -> None:
        """See `BrokerBackend.bind`."""
        with self.server.lock:
            self._require_open()
            if binding.exchange == DEFAULT_EXCHANGE:
                raise BrokerError(
                    f"queue {binding.queue!r} cannot be bound to the default exchange: it is by its name",
                    kind=ErrorKind.DECLARATION_INVALID,
                )
            if binding.exchange not in self.server.exchanges:
                raise BrokerError(f"there is no exchange {binding.exchange!r}", kind=ErrorKind.EXCHANGE_UNKNOWN)
            self.server.queue(binding.queue)
            self.server.bind(binding)

    def publish(
        self, publications: Sequence[Publication], report: Report, deadlines: Sequence[float | None] = ()
    ) -> None:
        """See `BrokerBackend.publish`; here every outcome is known before it returns."""
        with self.server.lock:
            outcomes = [
                BrokerError("the connection to the broker is closed", kind=ErrorKind.BROKER_CLOSED)
                if self._closed
                else self.server.accept(publication)
                for publication in publications
            ]
        self.server.push()
        for position, outcome in enumerate(outcomes):
            report(position, outcome)

    def consume(self, subscription: Subscription) -> None:
        """See `BrokerBackend.consume`."""
        with self.server.lock:
            self._require_open()
            queue = self.server.queue(subscription.queue)
            known = self._consumers.get(subscription.tag)
            if known is not None and known.open:
                raise BrokerError(f"consumer tag {subscription.tag!r} is in use", kind=ErrorKind.CONSUMER_INVALID)
            if type(subscription.prefetch) is not int or subscription.prefetch < 1:
                raise BrokerError(
                    f"consumer {subscription.tag!r}: prefetch={subscription.prefetch!r} is no int above 0",
                    kind=ErrorKind.CONSUMER_INVALID,
                )
            consumer = self._consumers[subscription.tag] = Consumer(subscription)
            queue.attach(consumer)
            self.server.assign(queue)
        self.server.push()

    def cancel(self, tag: str) -> bool:
        """See `BrokerBackend.cancel`."""
        with self.server.lock:
            cancelled = self._detach(tag)
        self.server.push()
        return cancelled

    def reply_address(self, take: Callable[[Publication], None]) -> str:
        """See `BrokerBackend.reply_address`."""
        with self.server.lock:
            self._require_open()
            if self._replies is not None:
                return self._replies
            self._replies = name = f"understudy.replies.{self.server.identity}{next(self.server.addresses)}"
            self.server.queues[name] = MemoryQueue(Queue(name))

        def deliver(delivery: Delivery) -> None:
            self.ack(delivery)
            take(delivery.publication)

        self.consume(Subscription(name, name, 1_000, deliver, lambda _: None))
        return name

    def ack(self, delivery: Delivery) -> bool:
        """See `BrokerBackend.ack`."""
        return self._settle(delivery, MemoryQueue.finish)

    def requeue(self, delivery: Delivery) -> bool:
        """See `BrokerBackend.requeue`."""
        return self._settle(delivery, MemoryQueue.retry)

    def reject(self, delivery: Delivery) -> bool:
        """See `BrokerBackend.reject`."""
        return self._settle(delivery, MemoryQueue.reject)

    def dead_letters(self, queue: str, limit: int) -> list[DeadLetter]:
        """See `BrokerBackend.dead_letters`."""
        with self.server.lock:
            self._require_open()
            return self.server.queue(queue).dead_letters(limit)

    def replay_dead_letters(self, queue: str, message_ids: Sequence[str] | None) -> int:
        """See `BrokerBackend.replay_dead_letters`."""
        with self.server.lock:
            self._require_open()
            replayed = self.server.queue(queue).replay(message_ids)
            self.server.assign(self.server.queue(queue))
        self.server.push()
        return replayed

    def purge_dead_letters(self, queue: str, message_ids: Sequence[str] | None) -> int:
        """See `BrokerBackend.purge_dead_letters`."""
        with self.server.lock:
            self._require_open()
            return self.server.queue(queue).purge(message_ids)

    def counts(self, queue: str) -> QueueCounts:
        """See `BrokerBackend.counts`."""
        with self.server.lock:
            self._require_open()
            return self.server.queue(queue).counts

    def close(self) -> None:
        """See `BrokerBackend.close`; the server and its queues stay."""
        with self.server.lock:
            self._closed = True
            for tag in list(self._consumers):
                self._detach(tag)
            if self._replies is not None:
                self.server.queues.pop(self._replies, None)
        self.server.push()

    def _settle(self, delivery: Delivery, how: Callable[[MemoryQueue, Consumer, int], bool]) -> bool:
        with self.server.lock:
            consumer = self._consumers.get(delivery.tag)
            if consumer is None:
                return False
            queue = self.server.queue(delivery.queue)
            settled = how(queue, consumer, delivery.handle)
            self.server.assign(queue)
        self.server.push()
        return settled

    def _detach(self, tag: str) -> bool:
        consumer = self._consumers.pop(tag, None)
        if consumer is None or not consumer.open:
            return False
        queue = self.server.queue(consumer.subscription.queue)
        queue.detach(consumer)
        self.server.assign(queue)
        return True

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerError("the connection to the broker is closed", kind=ErrorKind.BROKER_CLOSED)


def _refused(text: str, kind: ErrorKind, publication: Publication) -> BrokerError:
    return BrokerError(text, kind=kind, message_id=publication.message_id)

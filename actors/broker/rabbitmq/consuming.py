"""Consuming: one channel for each consumer, and deliveries until they are settled.

A consumer that is cancelled, or whose connection is lost, holds nothing any more: its deliveries are RabbitMQ's
again, and settling one of them says so. When there is a connection again, it goes on.

Settling may be asked for by any thread; everything else runs on the loop's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from msgspec.structs import replace

from ....messages.errors import BrokerError, ErrorKind
from ..backend import Delivery, Publication, Subscription
from ..topology import DEFAULT_DELIVERY_LIMIT, Queue
from .declaring import Topology
from .ledger import Ledger
from .loop import IoLoop
from .operations import ChannelRefused, Operations, Steps
from .publishing import Publisher
from .wire import AGAIN, REPLAYED, Plain, burial, delivery_count, marked, plain_publication, publication_of

logger = logging.getLogger("understudy.broker")

BURY_AGAIN: Final = 1.0
"""Seconds until a dead letter that its queue did not take is offered again."""

RESUME_AGAIN: Final = 1.0
"""Seconds until a consumer whose start was not answered is started again."""

ACK, REQUEUE, BURY = range(3)


class Held:
    """A delivery that is not settled."""

    __slots__ = ("consumer", "copies", "delivery", "failures", "tag")

    def __init__(self, consumer: Consumer, tag: int, delivery: Delivery, failures: int) -> None:
        self.consumer = consumer
        self.tag = tag
        self.delivery = delivery
        self.failures = failures
        self.copies: list[Held] | None = None


class Consumer:
    """A subscription and its channel."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.channel: Any = None
        self.held: dict[int, Held] = {}
        """By delivery tag, in the order of delivery: what RabbitMQ waits to hear of."""
        self.limit = DEFAULT_DELIVERY_LIMIT
        self.starting = False
        """Whether somebody is at it already: a request that waits for the connection, or the recovery of one."""
        self.over = False


class Consumers:
    """The consumers of one client.

    Args:
        loop: The thread it runs on.
        operations: Runs requests on the connection to consume.
        publisher: Publishes dead letters.
        topology: What was declared.
        ledger: What is known about messages that come again.
    """

    def __init__(
        self, loop: IoLoop, operations: Operations, publisher: Publisher, topology: Topology, ledger: Ledger
    ) -> None:
        self._loop = loop
        self._operations = operations
        self._publisher = publisher
        self._topology = topology
        self._ledger = ledger
        self._handles = count(1)
        self._unsettled: dict[int, Held] = {}
        self._consumers: dict[str, Consumer] = {}
        self._settlements: deque[tuple[Held, int, str]] = deque()
        self._queued = False
        self._buried: dict[tuple[str, str], list[Held]] = {}
        self._burying: dict[str, int] = {}
        self._burial_over: list[tuple[str, Callable[[], None]]] = []
        ledger.join(self)

    # --- settling, on any thread -------------------------------------------------------------------------------

    def settle(self, delivery: Delivery, how: int) -> bool:
        """Settle a delivery; False when it is not ours any more."""
        # No lock: of several threads that take it out, one gets it.
        held = self._unsettled.get(delivery.handle)
        if held is None or held.delivery is not delivery or self._unsettled.pop(delivery.handle, None) is None:
            return False
        reason = "rejected"
        if how == REQUEUE and delivery.final:
            how, reason = BURY, "delivery_limit"
        self._settlements.append((held, how, reason))
        if not self._queued:
            self._queued = True
            self._loop.submit(self._settle_all)
        return True

    def unsettled(self, queue: str) -> int:
        """How many deliveries of a queue are out with this client."""
        return sum(held.delivery.queue == queue for held in list(self._unsettled.values()))

    # --- steps -------------------------------------------------------------------------------------------------

    def begin(
        self,
        subscription: Subscription,
        then: Callable[[BrokerError | None], None],
        deadline: float | None = None,
    ) -> None:
        """Start a consumer; `then` is told of it once, by the deadline in `time.monotonic` seconds."""
        consumer = Consumer(subscription)
        if subscription.tag in self._consumers:
            text = f"consumer tag {subscription.tag!r} is in use"
            then(BrokerError(text, kind=ErrorKind.CONSUMER_INVALID))
            return
        self._consumers[subscription.tag] = consumer

        def done(_: Any, error: BrokerError | None) -> None:
            if error is not None:
                self._remove(consumer)
            then(error)

        self._start(consumer, done, deadline)

    def _start(
        self, consumer: Consumer, then: Callable[[Any, BrokerError | None], None], deadline: float | None = None
    ) -> None:
        subscription = consumer.subscription
        consumer.starting = True

        def done(result: Any, error: BrokerError | None) -> None:
            consumer.starting = False
            if error is not None:
                consumer.channel = None
            then(result, error)

        def steps() -> Steps[None]:
            try:
                yield lambda channel, go_on: channel.queue_declare(subscription.queue, passive=True, callback=go_on)
            except ChannelRefused as refused:
                if refused.code != 404 or not (yield from self._topology.restore_queue(subscription.queue)):
                    raise
            limit = self._topology.delivery_limit(subscription.queue)
            consumer.limit = DEFAULT_DELIVERY_LIMIT if limit is None else limit
            yield lambda channel, go_on: channel.basic_qos(prefetch_count=subscription.prefetch, callback=go_on)
            if consumer.over:
                raise _cancelled(consumer, "it was ended before it had begun")
            yield lambda channel, go_on: self._consume(consumer, channel, go_on)

        self._operations.start(f"consume from queue {subscription.queue!r}", steps, done, keep=True, deadline=deadline)

    def _consume(self, consumer: Consumer, channel: Any, then: Callable[[Any], None]) -> None:
        consumer.channel = channel
        channel.add_on_close_callback(
            lambda closed, reason: self._loop.guard(lambda: self._on_closed(consumer, closed, reason))
        )
        channel.add_on_cancel_callback(
            lambda _: self._loop.guard(
                lambda: self._end(
                    consumer, _cancelled(consumer, "RabbitMQ cancelled it, its queue was deleted or moved")
                )
            )
        )
        channel.basic_consume(
            consumer.subscription.queue,
            lambda channel, method, properties, body: self._on_message(
                consumer, channel, method.delivery_tag, method.redelivered, method, properties, body
            ),
            consumer_tag=consumer.subscription.tag,
            callback=then,
        )
        # Most deliveries never come to that callback: see `Intake`. It is the same to us, and to the order.
        channel.connection.takes(
            channel.channel_number, consumer.subscription.tag, partial(self._on_message, consumer, channel)
        )

    # --- the connection's life ---------------------------------------------------------------------------------

    def down(self) -> None:
        """The connection is lost, and with it what was held."""
        for consumer in list(self._consumers.values()):
            self._let_go(consumer)
            consumer.channel = None

    def resume(self) -> None:
        """There is a connection, and the topology is there: go on."""
        for consumer in list(self._consumers.values()):
            if consumer.channel is None and not consumer.starting:
                self._start(consumer, lambda _, error, consumer=consumer: self._resumed(consumer, error))  # type: ignore[misc]

    def _resumed(self, consumer: Consumer, error: BrokerError | None) -> None:
        if error is None:
            return
        if error.kind is ErrorKind.BROKER_UNAVAILABLE:
            if self._operations.connected:  # its queue has no leader, say; else the next connection starts it
                self._loop.after(RESUME_AGAIN, self.resume)
        else:
            self._end(consumer, _cancelled(consumer, f"it could not be started again: {error}", error))

    def _on_closed(self, consumer: Consumer, channel: Any, reason: BaseException) -> None:
        """The channel is closed, perhaps without its connection: such as when an acknowledgement took too long."""
        channel.connection.takes(channel.channel_number, consumer.subscription.tag, None)
        if consumer.channel is not channel:
            return
        if getattr(reason, "reply_code", 0) and channel.connection.is_open:
            self._end(consumer, _cancelled(consumer, f"RabbitMQ closed its channel: {reason}"))

    # --- the end of a consumer ---------------------------------------------------------------------------------

    def cancel(self, tag: str, then: Callable[[bool], None]) -> None:
        """End a consumer; what it holds goes back in order, before `then` is called."""
        consumer = self._consumers.get(tag)
        if consumer is None:
            then(False)
            return
        self._remove(consumer)
        self._give_back(consumer, lambda: then(True))

    def cancel_all(self, then: Callable[[], None]) -> None:
        """End all of them."""
        left = len(self._consumers) + 1

        def one() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                then()

        for tag in list(self._consumers):
            self.cancel(tag, lambda _: one())
        one()

    def _end(self, consumer: Consumer, reason: BrokerError) -> None:
        """The consumer ends without its own wish."""
        if consumer.over:
            return
        self._remove(consumer)

        def tell() -> None:
            try:
                consumer.subscription.cancelled(reason)
            except Exception:
                logger.exception("consumer %r could not be told that it was cancelled", consumer.subscription.tag)

        self._give_back(consumer, tell)

    def _remove(self, consumer: Consumer) -> None:
        consumer.over = True
        if self._consumers.get(consumer.subscription.tag) is consumer:
            del self._consumers[consumer.subscription.tag]

    def _let_go(self, consumer: Consumer) -> None:
        """What it holds is RabbitMQ's again, and no failure."""
        for held in consumer.held.values():
            self._unsettled.pop(held.delivery.handle, None)
            key = _key(held.delivery)
            if key not in self._buried:
                self._ledger.returned(key, held.failures)
        consumer.held.clear()

    def _give_back(self, consumer: Consumer, then: Callable[[], None]) -> None:
        """Close its channel: then RabbitMQ takes back what it holds, all at once and so in order."""
        self._settle_all()
        channel, consumer.channel = consumer.channel, None
        self._let_go(consumer)
        if channel is None or channel.is_closed:
            then()
            return
        channel.add_on_close_callback(lambda *_: self._loop.guard(then))
        if channel.is_open:
            channel.close()

    # --- deliveries --------------------------------------------------------------------------------------------

    def _on_message(
        self,
        consumer: Consumer,
        channel: Any,
        delivery_tag: int,
        redelivered: bool,
        route: Any,
        properties: Any,
        body: bytes,
    ) -> None:
        if consumer.over or consumer.channel is not channel:
            return  # it goes back with the channel
        try:
            if type(properties) is Plain:
                publication = plain_publication(route, properties, body)
                self._take(consumer, delivery_tag, redelivered, publication, None)
            else:
                publication = publication_of(route, properties, body)
                self._take(consumer, delivery_tag, redelivered, publication, properties)
        except Exception as error:
            self._end(consumer, _cancelled(consumer, "it failed to take a delivery", error))

    def _take(
        self, consumer: Consumer, delivery_tag: int, redelivered: bool, publication: Publication, properties: Any
    ) -> None:
        queue = consumer.subscription.queue
        key = (queue, publication.message_id)
        failures = self._ledger.failures(key)
        if properties is None:  # without headers
            replayed = again = False
            failures = failures or 0
        else:
            replayed, again = marked(properties, REPLAYED), marked(properties, AGAIN)
            if failures is None:
                failures = delivery_count(properties)
        delivery = Delivery(
            queue=queue,
            tag=consumer.subscription.tag,
            handle=next(self._handles),
            attempt=failures + 1,
            final=failures >= consumer.limit,
            redelivered=redelivered or replayed,
            publication=publication,
        )
        held = consumer.held[delivery_tag] = Held(consumer, delivery_tag, delivery, failures)
        if self._is_over(delivery, replayed, again):
            del consumer.held[delivery_tag]
            _acknowledge(consumer, [delivery_tag])
            return
        if again and self._hold_with_the_first(held):
            return
        if self._buried and publication.message_id and key in self._buried:
            self._buried[key].append(held)  # its dead letter is on its way: it is acknowledged with that
            return
        self._unsettled[delivery.handle] = held
        consumer.subscription.deliver(delivery)

    def _is_over(self, delivery: Delivery, replayed: bool, again: bool) -> bool:
        """Whether it is a copy, or a redelivery, of what was done or is a dead letter already."""
        publication = delivery.publication
        if self._ledger.lay_ghost(_key(delivery)):
            return True
        may_be = (delivery.redelivered or again) and not replayed
        return may_be and self._ledger.is_done(delivery.queue, publication.message_id, publication.body)

    def _hold_with_the_first(self, held: Held) -> bool:
        """Whether the message that this is a copy of is being worked on here: then it is settled with that one."""
        key, body = _key(held.delivery), held.delivery.publication.body
        for consumer in self._consumers.values():
            for other in consumer.held.values():
                if other is not held and _key(other.delivery) == key and other.delivery.publication.body == body:
                    other.copies = [*(other.copies or ()), held]
                    return True
        return False

    def _settle_copies(self, held: Held, *, done: bool) -> None:
        for copy in held.copies or ():
            if copy.consumer.held.get(copy.tag) is copy:
                del copy.consumer.held[copy.tag]
                if done:
                    _acknowledge(copy.consumer, [copy.tag])
                elif copy.consumer.channel.is_open:
                    self._ledger.returned(_key(copy.delivery), held.failures)
                    copy.consumer.channel.basic_nack(copy.tag, requeue=True)
        held.copies = None

    def _settle_all(self) -> None:
        self._queued = False
        acknowledged: dict[Consumer, list[int]] = {}
        settlements = self._settlements
        for _ in range(len(settlements)):
            held, how, reason = settlements.popleft()
            consumer = held.consumer
            key = _key(held.delivery)
            if consumer.held.get(held.tag) is not held:  # the connection was lost meanwhile: it comes again
                if how == ACK:
                    self._ledger.finish(*key, held.delivery.publication.body)
                continue
            if how == ACK:
                del consumer.held[held.tag]
                published = held.delivery.publication
                self._ledger.finish(*key, published.body)
                acknowledged.setdefault(consumer, []).append(held.tag)
            elif how == REQUEUE:
                del consumer.held[held.tag]
                self._ledger.returned(key, held.failures + 1)
                if consumer.channel.is_open:
                    consumer.channel.basic_nack(held.tag, requeue=True)
            else:
                self._bury(held, reason)
            if held.copies:
                self._settle_copies(held, done=how != REQUEUE)
        for consumer, tags in acknowledged.items():
            _acknowledge(consumer, tags)

    # --- dead letters ------------------------------------------------------------------------------------------

    def when_buried(self, queue: str, then: Callable[[], None]) -> None:
        """Call back when no dead letter of a queue is on its way."""
        self._settle_all()
        if self._burying.get(queue):
            self._burial_over.append((queue, then))
        else:
            then()

    def _bury(self, held: Held, reason: str) -> None:
        """Publish the dead letter; when RabbitMQ has it, acknowledge the message."""
        key = _key(held.delivery)
        queue = held.delivery.queue
        self._burying[queue] = self._burying.get(queue, 0) + 1
        row = self._buried.setdefault(key, []) if key[1] else []
        row.append(held)
        self._offer(held.delivery, burial(held.delivery.publication, queue, held.failures + 1, reason), row)

    def _offer(self, delivery: Delivery, headers: dict[str, Any], row: list[Held]) -> None:
        target = Queue(delivery.queue).dead_letter_queue
        letter = replace(delivery.publication, exchange="", routing_key=target, persistent=True)

        def report(_: int, error: BrokerError | None) -> None:
            self._loop.guard(lambda: self._offered(delivery, headers, row, error))

        self._publisher.publish([letter], report, extra=headers, unrefused=True)

    def _offered(self, delivery: Delivery, headers: dict[str, Any], row: list[Held], error: BrokerError | None) -> None:
        if error is None:
            self._dead(delivery, row)
        elif error.kind in (ErrorKind.BROKER_CLOSED, ErrorKind.PUBLISH_UNKNOWN):
            self._not_dead(delivery, row)
        else:
            logger.error("%s", error.response.to_json().decode())
            again = lambda *_: self._loop.after(BURY_AGAIN, lambda: self._offer(delivery, headers, row))  # noqa: E731
            queue = Queue(delivery.queue)
            self._operations.start(
                "declare a dead-letter queue", lambda: self._topology.declare_dead_letter_queue(queue), again
            )

    def _dead(self, delivery: Delivery, row: list[Held]) -> None:
        key = _key(delivery)
        self._ledger.forget(key)
        self._end_burial(delivery)
        for held in row:
            if held.consumer.held.get(held.tag) is held:
                del held.consumer.held[held.tag]
                _acknowledge(held.consumer, [held.tag])
            else:
                self._ledger.expect_ghost(key)

    def _not_dead(self, delivery: Delivery, row: list[Held]) -> None:
        """This client ends before RabbitMQ had it: the message comes again, to be tried once more."""
        self._end_burial(delivery)

    def _end_burial(self, delivery: Delivery) -> None:
        self._buried.pop(_key(delivery), None)
        queue = delivery.queue
        self._burying[queue] -= 1
        if not self._burying[queue]:
            del self._burying[queue]
            waiting, self._burial_over = self._burial_over, []
            for wanted, then in waiting:
                if wanted == queue:
                    then()
                else:
                    self._burial_over.append((wanted, then))


def _acknowledge(consumer: Consumer, tags: list[int]) -> None:
    """Acknowledge in as few words as possible."""
    channel = consumer.channel
    if channel is None or not channel.is_open:
        return
    last = max(tags)
    if len(tags) > 1 and last < next(iter(consumer.held), last + 1):
        channel.basic_ack(last, multiple=True)
        return
    for tag in tags:
        channel.basic_ack(tag)


def _key(delivery: Delivery) -> tuple[str, str]:
    return (delivery.queue, delivery.publication.message_id)


def _cancelled(consumer: Consumer, why: str, cause: BaseException | None = None) -> BrokerError:
    subscription = consumer.subscription
    return BrokerError(
        f"consumer {subscription.tag!r} of queue {subscription.queue!r}: {why}",
        kind=ErrorKind.CONSUMER_CANCELLED,
        cause=cause,
    )

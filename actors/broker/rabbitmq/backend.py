"""RabbitMQ as a backend of the broker actor.

A client has one thread and two connections: one to publish, which the server may block, and one to consume and
to declare, which it then does not. Either is made again when it is lost; what was declared is declared again,
consumers go on, and what was not confirmed is published again under its id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from ....messages.broker import DeadLetter, QueueCounts
from ....messages.errors import BrokerError, ErrorKind
from ... import execution
from ..backend import Delivery, Publication, Report, Subscription
from ..topology import DEFAULT_EXCHANGE, Binding, Exchange, Queue
from . import dead_letters
from .consuming import ACK, BURY, REQUEUE, Consumers
from .declaring import Topology
from .ledger import Ledger
from .link import Link
from .loop import IoLoop
from .operations import CLOSED, Operations, Steps, wait_for
from .publishing import MARGIN, Publisher
from .replies import Replies
from .url import Address

T = TypeVar("T")

DRAIN_TIMEOUT: Final = 2.0
"""Seconds that a client which is closed goes on waiting for what it has sent to be confirmed."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that `close` waits for consumers to be cancelled, and again for the connections' end."""


class RabbitBroker:
    """A client of a RabbitMQ server; a backend of the broker actor. It connects when it can, and again and again.

    Args:
        address: The server.
        ledger: What this process's clients of that server know together.
        clock: Seconds, monotonic: what deadlines are in.
    """

    def __init__(
        self, address: Address, ledger: Ledger | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._clock = clock
        self._news = threading.Condition()
        self._lost: BrokerError | None = None
        self._ledger = ledger or Ledger()
        self._closing = threading.Lock()
        self._closed = False
        self.topology = Topology()
        self._loop = IoLoop(f"rabbitmq {address.host}:{address.port}")
        self._consuming = Link(
            self._loop, address, "understudy consumes", up=self._consuming_up, down=self._consuming_down
        )
        self._publishing = Link(
            self._loop,
            address,
            "understudy publishes",
            up=self._publishing_up,
            down=self._publishing_down,
            blocked=self._publishing_blocked,
        )
        self._operations = Operations(self._loop, self._consuming)
        self._publisher = Publisher(self._loop, self._publishing, self._operations, self.topology)
        self._consumers = Consumers(self._loop, self._operations, self._publisher, self.topology, self._ledger)
        self._replies = Replies(self._loop, self._operations)
        self._loop.start()
        self._loop.submit(self._consuming.connect)
        self._loop.submit(self._publishing.connect)

    # --- topology ----------------------------------------------------------------------------------------------

    def declare_exchange(self, exchange: Exchange) -> None:
        """See `BrokerBackend.declare_exchange`."""
        if exchange.name == DEFAULT_EXCHANGE:
            return
        _refuse_line_breaks("exchange", exchange.name)
        self._perform(f"declare exchange {exchange.name!r}", lambda: self.topology.declare_exchange(exchange))

    def declare_queue(self, queue: Queue) -> None:
        """See `BrokerBackend.declare_queue`."""
        _refuse_line_breaks("queue", queue.name)
        self._perform(f"declare queue {queue.name!r}", lambda: self.topology.declare_queue(queue))

    def bind(self, binding: Binding) -> None:
        """See `BrokerBackend.bind`."""
        if binding.exchange == DEFAULT_EXCHANGE:
            raise BrokerError(
                f"queue {binding.queue!r} cannot be bound to the default exchange: it is by its name",
                kind=ErrorKind.DECLARATION_INVALID,
            )
        _refuse_line_breaks("queue", binding.queue)
        _refuse_line_breaks("exchange", binding.exchange)
        what = f"bind queue {binding.queue!r} to exchange {binding.exchange!r}"
        self._perform(what, lambda: self.topology.bind(binding))

    # --- publishing --------------------------------------------------------------------------------------------

    def publish(
        self, publications: Sequence[Publication], report: Report, deadlines: Sequence[float | None] = ()
    ) -> None:
        """See `BrokerBackend.publish`."""
        now, ours = time.monotonic(), self._clock()
        self._publisher.publish(
            publications,
            report,
            [None if deadline is None else now + in_time(deadline - ours) for deadline in deadlines],
        )

    # --- consuming ---------------------------------------------------------------------------------------------

    def consume(self, subscription: Subscription) -> None:
        """See `BrokerBackend.consume`."""
        if type(subscription.prefetch) is not int or not 1 <= subscription.prefetch <= 65_535:
            raise BrokerError(
                f"consumer {subscription.tag!r}: prefetch={subscription.prefetch!r} is no int from 1 to 65535",
                kind=ErrorKind.CONSUMER_INVALID,
            )
        self._require_open()
        _refuse_line_breaks("queue", subscription.queue)
        deadline = self._deadline()
        error: BrokerError | None = self._wait(lambda then: self._consumers.begin(subscription, then, deadline))
        if error is not None:
            raise error

    def cancel(self, tag: str) -> bool:
        """See `BrokerBackend.cancel`."""
        if self._closed:
            return False
        cancelled: bool = self._wait(lambda then: self._consumers.cancel(tag, then), CLOSE_TIMEOUT)
        return bool(cancelled)

    def reply_address(self, take: Callable[[Publication], None]) -> str:
        """See `BrokerBackend.reply_address`."""
        self._require_open()
        return self._replies.address(take, self._deadline())

    def ack(self, delivery: Delivery) -> bool:
        """See `BrokerBackend.ack`."""
        return self._consumers.settle(delivery, ACK)

    def requeue(self, delivery: Delivery) -> bool:
        """See `BrokerBackend.requeue`."""
        return self._consumers.settle(delivery, REQUEUE)

    def reject(self, delivery: Delivery) -> bool:
        """See `BrokerBackend.reject`."""
        return self._consumers.settle(delivery, BURY)

    # --- looking after it --------------------------------------------------------------------------------------

    def dead_letters(self, queue: str, limit: int) -> list[DeadLetter]:
        """See `BrokerBackend.dead_letters`."""
        self._await_burials(queue)
        return self._perform(f"list the dead letters of queue {queue!r}", lambda: dead_letters.look(queue, limit))

    def replay_dead_letters(self, queue: str, message_ids: Sequence[str] | None) -> int:
        """See `BrokerBackend.replay_dead_letters`."""
        self._await_burials(queue)
        what = f"put back dead letters of queue {queue!r}"
        return self._perform(what, lambda: dead_letters.take(queue, message_ids, self._publisher))

    def purge_dead_letters(self, queue: str, message_ids: Sequence[str] | None) -> int:
        """See `BrokerBackend.purge_dead_letters`."""
        self._await_burials(queue)
        what = f"delete dead letters of queue {queue!r}"
        return self._perform(what, lambda: dead_letters.take(queue, message_ids, None))

    def counts(self, queue: str) -> QueueCounts:
        """See `BrokerBackend.counts`. Of deliveries that are out, only this process's are known."""
        self._await_burials(queue)
        ready, dead, consumers = self._perform(f"count queue {queue!r}", lambda: dead_letters.count(queue))
        return QueueCounts(ready=ready, unsettled=self._ledger.unsettled(queue), dead=dead, consumers=consumers)

    def check(self) -> None:
        """See `Server.check`: whether both connections are there, and neither was lost since the last look."""
        deadline = time.monotonic() + self._address.connection_timeout
        while not self._closed:
            with self._news:
                lost, self._lost = self._lost, None
                if lost is not None:
                    raise lost
                if self._consuming.connection is not None and self._publishing.connection is not None:
                    return
                error = self._consuming.error or self._publishing.error
                if error is not None:
                    raise error
                if not self._news.wait(deadline - time.monotonic()):
                    what = f"RabbitMQ at {self._address!r}: not connected yet"
                    raise BrokerError(what, kind=ErrorKind.BROKER_UNAVAILABLE)

    # --- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See `BrokerBackend.close`. What was sent is waited for a little while, in the background."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._note(None)
        gone = threading.Event()
        over = threading.Event()

        def cancelled() -> None:
            gone.set()
            self._operations.close()
            once = [self._end]

            def end() -> None:
                while once:
                    once.pop()(over.set)

            self._publisher.drain(end)
            self._loop.after(DRAIN_TIMEOUT, end)

        self._loop.submit(lambda: self._consumers.cancel_all(cancelled))
        if not self._loop.is_current:
            if not gone.wait(CLOSE_TIMEOUT):
                self._loop.submit(cancelled)
            if over.wait(DRAIN_TIMEOUT + CLOSE_TIMEOUT):
                self._loop.join()

    def _end(self, over: Callable[[], None]) -> None:
        self._publisher.abandon()
        links = (self._consuming, self._publishing)
        left = len(links)

        def closed() -> None:
            nonlocal left
            left -= 1
            if not left:
                over()
                self._loop.stop()

        for link in links:
            self._loop.guard(partial(link.close, closed))

    # --- the connections' lives --------------------------------------------------------------------------------

    def _publishing_up(self) -> None:
        self._publisher.up()
        self._note(None)

    def _publishing_blocked(self, blocked: bool) -> None:
        self._publisher.blocked(blocked)

    def _publishing_down(self, error: BrokerError) -> None:
        self._publisher.down(error)
        self._note(error)

    def _consuming_up(self) -> None:
        self._note(None)
        self._operations.start("declare again", self.topology.rebuild, self._rebuilt)

    def _rebuilt(self, _: Any, error: BrokerError | None) -> None:
        if error is None:
            self._operations.up()
            self._consumers.resume()
            self._publisher.ready(True)

    def _note(self, lost: BrokerError | None) -> None:
        """Let those know who check."""
        with self._news:
            self._lost = lost or self._lost
            self._news.notify_all()

    def _consuming_down(self, error: BrokerError) -> None:
        self._note(error)
        self._publisher.ready(False)
        self._replies.down()
        self._operations.down(error)
        self._consumers.down()

    # --- waiting -----------------------------------------------------------------------------------------------

    def _perform(self, what: str, steps: Callable[[], Steps[T]]) -> T:
        self._require_open()
        return self._operations.perform(what, steps, self._deadline())

    def _deadline(self) -> float | None:
        """When to answer the request that the calling actor is handling, in `time.monotonic` seconds."""
        deadline = execution.inherited_deadline(execution.current.get())
        return None if deadline is None else time.monotonic() + in_time(deadline - self._clock())

    def _await_burials(self, queue: str) -> None:
        self._require_open()
        _refuse_line_breaks("queue", queue)
        deadline = self._deadline()
        left = CLOSE_TIMEOUT if deadline is None else min(CLOSE_TIMEOUT, (deadline - time.monotonic()) / 2)
        self._wait(lambda then: self._consumers.when_buried(queue, lambda: then(None)), left)

    def _wait(self, start: Callable[[Callable[[Any], None]], None], timeout: float | None = None) -> Any:
        """What `start`, on the loop's thread, calls back with; None if it does not in time."""
        return wait_for(lambda then: self._loop.submit(lambda: start(then)), timeout)

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerError(CLOSED, kind=ErrorKind.BROKER_CLOSED)


def in_time(left: float) -> float:
    """When to answer somebody who waits for so many seconds."""
    return left - min(MARGIN, max(0.0, left / 10))


def _refuse_line_breaks(what: str, name: str) -> None:
    """RabbitMQ drops them without a word, and declares something of another name."""
    if "\r" in name or "\n" in name:
        raise BrokerError(
            f"{what} {name!r}: RabbitMQ has no names with line breaks", kind=ErrorKind.DECLARATION_INVALID
        )

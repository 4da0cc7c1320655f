"""Declaring exchanges, queues and bindings on RabbitMQ, and declaring them again when it has lost them.

RabbitMQ says of a queue that exists with other arguments only which one differs first, by closing the channel.
Asking again with that one put right tells the next, until all of them are known.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from ....messages.errors import BrokerError, ErrorKind
from ..topology import DEFAULT_DELIVERY_LIMIT, DEFAULT_QUEUE_LENGTH, Binding, Exchange, Queue, require_same
from .operations import ChannelRefused, Steps

logger = logging.getLogger("understudy.broker")

RETURNS_ALLOWED: Final = 1_000
"""How many more returns RabbitMQ is told to allow than failures are: it counts what is none. Beyond that it is the
one that makes the message a dead letter."""

UNLIMITED: Final = 1_000_000_000
"""Dead letters are looked at as often as anybody likes; RabbitMQ 4 would drop them after the twentieth time."""

_DIFFERENT = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for .*: received (?:'(?P<wanted>.*?)'|none|the value '.*?' of type '\w+') "
    r"but current is (?:'(?P<current>[^']*)'|the value '(?P<value>[^']*)'|none)"
)


class Topology:
    """What this client has declared, in that order."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        self.bindings: dict[tuple[Any, ...], Binding] = {}

    def delivery_limit(self, queue: str) -> int | None:
        """The delivery limit of a queue, if it was declared here."""
        known = self.queues.get(queue)
        return None if known is None else known.delivery_limit

    def forget_queue(self, name: str) -> None:
        """A queue is not ours to declare again."""
        self.queues.pop(name, None)

    # --- steps -------------------------------------------------------------------------------------------------

    def declare_exchange(self, exchange: Exchange) -> Steps[None]:
        """Steps that make sure an exchange exists."""
        try:
            yield lambda channel, then: channel.exchange_declare(
                exchange.name, exchange.type, durable=exchange.durable, callback=then
            )
        except ChannelRefused as refused:
            different = _DIFFERENT.search(refused.text)
            if refused.code == 406 and different is not None:
                existing = replace(exchange, **_field(different))
                require_same("exchange", existing, exchange, ErrorKind.EXCHANGE_MISMATCH)
            if refused.code == 403 and "reserved prefix" in refused.text:
                raise BrokerError(
                    f"exchange {exchange.name!r}: names that begin with 'amq.' are the broker's own",
                    kind=ErrorKind.DECLARATION_INVALID,
                    cause=refused,
                ) from refused
            raise
        self.exchanges[exchange.name] = exchange

    def declare_queue(self, queue: Queue) -> Steps[None]:
        """Steps that make sure a queue and its dead-letter queue exist."""
        if not queue.durable:
            raise BrokerError(
                f"queue {queue.name!r}: durable=False is not possible, RabbitMQ's quorum queues are durable; "
                "publish with persistent=False what need not outlive a restart",
                kind=ErrorKind.DECLARATION_INVALID,
            )
        found = replace(
            queue,
            max_length=DEFAULT_QUEUE_LENGTH if queue.max_length is None else queue.max_length,
            delivery_limit=DEFAULT_DELIVERY_LIMIT if queue.delivery_limit is None else queue.delivery_limit,
        )
        for _ in range(len(Queue.__struct_fields__)):  # at most each argument differs
            try:
                yield _queue_step(found)
                break
            except ChannelRefused as refused:
                different = _DIFFERENT.search(refused.text)
                if refused.code != 406 or different is None:
                    raise
                known = _field(different)
                if not known:
                    raise _foreign(queue, different) from refused
                found = replace(found, **known)
        require_same("queue", found, queue, ErrorKind.QUEUE_MISMATCH)
        yield from self.declare_dead_letter_queue(queue)
        self.queues[queue.name] = found

    def declare_dead_letter_queue(self, queue: Queue) -> Steps[None]:
        """Steps that make sure there is a place for a queue's dead letters, whatever else it may be."""
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
        try:
            yield lambda channel, then: channel.queue_declare(
                queue.dead_letter_queue, durable=True, arguments=arguments, callback=then
            )
        except ChannelRefused as refused:
            if refused.code != 406:
                raise

    def bind(self, binding: Binding) -> Steps[None]:
        """Steps that make sure messages flow from an exchange into a queue."""
        yield lambda channel, then: channel.queue_bind(
            binding.queue, binding.exchange, binding.routing_key, dict(binding.arguments) or None, callback=then
        )
        key = (binding.queue, binding.exchange, binding.routing_key, repr(sorted(binding.arguments.items(), key=str)))
        self.bindings[key] = binding

    def rebuild(self) -> Steps[None]:
        """Steps that declare everything again; what cannot be is logged, and the rest goes on."""
        jobs: list[Callable[[], Steps[None]]] = [
            *(partial(self.declare_exchange, exchange) for exchange in self.exchanges.values()),
            *(partial(self.declare_queue, queue) for queue in self.queues.values()),
            *(partial(self.bind, binding) for binding in self.bindings.values()),
        ]
        for job in jobs:
            try:
                yield from job()
            except ChannelRefused as refused:
                logger.error("%s", refused.translated("declaring again").response.to_json().decode())
            except BrokerError as error:
                logger.error("%s", error.response.to_json().decode())

    def restore_queue(self, name: str) -> Steps[bool]:
        """Steps that declare a queue again that has gone, with its bindings; False if it was never declared here."""
        queue = self.queues.get(name)
        if queue is None:
            return False
        yield from self.declare_queue(queue)
        for binding in [each for each in self.bindings.values() if each.queue == name]:
            exchange = self.exchanges.get(binding.exchange)
            if exchange is not None:
                yield from self.declare_exchange(exchange)
            yield from self.bind(binding)
        return True

    def restore_exchange(self, name: str) -> Steps[bool]:
        """Steps that declare an exchange again that has gone, with its bindings; False if it was never declared."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            return False
        yield from self.declare_exchange(exchange)
        for binding in [each for each in self.bindings.values() if each.exchange == name]:
            try:
                yield from self.bind(binding)
            except ChannelRefused as refused:
                if refused.code != 404:  # its queue may have gone as well: that is its consumer's to declare
                    raise
        return True


def _queue_step(queue: Queue) -> Callable[[Any, Callable[[Any], None]], Any]:
    assert queue.delivery_limit is not None
    arguments = {
        "x-queue-type": "quorum",
        "x-max-length": queue.max_length,
        "x-overflow": "reject-publish",
        "x-delivery-limit": queue.delivery_limit + RETURNS_ALLOWED,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue.dead_letter_queue,
        "x-dead-letter-strategy": "at-least-once",
    }
    return lambda channel, then: channel.queue_declare(queue.name, durable=True, arguments=arguments, callback=then)


def _field(different: re.Match[str]) -> dict[str, Any]:
    """The field of ours that RabbitMQ says differs, as it is there; nothing if it is none of ours."""
    current = different["current"] if different["current"] is not None else different["value"]
    match different["name"], current:
        case "x-max-length", str() as text if text.isdecimal():
            return {"max_length": int(text)}
        case "x-delivery-limit", str() as text if text.isdecimal() and int(text) >= RETURNS_ALLOWED:
            return {"delivery_limit": int(text) - RETURNS_ALLOWED}
        case "durable", str() as text:
            return {"durable": text == "true"}
        case "type", str() as text if text in ("fanout", "direct", "headers", "topic"):
            return {"type": text}
    return {}


def _foreign(queue: Queue, different: re.Match[str]) -> BrokerError:
    """The queue is there, and was made by somebody else in another way."""
    current = different["current"] if different["current"] is not None else different["value"]
    has = "without it" if current is None else f"with {current!r}"
    return BrokerError(
        f"queue {queue.name!r} exists with another {different['name']}: {has}, declared here with "
        f"{different['wanted']!r}",
        kind=ErrorKind.QUEUE_MISMATCH,
    )

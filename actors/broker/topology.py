"""What has to exist before a message can travel: exchanges, queues and the bindings between them.

These are plain values. A backend compares a declaration with what it already has, so declaring the same thing
twice is free and declaring it differently names the argument that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

import msgspec

from ...messages.broker import HeaderValue
from ...messages.errors import BrokerError, ErrorKind
from ...messages.notifications import ExchangeType

EXCHANGE_TYPES: Final[tuple[str, ...]] = get_args(ExchangeType)

DEFAULT_EXCHANGE: Final = ""
"""Routes straight to the queue that the routing key names; it always exists and cannot be bound to."""

PREDECLARED: Final[Mapping[str, ExchangeType]] = {
    DEFAULT_EXCHANGE: "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
"""Exchanges that every AMQP broker has from the start."""

NAME_LIMIT: Final = 255
"""Bytes of UTF-8 in a name or a routing key: AMQP's short string."""

DEFAULT_DELIVERY_LIMIT: Final = 3
DEFAULT_QUEUE_LENGTH: Final = 100_000


class Exchange(msgspec.Struct, frozen=True):
    """An exchange as its declarer wants it.

    Args:
        name: What publishers and bindings call it.
        type: How it routes: ``fanout``, ``direct``, ``headers`` or ``topic``.
        durable: Whether it outlives a restart of the broker.
    """

    name: str
    type: ExchangeType = "direct"
    durable: bool = True

    def __post_init__(self) -> None:
        check_name("exchange", self.name)
        if self.type not in EXCHANGE_TYPES:
            raise BrokerError(
                f"exchange {self.name!r}: type={self.type!r} is none of {', '.join(EXCHANGE_TYPES)}",
                kind=ErrorKind.DECLARATION_INVALID,
            )


class Queue(msgspec.Struct, frozen=True):
    """A queue as its declarer wants it.

    Args:
        name: What consumers and bindings call it.
        durable: Whether it outlives a restart of the broker.
        max_length: How many messages it may hold (waiting, delivered and dead-lettered together) before a
            publish into it is refused. None: as the queue has it, 100,000 if it is new.
        delivery_limit: How often a message may be *re*delivered after its consumer failed on it. With 3 it is
            delivered four times and then becomes a dead letter. None: as the queue has it, 3 if it is new.
    """

    name: str
    durable: bool = True
    max_length: int | None = None
    delivery_limit: int | None = None

    def __post_init__(self) -> None:
        check_name("queue", self.name)
        if not self.name:
            raise BrokerError("queue: name='' is empty", kind=ErrorKind.DECLARATION_INVALID)
        _at_least("queue", self.name, "max_length", self.max_length, 1)
        _at_least("queue", self.name, "delivery_limit", self.delivery_limit, 0)

    @property
    def dead_letter_queue(self) -> str:
        """Name under which the dead letters of this queue are kept."""
        return f"{self.name}.dead-letters"


class Binding(msgspec.Struct, frozen=True):
    """A route from an exchange into a queue.

    Args:
        queue: Where messages go.
        exchange: Where they come from.
        routing_key: Exact key (direct), pattern with ``*`` and ``#`` (topic); fanout and headers ignore it.
        arguments: For headers: the values to match, and ``x-match`` = ``all`` (default) or ``any``. A value
            of ``None`` asks only that the header is present.
    """

    queue: str
    exchange: str
    routing_key: str = ""
    arguments: Mapping[str, HeaderValue] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("queue", self.queue)
        check_name("exchange", self.exchange)
        check_name("routing_key", self.routing_key)
        match = self.arguments.get("x-match", "all")
        if match not in ("all", "any"):
            raise BrokerError(
                f"binding of {self.queue!r} to {self.exchange!r}: x-match={match!r} is not 'all' or 'any'",
                kind=ErrorKind.DECLARATION_INVALID,
            )


def are_short(exchange: str, routing_key: str, message_id: str, reply_to: str, correlation_id: str) -> bool:
    """Whether the names of a message can be carried for sure: together they are no longer than one may be.

    As almost all are: looking at each of them takes three times as long. False means that each is to be checked.
    """
    try:
        names = exchange + routing_key + message_id + reply_to + correlation_id
    except TypeError:
        return False
    return type(names) is str and names.isascii() and len(names) <= NAME_LIMIT


def check_name(what: str, name: str) -> None:
    """Refuse a name that no AMQP broker can carry.

    Raises:
        BrokerError: ``broker.declaration.invalid`` when it is not text, not UTF-8, or longer than 255 bytes.
    """
    if type(name) is str and name.isascii() and len(name) <= NAME_LIMIT:  # as almost all are: a third of the time
        return
    try:
        size = len(name.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise BrokerError(
            f"{what}: {name!r} is not UTF-8 text", kind=ErrorKind.DECLARATION_INVALID, cause=error
        ) from error
    if size > NAME_LIMIT:
        raise BrokerError(
            f"{what}: {name[:32]!r}… has {size} bytes, {NAME_LIMIT} are allowed",
            kind=ErrorKind.DECLARATION_INVALID,
        )


def require_same(what: str, existing: Exchange | Queue, wanted: Exchange | Queue, kind: ErrorKind) -> None:
    """Refuse a declaration that differs from what is there already, naming every argument that differs.

    Raises:
        BrokerError: Of the given kind.
    """
    # None is not a wish: the side that came first has decided.
    different = [
        f"{name}={before!r}, declared with {name}={after!r}"
        for name, before, after in (
            (name, getattr(existing, name), getattr(wanted, name)) for name in existing.__struct_fields__
        )
        if after not in (None, before)
    ]
    if different:
        raise BrokerError(f"{what} {existing.name!r} exists with {'; '.join(different)}", kind=kind)


def _at_least(what: str, name: str, argument: str, value: int | None, least: int) -> None:
    if value is not None and (type(value) is not int or value < least):
        raise BrokerError(
            f"{what} {name!r}: {argument}={value!r} must be an int of at least {least}",
            kind=ErrorKind.DECLARATION_INVALID,
        )

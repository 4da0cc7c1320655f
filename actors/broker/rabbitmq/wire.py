"""Messages as AMQP carries them: our publications and dead letters, to properties and back."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
from pika import BasicProperties
from pika.data import encode_short_string, encode_value

from ....messages.broker import DeadLetter, HeaderValue
from ..backend import Publication

OURS: Final = "x-understudy-"
EXCHANGE: Final = OURS + "exchange"
ROUTING_KEY: Final = OURS + "routing-key"
"""Where a message was first published, once it has been a dead letter."""
ATTEMPTS: Final = OURS + "attempts"
REASON: Final = OURS + "reason"
QUEUE: Final = OURS + "queue"
AGAIN: Final = OURS + "again"
"""On a message that was published before, and whose confirmation never came: its queue may have it twice."""
FLOATS: Final = OURS + "floats"
"""The headers that are floats, as text."""
REPLAYED: Final = OURS + "replayed"
"""On a message that was put back from the dead letters: it is a redelivery, though not for RabbitMQ."""

DELIVERY_COUNT: Final = "x-delivery-count"
PERSISTENT, TRANSIENT = 2, 1
INT64: Final = range(-(2**63), 2**63)


class FloatingProperties(BasicProperties):  # type: ignore[misc]  # pika ships no types
    """Properties among whose headers are floats, which pika does not write, and reads as whole numbers."""

    def encode(self) -> list[bytes]:
        """What pika's own does, for the properties that are set here."""
        fields: list[bytes] = []
        table: list[bytes] = []
        flags = self.FLAG_HEADERS | self.FLAG_DELIVERY_MODE | self.FLAG_CONTENT_TYPE
        encode_short_string(fields, self.content_type or "")
        headers: dict[str, Any] = dict(self.headers or {})
        for name, value in headers.items():
            encode_short_string(table, name)
            if isinstance(value, float):
                table.append(struct.pack(">cd", b"d", value))
            else:
                encode_value(table, value)
        encoded = b"".join(table)
        fields += [struct.pack(">I", len(encoded)), encoded, struct.pack("B", self.delivery_mode)]
        if self.correlation_id is not None:
            flags |= self.FLAG_CORRELATION_ID
            encode_short_string(fields, self.correlation_id)
        if self.reply_to is not None:
            flags |= self.FLAG_REPLY_TO
            encode_short_string(fields, self.reply_to)
        if self.message_id is not None:
            flags |= self.FLAG_MESSAGE_ID
            encode_short_string(fields, self.message_id)
        return [struct.pack(">H", flags), *fields]


def properties_of(publication: Publication, extra: Mapping[str, HeaderValue] | None = None) -> Any:
    """What is sent beside the body.

    Raises:
        ValueError: A header cannot be expressed; pika raises errors of its own for others when it is sent.
    """
    headers: dict[str, Any] = {**publication.headers, **(extra or {})}
    floats: dict[str, str] = {}
    if headers:
        for name, value in headers.items():
            if isinstance(value, float):
                floats[name] = repr(value)
            if type(value) is int and value not in INT64:
                raise ValueError(f"header {name[:64]!r} does not fit into 64 bits")
            if not (value is None or isinstance(value, (str, int, float, bool))):
                raise ValueError(f"header {name[:64]!r} is a {type(value).__name__}")
    if floats:
        headers[FLOATS] = orjson.dumps(floats).decode()
    make = FloatingProperties if floats else BasicProperties
    return make(
        content_type=publication.content_type,
        headers=headers or None,
        delivery_mode=PERSISTENT if publication.persistent else TRANSIENT,
        message_id=publication.message_id or None,
        reply_to=publication.reply_to or None,
        correlation_id=publication.correlation_id or None,
    )


def marked(properties: BasicProperties, mark: str) -> bool:
    """Whether a message has one of our marks."""
    return bool(properties.headers) and mark in properties.headers


def publication_of(method: Any, properties: BasicProperties, body: bytes) -> Publication:
    """What was published."""
    headers = properties.headers or {}
    exchange, key = method.exchange, method.routing_key
    floats = _floats(headers.get(FLOATS)) if FLOATS in headers else {}
    plain: dict[str, HeaderValue] = {}
    for name, value in headers.items():
        if name.startswith(OURS):
            if name == EXCHANGE:
                exchange = _text(value)
            elif name == ROUTING_KEY:
                key = _text(value)
        elif name in floats:
            plain[name] = float(floats[name])
        elif name not in ADDED_BY_THE_SERVER:
            plain[name] = _scalar(value)
    return Publication(
        exchange=_text(exchange),
        routing_key=_text(key),
        body=body,
        message_id=_text(properties.message_id or ""),
        headers=plain,
        content_type=_text(properties.content_type or ""),
        persistent=properties.delivery_mode == PERSISTENT,
        reply_to=_text(properties.reply_to or ""),
        correlation_id=_text(properties.correlation_id or ""),
    )


class Plain(NamedTuple):
    """The properties of a message without headers, as a `Publication` has them."""

    content_type: str
    persistent: bool
    message_id: str
    reply_to: str
    correlation_id: str


FIELDS_OF_PLAIN: Final = (
    BasicProperties.FLAG_CONTENT_TYPE
    | BasicProperties.FLAG_DELIVERY_MODE
    | BasicProperties.FLAG_CORRELATION_ID
    | BasicProperties.FLAG_REPLY_TO
    | BasicProperties.FLAG_MESSAGE_ID
)
_CONTENT_TYPE, _DELIVERY_MODE = BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_DELIVERY_MODE
_CORRELATION_ID, _REPLY_TO = BasicProperties.FLAG_CORRELATION_ID, BasicProperties.FLAG_REPLY_TO
_MESSAGE_ID = BasicProperties.FLAG_MESSAGE_ID


def plain_properties(encoded: bytes) -> Plain | None:
    """The properties of a message as it is on the wire; None if there are others than most have.

    Raises:
        ValueError: A text is not UTF-8.
        IndexError: They are cut off.
    """
    flags = encoded[0] << 8 | encoded[1]
    if flags & ~FIELDS_OF_PLAIN:
        return None
    content_type = message_id = reply_to = correlation_id = ""
    persistent = False
    at = 2
    if flags & _CONTENT_TYPE:
        content_type, at = _short(encoded, at)
    if flags & _DELIVERY_MODE:
        persistent = encoded[at] == PERSISTENT
        at += 1
    if flags & _CORRELATION_ID:
        correlation_id, at = _short(encoded, at)
    if flags & _REPLY_TO:
        reply_to, at = _short(encoded, at)
    if flags & _MESSAGE_ID:
        message_id, at = _short(encoded, at)
    if at > len(encoded):
        raise IndexError("properties are cut off")
    return Plain(content_type, persistent, message_id, reply_to, correlation_id)


def plain_publication(route: Any, properties: Plain, body: bytes) -> Publication:
    """What was published without headers; `route` has an exchange and a routing key, as pika's methods do."""
    content_type, persistent, message_id, reply_to, correlation_id = properties
    return Publication(
        _text(route.exchange),
        _text(route.routing_key),
        body,
        message_id,
        {},
        content_type,
        persistent,
        reply_to,
        correlation_id,
    )


def _short(encoded: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + encoded[at]
    return encoded[at + 1 : end].decode(), end


ADDED_BY_THE_SERVER: Final = frozenset(
    {DELIVERY_COUNT, "x-death", "x-first-death-queue", "x-first-death-reason", "x-first-death-exchange"}
)


def delivery_count(properties: BasicProperties) -> int:
    """How often RabbitMQ has had the message back."""
    count = (properties.headers or {}).get(DELIVERY_COUNT, 0)
    return count if isinstance(count, int) else 0


def burial(publication: Publication, queue: str, attempts: int, reason: str) -> dict[str, HeaderValue]:
    """The headers that make a message a dead letter."""
    return {
        EXCHANGE: publication.exchange,
        ROUTING_KEY: publication.routing_key,
        QUEUE: queue,
        ATTEMPTS: attempts,
        REASON: reason,
    }


def dead_letter_of(queue: str, method: Any, properties: BasicProperties, body: bytes) -> DeadLetter:
    """A dead letter of ours, or one that RabbitMQ made itself."""
    publication = publication_of(method, properties, body)
    headers: dict[str, Any] = dict(properties.headers or {})
    deaths: Any = headers.get("x-death")
    death: dict[str, Any] = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    keys = death.get("routing-keys")
    attempts = headers.get(ATTEMPTS, death.get("count", 0))
    return DeadLetter(
        queue=queue,
        message_id=publication.message_id,
        attempts=attempts if isinstance(attempts, int) else 0,
        reason=_text(headers.get(REASON, death.get("reason", "unknown"))),
        exchange=_text(headers.get(EXCHANGE, death.get("exchange", publication.exchange))),
        routing_key=_text(headers.get(ROUTING_KEY, keys[0] if keys else publication.routing_key)),
        body=body,
        headers=dict(publication.headers),
    )


def _floats(text: Any) -> dict[str, str]:
    """What `FLOATS` says, if that is what it should be: anybody may send a header of that name."""
    try:
        floats = orjson.loads(text)
        return {str(name): str(float(value)) for name, value in floats.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _scalar(value: Any) -> HeaderValue:
    """Other clients send tables, lists and times as well; here they are shown as text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else _text(value)

"""Taking deliveries out of what a connection reads, several times as fast as pika does.

A delivery is three frames: the method, the header of its content, and the content. Where all three have come, and are
as most are, they are taken apart here, in one step. All other frames are pika's, each handed to it by itself, so that
it has nothing to keep and to copy.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

from pika import BasicProperties
from pika.data import decode_short_string

from .wire import Plain, plain_properties


class Route(NamedTuple):
    """How a message came into its queue."""

    exchange: Any
    routing_key: Any


Take: TypeAlias = Callable[[int, bool, Route, Any, bytes], None]
"""Told of a delivery: its tag, whether it is a redelivery, its route, its properties (pika's or `Plain`), its body.
It does not raise."""

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
KINDS: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
END: Final = 0xCE
"""The last byte of each frame."""
DELIVER: Final = bytes([0, 60, 0, 60])
"""What the payload of a delivery's first frame begins with."""

FRAME: Final = Struct(">BHL")
"""Kind, channel, and size of the payload, which comes next, and then `END`."""
CONTENT: Final = Struct(">BHLHHQ")
"""The same for the header of a content, whose payload begins with its class, a zero, and the size of the whole body."""
TAG: Final = Struct(">QB")
"""Delivery tag, and whether it is a redelivery."""

NOT_YET, PIKAS = -1, 0
NOTHING_YET: Final = (NOT_YET, b"", b"")
LEFT_TO_PIKA: Final = (PIKAS, b"", b"")

ROUTES_KEPT: Final = 1_000
"""Exchanges with routing keys that are known by their bytes; then it starts from nothing."""


class Intake:
    """What a connection reads, frame by frame.

    Args:
        other: Given every frame that is no delivery to one of the `takers`: pika.
    """

    def __init__(self, other: Callable[[bytes], None]) -> None:
        self.takers: dict[tuple[int, bytes], Take] = {}
        """Who takes deliveries, by channel and consumer tag."""
        self._other = other
        self._rest = b""
        self._given_up = False
        self._routes: dict[bytes, Route] = {}

    def feed(self, data: bytes) -> int:
        """Take what has come; returns how many bytes of it pika does not know of."""
        if self._given_up:
            self._other(data)
            return 0
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size, start, taken = len(data), 0, 0
        while size - start > FRAME.size:
            kind, channel, length = FRAME.unpack_from(data, start)
            if kind not in KINDS:
                return taken + self._give_up(data[start:])
            end = start + FRAME.size + length
            if end >= size:
                break
            if data[end] != END:
                return taken + self._give_up(data[start:])
            after = self._deliver(data, start, end, channel) if kind == METHOD else PIKAS
            if after == NOT_YET:
                break
            if after != PIKAS:
                taken += after - start
                start = after
            else:
                frame = data[start : end + 1]
                start = end + 1
                self._other(frame)
        self._rest = data[start:]
        return taken

    def _give_up(self, data: bytes) -> int:
        """This is not AMQP as we know it: pika is to find the words for it."""
        self._given_up = True
        self._other(data)
        return 0

    def _deliver(self, data: bytes, start: int, end: int, channel: int) -> int:
        """Take a delivery whose first frame is from `start` to `end`.

        Returns:
            Where it ends; `NOT_YET` if it has not wholly come; `PIKAS` if it is.
        """
        if not data.startswith(DELIVER, start + 7):
            return PIKAS
        tag_at = start + 12
        fields = tag_at + data[start + 11]
        take = self.takers.get((channel, data[tag_at:fields]))
        if take is None or fields + TAG.size > end:
            return PIKAS
        last, properties, body = _content(data, end + 1, channel)
        if last <= 0:
            return last
        delivery_tag, flags = TAG.unpack_from(data, fields)
        encoded = data[fields + TAG.size : end]
        try:
            route = self._routes.get(encoded) or self._route(encoded)
            beside: Plain | Any = plain_properties(properties) or BasicProperties().decode(properties)
        except Exception:  # let pika find out what is wrong with it
            return PIKAS
        take(delivery_tag, bool(flags & 1), route, beside, body)
        return last + 1

    def _route(self, encoded: bytes) -> Route:
        exchange, at = decode_short_string(encoded, 0)
        key, _ = decode_short_string(encoded, at)
        if len(self._routes) >= ROUTES_KEPT:
            self._routes.clear()
        route = self._routes[encoded] = Route(exchange, key)
        return route


def _content(data: bytes, start: int, channel: int) -> tuple[int, bytes, bytes]:
    """The content of a delivery: where its last byte is (or `NOT_YET`, or `PIKAS`), its properties, and its body."""
    size, properties_at = len(data), start + CONTENT.size
    if size < properties_at:
        return NOTHING_YET
    kind, number, length, _, _, whole = CONTENT.unpack_from(data, start)
    last = start + FRAME.size + length
    if kind != HEADER or number != channel:
        return LEFT_TO_PIKA
    if last >= size:
        return NOTHING_YET
    if data[last] != END:
        return LEFT_TO_PIKA
    properties, body_at = data[properties_at:last], last + 1 + FRAME.size
    if not whole:
        return last, properties, b""
    if body_at > size:
        return NOTHING_YET
    kind, number, length = FRAME.unpack_from(data, last + 1)
    last = body_at + length
    if kind != BODY or number != channel or length != whole:
        return LEFT_TO_PIKA
    if last >= size:
        return NOTHING_YET
    return (last, properties, data[body_at:last]) if data[last] == END else LEFT_TO_PIKA

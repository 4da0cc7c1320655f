"""Looking at dead letters, putting them back, deleting them: they are messages in a queue of their own.

What a channel has just told a quorum queue may be lost when it is closed: from the 32nd acknowledgement that the
queue has not answered, the channel keeps them to itself. So they are acknowledged a few at a time, and each few is
followed by a `basic.get`, whose answer shows that the queue has them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from msgspec.structs import replace
from pika import spec

from ....messages.broker import DeadLetter, HeaderValue
from ....messages.errors import BrokerError
from ..backend import Publication
from ..topology import Queue
from .operations import STEP_TIMEOUT, ChannelRefused, Step, Steps, Then
from .publishing import Publisher
from .wire import EXCHANGE, REPLAYED, ROUTING_KEY, dead_letter_of, publication_of

Letter: TypeAlias = tuple[Any, Any, bytes]
"""What pika hands over: method, properties, body."""

AT_A_TIME: Final = 16
"""Letters that are settled between two gets."""

TRIES: Final = 50
"""Looks, a hundredth of a second apart, until what is expected is there; somebody else may have taken it."""

MOST: Final = 65_535
"""The most that AMQP can say of deliveries that a consumer may hold."""

CONFIRM_TIMEOUT: Final = STEP_TIMEOUT - 1.0
"""Seconds that putting back a batch may take."""


def count(queue: str) -> Steps[tuple[int, int, int]]:
    """How many messages a queue has ready, how many dead letters, and how many consumers."""
    ready = yield _look_at(queue)
    dead = 0
    try:
        found = yield _look_at(Queue(queue).dead_letter_queue)
        dead = found.method.message_count
    except ChannelRefused as refused:
        if refused.code != 404:
            raise
    return ready.method.message_count, dead, ready.method.consumer_count


def look(queue: str, limit: int) -> Steps[list[DeadLetter]]:
    """The oldest dead letters."""
    yield _look_at(queue)
    name = Queue(queue).dead_letter_queue
    there = yield _look_at(name)
    if limit <= 0:
        return []
    letters: list[Letter] = []
    yield lambda channel, then: channel.basic_qos(prefetch_count=min(limit, MOST), callback=then)
    yield lambda channel, then: channel.basic_consume(name, lambda _, *letter: letters.append(letter), callback=then)
    for _ in range(TRIES):
        if len(letters) >= min(limit, there.method.message_count):
            break
        yield _pause
    yield from _return(name, len(letters))
    return [dead_letter_of(queue, *letter) for letter in letters]


def take(queue: str, message_ids: Sequence[str] | None, publisher: Publisher | None) -> Steps[int]:
    """Take dead letters out, all that are there now or those with the given ids; how many.

    Args:
        queue: Whose.
        message_ids: Which; None means all.
        publisher: Puts each at the end of its queue before it is taken out; None deletes them.

    Raises:
        BrokerError: Some could not be put back; they are dead letters still.
    """
    yield _look_at(queue)
    name = Queue(queue).dead_letter_queue
    there = yield _look_at(name)
    left = there.method.message_count  # what is put back may be here again before this is over: it comes behind these
    wanted = None if message_ids is None else frozenset(message_ids)
    reader = _Reader(name)
    taken = kept = 0
    batch: list[Letter] = []
    failed: list[BrokerError] = []
    while True:
        letter = yield reader.next
        over = letter is None or left <= 0
        left -= 1
        if letter is not None and (over or (wanted is not None and (letter[1].message_id or "") not in wanted)):
            kept += 1
        elif letter is not None:
            batch.append(letter)
        if batch and (over or len(batch) >= AT_A_TIME):
            failed += yield partial(_settle, queue, batch, publisher)
            taken += len(batch)
            batch = []
        elif over:
            break
        if failed:
            break
    yield from _return(name, kept + len(failed))
    if failed:
        raise failed[0]
    return taken


class _Reader:
    """Gets the messages of a queue one by one; None when there is none left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._channel: Any = None
        self._then: Then = lambda _: None

    def next(self, channel: Any, then: Then) -> None:
        self._then = then
        if channel is not self._channel:
            self._channel = channel
            channel.add_callback(lambda _: self._then(None), [spec.Basic.GetEmpty], one_shot=False)
        channel.basic_get(self._name, lambda _, method, properties, body: self._then((method, properties, body)))


def _look_at(name: str) -> Step:
    return lambda channel, then: channel.queue_declare(name, passive=True, callback=then)


def _settle(queue: str, letters: Sequence[Letter], publisher: Publisher | None, channel: Any, then: Then) -> None:
    """Put letters back and take out those that RabbitMQ has confirmed; tell of the others."""
    left = len(letters)
    failed: list[BrokerError] = []

    def report(letter: Letter, _: int, error: BrokerError | None) -> None:
        nonlocal left
        left -= 1
        if error is not None:
            failed.append(error)
        elif channel.is_open:
            channel.basic_ack(letter[0].delivery_tag)
        if left == 0:
            then(failed)

    for letter in letters:
        if publisher is None:
            report(letter, 0, None)
        else:
            publisher.publish(
                [_replayed(queue, letter)],
                partial(report, letter),
                [time.monotonic() + CONFIRM_TIMEOUT],
                _origin(queue, letter),
                unrefused=True,
            )


def _replayed(queue: str, letter: Letter) -> Publication:
    return replace(publication_of(*letter), exchange="", routing_key=queue, persistent=True)


def _origin(queue: str, letter: Letter) -> dict[str, HeaderValue]:
    """Where it was first published, which its consumers are to be told; and that it is not new."""
    origin = dead_letter_of(queue, *letter)
    return {EXCHANGE: origin.exchange, ROUTING_KEY: origin.routing_key, REPLAYED: True}


def _return(name: str, number: int) -> Steps[None]:
    """Steps that give back what is held, and see it there again.

    It goes back when the channel is closed: then what one consumer held does so in its order.
    """
    yield _close
    for _ in range(TRIES):
        found = yield _look_at(name)
        if found.method.message_count >= number:
            break
        yield _pause


def _close(channel: Any, then: Then) -> None:
    channel.add_on_close_callback(lambda *_: then(None))
    channel.close()


def _pause(channel: Any, then: Then) -> None:
    channel.connection.ioloop.call_later(0.01, lambda: then(None))

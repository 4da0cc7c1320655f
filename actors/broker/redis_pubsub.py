"""The broker over Redis pub/sub: quick, and lossy.

Exchanges, queues, bindings and dead letters are this process's own, in its memory; Redis carries each message to the
other processes, which put it into such queues of theirs as take it. So a message is lost for a process that is not
connected in that moment, and with a process all that its queues held. What matters goes over RabbitMQ.

A publish is confirmed when a queue of this process has the message, or when Redis has handed it to another process;
whether that has a queue for it is not known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import msgspec

from ...messages.errors import ActorError, BrokerError, ErrorKind
from ..redis_faults import is_shut_out
from ..redis_link import CHECK_TIMEOUT, RedisLink, ServerDenied, ServerLost
from ..redis_url import RedisUrl
from .backend import Publication, Report
from .memory import MemoryBroker, MemoryServer
from .topology import Binding, Exchange, Queue

logger = logging.getLogger("understudy.broker")

CHANNEL: Final = "understudy:broker"
"""The one channel that everything goes through; the URL's ``prefix`` is put before it."""

AT_A_TIME: Final = 500
"""Messages that are sent as one pipeline."""
BACKLOG: Final = 20_000
"""Messages that may wait to be sent; what comes then is refused."""
LARGEST: Final = 8 * 1024 * 1024
"""Bytes of an envelope that is still opened."""
SILENCE: Final = 5.0
"""Seconds without a message after which Redis is asked whether it is there."""
FIRST_TRY: Final = 1.0
"""Seconds that a declaration waits until it is known whether Redis takes this user."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds until listening is tried again, doubled from the one to the other."""


class Envelope(msgspec.Struct, frozen=True):
    """What goes through Redis: a message, and which process it is from."""

    sender: str
    publication: Publication


class Pending(msgspec.Struct, eq=False):
    """A message whose publisher waits for the outcome."""

    publication: Publication
    position: int
    report: Report
    until: float
    body: bytes


class RedisServer:
    """What the connections of one process to one Redis share: queues, a thread that sends, one that listens.

    Args:
        url: Which Redis.
    """

    def __init__(self, url: RedisUrl) -> None:
        self.identity = uuid4().hex
        self.local = MemoryServer(self.identity)
        self.link = RedisLink(url)
        self._channel = f"{url.prefix}{CHANNEL}".encode()
        self._timeout = url.timeout
        self._outbox: deque[Pending] = deque()
        self._change = threading.Condition()
        self._closing = threading.Event()
        self._listening = threading.Event()
        self._tried = threading.Event()
        self._shut_out: Exception | None = None
        self._threads = [
            threading.Thread(target=target, name=f"redis broker {what}", daemon=True)
            for target, what in ((self._send, "sends"), (self._listen, "listens"))
        ]
        for thread in self._threads:
            thread.start()

    def send(self, publications: Sequence[Publication], report: Report, until: Sequence[float]) -> None:
        """Publish; `report` is told the outcomes, by another thread."""
        refused: list[tuple[int, BrokerError]] = []
        with self._change:
            for position, publication in enumerate(publications):
                if self._closing.is_set():
                    refused.append((position, _error("the connection is closed", ErrorKind.BROKER_CLOSED, publication)))
                    continue
                if len(self._outbox) >= BACKLOG:
                    text = f"{BACKLOG} messages wait for Redis already"
                    refused.append((position, _error(text, ErrorKind.PUBLISH_BACKLOG, publication)))
                    continue
                try:
                    body = msgspec.json.encode(Envelope(self.identity, publication))
                except Exception as error:
                    text = f"message {publication.message_id!r} cannot be written: {error}"
                    refused.append((position, _error(text, ErrorKind.MESSAGE_INVALID, publication)))
                    continue
                self._outbox.append(Pending(publication, position, report, until[position], body))
            self._change.notify()
        for position, refusal in refused:
            report(position, refusal)

    def wait_until_it_listens(self) -> bool:
        """Wait for the subscription, a little while; False if there is none."""
        return self._listening.wait(self._timeout)

    def refuse_if_shut_out(self) -> None:
        """Raise `broker.refused` if Redis refuses the URL's user; one that is not there may be back later."""
        self._tried.wait(min(self._timeout, FIRST_TRY))
        if self._shut_out is not None:
            raise _translated(self._shut_out) from self._shut_out

    def check(self) -> None:
        """See `Server.check`.

        Raises:
            BrokerError: Redis does not answer.
        """
        try:
            self.link.check()
        except (ServerLost, ServerDenied) as error:
            raise _translated(error) from error

    def close(self) -> None:
        """End both threads. Idempotent."""
        self._closing.set()
        with self._change:
            self._change.notify_all()
        self.link.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(CHECK_TIMEOUT)

    # --- the thread that sends ---------------------------------------------------------------------------------

    def _send(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._outbox) or self._closing.is_set())
                if not self._outbox:
                    return
                batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), AT_A_TIME))]
            try:
                self._publish(batch)
            except Exception as error:  # a bug: those who wait are told all the same
                logger.exception("publishing over Redis failed")
                self._report(batch, [_error(str(error), ErrorKind.BROKER_FAILED, each.publication) for each in batch])

    def _publish(self, batch: Sequence[Pending]) -> None:
        with self.local.lock:
            outcomes = [self.local.refusal(each.publication) for each in batch]
        outcomes = [None if each is not None and each.kind is ErrorKind.UNROUTABLE else each for each in outcomes]
        going = [position for position, outcome in enumerate(outcomes) if outcome is None]
        listening = False
        replies: Sequence[object] = ()
        if going:
            until = min(batch[position].until for position in going)
            # How many others have it is told only by whether we are among those who do.
            listening = self._listening.wait(max(0.0, until - time.monotonic()) / 2)
            try:
                replies = self.link.run([("PUBLISH", self._channel, batch[each].body) for each in going], until)
            except (ServerLost, ServerDenied) as error:
                for position in going:
                    outcomes[position] = _lost(error, batch[position].publication)
                going = []
        for position, reply in zip(going, replies, strict=False):
            publication = batch[position].publication
            if isinstance(reply, BaseException):
                outcomes[position] = _lost(ServerDenied(str(reply)), publication)
                continue
            elsewhere = int(str(reply)) - listening
            with self.local.lock:
                outcome = self.local.accept(publication)
            if outcome is not None and outcome.kind is ErrorKind.UNROUTABLE and elsewhere > 0:
                outcome = None
            outcomes[position] = outcome
        self.local.push()
        self._report(batch, outcomes)

    def _report(self, batch: Sequence[Pending], outcomes: Sequence[BrokerError | None]) -> None:
        for pending, outcome in zip(batch, outcomes, strict=True):
            try:
                pending.report(pending.position, outcome)
            except Exception:
                logger.exception("a publisher could not be told what became of its message")

    # --- the thread that listens -------------------------------------------------------------------------------

    def _listen(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing.is_set():
            try:
                connection = self.link.subscription(self._channel, time.monotonic() + CHECK_TIMEOUT)
                try:
                    self._shut_out = None
                    self._listening.set()
                    self._tried.set()
                    pause = FIRST_PAUSE
                    while not self._closing.is_set():
                        message = self.link.next_message(connection, time.monotonic() + SILENCE)
                        if message is not None:
                            self._receive(message)
                finally:
                    self._listening.clear()
                    connection.disconnect()
            except Exception as error:
                if self._closing.is_set():
                    return
                self._shut_out = error if is_shut_out(error) else None
                self._tried.set()
                response = _translated(error).response
                logger.warning("%s", response.to_json().decode())
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _receive(self, message: bytes) -> None:
        """Put another process's message into such queues of ours as take it."""
        if len(message) > LARGEST:
            logger.warning("a message of %d bytes came through Redis, and was dropped", len(message))
            return
        try:
            envelope = msgspec.json.decode(message, type=Envelope)
        except (msgspec.MsgspecError, ActorError, ValueError, RecursionError) as error:
            logger.warning("what came through Redis is no message: %s", type(error).__name__)
            return
        if envelope.sender == self.identity:
            return
        with self.local.lock:
            outcome = self.local.accept(envelope.publication)
        if outcome is not None and outcome.kind is ErrorKind.PUBLISH_NACKED:
            logger.warning("%s", outcome.response.to_json().decode())
        self.local.push()


class RedisBroker(MemoryBroker):
    """A connection to a `RedisServer`; a backend of the broker actor.

    Args:
        server: What this process's connections share. Deadlines are in `time.monotonic` seconds.
    """

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.local)
        self._redis = server

    def declare_exchange(self, exchange: Exchange) -> None:
        """See `BrokerBackend.declare_exchange`."""
        self._redis.refuse_if_shut_out()
        super().declare_exchange(exchange)

    def declare_queue(self, queue: Queue) -> None:
        """See `BrokerBackend.declare_queue`."""
        self._redis.refuse_if_shut_out()
        super().declare_queue(queue)

    def bind(self, binding: Binding) -> None:
        """See `BrokerBackend.bind`."""
        self._redis.refuse_if_shut_out()
        super().bind(binding)

    def publish(
        self, publications: Sequence[Publication], report: Report, deadlines: Sequence[float | None] = ()
    ) -> None:
        """See `BrokerBackend.publish`."""
        if self._closed:
            for position, publication in enumerate(publications):
                report(position, _error("the connection is closed", ErrorKind.BROKER_CLOSED, publication))
            return
        now = time.monotonic()
        limit = now + self._redis.link.url.timeout
        given = [*deadlines, *[None] * (len(publications) - len(deadlines))]
        until = [limit if each is None else min(limit, now + (each - now) * 0.9) for each in given]
        self._redis.send(publications, report, until)

    def check(self) -> None:
        """See `Server.check`."""
        self._redis.check()


def _error(text: str, kind: ErrorKind, publication: Publication, cause: Exception | None = None) -> BrokerError:
    return BrokerError(
        f"publish to {publication.exchange!r}: {text}", kind=kind, message_id=publication.message_id, cause=cause
    )


def _lost(error: ServerLost | ServerDenied, publication: Publication) -> BrokerError:
    if isinstance(error, ServerDenied):
        return _error(str(error), ErrorKind.BROKER_REFUSED, publication, error)
    kind = ErrorKind.PUBLISH_UNKNOWN if error.reached else ErrorKind.BROKER_UNAVAILABLE
    return _error(str(error), kind, publication, error)


def _translated(error: Exception) -> BrokerError:
    kind = ErrorKind.BROKER_REFUSED if isinstance(error, ServerDenied) else ErrorKind.BROKER_UNAVAILABLE
    return BrokerError(f"broker: {error}", kind=kind, cause=error)

"""Publishing with confirms: a bounded window of messages that the server has not answered, and the queue before it.

Everything here runs on the loop's thread, but for `Publisher.publish`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, Final

from pika import exceptions, spec

from ....messages.broker import HeaderValue
from ....messages.errors import BrokerError, ErrorKind
from ..backend import Publication, Report
from ..topology import DEFAULT_EXCHANGE
from .declaring import Topology
from .link import Link
from .loop import IoLoop
from .operations import CLOSED, ChannelRefused, Operations, Steps
from .wire import AGAIN, properties_of

WINDOW: Final = 4_000
WINDOW_BYTES: Final = 16 * 1024 * 1024
"""How much may be sent and not confirmed. Below a thousand the server waits for us; above, only delay grows."""

BACKLOG: Final = 20_000
BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""How much may wait in all; what comes then is refused."""

MARGIN: Final = 0.25
"""Seconds, or a tenth of the time if that is less, by which a publisher hears of it before its deadline."""

SUSPICION: Final = 1.0
"""Seconds for which a server that had blocked us before a reconnect is thought to do so still."""

ASK_AGAIN: Final = 0.1
"""Seconds until it is asked again whether an exchange exists, when the last time there was no answer."""

SILENCE: Final = 1.0
"""Seconds without any answer after which what was not sent in time waited for a server that is silent."""

NO_ANSWER: Final = 10.0
"""Seconds without any answer, while messages wait for one, after which the connection is taken for dead."""


class Pending:
    """A message whose publisher waits for the outcome."""

    __slots__ = ("answered", "deadline", "extra", "position", "publication", "report", "returned", "sent", "size")

    def __init__(
        self,
        publication: Publication,
        position: int,
        report: Report,
        deadline: float | None,
        extra: Mapping[str, HeaderValue] | None = None,
    ) -> None:
        self.publication = publication
        self.position = position
        self.report = report
        self.deadline = deadline
        self.extra = extra
        self.size = len(publication.body)
        self.sent = self.returned = self.answered = False


def _too_much(held: int, size: int) -> str:
    if size > BACKLOG_BYTES:
        return f"a body of {size:,} bytes is more than may wait for RabbitMQ's answer, {BACKLOG_BYTES:,} bytes"
    return f"{held} messages wait for RabbitMQ's answer already"


class Publisher:
    """Publishes over one link.

    Args:
        loop: The thread it runs on.
        link: The connection it publishes by.
        lookup: Asks whether an exchange exists, on another connection: a publish to one that does not would close
            the channel, with all that is under way on it.
        topology: What this client has declared: an exchange of it that somebody has deleted is declared again.
    """

    def __init__(self, loop: IoLoop, link: Link, lookup: Operations, topology: Topology) -> None:
        self._loop = loop
        self._topology = topology
        self._link = link
        self._lookup = lookup
        self._lock = threading.Lock()
        self._held = self._held_bytes = 0
        self._fresh: deque[Pending] = deque()
        self._queued = False
        self._backlog: deque[Pending] = deque()
        self._window: dict[int, Pending] = {}
        self._window_bytes = 0
        self._channel: Any = None
        self._next = 1
        self._first = 1
        self._last_returned = 0
        self._known: set[str] = {DEFAULT_EXCHANGE}
        self._asking: dict[str, list[Pending]] = {}
        self._careful = 0
        self._ready = False
        self._blocked = self._closed = False
        self._wake_at: float | None = None
        self._timer: Any = None
        self._drained: Callable[[], None] | None = None
        self._progress = 0.0

    # --- on any thread -----------------------------------------------------------------------------------------

    def publish(
        self,
        publications: Sequence[Publication],
        report: Report,
        deadlines: Sequence[float | None] = (),
        extra: Mapping[str, HeaderValue] | None = None,
        *,
        unrefused: bool = False,
    ) -> None:
        """See `BrokerBackend.publish`.

        Args:
            publications: What is published.
            report: Told what became of each.
            deadlines: When their publishers stop waiting, in `time.monotonic` seconds.
            extra: Headers that are added to theirs.
            unrefused: Whether they are taken however many wait and whether or not the server takes any now.
        """
        refusal: tuple[str, ErrorKind] | None = None
        with self._lock:
            taken = 0
            if self._closed:
                refusal = (CLOSED, ErrorKind.BROKER_CLOSED)
            elif self._blocked and not unrefused:
                refusal = ("RabbitMQ has blocked publishing: it is short of memory or disk", ErrorKind.BROKER_BLOCKED)
            else:
                for publication, deadline in zip_longest(publications, deadlines):
                    size = len(publication.body)
                    if not unrefused and (self._held >= BACKLOG or self._held_bytes + size > BACKLOG_BYTES):
                        refusal = (_too_much(self._held, size), ErrorKind.PUBLISH_BACKLOG)
                        break  # and those behind it with it: they are not to overtake it
                    self._held += 1
                    self._held_bytes += size
                    self._fresh.append(Pending(publication, taken, report, deadline, extra))
                    taken += 1
        if taken and not self._queued:
            self._queued = True
            self._loop.submit(self._take)
        if refusal is not None:
            for position in range(taken, len(publications)):
                report(position, _error(refusal[0], refusal[1], publications[position]))

    # --- the connection's life ---------------------------------------------------------------------------------

    def up(self) -> None:
        """There is a connection: open the channel, and send again what was not confirmed."""
        self._open_channel()
        self._progress = time.monotonic()
        self._watch(self._link.connection)
        if self._blocked:
            self._loop.after(SUSPICION, self._unsuspect)

    def ready(self, ready: bool) -> None:
        """Whether what this client has declared is there."""
        self._ready = ready
        self._flow()

    def down(self, error: BrokerError) -> None:
        """The connection is lost: what was sent is neither confirmed nor lost, and goes first when there is another."""
        self._channel = None
        self._take_back()

    def _watch(self, connection: Any) -> None:
        """See to it that a server which answers heartbeats and nothing else is left."""
        if connection is not self._link.connection:
            return
        now = time.monotonic()
        if not self._window or self._blocked:
            self._progress = now
        elif now - self._progress > NO_ANSWER:
            self._link.drop(f"no confirmation within {NO_ANSWER:g} s")
            return
        self._loop.after(NO_ANSWER / 10, lambda: self._watch(connection))

    def blocked(self, blocked: bool) -> None:
        """The server stops or goes on reading what is published."""
        self._blocked = blocked
        if not blocked:
            self._flow()

    def drain(self, drained: Callable[[], None]) -> None:
        """Refuse what comes; call back when everything is answered."""
        with self._lock:
            self._closed = True
        self._take()
        self._drained = drained
        self._look_whether_drained()

    def abandon(self) -> None:
        """Nothing more will be confirmed: answer what is left."""
        self._take()
        for pending in [
            *self._window.values(),
            *self._backlog,
            *(each for row in self._asking.values() for each in row),
        ]:
            self._settle(pending, self._overdue(pending))
        self._window.clear()
        self._backlog.clear()
        self._asking.clear()

    # --- sending -----------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Take over what threads have handed in."""
        self._queued = False
        fresh, backlog = self._fresh, self._backlog
        for _ in range(len(fresh)):
            pending = fresh.popleft()
            backlog.append(pending)
            if pending.deadline is not None and (self._wake_at is None or pending.deadline < self._wake_at):
                self._wake_by(pending.deadline)
        self._flow()

    def _open_channel(self) -> None:
        def opened(channel: Any) -> None:
            self._loop.guard(lambda: self._on_channel(channel))

        assert self._link.connection is not None
        self._link.connection.channel(on_open_callback=opened)

    def _on_channel(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda closed, reason: self._loop.guard(lambda: self._on_closed(closed, reason)))
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_answer, callback=lambda _: self._loop.guard(self._flow))
        self._channel = channel
        self._next = self._first = 1
        self._last_returned = 0
        self._known = {DEFAULT_EXCHANGE}

    def _flow(self) -> None:
        """Send as much as the window has room for."""
        channel = self._channel
        if channel is None or not channel.is_open or not self._ready or self._blocked:
            return
        connection = self._link.connection
        connection.cork()
        try:
            self._fill_window(channel)
        finally:
            connection.uncork()

    def _fill_window(self, channel: Any) -> None:
        backlog, window = self._backlog, self._window
        limit = 1 if self._careful else WINDOW
        while backlog and len(window) < limit and (self._window_bytes < WINDOW_BYTES or not window):
            pending = backlog.popleft()
            if pending.answered and not pending.sent:
                continue
            exchange = pending.publication.exchange
            if exchange not in self._known:
                if "\r" in exchange or "\n" in exchange:  # RabbitMQ would say of another that it exists
                    self._settle(pending, _refused(pending.publication, "no such exchange", ErrorKind.EXCHANGE_UNKNOWN))
                    continue
                self._ask_for(exchange, pending)
                continue
            if not self._send(channel, pending):
                break

    def _send(self, channel: Any, pending: Pending) -> bool:
        """Send it; False when the channel has just gone."""
        publication = pending.publication
        extra = pending.extra
        if pending.sent:
            extra = {**(extra or {}), AGAIN: True}
        try:
            channel.basic_publish(
                publication.exchange,
                publication.routing_key,
                publication.body,
                properties_of(publication, extra),
                mandatory=True,
            )
        except exceptions.AMQPError as error:
            if not channel.is_open:
                self._backlog.appendleft(pending)
                return False
            self._settle(pending, _unwritable(publication, error))
        except Exception as error:
            self._settle(pending, _unwritable(publication, error))
        else:
            pending.sent = True
            pending.returned = False
            self._window[self._next] = pending
            self._window_bytes += pending.size
            self._next += 1
        return True

    def _ask_for(self, exchange: str, pending: Pending) -> None:
        """Let it wait with the others for that exchange until it is known that there is one."""
        waiting = self._asking.get(exchange)
        if waiting is not None:
            waiting.append(pending)
            return
        self._asking[exchange] = [pending]
        self._ask(exchange)

    def _ask(self, exchange: str) -> None:
        if not self._asking.get(exchange):
            self._asking.pop(exchange, None)
            return

        def look() -> Steps[None]:
            try:
                yield lambda channel, then: channel.exchange_declare(exchange, passive=True, callback=then)
            except ChannelRefused as refused:
                if refused.code != 404 or not (yield from self._topology.restore_exchange(exchange)):
                    raise

        def then(_: Any, error: BrokerError | None) -> None:
            if error is None:
                self._known.add(exchange)
                # They came before everything that is still in the backlog for this exchange.
                self._backlog.extendleft(reversed(self._asking.pop(exchange, [])))
                self._flow()
            elif error.kind in (ErrorKind.EXCHANGE_UNKNOWN, ErrorKind.BROKER_REFUSED):
                for each in self._asking.pop(exchange, []):
                    where = f"publish to {exchange!r} with routing key {each.publication.routing_key!r}"
                    text = "no such exchange" if error.kind is ErrorKind.EXCHANGE_UNKNOWN else str(error)
                    self._settle(each, _error(f"{where}: {text}", error.kind, each.publication))
            else:
                # It may have failed on the spot: whoever is just filling the window must not find them there again.
                self._loop.after(ASK_AGAIN, lambda: self._ask(exchange))

        self._lookup.start(f"look for exchange {exchange!r}", look, then)

    # --- what the server says ----------------------------------------------------------------------------------

    def _on_answer(self, frame: Any) -> None:
        self._loop.guard(lambda: self._answered(frame.method))

    def _answered(self, method: Any) -> None:
        tag, window = method.delivery_tag, self._window
        self._progress = time.monotonic()
        confirmed = isinstance(method, spec.Basic.Ack)
        if method.multiple:
            tags: Sequence[int] = range(self._first, (tag or self._next - 1) + 1)
            self._first = max(self._first, (tag or self._next - 1) + 1)
        else:
            tags = (tag,)
            if tag == self._first:
                self._first += 1
        done: list[tuple[Pending, BrokerError | None]] = []
        for each in tags:
            pending = window.pop(each, None)
            if pending is None:
                continue
            self._window_bytes -= pending.size
            error: BrokerError | None = None
            if not confirmed:
                error = _refused(pending.publication, "RabbitMQ refused it: a queue is full", ErrorKind.PUBLISH_NACKED)
            elif pending.returned:
                error = _refused(pending.publication, "no queue takes it", ErrorKind.UNROUTABLE)
            done.append((pending, error))
        if self._careful:
            self._careful = max(0, self._careful - len(done))
        if not self._blocked or self._channel is not None:
            self._flow()
        self._settle_all(done)

    def _on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        # They come in the order of sending, so the search goes on where the last one ended.
        for tag in range(max(self._last_returned + 1, 1), self._next):
            pending = self._window.get(tag)
            if pending is None:
                continue
            publication = pending.publication
            if (
                publication.message_id == (properties.message_id or "")
                and publication.routing_key == method.routing_key
                and publication.exchange == method.exchange
                and publication.body == body
            ):
                pending.returned = True
                self._last_returned = tag
                return

    def _on_closed(self, channel: Any, reason: BaseException) -> None:
        """The server closed the channel for something that was published, without saying which."""
        if channel is not self._channel:
            return
        self._channel = None
        if not isinstance(reason, exceptions.ChannelClosedByBroker):
            return  # the connection is lost
        alone = self._window.popitem()[1] if len(self._window) == 1 else None
        if alone is not None:
            refused = ChannelRefused(reason.reply_code, reason.reply_text)
            self._window_bytes = 0
            self._careful = max(0, self._careful - 1)
            exchange = alone.publication.exchange
            error = refused.translated(f"publish to {exchange!r}")
            if error.kind is ErrorKind.EXCHANGE_UNKNOWN and exchange in self._topology.exchanges:
                alone.sent = False  # it went nowhere; on the next channel its exchange is looked for, and restored
                self._backlog.appendleft(alone)
            else:
                self._settle(alone, _error(str(error), error.kind, alone.publication))
        else:
            # One by one, the guilty one shows itself.
            self._careful += len(self._window)
        self._take_back()
        if self._link.connection is not None and self._link.connection.is_open:
            self._open_channel()

    def _take_back(self) -> None:
        """What was sent and not answered goes to the front of the backlog, in its order."""
        self._backlog.extendleft(self._window[tag] for tag in sorted(self._window, reverse=True))
        self._window.clear()
        self._window_bytes = 0

    def _unsuspect(self) -> None:
        """The server has not said again that it blocks: it does not."""
        connection = self._link.connection
        if connection is not None and self._blocked and not self._window:
            self._blocked = False
            self._flow()

    # --- outcomes ----------------------------------------------------------------------------------------------

    def _settle(self, pending: Pending, error: BrokerError | None) -> None:
        self._settle_all([(pending, error)])

    def _settle_all(self, done: Sequence[tuple[Pending, BrokerError | None]]) -> None:
        with self._lock:
            self._held -= len(done)
            for pending, _ in done:
                self._held_bytes -= pending.size
        for pending, error in done:
            if not pending.answered:
                pending.answered = True
                self._loop.guard(partial(pending.report, pending.position, error))
        if self._drained is not None:
            self._look_whether_drained()

    def _look_whether_drained(self) -> None:
        if self._drained is not None and not (self._window or self._backlog or self._asking or self._fresh):
            drained, self._drained = self._drained, None
            drained()

    # --- deadlines ---------------------------------------------------------------------------------------------

    def _wake_by(self, deadline: float) -> None:
        self._loop.cancel(self._timer)
        self._wake_at = deadline
        self._timer = self._loop.after(deadline - time.monotonic(), self._expire)

    def _expire(self) -> None:
        """Answer those whose time is up; what was sent stays, to be confirmed."""
        self._timer = None
        self._wake_at = None
        now = time.monotonic()
        soonest: float | None = None
        never_sent: list[tuple[Pending, BrokerError | None]] = []
        for row in (self._window.values(), self._backlog, *self._asking.values()):
            for pending in row:
                if pending.answered or pending.deadline is None:
                    continue
                if pending.deadline > now:
                    soonest = pending.deadline if soonest is None else min(soonest, pending.deadline)
                elif pending.sent:
                    pending.answered = True
                    pending.report(pending.position, self._overdue(pending))
                else:
                    never_sent.append((pending, self._overdue(pending)))
        gone = {id(pending) for pending, _ in never_sent}
        if gone:
            self._backlog = deque(each for each in self._backlog if id(each) not in gone)
            for exchange, row in self._asking.items():
                self._asking[exchange] = [each for each in row if id(each) not in gone]
            self._settle_all(never_sent)
        if soonest is not None:
            self._wake_by(soonest)

    def _overdue(self, pending: Pending) -> BrokerError:
        publication = pending.publication
        if pending.sent:
            return _refused(publication, "it was sent, and RabbitMQ has not answered yet", ErrorKind.PUBLISH_UNKNOWN)
        if self._blocked:
            return _refused(publication, "RabbitMQ blocks publishing; it was not sent", ErrorKind.BROKER_BLOCKED)
        if self._closed:
            return _refused(publication, f"{CLOSED}; it was not sent", ErrorKind.BROKER_CLOSED)
        error = self._link.error
        if error is not None:
            return _error(f"{_where(publication)}: it was not sent: {error}", error.kind, publication, error)
        if self._is_silent(publication.exchange):
            text = "RabbitMQ does not answer; it was not sent"
            return _refused(publication, text, ErrorKind.BROKER_UNAVAILABLE)
        return _refused(publication, "there was no room in the window; it was not sent", ErrorKind.PUBLISH_BACKLOG)

    def _is_silent(self, exchange: str) -> bool:
        """Whether it is for the server's silence that a message was not sent."""
        if self._channel is None or not self._ready or exchange in self._asking:
            return True
        return time.monotonic() - self._progress >= SILENCE


def _where(publication: Publication) -> str:
    return f"publish to {publication.exchange!r} with routing key {publication.routing_key!r}"


def _refused(publication: Publication, text: str, kind: ErrorKind) -> BrokerError:
    return _error(f"{_where(publication)}: {text}", kind, publication)


def _unwritable(publication: Publication, error: Exception) -> BrokerError:
    what = f"{_where(publication)}: its headers or properties cannot be written: {error}"
    return _error(what, ErrorKind.MESSAGE_INVALID, publication, error)


def _error(text: str, kind: ErrorKind, publication: Publication, cause: Exception | None = None) -> BrokerError:
    return BrokerError(text, kind=kind, message_id=publication.message_id, cause=cause)

"""One connection to RabbitMQ that is made again whenever it is lost. All of it runs on the loop's thread."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

from pika import SelectConnection, exceptions

from ....messages.errors import BrokerError, ErrorKind
from .loop import IoLoop
from .reading import Intake, Take
from .url import Address

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 1.5
REFUSED_DELAY: Final = 3.0
"""Seconds until connecting is tried again: 0.1, 0.2 … 1.5, each times a random half to whole; a server that
refuses the user is not asked more often than every three."""

STEADY: Final = 1.0
"""Seconds that a connection must have lasted for the delays to begin anew."""

GRACE: Final = 0.2
"""Seconds for which an attempt may outlast its time, in which pika gives it up by itself."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that the server has to agree to a close; a blocked one never does."""


READ_AT_ONCE: Final = 64 * 1024
"""Bytes taken from the socket at a time; with pika's 4 KiB, consuming takes a tenth longer."""


class Dropped(Exception):
    """We gave the connection up."""


class CorkedConnection(SelectConnection):  # type: ignore[misc]  # pika ships no types
    """A connection that can hold back what is written to send it all at once, and takes deliveries by itself.

    pika hands each frame to the system by itself, three for a message: most of what publishing costs. Should a later
    pika read or write in another way, the methods here are not called, and it is only slower.
    """

    _held_back: list[bytes] | None = None
    _intake: Intake | None = None

    def takes(self, channel: int, tag: str, take: Take | None) -> None:
        """Have a consumer's deliveries taken by another way than pika's callback; None: no more."""
        intake = self._begin_intake()
        if take is not None:
            intake.takers[channel, tag.encode()] = take
        else:
            intake.takers.pop((channel, tag.encode()), None)

    def cork(self) -> None:
        """Hold back what is written from here on."""
        if self._held_back is None:
            self._held_back = []

    def uncork(self) -> None:
        """Send what was held back."""
        held_back, self._held_back = self._held_back, None
        if held_back and self.is_open:
            self._output_marshaled_frames([b"".join(held_back)])

    def _output_marshaled_frames(self, marshaled_frames: list[bytes]) -> None:
        if self._held_back is None:
            super()._output_marshaled_frames(marshaled_frames)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            self._held_back += marshaled_frames

    def _on_data_available(self, data_in: bytes) -> None:
        taken = self._begin_intake().feed(data_in)  # meanwhile pika counts what it is given, in the same number
        self.bytes_received += taken  # at which its heartbeat looks

    def _begin_intake(self) -> Intake:
        if self._intake is None:
            self._intake = Intake(super()._on_data_available)  # pyright: ignore[reportAttributeAccessIssue]
            transport: Any = getattr(self, "_transport", None)
            if hasattr(transport, "_MAX_RECV_BYTES"):
                transport._MAX_RECV_BYTES = READ_AT_ONCE
        return self._intake


class Link:
    """A connection that comes back.

    Args:
        loop: Where it runs.
        address: Where it connects to.
        name: What the server calls it.
        up: Called when there is a connection.
        down: Called when it is lost, before it is made again.
        blocked: Called with True when the server stops reading what is published, and with False when it goes on.
    """

    def __init__(
        self,
        loop: IoLoop,
        address: Address,
        name: str,
        *,
        up: Callable[[], None],
        down: Callable[[BrokerError], None],
        blocked: Callable[[bool], None] = lambda blocked: None,
    ) -> None:
        self._loop = loop
        self._address = address
        self._name = name
        self._up, self._down, self._blocked = up, down, blocked
        self._opening: Any = None
        self._open: Any = None
        self._attempts = 0
        self._since = time.monotonic()
        self._timer: Any = None
        self._closing = False
        self._closed: Callable[[], None] | None = None
        self.error: BrokerError | None = None
        """Why there is no connection, if that is known."""

    @property
    def connection(self) -> Any:
        """The connection, a `pika.SelectConnection`, while it is open; else None."""
        return self._open

    @property
    def downtime(self) -> float:
        """Seconds for which there has been no connection."""
        return 0.0 if self._open is not None else time.monotonic() - self._since

    def connect(self) -> None:
        """Begin."""
        self._timer = None
        try:
            self._opening = CorkedConnection(
                self._address.parameters(self._name),
                on_open_callback=self._guarded(self._on_open),
                on_open_error_callback=self._guarded(self._on_lost),
                on_close_callback=self._guarded(self._on_lost),
                custom_ioloop=self._loop.pika,
            )
        except Exception as error:
            self._on_lost(None, error)
        else:
            # pika's own time-outs count each step of connecting; a server that sends a byte now and then gets on.
            attempt = self._opening
            self._timer = self._loop.after(self._address.connection_timeout + GRACE, lambda: self._give_up(attempt))

    def drop(self, reason: str) -> None:
        """Give the connection up, without asking the server, and make another."""
        if self._open is not None:
            self._abort(self._open, reason)

    def close(self, closed: Callable[[], None]) -> None:
        """End it for good; `closed` is called once when that has happened."""
        self._closing, self._closed = True, closed
        self._loop.cancel(self._timer)
        connection = self._open or self._opening
        if connection is None:
            self._over()
            return
        # Whatever pika makes of it, `closed` is called: who waits for the end of one link has another to close.
        self._timer = self._loop.after(CLOSE_TIMEOUT, lambda: self._end(connection, "close was not answered"))
        if connection is self._opening:
            self._abort(connection, "closed")
        elif connection.is_open:
            connection.close()
        # else it was just lost, and pika, which tells the channels first, is about to tell us.

    # --- what pika calls ---------------------------------------------------------------------------------------

    def _guarded(self, call: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: self._loop.guard(lambda: call(*arguments))

    def _on_open(self, connection: Any) -> None:
        if connection is not self._opening:
            self._abort(connection, "too late")
            return
        self._loop.cancel(self._timer)
        self._timer = None
        self._opening, self._open = None, connection
        self._since = time.monotonic()
        self.error = None
        connection.add_on_connection_blocked_callback(self._guarded(lambda *_: self._blocked(True)))
        connection.add_on_connection_unblocked_callback(self._guarded(lambda *_: self._blocked(False)))
        self._up()

    def _on_lost(self, connection: Any, reason: BaseException) -> None:
        was_open = connection is not None and connection is self._open
        if connection is not None and not was_open and connection is not self._opening:
            return
        self._loop.cancel(self._timer)
        self._timer = None
        self._opening = self._open = None
        now = time.monotonic()
        if was_open:
            self._attempts = 0 if now - self._since >= STEADY else self._attempts
            self._since = now
        if self._closing:
            self._over()
            return
        self.error = _translate(reason, self._address)
        delay = min(FIRST_DELAY * 2**self._attempts, LONGEST_DELAY) * random.uniform(0.5, 1.0)
        if self.error.kind is ErrorKind.BROKER_REFUSED:
            delay = REFUSED_DELAY
        self._attempts = min(self._attempts + 1, 10)
        self._timer = self._loop.after(delay, self.connect)
        self._down(self.error)

    def _give_up(self, attempt: Any) -> None:
        if attempt is self._opening:
            self._abort(attempt, f"not connected within {self._address.connection_timeout:g} s")

    def _abort(self, connection: Any, reason: str) -> None:
        # pika has no public way to end a connection without the server's consent, which a server that is stalled
        # or blocks us never gives. Its own heartbeat checker ends dead connections in this way.
        connection._terminate_stream(Dropped(reason))

    def _end(self, connection: Any, reason: str) -> None:
        self._loop.guard(lambda: self._abort(connection, reason))
        self._over()

    def _over(self) -> None:
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()


def _translate(reason: BaseException, address: Address) -> BrokerError:
    """Why there is no connection, as an error of the catalogue."""
    reason = _innermost(reason)
    kind, why = _kind_and_text(reason)
    # It is made in pika's callbacks, whose names would say nothing.
    return BrokerError(f"RabbitMQ at {address!r} {why}", kind=kind, method="connect", cause=reason)


def _kind_and_text(reason: BaseException) -> tuple[ErrorKind, str]:
    if isinstance(reason, exceptions.ConnectionClosedByBroker):
        kind = ErrorKind.BROKER_REFUSED if reason.reply_code in (403, 530) else ErrorKind.BROKER_UNAVAILABLE
        return kind, f"ended the connection: {reason.reply_code} {reason.reply_text}"
    # "Probable": pika goes by how far connecting had come, also when the stream was just lost; a server that refuses
    # says so before it closes (pika asks for that: authentication_failure_close).
    if "StreamLostError" not in str(reason):
        if isinstance(reason, (exceptions.AuthenticationError, exceptions.ProbableAuthenticationError)):
            return ErrorKind.BROKER_REFUSED, "refuses the user"
        if isinstance(reason, exceptions.ProbableAccessDeniedError):
            return ErrorKind.BROKER_REFUSED, "refuses the virtual host"
    return ErrorKind.BROKER_UNAVAILABLE, f"cannot be reached: {str(reason) or type(reason).__name__}"


def _innermost(reason: BaseException) -> BaseException:
    """Pika wraps what happened while connecting, once for each of its layers."""
    for _ in range(5):
        inner: Any = getattr(reason, "exceptions", None) or getattr(reason, "exception", None) or reason.args
        if isinstance(inner, (list, tuple)):
            inner = inner[-1] if inner else None
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return reason

"""Requests to the server that somebody waits for: each a generator of steps on a channel of its own.

A step is a function that is given the channel and what to call with the answer; the answer is what `yield` gives
back. When the server closes the channel, `ChannelRefused` is raised at the `yield`; a generator that goes on
gets a new channel.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeAlias, TypeVar

from pika import exceptions

from ....messages.errors import BrokerError, ErrorKind
from ... import execution
from .link import Link
from .loop import IoLoop

T = TypeVar("T")

Then: TypeAlias = Callable[[Any], None]
Step: TypeAlias = Callable[[Any, Then], Any]
Steps: TypeAlias = Generator[Step, Any, T]
Outcome: TypeAlias = Callable[[Any, BrokerError | None], None]

STEP_TIMEOUT: Final = 5.0
"""Seconds that the server has to answer a step, and then another request, before its connection is taken for dead."""

PROBE: Final = "see whether RabbitMQ answers"

SILENCE: Final = 1.0
"""Seconds without an answer, or half of the time that there is if that is less, after which a request that is out of
time is taken to wait for a server that is silent, and not for one that is at work."""

PATIENCE: Final = 1.0
"""Seconds after the loss of a connection for which a request waits for the next one."""


class ChannelRefused(Exception):
    """The server closed the channel, as AMQP does for an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text

    def translated(self, what: str) -> BrokerError:
        """The same as an error of the catalogue."""
        if self.code == 404:
            kind = ErrorKind.EXCHANGE_UNKNOWN if "no exchange" in self.text else ErrorKind.QUEUE_UNKNOWN
            return BrokerError(f"{what}: there is {_without_code(self.text)}", kind=kind, cause=self)
        kind = ErrorKind.BROKER_REFUSED if self.code in (403, 405) else ErrorKind.BROKER_FAILED
        return BrokerError(f"{what}: {self.text}", kind=kind, cause=self)


def wait_for(start: Callable[[Then], None], timeout: float | None) -> Any:
    """Call `start` with a callback, and wait for what that is called with.

    A pooled actor that waits here lends its thread to others.

    Args:
        start: Has the loop's thread do something, and call back.
        timeout: Seconds; None has no limit.

    Returns:
        What came; None when nothing did in time.
    """
    latch = threading.Lock()
    latch.acquire()
    outcome: list[Any] = [None]

    def then(result: Any) -> None:
        outcome[0] = result
        execution.free(latch)

    start(then)
    execution.wait(latch, timeout, None)
    return outcome[0]


class Operations:
    """Runs operations on a link.

    Args:
        loop: The loop that the link runs on.
        link: The connection they are made on.
    """

    def __init__(self, loop: IoLoop, link: Link) -> None:
        self._loop = loop
        self._link = link
        self._waiting: deque[_Operation[Any]] = deque()
        self._running: set[_Operation[Any]] = set()
        self._closed = False
        self._probing = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._link.connection is not None

    def perform(
        self, what: str, steps: Callable[[], Steps[T]], deadline: float | None = None, *, keep: bool = False
    ) -> T:
        """Do it, and wait for the result; not on the loop's own thread.

        Args:
            what: What is done, for errors.
            steps: Makes the generator; called on the loop's thread.
            deadline: See `start`.
            keep: See `start`.

        Raises:
            BrokerError: ``broker.unavailable`` if there is no connection or no answer, what the server's refusal
                means otherwise.
        """

        def begin(then: Then) -> None:
            def told(result: Any, error: BrokerError | None) -> None:
                then((result, error))

            self._loop.submit(lambda: self.start(what, steps, told, keep=keep, deadline=deadline))

        result, error = wait_for(begin, None)
        if error is not None:
            raise error
        done: T = result
        return done

    def start(
        self,
        what: str,
        steps: Callable[[], Steps[Any]],
        then: Outcome,
        *,
        keep: bool = False,
        deadline: float | None = None,
    ) -> None:
        """Do it; `then` is told the result or the error. On the loop's thread.

        Args:
            what: What is done, for errors.
            steps: Makes the generator.
            then: Called once.
            keep: Whether the channel stays open at the end; the generator hands it out.
            deadline: When whoever asked for it stops waiting, in `time.monotonic` seconds: by then it fails, unless
                the server has answered it lately. None waits as long as a connection is thought to live.
        """
        operation = _Operation(self, what, steps, then, keep)
        if deadline is not None:
            begun = time.monotonic()
            operation.until = self._loop.after(deadline - begun, lambda: self._overdue(operation, deadline - begun))
        if self._closed:
            operation.fail(BrokerError(f"{what}: {CLOSED}", kind=ErrorKind.BROKER_CLOSED))
        elif self._link.connection is not None:
            self._running.add(operation)
            operation.begin(self._link.connection)
        elif self._link.downtime < PATIENCE or self._link.error is None:
            self._waiting.append(operation)
            self._loop.after(PATIENCE, lambda: self._tire(operation))
        else:
            operation.fail(self._unavailable(what))

    def up(self) -> None:
        """There is a connection."""
        while self._waiting and self._link.connection is not None:
            operation = self._waiting.popleft()
            self._running.add(operation)
            operation.begin(self._link.connection)

    def down(self, error: BrokerError) -> None:
        """The connection is lost: what was under way fails, what had not begun waits."""
        for operation in list(self._running):
            operation.fail(BrokerError(f"{operation.what}: the connection was lost", kind=error.kind, cause=error))

    def close(self) -> None:
        """Fail what is not done, and refuse what comes."""
        self._closed = True
        for operation in [*self._running, *self._waiting]:
            operation.fail(BrokerError(f"{operation.what}: {CLOSED}", kind=ErrorKind.BROKER_CLOSED))
        self._waiting.clear()

    def over(self, operation: _Operation[Any]) -> None:
        """An operation has ended."""
        self._running.discard(operation)

    def stalled(self, operation: _Operation[Any]) -> None:
        """An operation had no answer in time: the server is silent, or only what it concerns."""
        if operation.what == PROBE:
            operation.fail(BrokerError(f"{PROBE}: it does not", kind=ErrorKind.BROKER_UNAVAILABLE))
            self._link.drop(f"no answer within {STEP_TIMEOUT:g} s")
            return
        text = f"{operation.what}: RabbitMQ has not answered this within {STEP_TIMEOUT:g} s"
        operation.skip(BrokerError(text, kind=ErrorKind.BROKER_UNAVAILABLE))
        self._probe()

    def _overdue(self, operation: _Operation[Any], allowed: float) -> None:
        """Whoever had asked for it is about to give up."""
        if operation in self._waiting:
            self._waiting.remove(operation)
            operation.fail(self._unavailable(operation.what))
        elif time.monotonic() - operation.answered >= min(SILENCE, allowed / 2):
            text = f"{operation.what}: RabbitMQ has not answered in time"
            operation.fail(BrokerError(text, kind=ErrorKind.BROKER_UNAVAILABLE))
            self._probe()

    def _probe(self) -> None:
        """See whether the server answers at all: if not, this ends the connection, though nobody waits any more."""

        def nothing() -> Steps[None]:
            return
            yield  # a generator, of no steps but the opening of its channel

        def known(_: Any, error: BrokerError | None) -> None:
            self._probing = False

        if not self._probing and self._link.connection is not None:
            self._probing = True
            self.start(PROBE, nothing, known)

    def timer(self, seconds: float, job: Callable[[], None]) -> Any:
        """A timer of the loop."""
        return self._loop.after(seconds, job)

    def no_timer(self, timer: Any) -> None:
        """Take a timer back."""
        self._loop.cancel(timer)

    def guard(self, job: Callable[[], None]) -> None:
        """Run a job that must not break the loop."""
        self._loop.guard(job)

    def _tire(self, operation: _Operation[Any]) -> None:
        if operation in self._waiting:
            if self._link.error is None:  # still at the first attempt to connect
                self._loop.after(PATIENCE, lambda: self._tire(operation))
                return
            self._waiting.remove(operation)
            operation.fail(self._unavailable(operation.what))

    def _unavailable(self, what: str) -> BrokerError:
        error = self._link.error
        kind = ErrorKind.BROKER_UNAVAILABLE if error is None else error.kind
        return BrokerError(f"{what}: {error or 'there is no connection'}", kind=kind, cause=error)


CLOSED: Final = "the connection to the broker is closed"


class _Operation(Generic[T]):
    """One operation under way."""

    def __init__(self, owner: Operations, what: str, steps: Callable[[], Steps[T]], then: Outcome, keep: bool) -> None:
        self.what = what
        self._owner = owner
        self._make = steps
        self._steps: Steps[T] | None = None
        self._then = then
        self._keep = keep
        self._connection: Any = None
        self._channel: Any = None
        self._timer: Any = None
        self._done = False
        self._turn = 0
        self.until: Any = None
        """The timer of its deadline."""
        self.answered = time.monotonic()
        """When the server last answered it, or it was begun."""

    def begin(self, connection: Any) -> None:
        self._connection = connection
        self._steps = self._make()
        self._open_channel(lambda: self._advance(next))

    def fail(self, error: BrokerError) -> None:
        self._end(None, error)

    def skip(self, error: BrokerError) -> None:
        """Raise an error at the step that is not answered; a generator that goes on gets a new channel."""
        self._turn += 1  # its answer comes too late from here on
        channel, self._channel = self._channel, None
        if channel is not None and channel.is_open:
            self._owner.guard(channel.close)
        self._advance(lambda steps: steps.throw(error))

    def _open_channel(self, then: Callable[[], None]) -> None:
        turn = self._turn

        def opened(channel: Any) -> None:
            if self._done or turn != self._turn:  # too late
                self._owner.guard(channel.close)
                return
            self._channel = channel
            self._owner.guard(then)

        self._expect()
        try:
            channel = self._connection.channel(on_open_callback=opened)
        except exceptions.AMQPError as error:  # it is being closed
            self._end(None, BrokerError(f"{self.what}: {error!r}", kind=ErrorKind.BROKER_UNAVAILABLE, cause=error))
            return
        channel.add_on_close_callback(lambda closed, reason: self._owner.guard(lambda: self._on_closed(closed, reason)))

    def _on_closed(self, channel: Any, reason: BaseException) -> None:
        if self._done or channel is not self._channel or not isinstance(reason, exceptions.ChannelClosedByBroker):
            return
        refused = ChannelRefused(reason.reply_code, reason.reply_text)
        self._channel = None
        self._advance(lambda steps: steps.throw(refused))

    def _advance(self, go: Callable[[Steps[T]], Step]) -> None:
        if self._done or self._steps is None:
            return
        try:
            step = go(self._steps)
        except StopIteration as end:
            self._end(end.value, None)
        except ChannelRefused as refused:
            self._end(None, refused.translated(self.what))
        except BrokerError as error:
            self._end(None, error)
        except Exception as error:
            self._end(None, BrokerError(f"{self.what}: {error}", kind=ErrorKind.BROKER_FAILED, cause=error))
        else:
            self._take(step)

    def _take(self, step: Step) -> None:
        if self._channel is None or not self._channel.is_open:
            self._open_channel(lambda: self._take(step))
            return
        self._turn += 1
        turn = self._turn

        def then(answer: Any) -> None:
            if turn == self._turn:  # not one that a closed channel had already answered
                self._owner.guard(lambda: self._advance(lambda steps: steps.send(answer)))

        self._expect()
        try:
            step(self._channel, then)
        except Exception as error:
            self._end(None, BrokerError(f"{self.what}: {error}", kind=ErrorKind.MESSAGE_INVALID, cause=error))

    def _expect(self) -> None:
        self.answered = time.monotonic()
        self._owner.no_timer(self._timer)
        self._timer = self._owner.timer(STEP_TIMEOUT, lambda: self._owner.stalled(self))

    def _end(self, result: Any, error: BrokerError | None) -> None:
        if self._done:
            return
        self._done = True
        self._owner.no_timer(self._timer)
        self._owner.no_timer(self.until)
        self._owner.over(self)
        if self._steps is not None:
            self._steps.close()
        if self._channel is not None and self._channel.is_open and (error is not None or not self._keep):
            self._owner.guard(self._channel.close)
        self._then(result, error)


def _without_code(text: str) -> str:
    return re.sub(r"^NOT_FOUND - ", "", text)

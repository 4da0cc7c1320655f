"""The error log actor: every error as a line of JSON, and as a notification through a broker actor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, TextIO

import msgspec
import orjson

from ...messages.errorlog import CountErrors, ErrorCounts
from ...messages.errors import ErrorKind, FileError, MailboxError
from ...messages.message import Message
from ...messages.notifications import ActionType, NotifData, ProduceNotif
from ...messages.response import ErrorResponse
from ..actor import Actor
from ..future import Future
from ..handlers import handles, handles_batch
from ..request import Request
from .listening import Listener, is_at_or_below
from .sink import Sink, open_sink

__all__ = ["ErrorLog"]

logger = logging.getLogger("understudy.errorlog")

EXCHANGE: Final = "Hoopoe:ZerlogExchange"
RECEIVER: Final = "zerlog"
"""Whom the notifications are for; an owner's id is never this."""

BATCH: Final = 500
WAITING: Final = 1_000
"""Notifications that may wait for the broker's answer; a further one is not published."""
PUBLISH_TIMEOUT: Final = 10.0
END_OF_TIME: Final = 253_402_300_799
REPORT_AFTER: Final = 5.0
"""Seconds from the first error that could not be logged to the line that says how many there were."""


class Answered(Message[None]):
    """The broker answered to a notification, or did not in time."""

    by: Any
    future: Any


class Report(Message[None]):
    """Time to say what could not be logged."""


class Tally(msgspec.Struct):
    """What became of the errors; handed on from one incarnation to the next."""

    written: int = 0
    published: int = 0
    unwritten: int = 0
    unpublished: int = 0
    waiting: int = 0
    """Published, and not answered yet."""
    reported: tuple[int, int, int] = (0, 0, 0)
    """How many were said to be unwritten, unpublished and missed."""


class ErrorLog(Actor):
    """Logs errors: those of the system's actors by itself, and each `ErrorResponse` that it is sent.

    Each becomes one line of JSON in a file or stream and, where a broker is named, a notification of the type
    Zerlog on the fanout exchange ``Hoopoe:ZerlogExchange``. It never waits for the broker and never fails with it: what
    could not be logged is counted, and a line says how many there were, at most every few seconds. Errors of the
    log itself, of the broker actor and of what is below it are not published: that would go round for ever.

    It answers `CountErrors`, and an asked `ErrorResponse` when its line is written: with a `FileError` if it cannot be.

    Args:
        to: the path of a file, which is appended to, or a text stream; None is the standard error stream.
        broker: the broker actor, a sibling's name or a path; None publishes nothing.
        exchange: where errors are published.

    Raises:
        FileError: ``file.unwritable`` when it starts and the file cannot be opened.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(
        self, to: str | Path | TextIO | None = None, *, broker: str | None = None, exchange: str = EXCHANGE
    ) -> None:
        super().__init__()
        self._to, self._broker, self._exchange = to, broker, exchange
        self._sink: Sink | None = None
        self._tally = Tally()
        self._listener: Listener | None = None
        self._last: Exception | None = None
        self._report_due = False

    # --- its life ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Open the file, and begin to listen."""
        self._sink = open_sink(self._to)
        cell = self._cell
        kept: dict[str, Any] = cell.needs.handed_on
        self._tally = kept.setdefault("tally", self._tally)
        if "listener" not in kept:
            kept["listener"] = Listener(cell.runtime.events, cell.runtime.name, self.actor_ref, cell.path)
        listener: Listener = kept["listener"]
        listener.start()
        self._listener = listener
        self._tally.unpublished += self._tally.waiting  # by an incarnation that is gone: nobody hears the answers
        self._tally.waiting = 0
        self._note_losses()

    def on_stop(self) -> None:
        """Say what could not be logged, and end."""
        if self._listener is not None:
            self._listener.stop()
        self._tally.unpublished += self._tally.waiting
        self._tally.waiting = 0
        self._write_report()
        self._close()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; the listener goes on, into the mailbox that the next incarnation has."""
        self._close()

    def _on_killed(self) -> None:
        self._close()

    def _close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    # --- logging -----------------------------------------------------------------------------------------------

    @handles_batch(max_size=BATCH)
    def log(self, requests: list[Request[ErrorResponse]]) -> None:
        """Write what waits in one go, and publish it."""
        bodies = [_body(request.message) for request in requests]
        failure = self._write(b"".join(body + b"\n" for body in bodies), len(bodies))
        if self._broker is not None:
            for request, body in zip(requests, bodies, strict=True):
                self._publish(orjson.loads(body), _seconds(request.message.at))
        self._note_losses()
        for request in requests:
            if failure is None:
                request.reply(None)
            else:
                request.fail(failure)

    def _write(self, lines: bytes, number: int) -> FileError | None:
        assert self._sink is not None, "it is open from on_start to the end"
        try:
            self._sink.write(lines)
        except FileError as error:
            self._tally.unwritten += number
            self._last = error
            return error
        self._tally.written += number
        return None

    def _publish(self, error: dict[str, Any], fired_at: int) -> None:
        assert self._broker is not None
        try:
            broker = self._cell.runtime.directory.near(self._cell.path, self._broker)
            if is_at_or_below(error["actor"], broker.path):
                return
            if self._tally.waiting >= WAITING:
                raise MailboxError(
                    f"{WAITING} errors wait for {broker.path} already", kind=ErrorKind.MAILBOX_FULL, target=broker.path
                )
            future = broker.ask(self._notification(error, fired_at), block=False, timeout=PUBLISH_TIMEOUT)
        except MailboxError as problem:
            self._tally.unpublished += 1
            self._last = problem
            return
        self._tally.waiting += 1
        future.on_done(self._then(future))

    def _notification(self, error: dict[str, Any], fired_at: int) -> ProduceNotif:
        notif = NotifData(
            id=self._cell.runtime.new_urn().removeprefix("urn:uuid:"),
            receiver_info=RECEIVER,
            action_data=error,
            actioner_info=error["actor"] or self._cell.runtime.name,
            action_type=ActionType.ZERLOG,
            fired_at=fired_at,
        )
        return ProduceNotif(notif_data=notif, exchange_name=self._exchange, exchange_type="fanout")

    def _then(self, future: Future[Any]) -> Callable[[], None]:
        def post() -> None:
            if not self._fenced:
                self._cell.put_always(Answered(self, future))

        return post

    @handles
    def answered(self, message: Answered) -> None:
        """Take note of what the broker made of a notification."""
        if message.by is not self:
            return  # counted when its incarnation was followed by this one
        self._tally.waiting -= 1
        try:
            message.future.get(timeout=0.0)
        except Exception as error:
            self._tally.unpublished += 1
            self._last = error
            self._note_losses()
        else:
            self._tally.published += 1

    @handles
    def count(self, _message: CountErrors) -> ErrorCounts:
        """Count what became of the errors."""
        tally = self._tally
        return ErrorCounts(tally.written, tally.published, *self._losses())

    # --- what could not be logged ------------------------------------------------------------------------------

    def _losses(self) -> tuple[int, int, int]:
        missed = 0 if self._listener is None else self._listener.missed
        return self._tally.unwritten, self._tally.unpublished, missed

    def _note_losses(self) -> None:
        if not self._report_due and self._losses() != self._tally.reported:
            self._report_due = True
            self.after(REPORT_AFTER, Report())

    @handles
    def report(self, _message: Report) -> None:
        """Say what could not be logged; if that cannot be written either, say it again later."""
        self._report_due = False
        self._write_report()
        self._note_losses()

    def _write_report(self) -> None:
        losses = self._losses()
        if losses == self._tally.reported:
            return
        unwritten, unpublished, missed = (now - then for now, then in zip(losses, self._tally.reported, strict=True))
        problem = FileError(
            f"errors that could not be logged since the last report: {unwritten} not written, {unpublished} not "
            f"published, {missed} that the log's mailbox had no room for",
            kind=ErrorKind.ERRORS_UNLOGGED,
            actor=self._cell.path,
            cause=self._last,
        )
        line = problem.response.to_json()
        if self._sink is not None:
            try:
                self._sink.write(line + b"\n")
            except FileError:
                logger.error("%s", line.decode())  # the one way that is left
            else:
                self._tally.reported = losses
                self._last = None


def _body(error: ErrorResponse) -> bytes:
    """The line of an error; of the error that it raises, if it was made by hand of what no error is made of."""
    try:
        return error.to_json()
    except Exception as problem:
        return ErrorResponse.from_exception(problem, kind=ErrorKind.VALUE_UNSERIALISABLE).to_json()


def _seconds(at: object) -> int:
    """A time as a notification can hold it; 0 for one that is none."""
    return int(at) if isinstance(at, int | float) and 0 <= at <= END_OF_TIME else 0

"""The log: what a system tells of itself, as log records; errors as one line of JSON each.

Three loggers: ``understudy`` has a line of text for every event that is no error; ``understudy.errors`` has the error
responses, each message one JSON object, with the traceback behind it as ``logging`` has it, unless it is only that a
server cannot be reached; ``understudy.events``
has what subscribers of the event stream raised.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from ..actors.events import Event, EventStream, catalogue
from ..messages.errors import ActorError, ErrorKind

__all__ = ["attach_logbook"]

UNREACHABLE: Final = frozenset(
    {ErrorKind.BROKER_UNAVAILABLE, ErrorKind.CACHE_UNAVAILABLE, ErrorKind.POSTGRES_UNAVAILABLE}
)
"""Kinds of errors that need no traceback: the text says which server it is, and what is wrong with it."""

logger = logging.getLogger("understudy")
errors = logging.getLogger("understudy.errors")


def attach_logbook(events: EventStream, name: str) -> Callable[[], None]:
    """Log the events of a system's stream; returns a function that ends it.

    Which levels are enabled is looked at now: an event that would not be logged is not even made.

    Args:
        events: the stream.
        name: the system's name, which stands where an event has no path.
    """

    def write(event: Event) -> None:
        logger.log(event.level, "%s: %s", event.path or name, event.text(), extra={"event": event})

    def write_error(event: Event) -> None:
        _write_error(event, name)

    stack = ExitStack()
    for event_type in catalogue():
        is_error = "error" in event_type.__struct_fields__
        if (errors if is_error else logger).isEnabledFor(event_type.level):
            stack.callback(events.subscribe(event_type, write_error if is_error else write))
    return stack.close


def _is_passing(error: BaseException | None) -> bool:
    """Whether it is for a server that cannot be reached now: nothing in the program, and said once for each attempt."""
    for _ in range(8):
        if isinstance(error, ActorError) and error.kind in UNREACHABLE:
            return True
        error = None if error is None else error.__cause__
    return False


def _write_error(event: Event, name: str) -> None:
    # With the codec, the catalogue and regular expressions: who never fails does without.
    from ..actors.errorlog.listening import response_of
    from ..messages.redact import redact

    error: BaseException = event.error  # type: ignore[attr-defined]  # it has that field: see where it is subscribed
    response = response_of(event, name)
    passing = _is_passing(error)
    record = errors.makeRecord(
        errors.name,
        event.level,
        __file__,
        0,
        "%s",
        (response.to_json().decode(),),
        None if passing else (type(error), error, error.__traceback__),
        extra={"event": event, "response": response},
    )
    if passing:
        errors.handle(record)
        return
    # Formatters take this where it is set: a traceback ends with the error's text, and that may hold a password.
    record.exc_text = redact("".join(traceback.format_exception(error)).rstrip())
    errors.handle(record)

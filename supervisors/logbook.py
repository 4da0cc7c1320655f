"""The log: what a system tells of itself, as log records; errors carry their response as one JSON line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

from ..actors.events import (
    ActorCrashed,
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    ChildStartFailed,
    DeadLetter,
    Event,
    EventStream,
    HandlerAbandoned,
    RestartScheduled,
    ShutdownError,
    SupervisorGaveUp,
    SystemStopped,
    SystemStopping,
)
from ..messages.response import ErrorResponse

__all__ = ["attach_logbook"]

logger = logging.getLogger("understudy")

_LEVELS: dict[type[Event], int] = {
    ActorStarted: logging.DEBUG,
    ActorStopped: logging.DEBUG,
    ActorCrashed: logging.ERROR,
    ActorRestarted: logging.WARNING,
    RestartScheduled: logging.INFO,
    ChildStartFailed: logging.ERROR,
    HandlerAbandoned: logging.CRITICAL,
    ShutdownError: logging.WARNING,
    SupervisorGaveUp: logging.CRITICAL,
    SystemStopping: logging.INFO,
    SystemStopped: logging.INFO,
    DeadLetter: logging.DEBUG,
}


def attach_logbook(events: EventStream) -> Callable[[], None]:
    """Log the events of a stream on the logger ``understudy``; returns a function that ends it.

    Which levels are enabled is looked at now: an event that would not be logged is not even made.
    """
    stack = ExitStack()
    for event_type, level in _LEVELS.items():
        if logger.isEnabledFor(level):
            stack.callback(events.subscribe(event_type, _writer(level)))
    return stack.close


def _writer(level: int) -> Callable[[Event], None]:
    def write(event: Event) -> None:
        logger.log(level, "%s", describe(event), extra={"event": event})

    return write


def describe(event: Event) -> str:  # noqa: C901  # a table: one line of text for each event
    """An event as one line of text; a crash is followed by its error response (JSON) and its traceback."""
    match event:
        case ActorStarted():
            return f"{event.path}: started ({event.actor_class})"
        case ActorRestarted():
            return f"{event.path}: restarted as incarnation {event.incarnation} after {event.reason}"
        case ActorStopped():
            return f"{event.path}: stopped: {event.reason}"
        case ActorCrashed():
            response = ErrorResponse.from_exception(event.error).to_json().decode()
            during = f" while handling {event.message_type}" if event.message_type else ""
            return f"{event.path}: incarnation {event.incarnation} crashed{during} {response}\n{event.traceback}"
        case ChildStartFailed():
            response = ErrorResponse.from_exception(event.error).to_json().decode()
            return f"{event.path}: {event.child} did not start: {response}"
        case RestartScheduled():
            return f"{event.path}: {event.child} will be restarted in {event.delay:.3f} s"
        case HandlerAbandoned():
            return (
                f"{event.path}: incarnation {event.incarnation} was stuck handling {event.message_type or 'nothing'} "
                f"and was abandoned; thread {event.thread_id} is lost until it returns"
            )
        case ShutdownError():
            return f"{event.path}: {event.child} did not stop as asked: {event.reason}"
        case SupervisorGaveUp():
            return (
                f"{event.path}: gave up: more than {event.intensity} restarts in {event.period:g} s, the last of "
                f"{event.child} after {event.reason}"
            )
        case DeadLetter():
            return f"{event.path}: dead letter ({event.reason}): {type(event.message).__name__}"
        case SystemStopping():
            return f"{event.path}: stopping: {event.cause}"
        case SystemStopped():
            return f"{event.path}: stopped; {event.abandoned} abandoned"
        case _:
            return f"{event.path}: {type(event).__name__}"

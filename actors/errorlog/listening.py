"""How errors come to the error log by themselves: out of the system's event stream, into its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock
from typing import Any

from ...messages.errors import ActorError, ActorRestarting, MailboxFull
from ...messages.response import ErrorResponse
from ..events import Event, EventStream, catalogue
from ..ref import ActorRef

__all__ = ["Listener", "is_at_or_below", "response_of"]


def response_of(event: Event, system: str) -> ErrorResponse:
    """The error response of an event that has an ``error``.

    Args:
        event: the event.
        system: the system's name, which stands where an event has no path.
    """
    error: BaseException = event.error  # type: ignore[attr-defined]  # that is which events come here
    return ErrorResponse.from_exception(
        error,
        actor=event.path or system,
        incarnation=getattr(event, "incarnation", 0),
        message_type=getattr(event, "message_type", ""),
        message_id=getattr(event, "message_id", ""),
    )


def is_at_or_below(path: str, top: str) -> bool:
    """Whether a path is that of an actor, or of one below it."""
    return path == top or path.startswith(f"{top}/")


class Listener:
    """Hands the errors of an event stream to the error log's mailbox, whichever incarnation is there to take them.

    It never waits: what the mailbox has no room for is counted. The log's own errors are left out.

    Args:
        events: the stream.
        system: the system's name.
        log: the error log.
        path: its path.
    """

    def __init__(self, events: EventStream, system: str, log: ActorRef[Any], path: str) -> None:
        self._events, self._system, self._log, self._path = events, system, log, path
        self._lock = Lock()
        self._missed = 0
        self._end: Callable[[], None] | None = None

    @property
    def missed(self) -> int:
        """How many errors the mailbox had no room for."""
        return self._missed

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._end is None:
            stack = ExitStack()
            for event_type in catalogue():
                if "error" in event_type.__struct_fields__:
                    stack.callback(self._events.subscribe(event_type, self._take))
            self._end = stack.close

    def stop(self) -> None:
        """End."""
        end, self._end = self._end, None
        if end is not None:
            end()

    def _take(self, event: Event) -> None:
        if is_at_or_below(event.path, self._path):
            return
        try:
            self._log.tell(response_of(event, self._system))
        except (MailboxFull, ActorRestarting):
            with self._lock:
                self._missed += 1
        except ActorError:
            self.stop()  # the log is gone for good

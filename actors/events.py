"""Everything that a system tells of itself: the catalogue of its events, and the stream they come on.

Logging reads this stream, and so do consoles, metrics and tests. An event is a fact that already
happened; nobody can veto it, and a subscriber that raises is logged and does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import msgspec

from ..messages.errors import NotSupported
from ..messages.redact import repr_of
from .reasons import ActorKilled, WorkCancelled

__all__ = [
    "ActorCrashed",
    "ActorRestarted",
    "ActorStarted",
    "ActorStopped",
    "BackgroundAbandoned",
    "BackgroundFailed",
    "ChildStartFailed",
    "DeadLetter",
    "Event",
    "EventStream",
    "HandlerAbandoned",
    "RestartScheduled",
    "ShutdownError",
    "SupervisorGaveUp",
    "SystemStopped",
    "SystemStopping",
    "catalogue",
]

logger = logging.getLogger("understudy.events")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What all events have: whom it is about, and when it happened.

    Attributes:
        level: how important it is, as a level of ``logging``.
        path: the actor's path in its system, such as ``notifications/broker``. It is empty for the supervisor of
            the system itself, and the system's name for the events of the system.
        at: seconds since the epoch.
    """

    level: ClassVar[int] = logging.INFO

    path: str
    at: float = msgspec.field(default_factory=time.time)

    def text(self) -> str:
        """What happened, as one line that does not repeat the path."""
        return type(self).__name__


class ActorStarted(Event, frozen=True, kw_only=True):
    """An actor's first incarnation runs; ``actor_class`` is its class's name."""

    level: ClassVar[int] = logging.DEBUG

    actor_class: str
    incarnation: int

    def text(self) -> str:
        """What happened, as one line."""
        return f"started ({self.actor_class})"


class ActorRestarted(Event, frozen=True, kw_only=True):
    """A later incarnation took over, after ``reason`` ended the one before."""

    level: ClassVar[int] = logging.WARNING

    actor_class: str
    incarnation: int
    reason: str

    def text(self) -> str:
        """What happened, as one line."""
        return f"restarted as incarnation {self.incarnation} after {self.reason}"


class ActorCrashed(Event, frozen=True, kw_only=True):
    """An exception escaped a handler (or ``on_stop``, ``on_failure``) and ended the incarnation.

    ``traceback`` is the formatted traceback, ``message_type`` the type's name of the message that was
    being handled, empty if none was. ``message_id`` is what the asker's error response has as well; empty if nobody
    asked.
    """

    level: ClassVar[int] = logging.ERROR

    incarnation: int
    error: BaseException
    traceback: str
    message_type: str
    message_id: str = ""

    def text(self) -> str:
        """What happened, as one line."""
        during = f" while handling {self.message_type}" if self.message_type else ""
        return f"incarnation {self.incarnation} crashed{during}: {type(self.error).__name__}"


class ActorStopped(Event, frozen=True, kw_only=True):
    """An actor is gone for good: its mailbox is closed, its name is free."""

    level: ClassVar[int] = logging.DEBUG

    reason: str

    def text(self) -> str:
        """What happened, as one line."""
        return f"stopped: {self.reason}"


class HandlerAbandoned(Event, frozen=True, kw_only=True):
    """A handler outlived its shutdown deadline: it was fenced, and its thread given up.

    ``message_type`` is empty if it was not a message that held the actor up, but ``on_start`` or ``on_stop``.
    """

    level: ClassVar[int] = logging.CRITICAL

    incarnation: int
    message_type: str
    thread_id: int

    def text(self) -> str:
        """What happened, as one line."""
        doing = f" while handling {self.message_type}" if self.message_type else ""
        return (
            f"incarnation {self.incarnation} was ended by force{doing}; thread {self.thread_id} is given up until it "
            "returns"
        )


class BackgroundFailed(Event, frozen=True, kw_only=True):
    """Background work of the actor ended with an exception, whether or not somebody waits for its result.

    ``work`` is the function's name, ``traceback`` the formatted traceback.
    """

    level: ClassVar[int] = logging.ERROR

    incarnation: int
    work: str
    error: BaseException
    traceback: str

    def text(self) -> str:
        """What happened, as one line."""
        return f"{self.work} failed in the background: {type(self.error).__name__}"


class BackgroundAbandoned(Event, frozen=True, kw_only=True):
    """Background work was cancelled and goes on regardless: it sits in a call that cannot be interrupted.

    Whatever it returns is dropped, and its thread is not counted on any more. ``thread_id`` is 0 for what runs
    on the event loop.
    """

    level: ClassVar[int] = logging.WARNING

    incarnation: int
    work: str
    thread_id: int

    def text(self) -> str:
        """What happened, as one line."""
        where = f"thread {self.thread_id}" if self.thread_id else "the event loop"
        return f"{self.work} was cancelled in the background and goes on regardless, on {where}"


class ChildStartFailed(Event, frozen=True, kw_only=True):
    """A child of the supervisor at ``path`` did not start; ``child`` is the child's path."""

    level: ClassVar[int] = logging.ERROR

    child: str
    error: BaseException

    def text(self) -> str:
        """What happened, as one line."""
        return f"{self.child} did not start: {type(self.error).__name__}"


class RestartScheduled(Event, frozen=True, kw_only=True):
    """The supervisor at ``path`` will try to start ``child`` again after ``delay`` seconds of backoff."""

    child: str
    delay: float

    def text(self) -> str:
        """What happened, as one line."""
        return f"{self.child} will be restarted in {self.delay:.3f} s"


class ShutdownError(Event, frozen=True, kw_only=True):
    """``child`` did not end as it was asked to: it was killed at its deadline, or raised while stopping."""

    level: ClassVar[int] = logging.WARNING

    child: str
    reason: str

    def text(self) -> str:
        """What happened, as one line."""
        return f"{self.child} did not stop as asked: {self.reason}"


class SupervisorGaveUp(Event, frozen=True, kw_only=True):
    """More than ``intensity`` restarts within ``period`` seconds: the supervisor ends, its parent decides."""

    level: ClassVar[int] = logging.CRITICAL

    child: str
    reason: str
    intensity: int
    period: float
    error: BaseException

    def text(self) -> str:
        """What happened, as one line."""
        return (
            f"gave up: more than {self.intensity} restarts in {self.period:g} s, the last of {self.child} after "
            f"{self.reason}"
        )


class DeadLetter(Event, frozen=True, kw_only=True):
    """A message that nobody handled. ``reason``: closed, crashed, killed, dropped, expired, refused, unhandled."""

    level: ClassVar[int] = logging.DEBUG

    message: Any
    reason: str

    def text(self) -> str:
        """What happened, as one line."""
        return f"dead letter ({self.reason}): {type(self.message).__name__}"


class SystemStopping(Event, frozen=True, kw_only=True):
    """The system at ``path`` begins its ordered stop; ``cause`` says why."""

    cause: str

    def text(self) -> str:
        """What happened, as one line."""
        return f"stopping: {self.cause}"


class SystemStopped(Event, frozen=True, kw_only=True):
    """The system is down. ``abandoned`` counts the handlers and background works given up while it stopped."""

    abandoned: int

    def text(self) -> str:
        """What happened, as one line."""
        return f"stopped; {self.abandoned} ended by force"


def catalogue() -> tuple[type[Event], ...]:
    """All types of events there are, an application's own included, in the order of their definition."""
    found: list[type[Event]] = []
    waiting = [Event]
    while waiting:
        known = waiting.pop(0).__subclasses__()
        found += known
        waiting += known
    return tuple(found)


E = TypeVar("E", bound=Event)
Callback = Callable[[Any], None]


class EventStream:
    """Hands each event to those who subscribed to its type, on the thread where it happened.

    Subscribers must be quick and thread-safe.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type[Event], tuple[Callback, ...]] = {}
        self._change = threading.Lock()
        self._dead_letters = 0

    @property
    def dead_letters(self) -> int:
        """How many messages went to the dead letters, watched or not."""
        return self._dead_letters

    def subscribe(self, event_type: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call ``callback`` for every event of ``event_type`` (``Event``: for every event).

        Returns:
            a function that ends the subscription.

        Raises:
            NotSupported: that is no type of event, of which nothing would ever come, or what is to be called cannot be.
        """
        if not (isinstance(event_type, type) and issubclass(event_type, Event)) or not callable(callback):
            raise NotSupported(
                f"subscribe({repr_of(event_type)}, {repr_of(callback)}): give a type of event, of understudy.events, "
                "and a function"
            )
        subscription = [callback]
        with self._change:
            self._subscribers[event_type] = (*self._subscribers.get(event_type, ()), callback)

        def unsubscribe() -> None:
            with self._change:
                if subscription:
                    left = list(self._subscribers[event_type])
                    left.remove(subscription.pop())
                    self._subscribers[event_type] = tuple(left)

        return unsubscribe

    def wanted(self, event_type: type[Event]) -> bool:
        """Whether anybody listens for it, so that an event nobody reads need not be made."""
        return bool(self._subscribers.get(event_type) or self._subscribers.get(Event))

    def publish(self, event: Event) -> None:
        """Hand ``event`` to its subscribers."""
        for event_type in (type(event), Event):
            for callback in self._subscribers.get(event_type, ()):
                try:
                    callback(event)
                except (ActorKilled, WorkCancelled):
                    raise  # it was not the subscriber's: the thread is told to end
                except BaseException:  # who watches cannot break what happens
                    logger.exception("A subscriber to %s raised", event_type.__name__)

    def count_dead_letters(self, number: int) -> None:
        """Count messages that nobody handled, and that nobody watches for."""
        with self._change:
            self._dead_letters += number

    def dead_letter(self, path: str, message: Any, reason: str) -> None:
        """Count a message that nobody handled, and tell those who watch."""
        self.count_dead_letters(1)
        if self.wanted(DeadLetter):
            self.publish(DeadLetter(path=path, message=message, reason=reason))

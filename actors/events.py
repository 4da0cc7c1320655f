"""Everything that a system tells of itself: the catalogue of its events, and the stream they come on.

Logging reads this stream, and so do consoles, metrics and tests. An event is a fact that already
happened; nobody can veto it, and a subscriber that raises is logged and does no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

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
]

logger = logging.getLogger("understudy.events")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What all events have: whom it is about, and when it happened.

    Attributes:
        path: the actor's path in its system, such as ``notifications/broker``.
        at: seconds since the epoch.
    """

    path: str
    at: float = msgspec.field(default_factory=time.time)


class ActorStarted(Event, frozen=True, kw_only=True):
    """An actor's first incarnation runs; ``actor_class`` is its class's name."""

    actor_class: str
    incarnation: int


class ActorRestarted(Event, frozen=True, kw_only=True):
    """A later incarnation took over, after ``reason`` ended the one before."""

    actor_class: str
    incarnation: int
    reason: str


class ActorCrashed(Event, frozen=True, kw_only=True):
    """An exception escaped a handler (or ``on_start``, ``on_stop``) and ended the incarnation.

    ``traceback`` is the formatted traceback, ``message_type`` the type's name of the message that was
    being handled, empty if none was.
    """

    incarnation: int
    error: BaseException
    traceback: str
    message_type: str


class ActorStopped(Event, frozen=True, kw_only=True):
    """An actor is gone for good: its mailbox is closed, its name is free."""

    reason: str


class HandlerAbandoned(Event, frozen=True, kw_only=True):
    """A handler outlived its shutdown deadline: it was fenced, and its thread given up."""

    incarnation: int
    message_type: str
    thread_id: int


class BackgroundFailed(Event, frozen=True, kw_only=True):
    """Background work of the actor ended with an exception, whether or not somebody waits for its result.

    ``work`` is the function's name, ``traceback`` the formatted traceback.
    """

    incarnation: int
    work: str
    error: BaseException
    traceback: str


class BackgroundAbandoned(Event, frozen=True, kw_only=True):
    """Background work was cancelled and goes on regardless: it sits in a call that cannot be interrupted.

    Whatever it returns is dropped, and its thread is not counted on any more. ``thread_id`` is 0 for what runs
    on the event loop.
    """

    incarnation: int
    work: str
    thread_id: int


class ChildStartFailed(Event, frozen=True, kw_only=True):
    """A child of the supervisor at ``path`` did not start."""

    child: str
    error: BaseException


class RestartScheduled(Event, frozen=True, kw_only=True):
    """The supervisor at ``path`` will try to start ``child`` again after ``delay`` seconds of backoff."""

    child: str
    delay: float


class ShutdownError(Event, frozen=True, kw_only=True):
    """``child`` did not end as it was asked to: it was killed at its deadline, or raised while stopping."""

    child: str
    reason: str


class SupervisorGaveUp(Event, frozen=True, kw_only=True):
    """More than ``intensity`` restarts within ``period`` seconds: the supervisor ends, its parent decides."""

    child: str
    reason: str
    intensity: int
    period: float


class DeadLetter(Event, frozen=True, kw_only=True):
    """A message that nobody handled. ``reason``: closed, crashed, killed, dropped, expired, refused, unhandled."""

    message: Any
    reason: str


class SystemStopping(Event, frozen=True, kw_only=True):
    """The system at ``path`` begins its ordered stop; ``cause`` says why."""

    cause: str


class SystemStopped(Event, frozen=True, kw_only=True):
    """The system is down. ``abandoned`` counts the actors that had to be given up."""

    abandoned: int


E = TypeVar("E", bound=Event)


class EventStream:
    """Hands each event to those who subscribed to its type, on the thread where it happened.

    Subscribers must be quick and thread-safe.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type[Event], tuple[Callable[[Any], None], ...]] = {}
        self.dead_letters = 0
        """How many messages went to the dead letters, watched or not."""

    def subscribe(self, event_type: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call ``callback`` for every event of ``event_type`` (``Event``: for every event).

        Returns:
            a function that ends the subscription.
        """
        self._subscribers[event_type] = (*self._subscribers.get(event_type, ()), callback)

        def unsubscribe() -> None:
            left = tuple(known for known in self._subscribers.get(event_type, ()) if known is not callback)
            self._subscribers[event_type] = left

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
                except Exception:
                    logger.exception("A subscriber to %s raised", event_type.__name__)

    def dead_letter(self, path: str, message: Any, reason: str) -> None:
        """Count a message that nobody handled, and tell those who watch."""
        self.dead_letters += 1
        if self.wanted(DeadLetter):
            self.publish(DeadLetter(path=path, message=message, reason=reason))

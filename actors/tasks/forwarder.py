"""The part of a processor that makes tasks pending when they are due."""

from __future__ import annotations

import heapq

from ...messages.errors import ActorError
from ...messages.message import Message
from ..handlers import handles
from ..timers import Timer
from .crew import Crew, logger
from .part import Part

__all__ = ["ForwardAt", "Forwarder"]


class ForwardAt(Message[None]):
    """Tasks of this processor are due at these instants (unix seconds): before the next round, perhaps."""

    instants: list[float]


class ForwardNow(Message[None]):
    """It is due."""


class Forwarder(Part):
    """Makes tasks pending whose time has come. Those that this processor deferred itself it does in time."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self._due: list[float] = []
        self._timer: Timer | None = None

    def on_start(self) -> None:
        """Take orders."""
        self._crew.forwarder = self.actor_ref
        super().on_start()

    @handles
    def forward_at(self, message: ForwardAt) -> None:
        """Note when to forward."""
        for instant in message.instants:
            heapq.heappush(self._due, instant)
        self._set()

    @handles
    def forward_now(self, _message: ForwardNow) -> None:
        """Forward, and wait for the next."""
        now = self._crew.engine.now()
        is_due = bool(self._due) and self._due[0] <= now
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
        try:
            if is_due:
                self._do()
        except ActorError as error:  # the rounds try again
            if not self._crew.closed:
                logger.warning("%s: %s", self._cell.path, error)
        self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._due and not self._crew.closed:
            self._timer = self.after(max(0.0, self._due[0] - self._crew.engine.now()), ForwardNow())

    def _pause(self) -> float:
        return self._crew.settings.forward

    def _do(self) -> None:
        self._crew.engine.forward(self._queues)

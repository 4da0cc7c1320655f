"""What the parts of a processor have in common: each does one thing, over and over.

A part outlives a storage that cannot be reached: it says so in the log and tries again in its next round.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from ...messages.errors import ActorError
from ...messages.message import Message
from ..actor import Actor
from ..background import TaskFailed, cancelled
from ..handlers import handles
from .crew import Crew, logger

__all__ = ["Part", "WaitingPart"]

AFTER_ERROR: Final = 1.0
"""Seconds that a part waits at least after an error."""


class Round(Message[None]):
    """Do it again."""


class Part(Actor):
    """Something that is done in rounds.

    Args:
        crew: what the parts of the processor share.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self._crew = crew

    def on_start(self) -> None:
        """Begin with a round."""
        self.continue_with(Round())

    @handles
    def round(self, _message: Round) -> None:
        """One round, and the next one in a while."""
        seconds = self._pause()
        try:
            self._do()
        except ActorError as error:
            if self._crew.closed:
                return
            logger.warning("%s: %s", self._cell.path, error)
            seconds = max(seconds, AFTER_ERROR)
        if not self._crew.closed:
            self.after(seconds, Round())

    def _pause(self) -> float:
        raise NotImplementedError

    def _do(self) -> None:
        raise NotImplementedError

    @property
    def _queues(self) -> tuple[str, ...]:
        return self._crew.order.names


class WaitingPart(Part):
    """Something that waits for news all the time: in the background, so that the actor itself is idle."""

    @handles
    def round(self, _message: Round) -> None:
        """Begin to wait."""
        self.spawn(self._wait)

    @handles
    def failed(self, message: TaskFailed) -> None:
        """What waits has fallen: so does this incarnation, and the next one waits again."""
        raise message.error

    def _wait(self) -> None:
        crew = self._crew
        while not (cancelled() or crew.closed):
            try:
                self._do()
            except ActorError as error:
                if not crew.closed:
                    logger.warning("%s: %s", self._cell.path, error)
                    crew.pause(AFTER_ERROR)

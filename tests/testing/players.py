"""Actors that the tests of the test kit send around."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from understudy import Actor, ActorRef, Future, Message, handles


class Count(Message[int]):
    """Answered with how many of them the actor has handled, plus what the one behind it says."""


class Note(Message[None]):
    """Remembered."""

    value: int


class Notes(Message[list]):  # type: ignore[type-arg]  # a list of anything
    """Answered with what is remembered."""


class Meet(Message[str]):
    """Ask the other one for its count, and say so."""


class Wait(Message[None]):
    """Handled for ever."""


class Counter(Actor):
    """Counts, remembers, and may have another counter behind it."""

    def __init__(self, behind: ActorRef[Any] | str | None = None) -> None:
        super().__init__()
        self.behind = behind
        self.count = 0
        self.notes: list[int] = []

    @handles
    def on_count(self, message: Count) -> int:
        self.count += 1
        behind = self.lookup(self.behind) if isinstance(self.behind, str) else self.behind
        return self.count + (0 if behind is None else behind.ask(message))

    @handles
    def on_note(self, message: Note) -> None:
        self.notes.append(message.value)

    @handles
    def on_notes(self, _message: Notes) -> list[int]:
        return self.notes

    @handles
    def on_meet(self, _message: Meet) -> str:
        assert isinstance(self.behind, str)
        return f"met {self.lookup(self.behind).ask(Count())}"

    @handles
    def on_wait(self, _message: Wait) -> None:
        Future[None]().get()


class Sleep(Message[float]):
    """Answered with the time after so many seconds."""

    seconds: float


class Sleeper(Actor):
    """Has coroutines for handlers."""

    @handles
    async def on_sleep(self, message: Sleep) -> float:
        await asyncio.sleep(message.seconds)
        return asyncio.get_running_loop().time()

    @handles
    async def on_count(self, _message: Count) -> int:
        return await asyncio.to_thread(threading.active_count) * 0 + 1

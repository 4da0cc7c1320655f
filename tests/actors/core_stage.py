"""What the tests of the core share: an actor that notes what it handles and does as it is told, and ways to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from understudy import Actor, ActorError, ActorRef, ErrorKind, Message, handles

PATIENCE = 60.0
"""Seconds after which something that should happen at once counts as never happening."""


class Do(Message[Any]):
    """Call ``work`` with the actor; the reply is what it returns."""

    work: Callable[[Any], Any]


class Await(Message[Any]):
    """Await ``work(actor)``; the reply is what it returns."""

    work: Callable[[Any], Awaitable[Any]]


class Note(Message[int]):
    """Remember ``value``; the reply is how many there are now."""

    value: int


class Player(Actor):
    """Notes values, and does as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    @handles
    def do(self, message: Do) -> Any:
        return message.work(self)

    @handles
    def note(self, message: Note) -> int:
        self.seen.append(message.value)
        return len(self.seen)


class ThreadPlayer(Player):
    dispatcher = "thread"


class LoopPlayer(Player):
    """Runs on the event loop, since one of its handlers is a coroutine function."""

    @handles
    async def do_async(self, message: Await) -> Any:
        return await message.work(self)


def wait(event: threading.Event) -> None:
    """Wait for something that is bound to happen."""
    assert event.wait(PATIENCE), "it never happened"


def seen(ref: ActorRef[Any]) -> list[int]:
    """What the player noted, once nothing waits in its mailbox; asking would need room there."""
    cell = ref._cell
    until = time.monotonic() + PATIENCE
    while cell.queue or not cell.idle:
        assert time.monotonic() < until, "it never came to rest"
        time.sleep(0)
    return list(cell.actor.seen)


@contextmanager
def stuck(ref: ActorRef[Any]) -> Iterator[None]:
    """Keep the actor in a handler: what it is sent meanwhile waits."""
    entered, leave = threading.Event(), threading.Event()

    def hold(_actor: Any) -> None:
        entered.set()
        wait(leave)

    ref.tell(Do(hold))
    wait(entered)
    try:
        yield
    finally:
        leave.set()


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Run ``work`` on a thread of its own; call the result to wait for what it returns or raises."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it never returned"
        if failure:
            raise failure[0]
        return outcome[0]

    return result


def kind_of(action: Callable[[], Any]) -> ErrorKind:
    """The kind of the error that ``action`` raises."""
    try:
        value = action()
    except ActorError as error:
        return error.kind
    raise AssertionError(f"nothing was raised, but {value!r} returned")

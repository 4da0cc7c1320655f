"""What the tests of background work share: an actor that does as it is told, and how long to wait for a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from understudy import Actor, ActorRef, Message, handles

PATIENCE = 60.0
"""Seconds after which something that should happen at once counts as never happening."""


class Do(Message[Any]):
    """Call ``work`` with the actor; the reply is what it returns."""

    work: Callable[[Any], Any]


class Echo(Message[Any]):
    """Reply with the value."""

    value: Any


class Host(Actor):
    """Does as it is told."""

    @handles
    def do(self, message: Do) -> Any:
        return message.work(self)

    @handles
    def echo(self, message: Echo) -> Any:
        return message.value


def do(ref: ActorRef[Any], work: Callable[[Any], Any]) -> Any:
    """Run ``work`` in the actor's handler, and return what it returns."""
    return ref.ask(Do(work), timeout=PATIENCE)


def wait(event: threading.Event) -> None:
    """Wait for something that is bound to happen."""
    assert event.wait(PATIENCE), "it never happened"

"""The connection of a service actor, as an actor: a server that is lost shows as its restart in the tree.

It carries no traffic: the backend does, and answers with a coded error while the server is gone. The service actor
lives on meanwhile, so an outage does not use up the restarts that its supervisor allows.
"""

from __future__ import annotations

import threading
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from ..messages.message import Message
from .actor import Actor
from .handlers import handles

__all__ = ["CHECK_EVERY", "Connection", "Part", "Server"]

CHECK_EVERY = 1.0
"""Seconds between two looks whether the server answers."""


@runtime_checkable
class Server(Protocol):
    """A backend that stands for a server which may be lost."""

    def check(self) -> None:
        """Ask the server whether it answers, within a few seconds. Any thread may call it.

        Raises:
            ActorError: it does not.
        """
        ...


class Part(NamedTuple):
    """An actor that belongs to a service actor: its name below it, its class, and its constructor's arguments."""

    name: str
    actor_class: type[Actor]
    args: tuple[object, ...] = ()


class Check(Message[None]):
    """See whether the server answers."""


class Connection(Actor):
    """Falls when the server is lost; its next incarnation starts when the server is there again.

    Args:
        server: what to ask.
        closing: is set when the connection is being closed on purpose; what fails then is no loss.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(self, server: Server, closing: threading.Event) -> None:
        super().__init__()
        self._server, self._closing = server, closing

    def on_start(self) -> None:
        """Begin to look. Only an incarnation that follows a loss waits for the server before it counts as started."""
        if self._cell.incarnation > 1:
            self._server.check()
        self.continue_with(Check())

    @handles
    def check(self, _message: Check) -> None:
        """Look now, and again in a while."""
        try:
            self._server.check()
        except Exception:
            if not self._closing.is_set():
                raise
        else:
            self.after(CHECK_EVERY, Check())

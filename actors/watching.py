"""Death watch: being told that another actor is gone for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..messages.message import Message
from .cell import Cell
from .reasons import ExitReason

if TYPE_CHECKING:
    from .ref import ActorRef

__all__ = ["Terminated", "notify_end"]


class Terminated(Message[None]):
    """Sent to who watches an actor once it is gone for good.

    Attributes:
        ref: the reference that was watched.
        reason: why its last incarnation ended.
    """

    ref: Any
    reason: ExitReason


def notify_end(watched: Cell, watcher: Cell) -> None:
    """Have ``watcher`` sent ``Terminated`` once ``watched`` has closed; the message is never refused."""
    ref: ActorRef[Any] = watched.actor_class._ref_class(watched)

    def send(reason: ExitReason) -> None:
        if watcher.alive:
            watcher.put_always(Terminated(ref, reason))

    watched.needs.watchers.append((watcher, send))
    if not watched.alive:
        pairs, watched.needs.watchers = watched.needs.watchers, []
        for _, notify in pairs:
            notify(watched.reason)

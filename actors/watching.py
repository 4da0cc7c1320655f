"""Death watch: being told that another actor is gone for good."""

from __future__ import annotations

import threading
from typing import Any

from ..messages.message import Message
from .cell import Cell
from .forking import renewed_in_forks
from .reasons import ExitReason

__all__ = ["Terminated", "tell_watchers", "unwatch", "watch"]


class Terminated(Message[None]):
    """Sent to who watches an actor once it is gone for good.

    Attributes:
        ref: the reference that was watched.
        reason: why its last incarnation ended.
    """

    ref: Any
    reason: ExitReason


def watch(watched: Cell, watcher: Cell) -> None:
    """Have ``watcher`` sent ``Terminated``, once, when ``watched`` has closed; the message is never refused."""
    with _change:
        gone = not watched.alive
        if not gone:
            watched.needs.watchers[watcher] = None
            watcher.needs.watched[watched] = None
    if gone:
        _tell(watcher, watched, watched.reason)


def unwatch(watched: Cell, watcher: Cell) -> None:
    """Take a ``watch`` back."""
    with _change:
        if watched.extras is not None:
            watched.extras.watchers.pop(watcher, None)
        if watcher.extras is not None:
            watcher.extras.watched.pop(watched, None)


def tell_watchers(closed: Cell, reason: ExitReason) -> None:
    """``closed`` is gone for good: tell those who watch it, and watch nobody any more."""
    extras = closed.extras
    if extras is None:
        return
    with _change:
        watchers, extras.watchers = extras.watchers, {}
        watched, extras.watched = extras.watched, {}
        for each in watched:
            each.needs.watchers.pop(closed, None)
        for each in watchers:
            each.needs.watched.pop(closed, None)
    for watcher in watchers:
        _tell(watcher, closed, reason)


def _tell(watcher: Cell, gone: Cell, reason: ExitReason) -> None:
    if watcher.alive:
        watcher.put_always(Terminated(gone.actor_class._ref_class(gone), reason))


_change = renewed_in_forks(threading.Lock())

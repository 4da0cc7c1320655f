"""The parts of a service actor: a small tree of their own below it."""

from __future__ import annotations

from collections.abc import Sequence

from ..actors import lifecycle
from ..actors.cell import Cell
from ..actors.connection import Part
from ..actors.mailbox import UNBOUNDED_MAILBOX
from .backoff import Backoff
from .child import Child
from .supervisor import Supervisor

__all__ = ["supervise"]

RECONNECT = Backoff(0.1, 2.0, reset_after=10.0)
"""Between two tries to reach a server that is gone."""

FOR_EVER = 2**31
"""Restarts within a second: more than there can be. An outage lasts as long as it lasts."""


def supervise(owner: Cell, parts: Sequence[Part]) -> Cell:
    """Start the parts of an actor under a supervisor of their own, and return its place.

    The supervisor has no name, so the parts' paths continue their owner's, and its end is its owner's affair: an exit
    that nobody asked for reaches the owner's ``on_signal``.

    Args:
        owner: the place of the actor that they belong to.
        parts: in the order of their start.

    Raises:
        StartFailed: one of them did not start; then none runs.
    """
    spec = Supervisor(
        "parts",
        [Child(part.actor_class, part.args, name=part.name, backoff=RECONNECT, shutdown=2.0) for part in parts],
        intensity=FOR_EVER,
        period=1.0,
    )
    cell = Cell(spec.actor_class, owner.runtime, UNBOUNDED_MAILBOX, name="", parent=owner)
    try:
        lifecycle.start(cell, lambda: spec.build(cell), owner.actor)
    except BaseException:
        lifecycle.close(cell, cell.reason)
        raise
    return cell

"""A system's tree as a value: what runs where, at one moment, to be printed or walked through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..actors.cell import Cell

__all__ = ["State", "TreeNode", "tree_of"]

State = Literal["starting", "running", "restarting", "stopped"]

_STATES: tuple[State, ...] = ("starting", "running", "restarting", "stopped")


@dataclass(frozen=True, slots=True)
class TreeNode:
    """An actor and those below it. ``str`` draws it.

    Attributes:
        name: the last part of its path; the system's name at the top.
        path: as ``lookup`` takes it; empty at the top.
        kind: the name of its class.
        state: ``starting`` while ``on_start`` runs, ``restarting`` between two lives.
        restarts: how often another incarnation took over.
        waiting: how many messages wait in its mailbox.
        children: those below it, in the order of their start.
    """

    name: str
    path: str
    kind: str
    state: State
    restarts: int
    waiting: int
    children: tuple[TreeNode, ...]

    def walk(self) -> Iterator[TreeNode]:
        """It and everything below it, parents before their children."""
        yield self
        for child in self.children:
            yield from child.walk()

    def __str__(self) -> str:
        return "\n".join(self._lines("", ""))

    def _lines(self, first: str, rest: str) -> Iterator[str]:
        yield first + self.label
        for child in self.children:
            last = child is self.children[-1]
            yield from child._lines(rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

    @property
    def label(self) -> str:
        """One line about it, without those below it."""
        if not self.path:
            return self.name
        about = [self.kind]
        if self.state != "running":
            about.append(self.state)
        if self.restarts:
            about.append(f"restarted {self.restarts}×")
        if self.waiting:
            about.append(f"{self.waiting} waiting")
        return f"{self.name}  {', '.join(about)}"


def tree_of(cell: Cell, name: str = "") -> TreeNode:
    """The tree below ``cell``, which is called ``name``, or as its path says."""
    path = cell.path
    below = getattr(cell.actor, "child_cells", None)
    return TreeNode(
        name=name or path.rpartition("/")[2],
        path=path,
        kind=cell.actor_class.__name__,
        state=_STATES[cell.state],
        restarts=max(0, cell.incarnation - 1),
        waiting=len(cell.queue),
        children=() if below is None else tuple(tree_of(child) for child in below()),
    )

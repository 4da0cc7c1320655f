"""The top of a system's tree: the dynamic supervisor that everything hangs from, and what is above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..actors import execution
from ..actors.cell import Cell
from ..actors.handlers import handles
from ..actors.lifecycle import ChildExited
from ..actors.reasons import SHUTDOWN, ExitReason
from ..actors.ref import StopChild
from ..messages.message import Message
from .child import ChildSpec
from .dynamic import DynamicKeeper, DynamicSupervisor
from .keeper import Record
from .requests import StartedChild

__all__ = ["RootKeeper", "StartTree", "Top"]


class Top:
    """What stands in the parent's place above the root: it hears when the root itself has ended, or is to end."""

    path = ""

    def __init__(self, ended: Callable[[ExitReason], None], stop: Callable[[StopChild], None]) -> None:
        self.waiting_on: tuple[execution.Party | execution.Wait, ...] = ()
        self._ended = ended
        self._stop = stop

    def signal(self, item: Any, *, first: bool = False) -> None:
        """Take word of the root's exit, or the order to stop it."""
        if isinstance(item, ChildExited):
            self._ended(item.reason)
        elif isinstance(item, StopChild):
            self._stop(item)


class StartTree(Message[StartedChild]):
    """Start the declared tree, whose end is the system's."""

    spec: Any


class RootKeeper(DynamicKeeper):
    """The system's own supervisor. Its declared tree is never restarted: where it ends, the system does."""

    def __init__(self, spec: DynamicSupervisor, tree_ended: Callable[[ExitReason], None]) -> None:
        super().__init__(spec)
        self._tree_ended = tree_ended
        self._tree: Cell | None = None

    def on_stop(self) -> None:
        """Stop the spawned actors, all at once; then the tree, which was there before them."""
        tree = None if self._tree is None else self._record_of(self._tree)
        self._stop_together([record for record in reversed(tuple(self._records())) if record is not tree])
        if tree is not None:
            self._stop_together([tree])
        self._leave_places(self._records())

    @handles
    def _start_tree(self, message: StartTree) -> StartedChild:
        spec: ChildSpec = message.spec
        started = self.add(spec)
        if started.ref is not None:
            self._tree = started.ref._cell
        return started

    def _exited(self, record: Record, reason: ExitReason) -> None:
        if record.cell is self._tree:
            self._drop(record)
            self._tree_ended(reason)
        else:
            super()._exited(record, reason)

    def _terminate(self, record: Record) -> None:
        was_tree = record.cell is self._tree
        super()._terminate(record)
        if was_tree:
            self._tree_ended(SHUTDOWN)

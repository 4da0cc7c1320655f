"""Names: which actor is at which path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..messages.errors import NameTaken, UnknownActor

if TYPE_CHECKING:
    from .cell import Cell
    from .ref import ActorRef

__all__ = ["Directory"]

MANY = 1_000
"""With more names than this, similar ones are not searched for: it would take milliseconds for every wrong name."""


class Directory:
    """The names of one system: paths, and aliases, which are names without a path. Threads may share it."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._cells: dict[str, Cell] = {}

    def register(self, cell: Cell, alias: str | None = None) -> None:
        """Enter a cell under its path, if it has a name, and under its alias, if it has one.

        Raises:
            NameTaken: another actor has the name; the error carries its reference as ``ref``.
        """
        entered: list[str] = []
        for name in (cell.path if cell.name is not None else None, alias):
            if name is None:
                continue
            holder = self._cells.setdefault(name, cell)
            if holder is not cell:
                for each in entered:
                    del self._cells[each]
                raise NameTaken(
                    f"the name {name!r} is taken in {self._system!r} by {holder.actor_class.__name__}: choose another, "
                    "or stop that one first",
                    target=name,
                    verb="start",
                    actor=holder.path,
                    ref=ref_to(holder),
                )
            entered.append(name)
        cell.alias = alias

    def forget(self, cell: Cell) -> None:
        """Free the names of a cell that has closed."""
        if cell.name is not None:
            self._free(cell.path, cell)
        if cell.alias is not None:
            self._free(cell.alias, cell)

    def _free(self, name: str, cell: Cell) -> None:
        if self._cells.get(name) is cell:
            del self._cells[name]

    def find(self, name: str) -> Cell | None:
        """The cell of that path or alias, if there is one."""
        return self._cells.get(name)

    def resolve(self, name: str, verb: str = "lookup") -> ActorRef[Any]:
        """The reference of the actor of that path or alias.

        Args:
            name: the path or alias.
            verb: what is to be done with it, for the error.

        Raises:
            UnknownActor: there is none; the text says which names are close.
        """
        cell = self._cells.get(name) if isinstance(name, str) else None
        if cell is not None:
            return ref_to(cell)
        raise UnknownActor(
            f"no actor named {name!r} in {self._system!r}: {self._hint(str(name))}", target=str(name), verb=verb
        )

    def _hint(self, name: str) -> str:
        """What was perhaps meant."""
        if len(self._cells) > MANY:
            return f"there are {len(self._cells)} others"
        import difflib  # only who mistypes pays for it

        close = difflib.get_close_matches(name, tuple(self._cells), 3)
        return f"did you mean {' or '.join(map(repr, close))}?" if close else "nothing of a similar name runs"


def ref_to(cell: Cell) -> ActorRef[Any]:
    """A reference to the actor in ``cell``, of the class that its kind has."""
    return cell.actor_class._ref_class(cell)

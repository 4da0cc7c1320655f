"""Names: which actor is at which path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pykka

from ..messages.errors import ErrorKind, NameTaken, UnknownActor
from ..messages.redact import repr_of
from ..messages.suggest import MAX_WORD

if TYPE_CHECKING:
    from .cell import Cell
    from .ref import ActorRef

A = TypeVar("A", bound=pykka.Actor)

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
            f"no actor named {repr_of(name)} in {self._system!r}: {self._hint(str(name))}", target=str(name), verb=verb
        )

    def near(self, path: str, name: str) -> ActorRef[Any]:
        """The reference of the sibling of that name of the actor at ``path``, or else of the actor of that name.

        Raises:
            UnknownActor: there is neither.
        """
        parent, _, _ = path.rpartition("/")
        sibling = f"{parent}/{name}"
        return self.resolve(sibling if parent and sibling in self._cells else name)

    def resolve_as(self, name: str, actor_class: type[A], verb: str = "lookup") -> ActorRef[A]:
        """As ``resolve``, for an actor of that class or of one derived from it.

        Raises:
            UnknownActor: there is none of that name, or (``actor.name.other_class``) it is of another class.
        """
        from .actor import Actor  # actors are built on this

        ref = self.resolve(name, verb)
        cell, actor = ref._cell, ref._cell.actor
        found = cell.actor_class if actor is None else type(actor)
        # Between two lives nobody knows what a function will make next.
        unknown = found is Actor and actor is None
        if isinstance(actor_class, type) and (unknown or issubclass(found, actor_class)):
            return ref
        wanted = actor_class.__qualname__ if isinstance(actor_class, type) else repr_of(actor_class)
        raise UnknownActor(
            f"{name!r} in {self._system!r} is a {found.__qualname__}, not a {wanted}",
            kind=ErrorKind.NAME_OTHER_CLASS,
            target=name,
            verb=verb,
            actor=ref.path,
        )

    def _hint(self, name: str) -> str:
        """What was perhaps meant."""
        if len(self._cells) > MANY or len(name) > MAX_WORD:
            return f"there are {len(self._cells)} others"
        import difflib  # only who mistypes pays for it

        close = difflib.get_close_matches(name, tuple(self._cells), 3)
        return f"did you mean {' or '.join(map(repr, close))}?" if close else "nothing of a similar name runs"


def ref_to(cell: Cell) -> ActorRef[Any]:
    """A reference to the actor in ``cell``, of the class that its kind has."""
    return cell.actor_class._ref_class(cell)

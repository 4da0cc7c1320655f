"""The partition supervisor: the same child several times over, and a key that says which of them is meant.

One actor handles one message at a time. Where its state falls into parts that have nothing to do with each other
(an account, a customer, a shard), several copies of it work side by side, and messages about the same part always
go to the same copy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

from ..actors.actor import Actor, build
from ..actors.cell import Cell
from ..actors.directory import ref_to
from ..actors.handlers import handles
from ..actors.ref import ActorRef
from ..messages.errors import NotSupported, PartitionInvalid
from ..messages.message import Message
from ..messages.redact import repr_of
from .child import Child, ChildSpec, check_childspecs
from .keeper import Record
from .ref import SupervisorRef
from .requests import DeleteChild, StartChild
from .routing import partition_of
from .supervisor import StaticSupervisor, Strategy, Supervisor, SupervisorSpec

__all__ = ["PartitionKeeper", "PartitionRef", "PartitionSupervisor", "Resize"]

WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...]]


@dataclass(frozen=True)
class PartitionSupervisor(SupervisorSpec):
    """A declared supervisor of copies of one child: ``PartitionSupervisor("carts", Child(Cart), partitions=4)``.

    The copies are named ``"0"``, ``"1"`` and so on, whatever name ``child`` has. After Elixir's PartitionSupervisor.

    Attributes:
        name: the supervisor's name.
        child: the spec of what is copied: an actor, or a supervisor with all that is below it.
        partitions: how many copies; by default one per core.
        strategy: who is restarted with a copy; see ``Supervisor``.
        with_arguments: called with the spec's ``args`` and the number of a partition when the supervisor starts;
            returns the ``args`` of that copy. Only for a ``Child``.

    Raises:
        PartitionInvalid: the number of partitions is no whole number of 1 or more.
        SpecInvalid: another field has a value that it cannot have.
    """

    name: str | None = field()
    child: ChildSpec
    partitions: int = field(default_factory=lambda: os.cpu_count() or 1)
    strategy: Strategy = "one_for_one"
    with_arguments: WithArguments | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count(self.partitions)
        good = self.strategy in get_args(Strategy)
        self._flag("strategy", self.strategy, good, " or ".join(map(repr, get_args(Strategy))))
        child: Any = self.child
        if not isinstance(child, ChildSpec):
            raise self._invalid("child", child, "give a Child or another spec")
        if child.alias is not None:
            raise self._invalid("child", child, "copies cannot share an alias, which is a name of one actor")
        wrong = check_childspecs([replace(child, name="0")])
        if wrong:
            raise wrong[0]
        hook: Any = self.with_arguments
        self._flag("with_arguments", hook, hook is None or callable(hook), "a function, or None")
        if hook is not None and not isinstance(child, Child):
            raise self._invalid("with_arguments", hook, "a supervisor's declaration has no arguments")

    @property
    def actor_class(self) -> type[Actor]:
        """``PartitionKeeper``."""
        return PartitionKeeper

    def build(
        self,
        cell: Cell,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Actor:
        """Make the supervisor's actor."""
        return build(PartitionKeeper, cell, (self,), {})

    def copies(self) -> list[ChildSpec]:
        """The specs of all partitions."""
        return [self._copy(number) for number in range(self.partitions)]

    def _copy(self, number: int) -> ChildSpec:
        child, hook = self.child, self.with_arguments
        if hook is None or not isinstance(child, Child):
            return replace(child, name=str(number))
        return replace(child, name=str(number), args=hook(child.args, number))


class Resize(Message[None]):
    """Have this many partitions from now on."""

    partitions: Any


class _Partitions:
    """Where the partitions are: written by the supervisor, read by whoever routes.

    It stays when the supervisor is restarted, as the places do that it lists. A reader looks at ``count`` first,
    and finds every place below that.

    Attributes:
        cells: the places, by number.
        count: how many of them take part.
    """

    __slots__ = ("cells", "count")

    def __init__(self) -> None:
        self.cells: dict[int, Cell] = {}
        self.count = 0


class PartitionRef(SupervisorRef):
    """The reference of a partition supervisor: finds the partition of a key, beside what all supervisors do.

    ``carts.route("ada").tell(Add("book"))``
    """

    @property
    def partitions(self) -> int:
        """How many partitions there are now."""
        return _partitions_of(self._cell).count

    def route(self, key: object) -> ActorRef[Any]:
        """The reference of the partition that ``key`` belongs to.

        It costs no message. The same key goes to the same partition, in every process, as long as their number
        stays the same.

        Args:
            key: a whole number goes to partition ``key % partitions``; a text, bytes, a float, a UUID, None or a
                tuple of such to one that its hash says.

        Raises:
            PartitionInvalid: a key of this type would not go to the same partition everywhere; or the supervisor
                has not started yet.
        """
        partitions = _partitions_of(self._cell)
        count = partitions.count
        if count == 0:
            raise PartitionInvalid(f"{self.path!r} has not started its partitions yet", target=self.path, verb="route")
        try:
            return ref_to(partitions.cells[partition_of(key, count)])
        except PartitionInvalid as error:
            error.note_call(None, self.path, "route")
            raise

    def resize(self, partitions: int, *, timeout: float | None = None) -> None:
        """Stop the last partitions, or start them again, so that there are ``partitions`` of them.

        Most keys belong to another partition from then on; what waits in the mailbox of a partition that is
        stopped is answered with an error or goes to the dead letters.

        Args:
            partitions: from 1 to the number that was declared.
            timeout: seconds to wait for it.

        Raises:
            PartitionInvalid: there cannot be that many.
            StartFailed: one of them did not start; there are as many as before.
        """
        self.ask(Resize(partitions), timeout=timeout)


class PartitionKeeper(StaticSupervisor):
    """The actor behind ``PartitionSupervisor``: a static supervisor whose list of children is made by counting."""

    _ref_class: ClassVar[type[ActorRef[Any]]] = PartitionRef

    def __init__(self, spec: PartitionSupervisor) -> None:
        self._copies = spec.copies()
        super().__init__(
            Supervisor(
                spec.name,
                self._copies,
                strategy=spec.strategy,
                intensity=spec.intensity,
                period=spec.period,
            )
        )
        self._partitions = _partitions_of(self._cell)

    def on_start(self) -> None:
        """Start the partitions in order."""
        super().on_start()
        self._partitions.count = len(self._copies)

    def _place(self, spec: ChildSpec) -> Cell:
        cell = super()._place(spec)
        self._partitions.cells[int(str(spec.name))] = cell
        return cell

    @handles
    def _resize(self, message: Resize) -> None:
        wanted: int = message.partitions
        _check_count(wanted)
        most = len(self._copies)
        if wanted > most:
            raise PartitionInvalid(
                f"{self._cell.path!r} was declared with {most} partitions and cannot have {wanted}: it can become "
                "smaller, and grow again to what it was",
                target=self._cell.path,
                actor=self._cell.path,
            )
        count = self._partitions.count
        if wanted < count:
            self._partitions.count = wanted
            self._remove(range(wanted, count))
        else:
            self._add(range(count, wanted))
            self._partitions.count = wanted

    def _add(self, numbers: range) -> None:
        for number in numbers:
            record = Record(self._copies[number])
            try:
                self._launch(record)
            except BaseException:
                self._close(record)
                self._remove(range(numbers.start, number))
                raise
            self._children[str(number)] = record

    def _remove(self, numbers: range) -> None:
        for number in reversed(numbers):
            record = self._children.get(str(number))
            if record is not None:
                self._terminate(record)
                self._forget(record)

    @handles
    def _start_child(self, message: StartChild) -> Any:
        raise self._fixed("start_child")

    @handles
    def _delete_child(self, message: DeleteChild) -> Any:
        raise self._fixed("delete_child")

    def _fixed(self, operation: str) -> NotSupported:
        return NotSupported(
            f"{self._cell.path!r} is a partition supervisor: its children are copies of one, so there is no "
            f"{operation}; resize it",
            target=self._cell.path,
            actor=self._cell.path,
        )


def _partitions_of(cell: Cell) -> _Partitions:
    handed_on = cell.needs.handed_on
    found: _Partitions | None = handed_on.get("partitions")
    return found if found is not None else handed_on.setdefault("partitions", _Partitions())


def _check_count(partitions: Any) -> None:
    if not isinstance(partitions, int) or isinstance(partitions, bool) or partitions < 1:
        raise PartitionInvalid(f"partitions={repr_of(partitions)}: give a whole number, 1 or more")

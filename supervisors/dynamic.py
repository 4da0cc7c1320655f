"""The dynamic supervisor: any number of children, started one by one and addressed by reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..actors import lifecycle
from ..actors.actor import Actor, build
from ..actors.cell import Cell
from ..actors.future import Future
from ..actors.handlers import handles
from ..actors.reasons import ExitReason
from ..actors.ref import ActorRef
from ..messages.errors import (
    ErrorKind,
    MaxChildren,
    NameTaken,
    NotSupported,
    SpecInvalid,
    StartFailed,
)
from ..messages.redact import repr_of
from .child import Child, ChildSpec
from .keeper import Keeper, Record, filled
from .requests import (
    ChildInfo,
    CountChildren,
    Counts,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    StartedChild,
    TerminateChild,
    TryAgain,
    WhichChild,
    WhichChildren,
)
from .restarts import Verdict, verdict
from .supervisor import SupervisorSpec

__all__ = ["DynamicKeeper", "DynamicSupervisor"]


@dataclass(frozen=True)
class DynamicSupervisor(SupervisorSpec):
    """A declared supervisor that starts without children and gets them by ``start_child``.

    After Elixir's DynamicSupervisor: every child for itself (one_for_one), ids need not be unique, children are
    addressed by reference, adding and removing one costs the same however many there are.

    Attributes:
        name: the supervisor's name.
        max_children: how many there may be, those being restarted included; None for no limit.
        extra_arguments: come before the arguments of every child.
    """

    name: str | None = "dynamic"
    max_children: int | None = None
    extra_arguments: tuple[Any, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        limit = self.max_children
        good = limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0)
        self._flag("max_children", limit, good, "a whole number, 0 or more, or None")
        self._flag("extra_arguments", self.extra_arguments, isinstance(self.extra_arguments, tuple), "a tuple")

    @property
    def actor_class(self) -> type[Actor]:
        """``DynamicKeeper``."""
        return DynamicKeeper

    def build(
        self,
        cell: Cell,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Actor:
        """Make the supervisor's actor."""
        return build(DynamicKeeper, cell, (self,), {})


class DynamicKeeper(Keeper):
    """The actor behind ``DynamicSupervisor``."""

    def __init__(self, spec: DynamicSupervisor) -> None:
        super().__init__(spec.intensity, spec.period)
        self._spec = spec
        self._children: dict[Cell, Record] = {}

    def on_stop(self) -> None:
        """Stop all children at once; those with the same shutdown value share one deadline."""
        self._stop_together(reversed(tuple(self._records())))
        self._leave_places(self._records())

    def _stop_together(self, records: Iterable[Record]) -> None:
        records = tuple(records)
        now = self._cell.runtime.clock()
        with self._waiting_for(records):
            endings: list[tuple[Record, Future[ExitReason]]] = []
            for record in records:
                ending = self._ask_to_end(record)
                if ending is None:
                    continue
                if ending.done:  # of a million children, most: their futures need not all be kept
                    self._ended(record, ending.get())
                else:
                    assert record.cell is not None
                    ending.on_done(partial(lifecycle.refuse_rest, record.cell))  # its siblings may wait for it
                    endings.append((record, ending))
            for record, ending in sorted(endings, key=lambda pair: pair[0].spec.shutdown_seconds):
                self._await_end(record, ending, now + record.spec.shutdown_seconds)

    def _leave_places(self, records: Iterable[Record]) -> None:
        """Close the places of the children, also the named ones: nobody will start these children again."""
        for record in records:
            self._close(record)
        self._children.clear()

    # --- children --------------------------------------------------------------------------------------

    @handles
    def _start_child(self, message: StartChild) -> StartedChild:
        spec = message.spec
        if not isinstance(spec, ChildSpec):
            raise SpecInvalid(
                f"start_child({repr_of(spec)}): give a Child or another spec", kind=ErrorKind.CHILD_SPEC_INVALID
            )
        if spec.significant:
            raise SpecInvalid(
                f"{spec.name!r} is significant, which means nothing to a dynamic supervisor",
                kind=ErrorKind.CHILD_SPEC_INVALID,
            )
        if (message.args or message.kwargs) and not isinstance(spec, Child):
            raise NotSupported(f"{spec.name!r} is a supervisor's declaration: it takes no further arguments")
        return self.add(spec, message.args, message.kwargs)

    def add(self, spec: ChildSpec, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> StartedChild:
        """Start a child; ``args`` and ``kwargs`` come beside those of its spec. Raises as ``start_child``."""
        limit = self._spec.max_children
        if limit is not None and len(self._children) >= limit:
            raise MaxChildren(
                f"{self._cell.path!r} has {len(self._children)} children and may have {limit}",
                target=self._cell.path,
                actor=self._cell.path,
            )
        record = Record(spec)
        record.args, record.kwargs = args, kwargs
        record.cell = cell = self._place(spec)
        self._children[cell] = record
        try:
            started = self._launch(record, self._spec.extra_arguments)
        except BaseException:
            self._children.pop(cell, None)
            self._close(record)
            raise
        if started.ref is None:
            del self._children[cell]
        return started

    def _exited(self, record: Record, reason: ExitReason) -> None:
        if verdict(record.spec.restart, reason) is not Verdict.RESTART:
            self._drop(record)
            return
        record.status = "restarting"
        if record.spec.backoff is not None:
            self._try_again(record)
        elif self._may_restart(record, reason):
            self._relaunch(record, reason)

    @handles
    def _again(self, message: TryAgain) -> None:
        record: Record = message.record
        if record.cell is None or not record.awaits(message):
            return
        if self._may_restart(record, record.cell.reason):
            self._relaunch(record, record.cell.reason)

    def _relaunch(self, record: Record, reason: ExitReason) -> None:
        cell = record.cell
        assert cell is not None
        try:
            started = self._launch(record, self._spec.extra_arguments, reason=reason)
        except (StartFailed, NameTaken):
            self._try_again(record)
            return
        if started.ref is None:
            del self._children[cell]  # it said IGNORE: a dynamic supervisor forgets it

    def _drop(self, record: Record) -> None:
        cell = record.cell
        if cell is not None:
            del self._children[cell]
        self._close(record)

    @handles
    def _terminate_child(self, message: TerminateChild) -> None:
        self._terminate(self._find(message.child))

    def _terminate(self, record: Record) -> None:
        self._halt([record])
        self._drop(record)

    # --- administration --------------------------------------------------------------------------------

    @handles
    def _refuse_ids(self, message: RestartChild | DeleteChild) -> StartedChild:
        raise NotSupported(
            f"{self._cell.path!r} is a dynamic supervisor: its children have no ids, so there is no "
            f"{type(message).__name__}; start and terminate them",
            target=self._cell.path,
            actor=self._cell.path,
        )

    @handles
    def _which_children(self, _message: WhichChildren) -> list[ChildInfo]:
        return [record.info() for record in reversed(tuple(self._children.values()))]

    @handles
    def _which_child(self, message: WhichChild) -> ChildInfo:
        return self._find(message.child).info()

    @handles
    def _count_children(self, _message: CountChildren) -> Counts:
        return self._counts()

    @handles
    def _get_childspec(self, message: GetChildSpec) -> ChildSpec:
        return filled(self._find(message.child).whole_spec)

    def _records(self) -> Iterator[Record]:
        return iter(tuple(self._children.values()))

    def _record_of(self, cell: Cell) -> Record | None:
        return self._children.get(cell)

    def _find(self, child: Any) -> Record:
        if not isinstance(child, ActorRef):
            raise NotSupported(
                f"{self._cell.path!r} is a dynamic supervisor: address its children by reference, not {repr_of(child)}",
                target=self._cell.path,
                actor=self._cell.path,
            )
        record = self._children.get(child._cell)
        if record is None:
            raise self._not_found(child)
        return record

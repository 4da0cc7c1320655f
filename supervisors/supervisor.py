"""The static supervisor: a declared list of children, started in order, stopped in reverse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from ..actors import lifecycle
from ..actors.actor import Actor, build
from ..actors.cell import Cell
from ..actors.handlers import handles
from ..actors.reasons import SHUTDOWN, ActorKilled, ExitReason
from ..messages.errors import ChildRunning, ErrorKind, NameTaken, NotSupported, SpecInvalid, StartFailed
from ..messages.redact import repr_of
from .child import AutoShutdown, ChildSpec, Kind, as_list, as_spec, check_childspecs
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

__all__ = ["StaticSupervisor", "Strategy", "Supervisor", "SupervisorSpec"]

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


@dataclass(frozen=True, kw_only=True)
class SupervisorSpec(ChildSpec):
    """What the declarations of all supervisors have, beside what every spec has.

    Attributes:
        intensity: how many restarts it may do within ``period``; one more and it gives up.
        period: seconds.
    """

    kind: ClassVar[Kind] = "supervisor"
    _invalid_kind: ClassVar[ErrorKind] = ErrorKind.SUPERVISOR_FLAGS_INVALID

    intensity: int = 3
    period: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        intensity, period = self.intensity, self.period
        self._flag(
            "intensity",
            intensity,
            isinstance(intensity, int) and not isinstance(intensity, bool) and intensity >= 0,
            "a whole number, 0 or more",
        )
        self._flag(
            "period",
            period,
            isinstance(period, (int, float)) and not isinstance(period, bool) and period > 0,
            "seconds, more than 0",
        )

    def _flag(self, field: str, value: object, good: bool, wanted: str) -> None:
        if not good:
            raise SpecInvalid(
                self._invalid(field, value, f"give {wanted}").source, kind=ErrorKind.SUPERVISOR_FLAGS_INVALID
            )


@dataclass(frozen=True)
class Supervisor(SupervisorSpec):
    """A declared tree: ``Supervisor("notifications", strategy="rest_for_one", children=[…])``.

    It is a child spec too, so trees nest.

    Attributes:
        name: the supervisor's name.
        strategy: who is restarted with a child: nobody (``one_for_one``), everybody (``one_for_all``), those that
            were started after it (``rest_for_one``).
        children: specs, in the order of their start; a mapping of a ``Child``'s fields is as good.
        auto_shutdown: end when a significant child ended and is not restarted (``any_significant``), or when the
            last of them has (``all_significant``).

    Raises:
        SpecInvalid: ``config.supervisor_flags.invalid`` or ``config.child_spec.invalid``, naming the field.
    """

    name: str | None = "supervisor"
    children: Sequence[ChildSpec] = ()
    strategy: Strategy = "one_for_one"
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._flag(
            "strategy", self.strategy, self.strategy in get_args(Strategy), " or ".join(map(repr, get_args(Strategy)))
        )
        choices = " or ".join(map(repr, get_args(AutoShutdown)))
        self._flag("auto_shutdown", self.auto_shutdown, self.auto_shutdown in get_args(AutoShutdown), choices)
        children = as_list(self.children)
        wrong = check_childspecs(children, auto_shutdown=self.auto_shutdown)
        if wrong:
            raise wrong[0]
        object.__setattr__(self, "children", tuple(map(as_spec, children)))

    @property
    def actor_class(self) -> type[Actor]:
        """``StaticSupervisor``."""
        return StaticSupervisor

    def build(
        self,
        cell: Cell,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Actor:
        """Make the supervisor's actor."""
        return build(StaticSupervisor, cell, (self,), {})


class StaticSupervisor(Keeper):
    """The actor behind ``Supervisor``."""

    def __init__(self, spec: Supervisor) -> None:
        super().__init__(spec.intensity, spec.period)
        self._spec = spec
        self._children: dict[str, Record] = {str(child.name): Record(child) for child in spec.children}

    # --- start and stop --------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Start the children in order; the first that fails undoes those before it."""
        for record in tuple(self._children.values()):
            try:
                started = self._launch(record)
            except (StartFailed, NameTaken) as error:
                self._stop_all()
                self._leave_places(self._children.values())
                raise StartFailed(
                    f"{self._cell.path!r} did not start: its child {record.spec.name!r} failed: {error}",
                    actor=self._cell.path,
                    target=self._cell.path,
                    verb="start",
                    cause=error,
                ) from error
            if started.ref is None and record.spec.restart == "temporary":
                self._forget(record)
        if self._fenced:
            raise ActorKilled  # the places are its successor's
        leftover, self._cell.needs.places = self._cell.needs.places, {}
        for cell in leftover.values():
            lifecycle.close(cell, SHUTDOWN)

    def on_stop(self) -> None:
        """Stop the children, the last started first."""
        self._stop_all()
        self._leave_places(self._children.values())

    def _stop_all(self) -> None:
        self._halt(reversed(tuple(self._children.values())))

    # --- exits and restarts ----------------------------------------------------------------------------

    def _exited(self, record: Record, reason: ExitReason) -> None:
        match verdict(record.spec.restart, reason):
            case Verdict.RESTART:
                self._restart(record, reason)
                return
            case Verdict.KEEP_SPEC:
                self._close(record)
            case Verdict.FORGET:
                self._forget(record)
                self._close(record)
        self._consider_auto_shutdown(record)

    def _consider_auto_shutdown(self, record: Record) -> None:
        mode = self._spec.auto_shutdown
        if not record.spec.significant or mode == "never":
            return
        others_left = any(
            other.spec.significant and other.status is not None
            for other in self._children.values()
            if other is not record
        )
        if mode == "any_significant" or not others_left:
            self._cell.signal(lifecycle.End(SHUTDOWN), first=True)

    def _restart(self, record: Record, reason: ExitReason) -> None:
        """The child ended: restart it, and who goes with it, unless that is one restart too many."""
        record.status = "restarting"
        if record.spec.backoff is not None:
            self._halt_others(record)
            self._try_again(record)
        elif self._may_restart(record, reason):
            self._restart_affected(record, reason)

    @handles
    def _again(self, message: TryAgain) -> None:
        record: Record = message.record
        if self._children.get(str(record.spec.name)) is not record or not record.awaits(message):
            return  # it was terminated, deleted or restarted meanwhile
        reason = record.cell.reason if record.cell is not None else SHUTDOWN
        if self._may_restart(record, reason):
            self._restart_affected(record, reason)

    def _restart_affected(self, record: Record, reason: ExitReason) -> None:
        self._halt_others(record)
        record.status = None  # if another one does not start, it is that one which is being restarted
        for each in self._affected(record):
            try:
                self._launch(each, reason=reason)
            except (StartFailed, NameTaken):
                self._try_again(each)
                return

    def _halt_others(self, record: Record) -> None:
        """Stop who is restarted with ``record``; the temporary ones among them do not come back."""
        others = [other for other in reversed(self._affected(record)) if other is not record]
        self._halt(others)
        for other in others:
            if other.spec.restart == "temporary":
                self._forget(other)
                self._close(other)

    def _let_go(self) -> None:
        """Close the places of those who were to come back with a child that will not: nobody starts them now."""
        restarting = [record for record in self._children.values() if record.status == "restarting"]
        waiting = {id(each) for record in restarting for each in self._affected(record)}
        for record in self._children.values():
            if record.status is None and id(record) not in waiting:
                self._close(record)

    def _affected(self, record: Record) -> list[Record]:
        """Who is restarted when ``record`` is, in the order of their start."""
        everybody = list(self._children.values())
        match self._spec.strategy:
            case "one_for_one":
                return [record]
            case "rest_for_one":
                return everybody[everybody.index(record) :]
            case "one_for_all":
                return everybody

    # --- administration --------------------------------------------------------------------------------

    @handles
    def _start_child(self, message: StartChild) -> StartedChild:
        spec = message.spec
        self._check_new(spec, message)
        record = self._children[spec.name] = Record(spec)
        try:
            started = self._launch(record)
        except (StartFailed, NameTaken):
            self._forget(record)
            self._close(record)
            raise
        if started.ref is None and spec.restart == "temporary":
            self._forget(record)
        return started

    def _check_new(self, spec: Any, message: StartChild) -> None:
        if not isinstance(spec, ChildSpec):
            raise SpecInvalid(
                f"start_child({repr_of(spec)}): give a Child or another spec", kind=ErrorKind.CHILD_SPEC_INVALID
            )
        if message.args or message.kwargs:
            raise NotSupported("a static supervisor's child has its arguments in its spec: Child(…, args=…, kwargs=…)")
        wrong = check_childspecs([spec], auto_shutdown=self._spec.auto_shutdown)
        if wrong:
            raise wrong[0]
        known = self._children.get(str(spec.name))
        if known is not None:
            running = known.status is not None
            raise NameTaken(
                f"{self._cell.path!r} has a child {spec.name!r} already"
                + ("" if running else ": its spec only; restart_child starts it"),
                kind=ErrorKind.CHILD_ALREADY_STARTED if running else ErrorKind.CHILD_ALREADY_PRESENT,
                target=self._cell.path,
                actor=self._cell.path,
                ref=known.ref,
            )

    @handles
    def _terminate_child(self, message: TerminateChild) -> None:
        self._terminate(self._find(message.child))

    def _terminate(self, record: Record) -> None:
        pending = record.status == "restarting"
        self._halt([record])
        self._close(record)
        if record.spec.restart == "temporary":
            self._forget(record)
        if pending:
            self._let_go()

    @handles
    def _restart_child(self, message: RestartChild) -> StartedChild:
        record = self._find(message.child)
        self._refuse_running(record)
        try:
            return self._launch(record)
        except (StartFailed, NameTaken):
            self._close(record)
            raise

    @handles
    def _delete_child(self, message: DeleteChild) -> None:
        record = self._find(message.child)
        self._refuse_running(record)
        self._forget(record)
        self._close(record)

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
        return filled(self._find(message.child).spec)

    # --- helpers ---------------------------------------------------------------------------------------

    def _records(self) -> Iterator[Record]:
        return iter(tuple(self._children.values()))

    def _record_of(self, cell: Cell) -> Record | None:
        record = self._children.get(str(cell.name))
        return record if record is not None and record.cell is cell else None

    def _find(self, child: Any) -> Record:
        if isinstance(child, str):
            record = self._children.get(child)
        else:
            record = self._record_of(child._cell) if hasattr(child, "_cell") else None
        if record is None:
            raise self._not_found(child)
        return record

    def _refuse_running(self, record: Record) -> None:
        if record.status is not None:
            pending = record.status == "restarting"
            raise ChildRunning(
                f"the child {record.spec.name!r} of {self._cell.path!r} "
                + ("is being restarted" if pending else "runs")
                + ": terminate it first",
                kind=ErrorKind.CHILD_RESTARTING if pending else ErrorKind.CHILD_RUNNING,
                target=self._cell.path,
                actor=self._cell.path,
            )

    def _forget(self, record: Record) -> None:
        self._children.pop(str(record.spec.name), None)

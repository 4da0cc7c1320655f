"""What all supervisors do: make places, put incarnations into them, take them out, and read exit signals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from ..actors import execution, lifecycle
from ..actors.actor import Actor
from ..actors.attributes import check_attributes
from ..actors.cell import CLOSED, SUSPENDED, Cell
from ..actors.directory import ref_to
from ..actors.events import (
    ActorRestarted,
    ActorStarted,
    ChildStartFailed,
    RestartScheduled,
    ShutdownError,
    SupervisorGaveUp,
)
from ..actors.future import Future
from ..actors.mailbox import DEFAULT_MAILBOX, Mailbox
from ..actors.reasons import KILLED, SHUTDOWN, ActorKilled, ExitReason
from ..actors.ref import ActorRef, StopChild
from ..messages.errors import AskTimeout, ChildNotFound, ConfigError, IntensityExceeded, StartFailed, SupervisionError
from ..messages.redact import repr_of
from .child import Child, ChildSpec
from .ref import SupervisorRef
from .requests import ChildInfo, Counts, StartedChild, TryAgain
from .restarts import RestartIntensity

__all__ = ["GAVE_UP", "Keeper", "Record"]

GAVE_UP = ExitReason.shutdown("reached_max_restart_intensity")
"""How a supervisor ends that restarted more often than it may. Its kind is ``shutdown``, as in OTP."""

_KILL_POLL = 0.05

KILLED_TIMEOUT = 1.0
"""Seconds that killed children get to be gone; they need time only to find a thread. Then they do without."""


class Record:
    """A child as its supervisor knows it.

    Attributes:
        spec: its spec.
        args: what it was started with beside the spec's own arguments.
        kwargs: likewise, by name.
        cell: its place; None while there is none.
        status: whether an incarnation runs, its restart is pending, or neither.
        attempts: restarts in a row, for the backoff.
        tries: how often a restart was put off; tells the pending one from those before.
        since: when the last incarnation started, seconds of the system's clock.
    """

    __slots__ = ("args", "attempts", "cell", "kwargs", "since", "spec", "status", "tries")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] | None = None
        self.cell: Cell | None = None
        self.status: Literal["running", "restarting"] | None = None
        self.attempts = 0
        self.tries = 0
        self.since = 0.0

    @property
    def whole_spec(self) -> ChildSpec:
        """The spec with the arguments that it was started with."""
        if isinstance(self.spec, Child) and (self.args or self.kwargs):
            kwargs = {**self.spec.kwargs, **(self.kwargs or {})}
            return dataclasses.replace(self.spec, args=(*self.spec.args, *self.args), kwargs=kwargs)
        return self.spec

    def forget_arguments(self) -> None:
        """Keep no longer what the child was started with: it is temporary, so nobody starts it again."""
        self.args, self.kwargs = (), None
        if isinstance(self.spec, Child) and (self.spec.args or self.spec.kwargs):
            self.spec = dataclasses.replace(self.spec, args=(), kwargs={})

    @property
    def ref(self) -> ActorRef[Any] | None:
        """The child's reference, if it runs."""
        return ref_to(self.cell) if self.cell is not None and self.status == "running" else None

    def awaits(self, message: TryAgain) -> bool:
        """Whether the restart that ``message`` reminds of is still pending."""
        return self.status == "restarting" and message.attempt == self.tries

    def info(self) -> ChildInfo:
        """The child as ``which_children`` shows it."""
        return ChildInfo(self.spec.name, "restarting" if self.status == "restarting" else self.ref, self.spec.kind)


class Keeper(Actor):
    """The base of the supervisors' actors; what they do about an exit is theirs.

    Its mailbox has no bound: an order to a supervisor must not be refused because many others wait.
    """

    mailbox: ClassVar[Mailbox | None] = Mailbox(capacity=None)
    refusals = (SupervisionError, ConfigError)
    _trusted: ClassVar[bool] = True
    _ref_class: ClassVar[type[ActorRef[Any]]] = SupervisorRef

    def __init__(self, intensity: int, period: float) -> None:
        super().__init__()
        self._intensity = RestartIntensity(intensity, period)
        self._starting: Record | None = None

    # --- for subclasses to say -------------------------------------------------------------------------

    def _records(self) -> Iterator[Record]:
        """The children, in the order of their start."""
        raise NotImplementedError

    def _record_of(self, cell: Cell) -> Record | None:
        """The record of the child in ``cell``."""
        raise NotImplementedError

    def _exited(self, record: Record, reason: ExitReason) -> None:
        """A child ended on its own."""
        raise NotImplementedError

    def _terminate(self, record: Record) -> None:
        """Stop a child by order."""
        raise NotImplementedError

    # --- what comes on the control lane ----------------------------------------------------------------

    def on_signal(self, signal: Any) -> None:
        """Take word of an exit, or the order to stop a child that somebody gave on its reference."""
        if isinstance(signal, lifecycle.ChildExited):
            record = self._record_of(signal.cell)
            # An exit of an earlier life, or of a child that was stopped meanwhile, is old news.
            if (
                record is not None
                and signal.cell.incarnation == signal.incarnation
                and signal.cell.state == SUSPENDED
                and record.status == "running"
            ):
                self._exited(record, signal.reason)
        elif isinstance(signal, StopChild):
            record = self._record_of(signal.cell)
            if record is not None:
                self._terminate(record)
            signal.future.try_set(record is not None)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """A supervisor that fails takes its children with it."""
        self.on_stop()

    # --- starting --------------------------------------------------------------------------------------

    def _launch(
        self, record: Record, before: tuple[Any, ...] = (), *, reason: ExitReason | None = None
    ) -> StartedChild:
        """Put an incarnation into the record's place.

        Raises:
            StartFailed, NameTaken: there is none.
            ActorKilled: this supervisor was killed meanwhile, and what it was starting with it.
        """
        if self._fenced:
            raise ActorKilled
        cell = record.cell
        if cell is None or cell.state == CLOSED:
            cell = record.cell = self._place(record.spec)
        spec = record.spec
        self._starting = record
        try:
            outcome = lifecycle.start(cell, lambda: spec.build(cell, before, record.args, record.kwargs), self)
            if isinstance(outcome, lifecycle.Started):
                record.status = "running"  # from here on who kills this supervisor finds it among the children
        except StartFailed as error:
            record.status = None
            events = self._cell.runtime.events
            if events.wanted(ChildStartFailed):
                events.publish(ChildStartFailed(path=self._cell.path, child=cell.path, error=error))
            raise
        except ActorKilled:
            if not cell.incarnation:
                self._close(record)  # a place that nobody was in; whoever killed this supervisor may have missed it
            raise
        finally:
            self._starting = None
        if not isinstance(outcome, lifecycle.Started):
            record.status = None
            self._close(record)
            return StartedChild(None)
        record.since = cell.runtime.clock()
        if spec.restart == "temporary":
            record.forget_arguments()
        self._announce(cell, reason)
        return StartedChild(ref_to(cell), outcome.info)

    def _place(self, spec: ChildSpec) -> Cell:
        """A place for a child: the one it had before this supervisor's restart, or a new one."""
        name = spec.name
        extras = self._cell.extras
        if name is not None and extras is not None:
            kept = extras.places.pop(name, None)
            if kept is not None and kept.actor_class is spec.actor_class and kept.state != CLOSED:
                return kept
            if kept is not None:
                lifecycle.close(kept, SHUTDOWN)
        actor_class = spec.actor_class
        policy = spec.mailbox or actor_class.mailbox or DEFAULT_MAILBOX
        if not isinstance(policy, Mailbox):  # set after the class was defined
            raise self._wrong_class(spec)
        cell = Cell(
            actor_class,
            self._cell.runtime,
            policy,
            name=name,
            parent=self._cell,
            refuses_between=spec.between_lives == "refuse",
        )
        if name is not None or spec.alias is not None:
            self._cell.runtime.directory.register(cell, spec.alias)
        return cell

    def _wrong_class(self, spec: ChildSpec) -> StartFailed:
        try:
            check_attributes(spec.actor_class)
        except ConfigError as error:
            path = f"{self._cell.path}/{spec.name or ''}".strip("/")
            return StartFailed(
                f"{path or spec.actor_class.__name__} did not start: {error}", target=path, verb="start", cause=error
            )
        raise AssertionError(spec)  # pragma: no cover - something is wrong with it, or this were not called

    def _announce(self, cell: Cell, reason: ExitReason | None) -> None:
        events = cell.runtime.events
        if not events.wanted(ActorStarted if reason is None else ActorRestarted):
            return
        name = cell.actor_class.__name__
        if reason is None:
            events.publish(ActorStarted(path=cell.path, actor_class=name, incarnation=cell.incarnation))
        else:
            events.publish(
                ActorRestarted(path=cell.path, actor_class=name, incarnation=cell.incarnation, reason=str(reason))
            )

    def _try_again(self, record: Record) -> None:
        """Restart later: at once but after what waits, so that orders get in between; or after the backoff."""
        record.status = "restarting"
        record.tries += 1
        again = TryAgain(record, record.tries)
        runtime, backoff = self._cell.runtime, record.spec.backoff
        if backoff is None:
            self._cell.put_always(again)
            return
        if runtime.clock() - record.since >= backoff.reset_after and record.since:
            record.attempts = 0
        record.attempts += 1
        record.since = 0.0
        delay = backoff.delay(record.attempts, runtime.random)
        self.after(delay, again)
        if runtime.events.wanted(RestartScheduled) and record.cell is not None:
            runtime.events.publish(RestartScheduled(path=self._cell.path, child=record.cell.path, delay=delay))

    def _may_restart(self, record: Record, reason: ExitReason) -> bool:
        """Count a restart; if it is one too many, give up: the supervisor ends, and its parent decides."""
        runtime = self._cell.runtime
        if self._intensity.allow(runtime.clock()):
            return True
        if runtime.events.wanted(SupervisorGaveUp):
            child = record.cell.path if record.cell is not None else str(record.spec.name)
            intensity, period = self._intensity.intensity, self._intensity.period
            error = IntensityExceeded(
                f"{self._cell.describe()} gave up: more than {intensity} restarts in {period:g} s, the last of {child}",
                target=self._cell.path,
                verb="restart",
                actor=self._cell.path,
                incarnation=self._cell.incarnation,
                cause=reason.error,
            )
            runtime.events.publish(
                SupervisorGaveUp(
                    path=self._cell.path,
                    child=child,
                    reason=str(reason),
                    intensity=intensity,
                    period=period,
                    error=error,
                )
            )
        record.status = None
        self._cell.signal(lifecycle.End(GAVE_UP), first=True)
        return False

    # --- stopping --------------------------------------------------------------------------------------

    def _halt(self, records: Iterable[Record]) -> None:
        """End the incarnations of ``records``, one by one, as their specs say. Their places stay."""
        for record in records:
            with self._waiting_for((record,)):
                self._await_end(record, self._ask_to_end(record), None)

    @contextmanager
    def _waiting_for(self, records: Iterable[Record]) -> Iterator[None]:
        """Note that this supervisor waits for children to end.

        One that asks it meanwhile, or already waits for it, is told of the cycle; else it would be stuck until it
        is killed.
        """
        cell = self._cell
        before = cell.waiting_on
        children = [record.cell for record in records if record.cell is not None]
        cell.waiting_on = (*before, *children)
        for child in children:
            if child.waiting_on:
                execution.free_from(child, cell)
        try:
            yield
        finally:
            if not self._fenced:
                cell.waiting_on = before

    def _ask_to_end(self, record: Record) -> Future[ExitReason] | None:
        """Begin to stop a child; None if nothing runs there."""
        cell = record.cell
        if record.status != "running" or cell is None:
            record.status = None
            return None
        if record.spec.shutdown == "brutal_kill":
            future: Future[ExitReason] = lifecycle.end(cell, KILLED)
            lifecycle.kill(cell)
            return future
        return lifecycle.end(cell, SHUTDOWN)

    def _await_end(
        self, record: Record, ending: Future[ExitReason] | None, deadline: float | None, *, killed: bool = False
    ) -> None:
        """Wait until a child has ended, and kill it at ``deadline`` (by default: now and what its spec allows).

        With ``killed`` it was killed at the deadline.
        """
        cell, spec = record.cell, record.spec
        if ending is None or cell is None:
            return
        clock = self._cell.runtime.clock
        if deadline is None:
            deadline = clock() + spec.shutdown_seconds
        as_told = killed
        killed = killed or spec.shutdown == "brutal_kill"
        if killed and not as_told:
            deadline = clock()
        while True:
            left = None if deadline == math.inf and not killed else max(0.0, deadline - clock())
            try:
                reason = ending.get(timeout=_KILL_POLL if killed else left)
                break
            except AskTimeout:
                killed = True
                lifecycle.kill(cell)
                if clock() >= deadline + KILLED_TIMEOUT:
                    lifecycle.evict(cell)
        if as_told:
            record.status = None
        else:
            self._ended(record, reason)

    def _ended(self, record: Record, reason: ExitReason) -> None:
        """A child has ended as it was told to; report if that was in another way than it was told."""
        record.status = None
        cell, spec = record.cell, record.spec
        assert cell is not None
        expected = reason.kind == ("killed" if spec.shutdown == "brutal_kill" else "shutdown")
        orderly = reason.kind in ("normal", "shutdown") and spec.restart != "permanent"
        events = self._cell.runtime.events
        if not expected and not orderly and events.wanted(ShutdownError):
            events.publish(ShutdownError(path=self._cell.path, child=cell.path, reason=str(reason)))

    def _on_killed(self) -> None:
        """This supervisor was killed: its children are, too."""
        pending = []
        starting = self._starting
        for record in (*(() if starting is None else (starting,)), *reversed(tuple(self._records()))):
            if record.cell is not None and (record.status == "running" or record is starting):
                pending.append((record, lifecycle.end(record.cell, KILLED)))
                lifecycle.kill(record.cell)
        now = self._cell.runtime.clock()
        for record, ending in pending:
            self._await_end(record, ending, now, killed=True)
        self._leave_places(self._records())

    def _close(self, record: Record) -> None:
        """Close a child's place for good; who watches it is told why its last incarnation ended."""
        cell, record.cell, record.status = record.cell, None, None
        if cell is not None:
            lifecycle.close(cell, cell.reason)

    def _leave_places(self, records: Iterable[Record]) -> None:
        """Keep the named places for the next incarnation of this supervisor; close the others.

        References to the children then outlive a restart of their supervisor too. If there is no next
        incarnation, closing this supervisor's place closes them.
        """
        places = self._cell.needs.places
        for record in records:
            if record.cell is None:
                continue
            if record.spec.name is not None and record.spec.restart != "temporary":
                places[record.spec.name] = record.cell
                record.cell = None
            else:
                self._close(record)

    # --- telling ---------------------------------------------------------------------------------------

    def _counts(self) -> Counts:
        specs = active = supervisors = 0
        for record in self._records():
            specs += 1
            active += record.status == "running" and record.cell is not None and record.cell.actor is not None
            supervisors += record.spec.kind == "supervisor"
        return Counts(specs, active, supervisors, specs - supervisors)

    def _not_found(self, child: object) -> ChildNotFound:
        return ChildNotFound(
            f"{self._cell.path!r} has no child {repr_of(child)}", target=self._cell.path, actor=self._cell.path
        )

    def child_cells(self) -> Iterator[Cell]:
        """The places of the children, in the order of their start."""
        for record in tuple(self._records()):
            if record.cell is not None:
                yield record.cell


def filled(spec: ChildSpec) -> ChildSpec:
    """The spec with its defaults filled in."""
    return dataclasses.replace(
        spec,
        shutdown=spec.filled_shutdown,
        mailbox=spec.mailbox or spec.actor_class.mailbox or DEFAULT_MAILBOX,
    )

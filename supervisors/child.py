"""Child specs: what a supervisor must know to start, stop and restart a child."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

from ..actors.actor import Actor, build, build_with
from ..actors.cell import Cell
from ..actors.declared import Declared
from ..actors.mailbox import Mailbox
from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of
from ..messages.suggest import did_you_mean
from .backoff import Backoff

__all__ = ["AutoShutdown", "Child", "ChildSpec", "Restart", "Shutdown", "check_childspecs"]

Restart = Literal["permanent", "transient", "temporary"]
Shutdown = float | Literal["brutal_kill", "infinity"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
BetweenLives = Literal["buffer", "refuse"]
Kind = Literal["worker", "supervisor"]

WORKER_SHUTDOWN = 5.0


def _choices(literal: Any) -> str:
    return " or ".join(repr(choice) for choice in get_args(literal))


_RESTARTS, _RESTART_CHOICES = get_args(Restart), _choices(Restart)
_BETWEEN_LIVES, _BETWEEN_CHOICES = get_args(BetweenLives), _choices(BetweenLives)


@dataclass(frozen=True, kw_only=True)
class ChildSpec(Declared):
    """What all specs have; ``Child`` is the one for actors, supervisors' declarations are specs themselves.

    Attributes:
        name: the child's name, its id under its supervisor and the last part of its path. Required in a static
            supervisor.
        restart: ``permanent``: always restarted; ``transient``: only after an abnormal end; ``temporary``: never.
        significant: whether its own end, without a restart, may end its supervisor (see ``auto_shutdown``).
        shutdown: how it is stopped: seconds it may take, ``"infinity"``, or ``"brutal_kill"``. None: 5 seconds
            for a worker, infinity for a supervisor.
        mailbox: bound and overflow policy; None: what the actor's class says, or 10,000 and ``reject``.
        backoff: wait between restarts; None: restart at once.
        between_lives: what happens to mail while it is being restarted: ``buffer`` lets it wait in the mailbox,
            ``refuse`` answers with ``actor.mailbox.restarting``.
        alias: a name of its own in the whole system, beside its path; free again when the actor is gone.

    Raises:
        SpecInvalid: ``config.child_spec.invalid``, naming the field and its value.
    """

    kind: ClassVar[Kind] = "worker"

    name: str | None = None
    restart: Restart = "permanent"
    significant: bool = False
    shutdown: Shutdown | None = None
    mailbox: Mailbox | None = None
    backoff: Backoff | None = None
    between_lives: BetweenLives = "buffer"
    alias: str | None = None

    def __post_init__(self) -> None:
        self._require("name", self.name, is_name(self.name), "a text without '/', or None")
        self._require("restart", self.restart, self.restart in _RESTARTS, _RESTART_CHOICES)
        self._require("significant", self.significant, isinstance(self.significant, bool), "True or False")
        self._require(
            "shutdown",
            self.shutdown,
            self.shutdown is None or is_shutdown(self.shutdown),
            "seconds (0 or more), 'infinity' or 'brutal_kill'",
        )
        self._require(
            "mailbox", self.mailbox, self.mailbox is None or isinstance(self.mailbox, Mailbox), "a Mailbox or None"
        )
        self._require(
            "backoff", self.backoff, self.backoff is None or isinstance(self.backoff, Backoff), "a Backoff or None"
        )
        self._require("between_lives", self.between_lives, self.between_lives in _BETWEEN_LIVES, _BETWEEN_CHOICES)
        self._require("alias", self.alias, is_name(self.alias), "a text without '/', or None")
        if self.significant and self.restart == "permanent":
            raise self._invalid(
                "significant", True, "a permanent child is always restarted, so it cannot be significant"
            )

    @property
    def actor_class(self) -> type[Actor]:
        """The class of the actor that the spec starts."""
        raise NotImplementedError

    def build(
        self,
        cell: Cell,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Actor:
        """Make an instance that stands in ``cell``.

        Args:
            cell: its place.
            before: arguments before the spec's own.
            after: arguments after the spec's own.
            named: keyword arguments beside the spec's own.
        """
        raise NotImplementedError

    @property
    def shutdown_seconds(self) -> float:
        """How long it may take to stop, in seconds: infinity is ``math.inf``, a brutal kill 0."""
        match self.shutdown:
            case None:
                return WORKER_SHUTDOWN if self.kind == "worker" else math.inf
            case "infinity":
                return math.inf
            case "brutal_kill":
                return 0.0
            case seconds:
                return float(seconds)

    @property
    def filled_shutdown(self) -> Shutdown:
        """``shutdown`` with its default filled in."""
        if self.shutdown is not None:
            return self.shutdown
        return WORKER_SHUTDOWN if self.kind == "worker" else "infinity"

    def _require(self, field_name: str, value: object, good: bool, wanted: str) -> None:
        if not good:
            raise self._invalid(field_name, value, f"give {wanted}")

    def _invalid(self, field_name: str, value: object, what: str) -> SpecInvalid:
        hint = did_you_mean(value, _TEXTS.get(field_name, ()))
        who = f"{type(self).__name__} {repr_of(self.name)}" if is_name(self.name) and self.name else type(self).__name__
        return SpecInvalid(f"{who}: {field_name}={repr_of(value)}: {what}{hint}", kind=ErrorKind.CHILD_SPEC_INVALID)


@dataclass(frozen=True)
class Child(ChildSpec):
    """The spec of one actor: ``Child(Mutator, name="mutator", args=("postgresql://…",))``.

    Attributes:
        actor: the actor's class, or a function that makes one.
        args: positional arguments of the constructor.
        kwargs: keyword arguments of the constructor.

    The others are those of ``ChildSpec``. Its ``repr`` leaves the arguments out: passwords stand in URLs.
    """

    actor: type[Actor] | Callable[..., Actor]
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        actor: Any = self.actor
        self._require("actor", actor, callable(actor), "a subclass of Actor, or a function that returns one")
        if isinstance(actor, type) and not issubclass(actor, Actor):
            raise self._invalid("actor", actor, "it is no subclass of understudy.Actor")
        self._require("args", self.args, isinstance(self.args, tuple), "a tuple")
        self._require("kwargs", self.kwargs, isinstance(self.kwargs, Mapping), "a mapping of names to values")

    @property
    def actor_class(self) -> type[Actor]:
        """The class, or ``Actor`` where a function makes it."""
        return self.actor if isinstance(self.actor, type) else Actor

    def build(
        self,
        cell: Cell,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Actor:
        """Make an instance that stands in ``cell``."""
        args = (*before, *self.args, *after)
        kwargs = {**self.kwargs, **named} if named else dict(self.kwargs)
        if isinstance(self.actor, type):
            return build(self.actor, cell, args, kwargs)
        return build_with(self.actor, cell, args, kwargs)

    @classmethod
    def of(cls, fields_by_name: Mapping[str, Any]) -> Child:
        """Make a spec out of a mapping, such as one read from a configuration file.

        Raises:
            SpecInvalid: an unknown field (with what was perhaps meant), a missing one, or a bad value.
        """
        if not isinstance(fields_by_name, Mapping):
            raise SpecInvalid(
                f"{repr_of(fields_by_name)} is no child spec: give a Child, another spec, or a mapping of its fields",
                kind=ErrorKind.CHILD_SPEC_INVALID,
            )
        known = [each.name for each in fields(cls)]
        for name in fields_by_name:
            if name not in known:
                hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                raise SpecInvalid(f"Child: unknown field {repr_of(name)}{hint}", kind=ErrorKind.CHILD_SPEC_INVALID)
        if "actor" not in fields_by_name:
            raise SpecInvalid(
                f"Child {repr_of(fields_by_name.get('name'))}: 'actor' is missing: say what to start",
                kind=ErrorKind.CHILD_SPEC_INVALID,
            )
        return cls(**fields_by_name)


def check_childspecs(
    children: Iterable[ChildSpec | Mapping[str, Any]], *, auto_shutdown: AutoShutdown = "never"
) -> list[SpecInvalid]:
    """Check specs without starting anything.

    Args:
        children: specs, or mappings that ``Child.of`` would take.
        auto_shutdown: the flag of the supervisor that they are for.

    Returns:
        what is wrong, each as an error with its code, unraised; an empty list if nothing is.
    """
    wrong: list[SpecInvalid] = []
    seen: set[str] = set()
    try:
        listed = as_list(children)
    except SpecInvalid as error:
        return [error]
    for child in listed:
        try:
            _check_in_place(as_spec(child), seen, auto_shutdown)
        except SpecInvalid as error:
            wrong.append(error)
    return wrong


def as_spec(child: ChildSpec | Mapping[str, Any]) -> ChildSpec:
    """The spec itself, or the ``Child`` that a mapping describes."""
    return child if isinstance(child, ChildSpec) else Child.of(child)


def as_list(children: Any) -> list[Any]:
    """The children as a list; raises ``SpecInvalid`` for what is no list of anything, or is one spec itself."""
    if not isinstance(children, Iterable) or isinstance(children, (str, bytes, Mapping)):
        raise SpecInvalid(
            f"children={repr_of(children)}: give a list of specs, also for one child", kind=ErrorKind.CHILD_SPEC_INVALID
        )
    return list(children)


def _check_in_place(spec: ChildSpec, seen: set[str], auto_shutdown: AutoShutdown) -> None:
    if not spec.name:
        raise SpecInvalid(
            f"a child of a static supervisor needs a name: {repr_of(spec)}", kind=ErrorKind.CHILD_SPEC_INVALID
        )
    if spec.name in seen:
        raise SpecInvalid(f"two children are named {repr_of(spec.name)}", kind=ErrorKind.CHILD_SPEC_INVALID)
    seen.add(spec.name)
    if spec.significant and auto_shutdown == "never":
        raise SpecInvalid(
            f"{repr_of(spec.name)} is significant, but its supervisor's auto_shutdown is 'never'",
            kind=ErrorKind.CHILD_SPEC_INVALID,
        )


def is_name(value: object) -> bool:
    """Whether it can be a name: a text that does not look like a path, or None for no name."""
    return value is None or (isinstance(value, str) and bool(value) and "/" not in value and value.isprintable())


def is_shutdown(value: object) -> bool:
    """Whether it can be a shutdown value."""
    if isinstance(value, str):
        return value in ("infinity", "brutal_kill")
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


_TEXTS: dict[str, tuple[str, ...]] = {
    "restart": get_args(Restart),
    "shutdown": ("infinity", "brutal_kill"),
    "between_lives": get_args(BetweenLives),
    "auto_shutdown": get_args(AutoShutdown),
    "strategy": ("one_for_one", "one_for_all", "rest_for_one"),
}

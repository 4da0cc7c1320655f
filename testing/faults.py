"""What shall go wrong in a simulation, where, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from ..supervisors.keeper import Keeper

if TYPE_CHECKING:
    import random

    from ..actors.actor import Actor

__all__ = ["Fault", "FaultPlan", "InjectedCrash"]

FaultKind = Literal["crash", "drop", "duplicate", "delay", "slow", "hang"]


class InjectedCrash(RuntimeError):
    """What a handler raises that a fault plan lets crash."""


@dataclass(slots=True)
class Fault:
    """One rule of a plan; it strikes messages that are about to be handled.

    Attributes:
        kind: what happens to them.
        path: the actor's path, or a pattern such as ``shop/*``; None: any.
        actor: its class or a base of it; None: any.
        message: the message's type or a base of it; None: any.
        at: the first message to be struck, counted from 1 among those that match.
        times: how many are struck; None: all from then on.
        rate: the probability for each of them, drawn from the seed.
        seconds: of virtual time, for ``delay`` and ``slow``.
        error: what ``crash`` raises.
    """

    kind: FaultKind
    path: str | None = None
    actor: type[Actor] | None = None
    message: type | None = None
    at: int = 1
    times: int | None = 1
    rate: float = 1.0
    seconds: float = 0.0
    error: Callable[[], BaseException] = field(default=lambda: InjectedCrash("a fault plan let it crash"))
    seen: int = 0
    struck: int = 0

    def strikes(self, path: str, actor_class: type, message: Any, chance: random.Random) -> bool:
        """Whether it strikes this message; counts it."""
        if not self._matches(path, actor_class, message):
            return False
        self.seen += 1
        if self.seen < self.at or (self.times is not None and self.struck >= self.times):
            return False
        if self.rate < 1.0 and chance.random() >= self.rate:
            return False
        self.struck += 1
        return True

    def _matches(self, path: str, actor_class: type, message: Any) -> bool:
        if issubclass(actor_class, Keeper) and self.actor is None and self.path != path:
            return False
        return (
            (self.path is None or fnmatchcase(path, self.path))
            and (self.actor is None or issubclass(actor_class, self.actor))
            and (self.message is None or isinstance(message, self.message))
        )


class FaultPlan:
    """A list of faults, in the order they are tried; at most one strikes a message.

    Every method adds a rule and returns the plan, so that plans read as one expression::

        FaultPlan().crash("shop/mutator", at=3).drop(message=Heartbeat, rate=0.1, times=None)

    A plan counts what it has seen, so each simulation takes one of its own. Which messages a rule concerns
    is said by ``path`` (a pattern such as ``shop/*``), ``actor`` and ``message`` (classes); which of those
    by ``at`` (the k-th, counted from 1), ``times`` (how many from there on; None: all) and ``rate`` (a
    probability, drawn from the simulation's seed). Supervisors are spared, unless a rule gives their very path
    or their class.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def crash(
        self, path: str | None = None, *, error: Callable[[], BaseException] | None = None, **which: Any
    ) -> FaultPlan:
        """The handler raises ``error()`` instead of handling the message; by default an ``InjectedCrash``."""
        fault = self._add("crash", path, **which)
        if error is not None:
            fault.error = error
        return self

    def drop(self, path: str | None = None, **which: Any) -> FaultPlan:
        """The message is lost: nobody handles it, nobody answers."""
        self._add("drop", path, **which)
        return self

    def duplicate(self, path: str | None = None, **which: Any) -> FaultPlan:
        """The message is handled twice in a row; an asker gets the first reply."""
        self._add("duplicate", path, **which)
        return self

    def delay(self, seconds: float, path: str | None = None, **which: Any) -> FaultPlan:
        """The message comes ``seconds`` later, behind whatever came meanwhile."""
        self._add("delay", path, seconds=seconds, **which)
        return self

    def slow(self, seconds: float, path: str | None = None, **which: Any) -> FaultPlan:
        """The handler takes ``seconds`` longer; what comes for the actor meanwhile waits."""
        self._add("slow", path, seconds=seconds, **which)
        return self

    def hang(self, path: str | None = None, **which: Any) -> FaultPlan:
        """The handler never returns; only killing its incarnation ends it."""
        self._add("hang", path, **which)
        return self

    def strike(self, path: str, actor_class: type, message: Any, chance: random.Random) -> Fault | None:
        """The fault that strikes a message, if one does. Every rule before it counts the message too."""
        for fault in self.faults:
            if fault.strikes(path, actor_class, message, chance):
                return fault
        return None

    def _add(self, kind: FaultKind, path: str | None, **which: Any) -> Fault:
        fault = Fault(kind, path, **which)
        self.faults.append(fault)
        return fault

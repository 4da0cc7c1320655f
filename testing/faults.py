"""What shall go wrong in a simulation, where, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypedDict, Unpack

from ..actors.actor import Actor
from ..supervisors.keeper import Keeper

__all__ = ["Fault", "FaultPlan", "InjectedCrash", "Which"]

FaultKind = Literal["crash", "drop", "duplicate", "delay", "slow", "hang"]


class InjectedCrash(RuntimeError):
    """What a handler raises that a fault plan lets crash."""


class Which(TypedDict, total=False):
    """Which messages a fault strikes; see ``FaultPlan``."""

    actor: type[Actor]
    message: type
    at: int
    times: int | None
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule of a plan; its fields are described there.

    Raises:
        ValueError: for a number that makes no sense.
    """

    kind: FaultKind
    path: str | None = None
    actor: type[Actor] | None = None
    message: type | None = None
    at: int = 1
    times: int | None = 1
    rate: float = 1.0
    seconds: float = 0.0
    error: Callable[[], BaseException] | None = None

    def __post_init__(self) -> None:
        if self.at < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"at={self.at}, times={self.times}: messages are counted from 1")
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate={self.rate}: give a probability, 0 to 1")
        if self.seconds < 0.0:
            raise ValueError(f"seconds={self.seconds}: time does not run backwards")

    def matches(self, path: str, actor_class: type, message: Any) -> bool:
        """Whether the rule concerns this message to this actor."""
        if issubclass(actor_class, Keeper) and self.actor is None and self.path != path:
            return False
        return (
            (self.path is None or fnmatchcase(path, self.path))
            and (self.actor is None or issubclass(actor_class, self.actor))
            and (self.message is None or isinstance(message, self.message))
        )


class FaultPlan:
    """A list of faults, in the order they are tried; at most one strikes a message.

    Every method adds one and returns the plan, so that a plan reads as one expression::

        FaultPlan().crash("shop/mutator", at=3).drop(message=Heartbeat, rate=0.1, times=None)

    A fault strikes messages that an actor is about to handle:

    - ``path``: the actor's path, or a pattern such as ``shop/*``; any, unless given;
    - ``actor``: its class, or a base of it;
    - ``message``: the message's type, or a base of it;
    - ``at``: the first one to be struck, counted from 1 among those that match the above;
    - ``times``: how many are struck, 1 unless given; None: all from then on;
    - ``rate``: the probability for each of them, drawn from the simulation's seed.

    Supervisors are spared, unless a fault gives their very path or their class. What a batch handler takes along
    beside the first message is not looked at.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def crash(
        self, path: str | None = None, *, error: Callable[[], BaseException] | None = None, **which: Unpack[Which]
    ) -> FaultPlan:
        """The handler raises ``error()`` instead of handling the message; by default an ``InjectedCrash``."""
        return self._add(Fault(kind="crash", path=path, error=error, **which))

    def drop(self, path: str | None = None, **which: Unpack[Which]) -> FaultPlan:
        """The message is lost: nobody handles it, nobody answers."""
        return self._add(Fault(kind="drop", path=path, **which))

    def duplicate(self, path: str | None = None, **which: Unpack[Which]) -> FaultPlan:
        """The message is handled twice in a row; an asker gets the first reply."""
        return self._add(Fault(kind="duplicate", path=path, **which))

    def delay(self, seconds: float, path: str | None = None, **which: Unpack[Which]) -> FaultPlan:
        """The message comes ``seconds`` (virtual) later, behind whatever came meanwhile."""
        return self._add(Fault(kind="delay", path=path, seconds=seconds, **which))

    def slow(self, seconds: float, path: str | None = None, **which: Unpack[Which]) -> FaultPlan:
        """The handler takes ``seconds`` (virtual) longer; what comes for the actor meanwhile waits."""
        return self._add(Fault(kind="slow", path=path, seconds=seconds, **which))

    def hang(self, path: str | None = None, **which: Unpack[Which]) -> FaultPlan:
        """The handler never returns; only killing its incarnation ends it."""
        return self._add(Fault(kind="hang", path=path, **which))

    def _add(self, fault: Fault) -> FaultPlan:
        self.faults.append(fault)
        return self

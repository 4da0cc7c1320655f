"""What is said to a supervisor, and what it answers. ``SupervisorRef`` has a method for each."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ..actors.ref import ActorRef
from ..messages.message import Message
from .child import ChildSpec, Kind

__all__ = [
    "ChildInfo",
    "CountChildren",
    "Counts",
    "DeleteChild",
    "GetChildSpec",
    "RestartChild",
    "StartChild",
    "StartedChild",
    "TerminateChild",
    "TryAgain",
    "WhichChild",
    "WhichChildren",
]

ChildId = str | ActorRef[Any]


class StartedChild(NamedTuple):
    """A child's reference (None if it said ``IGNORE``) and what its ``on_start`` had to say (``Started(info)``)."""

    ref: ActorRef[Any] | None
    info: object = None


class ChildInfo(NamedTuple):
    """A child as ``which_children`` shows it.

    Attributes:
        id: its name, or None if it has none.
        ref: its reference; None if it does not run; ``"restarting"`` while its restart is pending.
        type: ``worker`` or ``supervisor``.
    """

    id: str | None
    ref: ActorRef[Any] | Literal["restarting"] | None
    type: Kind


class Counts(NamedTuple):
    """How many child specs there are, how many children are alive, and how many are of each kind."""

    specs: int
    active: int
    supervisors: int
    workers: int


class StartChild(Message[StartedChild]):
    """Start a child. ``args`` and ``kwargs`` come after the spec's own, in a dynamic supervisor."""

    spec: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"StartChild({self.spec!r})"  # without the arguments, as that of the spec


class TerminateChild(Message[None]):
    """Stop a child and do not restart it."""

    child: Any


class RestartChild(Message[StartedChild]):
    """Start a child again that does not run."""

    child: Any


class DeleteChild(Message[None]):
    """Forget the spec of a child that does not run."""

    child: Any


class WhichChildren(Message[list[ChildInfo]]):
    """List the children, newest first."""


class WhichChild(Message[ChildInfo]):
    """Show one child."""

    child: Any


class CountChildren(Message[Counts]):
    """Count the children."""


class GetChildSpec(Message[ChildSpec]):
    """Give a child's spec, with the defaults filled in."""

    child: Any


class TryAgain(Message[None]):
    """What a supervisor tells itself when a restart failed, so that other orders get in between."""

    record: Any
    attempt: int

"""Why an incarnation ended: OTP's exit reasons, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of

__all__ = ["INTERRUPTIONS", "KILLED", "NORMAL", "SHUTDOWN", "ActorKilled", "ExitReason", "WorkCancelled"]


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why an incarnation of an actor ended.

    Attributes:
        kind: ``normal`` and ``shutdown`` are orderly ends; ``killed`` and ``error`` are abnormal,
            and make a *transient* child restart.
        info: what ``shutdown`` was given with, OTP's ``{shutdown, Info}``.
        error: the exception that escaped, for ``error``.
    """

    kind: Literal["normal", "shutdown", "killed", "error"]
    info: object = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("normal", "shutdown", "killed", "error"):
            raise SpecInvalid(
                f"{repr_of(self.kind)} is no kind of reason: give normal, shutdown, killed or error",
                kind=ErrorKind.REASON_INVALID,
            )

    @property
    def abnormal(self) -> bool:
        """Whether a transient child is restarted after it."""
        return self.kind in ("killed", "error")

    @classmethod
    def of(cls, error: BaseException) -> ExitReason:
        """The reason for an exception that escaped."""
        return KILLED if isinstance(error, ActorKilled) else cls("error", error=error)

    @classmethod
    def shutdown(cls, info: object) -> ExitReason:
        """An orderly end with something to say, OTP's ``{shutdown, Info}``."""
        return cls("shutdown", info=info)

    def __str__(self) -> str:
        if self.error is not None:
            return f"error({type(self.error).__name__}: {_one_line(self.error, str)})"
        return self.kind if self.info is None else f"{self.kind}({_one_line(self.info, repr)})"


def _one_line(value: object, show: Callable[[object], str]) -> str:
    """A text for logs, whatever is shown and whatever showing it does; credentials are taken out."""
    from ..messages.redact import clean  # only what has failed needs it

    try:
        return " ".join(clean(show(value)).splitlines())
    except BaseException as problem:  # a text must be had even from a `__str__` that exits
        return f"<{type(value).__name__} whose text cannot be had: {type(problem).__name__}>"


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
KILLED = ExitReason("killed")


class ActorKilled(BaseException):
    """Injected into the thread of a handler that outlived its shutdown deadline.

    A ``BaseException``, so that an ``except Exception`` in a handler does not swallow it. It lands at
    the next bytecode of the handler; a handler that sits in a C call never sees it and is abandoned.
    """


class WorkCancelled(BaseException):
    """Raised in background work that was cancelled: where it waits, where it asks, or at its next bytecode.

    A ``BaseException``, so that an ``except Exception`` in the work does not swallow it. Let it pass, after
    cleaning up in a ``finally``.
    """


INTERRUPTIONS: Final = (ActorKilled, WorkCancelled)
"""What the runtime raises in a thread that is to end: not an error of the code that runs there."""

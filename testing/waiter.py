"""Who waits in a simulation, for what, and what it is told when that cannot come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Deadlock", "Endless", "Waiter"]


class Deadlock(AssertionError):
    """Somebody waits without a deadline, and nothing is left that could run."""


class Endless(AssertionError):
    """What was waited for did not come about within the allowed number of steps."""


class Waiter:
    """A thread that sleeps until it gets the baton.

    Attributes:
        latch: wakes it when it is released.
        condition: wakes it (a caller) when it returns true.
        deadline: wakes it when this virtual time has come; a caller only once nothing else is left to be
            done at that time. None: never.
        last_step: how far a caller lets the simulation run; None: on and on.
        who: the path of the actor that waits; empty for a caller from outside.
        about: what the report of a deadlock is made from.
        came: whether what it waited for came, rather than its deadline.
    """

    __slots__ = ("about", "came", "condition", "deadline", "error", "gate", "last_step", "latch", "who")

    def __init__(
        self,
        *,
        latch: threading.Lock | None = None,
        condition: Callable[[], bool] | None = None,
        deadline: float | None = None,
        last_step: int | None = None,
        who: str = "",
        about: Any = None,
    ) -> None:
        self.latch = latch
        self.condition = condition
        self.deadline = deadline
        self.last_step = last_step
        self.who = who
        self.about = about
        self.came = False
        self.error: BaseException | None = None
        self.gate = threading.Lock()
        self.gate.acquire()

    def served(self) -> bool:
        """Whether what it waits for is there."""
        if self.latch is not None:
            self.came = not self.latch.locked()
        elif self.condition is not None:
            try:
                self.came = self.condition()
            except BaseException as error:
                self.error = error
        return self.came or self.error is not None

"""An actor that stands in for another one in a test, and remembers what it was told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..actors.actor import Actor
from ..actors.mailbox import Mailbox
from ..supervisors.child import Child
from .simulated import SimulatedDispatcher

if TYPE_CHECKING:
    from ..actors.cell import Cell
    from ..actors.ref import ActorRef
    from ..supervisors.system import ActorSystem

__all__ = ["Probe", "ProbeActor"]

M = TypeVar("M")


class Probe:
    """What a stand-in got, and what it answers. Restarts of the actor do not touch it.

    Example::

        probe = Probe().answer(GetRate, 1.17)
        shop = system.spawn(Shop, rates=probe.spawn(system))
        shop.tell(Sell("tea"))
        assert probe.expect(GetRate).currency == "EUR"

    Attributes:
        received: every message it got, in order.
    """

    def __init__(self) -> None:
        self.received: list[Any] = []
        self._unclaimed: list[Any] = []
        self._answers: dict[type, Any] = {}
        self._changed = threading.Condition()
        self._cell: Cell | None = None

    # --- where it stands -------------------------------------------------------------------------------

    def child(self, name: str | None = None, **fields: Any) -> Child:
        """The spec of the stand-in, to be declared in a tree; ``fields`` are those of ``Child``."""
        return Child(ProbeActor, (self,), name=name, **fields)

    def spawn(self, system: ActorSystem, name: str | None = None, **fields: Any) -> ActorRef[ProbeActor]:
        """Start the stand-in under a system, and return its reference."""
        ref: ActorRef[ProbeActor] = system.spawn(self.child(name, **fields))
        return ref

    @property
    def ref(self) -> ActorRef[ProbeActor]:
        """The stand-in's reference.

        Raises:
            RuntimeError: it has not been started.
        """
        ref: ActorRef[ProbeActor] = ProbeActor._ref_class(self._place)
        return ref

    # --- what it does ----------------------------------------------------------------------------------

    def answer(self, message_type: type, answer: Any) -> Probe:
        """Say what it does with messages of a type (or a subclass) from now on; without, it answers None.

        Args:
            message_type: which messages.
            answer: an exception is raised; a function is called with the message, and what it returns is the
                reply; anything else is the reply.

        Returns:
            the probe itself.
        """
        self._answers[message_type] = answer
        return self

    # --- what a test asks it ---------------------------------------------------------------------------

    def expect(self, message_type: type[M], *, timeout: float = 5.0, where: Callable[[M], bool] | None = None) -> M:
        """Wait for a message of a type that no earlier ``expect`` has returned, and return the first.

        Args:
            message_type: the message's type or a base of it.
            timeout: seconds; in a simulation they are virtual, and everything runs meanwhile.
            where: which of them.

        Raises:
            AssertionError: none came in time; the text lists what did.
        """
        found: list[M] = []

        def look() -> bool:
            for message in self._unclaimed:
                if isinstance(message, message_type) and (where is None or where(message)):
                    found.append(message)
                    return True
            return False

        if not self._wait_for(look, timeout):
            raise AssertionError(
                f"no {message_type.__name__} within {timeout} s; unclaimed so far: {self._unclaimed or 'nothing'}"
            )
        self._unclaimed.remove(found[0])
        return found[0]

    def expect_nothing(self, *, within: float = 0.0) -> None:
        """Make sure that nothing is there that ``expect`` has not returned, and that nothing comes.

        Args:
            within: seconds to wait for it; in a simulation they are virtual.

        Raises:
            AssertionError: something came.
        """
        if self._wait_for(lambda: bool(self._unclaimed), within):
            raise AssertionError(f"nobody expected {self._unclaimed}")

    def clear(self) -> None:
        """Forget what it got, not what it answers."""
        self.received.clear()
        self._unclaimed.clear()

    def _wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        simulation = None if self._cell is None else self._cell.runtime.simulation
        if isinstance(simulation, SimulatedDispatcher):
            return simulation.comes_true(condition, timeout)
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    @property
    def _place(self) -> Cell:
        if self._cell is None:
            raise RuntimeError("this probe was not started: use its spawn(), or declare its child() in a tree")
        return self._cell

    def _take(self, message: Any) -> Any:
        with self._changed:
            self.received.append(message)
            self._unclaimed.append(message)
            self._changed.notify_all()
        answer = next((self._answers[kind] for kind in type(message).__mro__ if kind in self._answers), None)
        if isinstance(answer, BaseException):
            raise answer
        return answer(message) if callable(answer) else answer


class ProbeActor(Actor):
    """The actor of a ``Probe``."""

    mailbox = Mailbox(capacity=None)

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe
        probe._cell = self._cell

    def on_receive(self, message: Any) -> Any:
        """Let the probe deal with it."""
        return self._probe._take(message)

"""Actors for the tests of supervisors, and the stage they play on: one simulated system and a record of its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, TypeVar, cast

import pytest

from understudy import (
    NORMAL,
    SHUTDOWN,
    Actor,
    ActorError,
    ActorRef,
    ActorSystem,
    Child,
    ChildSpec,
    DynamicSupervisor,
    Event,
    ExitReason,
    Future,
    Message,
    Supervisor,
    handles,
)
from understudy.actors import lifecycle
from understudy.actors.events import ActorStopped
from understudy.messages.errors import AskTimeout
from understudy.supervisors.ref import SupervisorRef
from understudy.supervisors.supervisor import SupervisorSpec
from understudy.testing import SimulatedDispatcher

EventType = TypeVar("EventType", bound=Event)

Ending = Literal["normal", "shutdown", "shutdown(info)", "killed", "error"]
"""The ways in which an incarnation can end on its own (``killed``: somebody kills it)."""

ORDERLY: tuple[Ending, ...] = ("normal", "shutdown", "shutdown(info)")
ABNORMAL: tuple[Ending, ...] = ("killed", "error")
ENDINGS: tuple[Ending, ...] = (*ORDERLY, *ABNORMAL)

_REASONS: dict[str, ExitReason] = {
    "normal": NORMAL,
    "shutdown": SHUTDOWN,
    "shutdown(info)": ExitReason.shutdown("info"),
}


class Crash(Message[None]):
    """Raise."""


class Quit(Message[None]):
    """End the incarnation with this reason."""

    reason: Any


class Serial(Message[int]):
    """Tell which instance you are; no two instances on a stage have the same number."""


class Note(Message[int]):
    """Be handled; the value is put down on the stage and is the reply."""

    value: int


class Take(Message[None]):
    """Be busy for some (virtual) seconds."""

    seconds: float


class Hang(Message[None]):
    """Be busy for ever."""


class Player(Actor):
    """Says what it does to its stage, and starts and stops as the stage's script has it."""

    def __init__(self, stage: Stage, label: str = "child", *lines: Any) -> None:
        super().__init__()
        self.stage = stage
        self.label = label
        self.lines = lines
        self.serial = stage.next_serial()

    def on_start(self) -> Any:
        """Do what the script says for this start."""
        return self.stage.play_start(self)

    def on_stop(self) -> None:
        """Do what the script says for the stop."""
        self.stage.play_stop(self)

    @handles
    def crash(self, _message: Crash) -> None:
        raise RuntimeError(f"{self.label} crashes")

    @handles
    def quit(self, message: Quit) -> None:
        self.stop(message.reason)

    @handles
    def tell_serial(self, _message: Serial) -> int:
        return self.serial

    @handles
    def note(self, message: Note) -> int:
        self.stage.notes.append(message.value)
        return message.value

    @handles
    def take(self, message: Take) -> None:
        pause(message.seconds)

    @handles
    def hang(self, _message: Hang) -> None:
        Future[None]().get()


class Plain(Actor):
    """An actor without hooks: what the scale tests start by the thousand."""

    @handles
    def crash(self, _message: Crash) -> None:
        raise RuntimeError("a plain actor crashes")


def pause(seconds: float) -> None:
    """Be busy for some virtual seconds, inside of an actor."""
    with suppress(AskTimeout):
        Future[None]().get(timeout=seconds)


Line = Any
"""One start's script: "ok"; an exception to be raised; a function to be called with the player; or what
``on_start`` returns, such as ``IGNORE``."""


class Stage:
    """A system in virtual time, what its players are to do, and what they did.

    Args:
        seed: of the simulation.
        watched: whether events are kept.

    Attributes:
        log: "start a", "stop a", "fail a" (a start that came to nothing), in the order they happened.
        notes: the values of the ``Note`` messages, in the order they were handled.
        events: everything the system told of itself.
    """

    def __init__(self, seed: int = 7, *, watched: bool = True) -> None:
        self.simulation = SimulatedDispatcher(seed)
        self.system = ActorSystem("stage", dispatcher=self.simulation, intensity=0)
        self.log: list[str] = []
        self.notes: list[int] = []
        self.events: list[Event] = []
        self._starts: dict[str, list[Line]] = {}
        self._every_start: dict[str, Line] = {}
        self._stops: dict[str, Callable[[Player], None]] = {}
        self._serials = 0
        if watched:
            self.system.events.subscribe(Event, self.events.append)

    # --- the script ------------------------------------------------------------------------------------

    def starts(self, label: str, *lines: Line) -> None:
        """Say what the next starts of the player do; after the last line, and without one, all goes well."""
        self._starts[label] = list(lines)

    def every_start(self, label: str, line: Line) -> None:
        """Say what every further start does that has no line of its own; "ok" takes it back."""
        self._every_start[label] = line

    def stops(self, label: str, act: Callable[[Player], None]) -> None:
        """Say what the player does in ``on_stop``."""
        self._stops[label] = act

    def next_serial(self) -> int:
        """Count the instances."""
        self._serials += 1
        return self._serials

    def play_start(self, player: Player) -> Any:
        """What ``on_start`` does."""
        left = self._starts.get(player.label)
        line = left.pop(0) if left else self._every_start.get(player.label, "ok")
        if isinstance(line, BaseException):
            self.log.append(f"fail {player.label}")
            raise line
        self.log.append(f"start {player.label}")
        if callable(line):
            return line(player)
        return None if isinstance(line, str) and line == "ok" else line

    def play_stop(self, player: Player) -> None:
        """What ``on_stop`` does."""
        self.log.append(f"stop {player.label}")
        act = self._stops.get(player.label)
        if act is not None:
            act(player)

    # --- who plays -------------------------------------------------------------------------------------

    def child(self, name: str, **fields: Any) -> Child:
        """The spec of a player that is labelled with its name."""
        return Child(Player, (self, name), name=name, **fields)

    def extra(self, label: str, **fields: Any) -> Child:
        """The spec of a player without a name, for a dynamic supervisor."""
        return Child(Player, (self, label), **fields)

    def supervise(self, *children: Any, **fields: Any) -> SupervisorRef:
        """Start a static supervisor of the name ``sup``: 2 restarts in an hour; nobody restarts it."""
        options = {"name": "sup", "restart": "temporary", "intensity": 2, "period": 3600.0, **fields}
        return self.spawn(Supervisor(children=children, **options))

    def supervise_dynamic(self, **fields: Any) -> SupervisorRef:
        """Start a dynamic supervisor of the name ``sup``, likewise."""
        options = {"name": "sup", "restart": "temporary", "intensity": 2, "period": 3600.0, **fields}
        return self.spawn(DynamicSupervisor(**options))

    def spawn(self, spec: SupervisorSpec) -> SupervisorRef:
        """Start a supervisor under the system."""
        return cast("SupervisorRef", self.start(spec))

    def start(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start anything under the system."""
        ref = self.system.root.start_child(spec)
        assert ref is not None
        return ref

    def ref(self, path: str) -> ActorRef[Player]:
        """The reference of the player at ``path``."""
        return self.system.lookup(path)

    # --- what happens to them --------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        self.simulation.run_until_idle()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.simulation.advance(seconds)

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.simulation.clock()

    def begin_end(self, who: str | ActorRef[Any], how: Ending) -> None:
        """Make an incarnation end on its own, and wait for nothing."""
        ref = self.system.lookup(who) if isinstance(who, str) else who
        if how == "error":
            ref.tell(Crash())
        elif how == "killed":
            lifecycle.kill(ref._cell)
        else:
            ref.tell(Quit(_REASONS[how]))

    def end(self, who: str | ActorRef[Any], how: Ending = "error") -> None:
        """Make an incarnation end on its own, and let its supervisor do what it does then."""
        self.begin_end(who, how)
        self.settle()

    # --- what is to be seen ----------------------------------------------------------------------------

    def take_log(self) -> list[str]:
        """The log so far, which is empty afterwards."""
        log, self.log = self.log, []
        return log

    def of(self, kind: type[EventType]) -> list[EventType]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def reason_of(self, path: str) -> str:
        """Why the actor that was at ``path`` ended, once it is gone for good."""
        return [event.reason for event in self.of(ActorStopped) if event.path == path][-1]

    def serial(self, who: str | ActorRef[Any]) -> int:
        """Which instance plays there now."""
        ref = self.system.lookup(who) if isinstance(who, str) else who
        return ref.ask(Serial())

    def close(self) -> None:
        """Stop the system and look whether anything is left over."""
        self.system.stop()
        left = list(self.system.runtime.directory._cells)
        assert left == [], f"names that nobody freed: {left}"
        assert self.simulation.stuck == []


def shown(supervisor: SupervisorRef) -> dict[str | None, str | None]:
    """What ``which_children`` says: each child's id and whether it is "running", "restarting" or None."""
    return {
        info.id: ("running" if isinstance(info.ref, ActorRef) else info.ref) for info in supervisor.which_children()
    }


def refused(error: type[ActorError], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call something that must be refused with ``error``, and return the error."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return caught.value


@pytest.fixture(name="stage")
def new_stage() -> Iterator[Stage]:
    """A stage of a test's own."""
    stage = Stage()
    yield stage
    stage.close()

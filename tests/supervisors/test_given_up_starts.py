"""A start that was given up may come back at any time: it finds its successor in its place, and leaves it alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pytest

from understudy import Actor, ActorSystem, Child, Message, StartFailed, Supervisor, handles
from understudy.actors.embedded import Embedded
from understudy.actors.events import ActorRestarted
from understudy.actors.service import ServiceActor

from .bank import Account, Gate, Recorder, Rob


class Ask(Message[int]):
    """Tell which life it is."""


class AskAbove(Message[int]):
    """Ask the supervisor how many children it has."""


class Ghosts:
    """Which lives are held up, where, and how they go on; shared by all lives of an actor."""

    def __init__(self, gate: Gate, *, stuck: str = "on_start", raises: bool = False) -> None:
        self.gate = gate
        self.stuck = stuck
        self.raises = raises
        self.thread: threading.Thread | None = None
        self.over = threading.Event()

    def hold(self, where: str, life: int) -> None:
        """Hold the second life up, at one place; it clings to life when it is let go."""
        if where != self.stuck or life != 2:
            return
        self.thread = threading.current_thread()
        try:
            self.gate.pass_through()
        except BaseException:
            if self.raises:
                raise
        if self.raises:
            raise ValueError("too late")


class Sleeper(Actor):
    """Its second life is held up."""

    def __init__(self, ghosts: Ghosts) -> None:
        super().__init__()
        self.ghosts = ghosts
        self.life = self._cell.incarnation
        ghosts.hold("constructor", self.life)

    def on_start(self) -> Any:
        self.ghosts.hold("on_start", self.life)

    @handles
    def ask(self, _message: Ask) -> int:
        return self.life

    @handles
    def ask_above(self, _message: AskAbove) -> int:
        above: Any = self.lookup("tree/inner")
        return int(above.count_children().active)

    @handles
    def rob(self, _message: Rob) -> None:
        raise RuntimeError("robbed")


class ThreadSleeper(Sleeper):
    """On a thread of its own."""

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"


class AsyncSleeper(Sleeper):
    """On the event loop."""

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "asyncio"

    async def on_start(self) -> None:  # type: ignore[override]
        if self.life == 2:
            let_go = asyncio.get_running_loop().run_in_executor(None, self.ghosts.gate.pass_through)
            try:
                await asyncio.shield(let_go)
            except BaseException:
                await let_go
            self.ghosts.over.set()
            if self.ghosts.raises:
                raise ValueError("too late")


def factory(ghosts: Ghosts, lives: list[int]) -> Sleeper:
    """A child spec's function."""
    lives.append(1)
    ghosts.hold("factory", len(lives))
    return Sleeper(ghosts)


def tree_of(child: Child) -> Supervisor:
    inner = Supervisor("inner", [child], shutdown=0.05, intensity=10)
    return Supervisor("tree", [inner, Child(Account, name="b")], strategy="one_for_all", intensity=10)


def give_up_second_life(system: ActorSystem, gate: Gate) -> None:
    """Have the second life of ``tree/inner/slow`` start, and its supervisor replaced while it is held up."""
    slow = system.lookup("tree/inner/slow")
    slow.tell(Rob())
    assert gate.entered.wait(60)
    restarted = threading.Event()
    system.events.subscribe(ActorRestarted, lambda event: restarted.set() if event.path == "tree/b" else None)
    system.tell("tree/b", Rob())
    assert restarted.wait(60)


def let_go(ghosts: Ghosts) -> None:
    """Let the life go on that was given up, and wait until nothing of it runs."""
    ghosts.gate.open()
    if ghosts.thread is not None:
        ghosts.thread.join(60)
        assert not ghosts.thread.is_alive()
    else:
        assert ghosts.over.wait(60)


CASES: list[tuple[Callable[..., Actor], str]] = [
    (Sleeper, "on_start"),
    (ThreadSleeper, "on_start"),
    (AsyncSleeper, "on_start"),
    (Sleeper, "constructor"),
    (factory, "factory"),
]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize(("kind", "stuck"), CASES)
def test_a_start_that_was_given_up_and_comes_back_leaves_its_successor_in_its_place(
    gate: Gate, kind: Any, stuck: str, raises: bool
) -> None:
    """Its supervisor was killed at its shutdown time, and the next one has put another life there."""
    ghosts = Ghosts(gate, stuck=stuck, raises=raises)
    args: tuple[Any, ...] = (ghosts, []) if kind is factory else (ghosts,)
    with ActorSystem("bank", tree_of(Child(kind, args, name="slow"))) as system:
        slow = system.lookup("tree/inner/slow")
        give_up_second_life(system, gate)
        assert (slow.incarnation, slow.ask(Ask(), timeout=60)) == (3, 3)
        assert slow.ask(AskAbove(), timeout=60) == 1  # nobody waits for its start any more
        recorder = Recorder(system)
        let_go(ghosts)
        assert (slow.incarnation, slow.ask(Ask(), timeout=60)) == (3, 3)
        assert slow.ask(AskAbove(), timeout=60) == 1
        assert system.lookup("tree/inner")._cell.waiting_on == ()
        assert recorder.events == []
        slow.tell(Rob())  # it can be restarted as ever
        assert slow.ask(Ask(), timeout=60) == 4
        assert system.stop()


# --- what a start had opened ------------------------------------------------------------------------------


class Line:
    """A backend that counts how often it was closed, and stands for a server."""

    def __init__(self) -> None:
        self.closed = 0

    def check(self) -> None:
        """It always answers."""

    def close(self) -> None:
        """Count."""
        self.closed += 1


class Service(ServiceActor[Line]):
    """Its second life is held up, or its start fails."""

    variable = "UNDERSTUDY_TEST_URL"
    default_url = "memory://"

    def __init__(self, ghosts: Ghosts, lines: list[Line], fails: list[BaseException] | None = None) -> None:
        super().__init__()
        self.ghosts, self.lines, self.fails = ghosts, lines, fails or []
        self.life = self._cell.incarnation

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> Line:
        self.ghosts.hold("_open", self.life)
        line = Line()
        self.lines.append(line)
        return line

    def on_start(self) -> Any:
        super().on_start()
        self.ghosts.hold("on_start", self.life)
        if self.fails:
            fault = self.fails.pop()
            if isinstance(fault, Exception):
                raise fault
            return fault
        return None

    @handles
    def ask(self, _message: Ask) -> int:
        return self.life

    @handles
    def rob(self, _message: Rob) -> None:
        raise RuntimeError("robbed")


@pytest.fixture(name="dispatcher", params=["pool", "thread"])
def each_dispatcher(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("stuck", ["on_start", "_open"])
@pytest.mark.parametrize("raises", [False, True])
def test_what_a_given_up_start_opens_is_closed_and_its_parts_are_not_in_the_way_of_its_successors(
    gate: Gate, dispatcher: str, stuck: str, raises: bool
) -> None:
    """The connection of the third life is the only one that is open in the end, with the only ``connection`` actor."""
    kind: Any = type("Service", (Service,), {"dispatcher": dispatcher})
    ghosts, lines = Ghosts(gate, stuck=stuck, raises=raises), list[Line]()
    with ActorSystem("bank", tree_of(Child(kind, (ghosts, lines), name="slow"))) as system:
        slow = system.lookup("tree/inner/slow")
        give_up_second_life(system, gate)
        assert slow.ask(Ask(), timeout=60) == 3
        let_go(ghosts)
        assert slow.ask(Ask(), timeout=60) == 3
        assert sum(not line.closed for line in lines) == 1
        assert max(line.closed for line in lines) == 1
        current = slow._cell.actor._connected
        assert current.closed == 0
        assert system.lookup("tree/inner/slow/connection").is_alive()
        assert system.stop()
    assert [line.closed for line in lines] == [1] * len(lines)


@pytest.mark.parametrize("fault", [ValueError("no"), 7])
def test_a_service_whose_own_start_fails_leaves_no_connection_and_no_names_behind(
    bank: ActorSystem, gate: Gate, dispatcher: str, fault: object
) -> None:
    """After ``super().on_start()``; it can be started again under the same name."""
    kind: Any = type("Service", (Service,), {"dispatcher": dispatcher})
    lines: list[Line] = []
    for _ in range(2):
        with pytest.raises(StartFailed):
            bank.spawn(kind, Ghosts(gate), lines, [fault], name="service")
    service = bank.spawn(kind, Ghosts(gate), lines, name="service")
    assert service.ask(Ask(), timeout=60) == 1
    assert [line.closed for line in lines] == [1, 1, 0]

"""The same work on Understudy and on pykka, in turn, in one process: A B A B …; the ratio of the medians.

On our side typed messages and ``@handles`` under a supervisor, on pykka's bare ``on_receive``. The garbage collector
runs as always, and once before each measurement. What is timed is said with each measurement; stopping is not.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka

from understudy import Actor, ActorRef, ActorSystem, Mailbox, Message, handles

TELLS, ASKS, BALLS, CHAINS, SPAWNS = 30_000, 3_000, 4_000, 600, 600

UNBOUNDED = Mailbox(capacity=None)
"""pykka's mailboxes have no bound; a bound would turn a burst of tells away, which is another thing to measure."""


class Add(Message[int]):
    amount: int


class Ball(Message[None]):
    left: int


class Pass(Message[int]):
    value: int


class Counter(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @handles
    def add(self, message: Add) -> int:
        self.total += message.amount
        return self.total


class Player(Actor):
    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over
        self.other: ActorRef[Any] | None = None

    @handles
    def ball(self, message: Ball) -> None:
        if message.left:
            assert self.other is not None
            self.other.tell(Ball(message.left - 1))
        else:
            self.over.set()


class Link(Actor):
    def __init__(self, following: ActorRef[Any] | None) -> None:
        super().__init__()
        self.following = following

    @handles
    def hand_on(self, message: Pass) -> int:
        if self.following is None:
            return message.value + 1
        return int(self.following.ask(message)) + 1


class PykkaCounter(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def on_receive(self, message: int) -> int:
        self.total += message
        return self.total


class PykkaPlayer(pykka.ThreadingActor):
    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over
        self.other: Any = None

    def on_receive(self, message: Any) -> None:
        if not isinstance(message, int):
            self.other = message
        elif message:
            self.other.tell(message - 1)
        else:
            self.over.set()


class PykkaLink(pykka.ThreadingActor):
    def __init__(self, following: Any) -> None:
        super().__init__()
        self.following = following

    def on_receive(self, message: int) -> int:
        if self.following is None:
            return message + 1
        return int(self.following.ask(message)) + 1


def timed(work: Callable[[], object], times: int) -> float:
    """Microseconds for one of ``times``."""
    gc.collect()
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / times * 1e6


def tell(system: ActorSystem) -> tuple[float, float]:
    """One producer, one actor: until the last of the tells was handled."""
    ours, theirs = system.spawn(Counter, mailbox=UNBOUNDED), PykkaCounter.start()
    message = Add(1)

    def tell_ours() -> None:
        for _ in range(TELLS):
            ours.tell(message)
        assert ours.ask(message) % (TELLS + 1) == 0

    def tell_theirs() -> None:
        for _ in range(TELLS):
            theirs.tell(1)
        assert int(theirs.ask(1, block=True)) % (TELLS + 1) == 0

    figures = timed(tell_ours, TELLS), timed(tell_theirs, TELLS)
    ours.stop()
    theirs.stop()
    return figures


def ask(system: ActorSystem) -> tuple[float, float]:
    """One asker, one actor."""
    ours, theirs = system.spawn(Counter), PykkaCounter.start()
    message = Add(1)
    figures = (
        timed(lambda: [ours.ask(message) for _ in range(ASKS)], ASKS),
        timed(lambda: [theirs.ask(1) for _ in range(ASKS)], ASKS),
    )
    ours.stop()
    theirs.stop()
    return figures


def ping_pong(system: ActorSystem) -> tuple[float, float]:
    """Two actors that tell each other, one tell at a time."""
    over = threading.Event()
    ours = [system.spawn(Player, over) for _ in range(2)]
    for player, other in zip(ours, reversed(ours), strict=True):
        player.proxy().other = other
    their_over = threading.Event()
    theirs = [PykkaPlayer.start(their_over) for _ in range(2)]
    theirs[0].tell(theirs[1])
    theirs[1].tell(theirs[0])

    def play_ours() -> None:
        ours[0].tell(Ball(BALLS))
        over.wait()

    def play_theirs() -> None:
        theirs[0].tell(BALLS)
        their_over.wait()

    figures = timed(play_ours, BALLS), timed(play_theirs, BALLS)
    everybody: list[pykka.ActorRef[Any]] = [*ours, *theirs]
    for ref in everybody:
        ref.stop()
    return figures


def chain(system: ActorSystem) -> tuple[float, float]:
    """An ask that is handed on through five actors."""
    ours: Any = None
    theirs: Any = None
    links: list[Any] = []
    for _ in range(5):
        ours, theirs = system.spawn(Link, ours), PykkaLink.start(theirs)
        links += [ours, theirs]
    assert ours.ask(Pass(0)) == theirs.ask(0) == 5
    figures = (
        timed(lambda: [ours.ask(Pass(0)) for _ in range(CHAINS)], CHAINS),
        timed(lambda: [theirs.ask(0) for _ in range(CHAINS)], CHAINS),
    )
    for ref in reversed(links):
        ref.stop()
    return figures


def spawn(system: ActorSystem) -> tuple[float, float]:
    """Starting an actor: under a supervisor; as a thread."""
    ours: list[Any] = []
    theirs: list[Any] = []
    figures = (
        timed(lambda: ours.extend(system.spawn(Counter) for _ in range(SPAWNS)), SPAWNS),
        timed(lambda: theirs.extend(PykkaCounter.start() for _ in range(SPAWNS)), SPAWNS),
    )
    for ref in (*ours, *theirs):
        ref.stop()
    return figures


MEASUREMENTS: list[tuple[str, Callable[[ActorSystem], tuple[float, float]], int]] = [
    ("tell", tell, 5),
    ("ask", ask, 10),
    ("ping-pong", ping_pong, 6),
    ("chain of 5", chain, 8),
    ("spawn", spawn, 50),
]


def measure_and_print(rounds: int) -> dict[str, dict[str, float]]:
    """Measure everything ``rounds`` times after one round that does not count; print and return the medians."""
    print(f"\nmedians of {rounds} rounds, µs each; the two sides in turn")
    print(f"{'':12} {'understudy':>12} {'pykka':>12} {'ratio':>8} {'aim':>6}")
    figures: dict[str, dict[str, float]] = {}
    with ActorSystem("bench") as system:
        for name, measurement, aim in MEASUREMENTS:
            measurement(system)
            pairs = [measurement(system) for _ in range(rounds)]
            ours = statistics.median(pair[0] for pair in pairs)
            theirs = statistics.median(pair[1] for pair in pairs)
            figures[name] = {"understudy": ours, "pykka": theirs, "ratio": theirs / ours, "aim": aim}
            print(f"{name:12} {ours:12.2f} {theirs:12.2f} {theirs / ours:7.1f}× {aim:5}×", flush=True)
    return figures

"""Under load: every ask is answered, whatever ends meanwhile; a flood that is refused costs no memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, ErrorKind, Mailbox, handles
from understudy.actors.events import DeadLetter
from understudy.messages.errors import MailboxClosed

from .core_stage import PATIENCE, LoopPlayer, Note, Player, ThreadPlayer, in_thread, stuck, wait

STATM = Path("/proc/self/statm")
MIB = 2**20


def resident_bytes() -> int:
    return int(STATM.read_text(encoding="ascii").split()[1]) * 4096


def ask_until_it_is_gone(refs: list[ActorRef[Any]], asked: list[threading.Semaphore]) -> Counter[str]:
    """Ask each actor until it is gone, and count what the asks came to; every one must come to something."""
    outcomes: Counter[str] = Counter()
    for ref, seen in zip(refs, asked, strict=True):
        while True:
            try:
                ref.ask(Note(1), timeout=PATIENCE)
            except ActorError as error:
                outcomes[str(error.kind)] += 1
                break
            outcomes["answered"] += 1
            seen.release()
    return outcomes


def ask_ahead_until_it_is_gone(refs: list[ActorRef[Any]], asked: list[threading.Semaphore]) -> Counter[str]:
    """As above, with up to 20 asks of each actor under way."""
    outcomes: Counter[str] = Counter()
    for ref, seen in zip(refs, asked, strict=True):
        gone = False
        while not gone:
            for future in [ref.ask(Note(1), block=False) for _ in range(20)]:
                try:
                    future.get(timeout=PATIENCE)
                except ActorError as error:
                    outcomes[str(error.kind)] += 1
                    gone = True
                else:
                    outcomes["answered"] += 1
                    seen.release()
    return outcomes


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])
def test_every_ask_is_answered_under_400_stops(system: ActorSystem, player: type[Player], supervised: bool) -> None:
    refs = [system.spawn(player) if supervised else player.start() for _ in range(400)]
    asked = [threading.Semaphore(0) for _ in refs]
    askers = [
        in_thread(lambda: ask_until_it_is_gone(refs, asked)),
        in_thread(lambda: ask_ahead_until_it_is_gone(refs, asked)),
    ]
    for ref, seen in zip(refs, asked, strict=True):
        assert seen.acquire(timeout=PATIENCE)
        assert ref.stop(timeout=PATIENCE) is True
    outcomes = askers[0]() + askers[1]()
    assert set(outcomes) <= {"answered", ErrorKind.MAILBOX_CLOSED.value}
    assert outcomes["answered"] >= 400
    assert outcomes[ErrorKind.MAILBOX_CLOSED.value] >= 2 * 400


def test_every_awaited_ask_is_answered_under_400_stops(system: ActorSystem) -> None:
    refs = [system.spawn((Player, ThreadPlayer, LoopPlayer)[number % 3]) for number in range(400)]

    async def ask(ref: ActorRef[Any]) -> int:
        answered = 0
        while True:
            try:
                await ref.ask(Note(1), block=False, timeout=PATIENCE)
            except MailboxClosed:
                return answered
            answered += 1
            await asyncio.sleep(0)

    async def main() -> list[int]:
        asking = [asyncio.ensure_future(ask(ref)) for ref in refs]
        await asyncio.sleep(0)
        stopping = in_thread(lambda: [ref.stop(timeout=PATIENCE) for ref in refs])
        answered = await asyncio.gather(*asking)
        assert stopping() == [True] * 400
        return answered

    assert len(asyncio.run(main())) == 400


def test_every_ask_is_answered_while_the_actor_crashes_again_and_again() -> None:
    class Fragile(Actor):
        @handles
        def note(self, message: Note) -> int:
            if message.value % 7 == 0:
                raise ValueError("meant to")
            return message.value

    with ActorSystem("fragile", intensity=10_000, period=1.0) as system:
        ref = system.spawn(Fragile)

        def ask(offset: int) -> Counter[str]:
            outcomes: Counter[str] = Counter()
            for number in range(offset, offset + 350):
                try:
                    assert ref.ask(Note(number), timeout=PATIENCE) == number
                    outcomes["answered"] += 1
                except ActorError as error:
                    outcomes[str(error.kind)] += 1
            return outcomes

        askers = [in_thread(lambda offset=offset: ask(offset)) for offset in range(0, 2_800, 700)]  # type: ignore[misc]
        outcomes: Counter[str] = sum((asker() for asker in askers), Counter())
    assert outcomes == {"answered": 4 * 300, ErrorKind.HANDLER_FAILED.value: 4 * 50}


def test_of_tells_that_meet_an_end_each_is_handled_or_a_dead_letter(system: ActorSystem) -> None:
    handled: list[int] = []
    letters: list[int] = []
    system.events.subscribe(DeadLetter, lambda event: letters.append(event.message.value))

    class Taker(Actor):
        @handles
        def note(self, message: Note) -> None:
            handled.append(message.value)

    sent: list[int] = []
    for base in range(0, 400_000, 1_000):
        ref = system.spawn(Taker)

        def send(ref: ActorRef[Any] = ref, base: int = base) -> None:
            for number in range(base, base + 1_000):
                try:
                    ref.tell(Note(number))
                except MailboxClosed:
                    return
                sent.append(number)

        sender = in_thread(send)
        ref.stop(timeout=PATIENCE)
        sender()
    assert sorted(handled + letters) == sorted(sent)


@pytest.mark.skipif(not STATM.exists(), reason="reads the resident set from /proc")
def test_a_million_tells_into_a_full_mailbox_cost_no_memory_and_harm_nobody() -> None:
    system = ActorSystem("flood")
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1_000), shutdown=0.1)
    other = system.spawn(Player)
    message = Note(1)
    refusals = 0
    with stuck(ref):
        for _ in range(1_000):
            ref.tell(message)
        gc.collect()
        before = resident_bytes()
        for _ in range(1_000_000):
            try:
                ref.tell(message)
            except ActorError as error:
                refusals += error.code == 0xFFFD and error.kind is ErrorKind.MAILBOX_FULL
        grown = resident_bytes() - before
        assert refusals == 1_000_000
        assert grown < 8 * MIB
        assert len(ref._cell.queue) == 1_000
        assert other.ask(message, timeout=PATIENCE) == 1  # the sender is alive, and so is everybody else
        started = time.monotonic()
        system.stop()
        assert time.monotonic() - started < 5.0  # a second, and what a busy machine adds
    assert system.abandoned == 1
    assert system.dead_letters >= 1_000


def test_who_is_stuck_for_good_is_abandoned_fenced_and_reported(system: ActorSystem) -> None:
    entered, leave = threading.Event(), threading.Event()
    late: list[Any] = []

    class Stuck(Player):
        @handles
        def note(self, message: Note) -> int:
            entered.set()
            wait(leave)  # in C: nothing that is raised reaches it before it returns
            late.append("went on")
            return 7

    ref = system.spawn(Stuck, shutdown=0.0)
    future = ref.ask(Note(1), block=False)
    wait(entered)
    assert ref.stop(timeout=PATIENCE) is True
    with pytest.raises(ActorError) as caught:
        future.get(timeout=PATIENCE)
    assert caught.value.kind == ErrorKind.HANDLER_KILLED
    assert system.abandoned == 1
    leave.set()
    assert system.spawn(Player).ask(Note(1), timeout=PATIENCE) == 1
    assert late == []

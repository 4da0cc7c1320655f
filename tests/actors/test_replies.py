"""Replies that come later, and what is handled first."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest

from understudy import (
    Actor,
    ActorRef,
    ActorSystem,
    Child,
    ErrorKind,
    Mailbox,
    Message,
    Refusal,
    Request,
    Supervisor,
    handles,
)
from understudy.messages.errors import HandlerFailed, IncarnationFenced

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Note, Player, ThreadPlayer, kind_of, seen, stuck, wait

EVERY_DISPATCHER = pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])


class Desk:
    """Keeps the requests that an actor has deferred."""

    def __init__(self) -> None:
        self.requests: list[Request[Any]] = []
        self.kept = threading.Semaphore(0)

    def keep(self, actor: Actor) -> str:
        self.requests.append(actor.defer_reply())
        self.kept.release()
        return "ignored"

    def take(self) -> Request[Any]:
        assert self.kept.acquire(timeout=PATIENCE)
        return self.requests.pop(0)


@EVERY_DISPATCHER
def test_a_deferred_reply_is_given_later_and_once(system: ActorSystem, player: type[Player]) -> None:
    ref, desk = system.spawn(player), Desk()
    future = ref.ask(Do(desk.keep), block=False)
    request = desk.take()
    assert ref.ask(Note(1), timeout=PATIENCE) == 1  # it goes on meanwhile
    assert not future.done
    assert not request.answered
    assert request.reply("at last") is True
    assert request.reply("again") is False
    assert request.fail(Refusal("too late")) is False
    assert future.get(timeout=PATIENCE) == "at last"
    assert request.answered


def test_replies_are_given_in_any_order(system: ActorSystem) -> None:
    ref, desk = system.spawn(Player), Desk()
    futures = [ref.ask(Do(desk.keep), block=False) for _ in range(5)]
    requests = [desk.take() for _ in range(5)]
    for number in (3, 1, 4, 0, 2):
        requests[number].reply(number)
    assert [future.get(timeout=PATIENCE) for future in futures] == [0, 1, 2, 3, 4]


def test_a_deferred_request_can_be_failed(system: ActorSystem) -> None:
    ref, desk = system.spawn(Player), Desk()
    future = ref.ask(Do(desk.keep), block=False)
    assert desk.take().fail(Refusal("no")) is True
    assert kind_of(lambda: future.get(timeout=PATIENCE)) == ErrorKind.HANDLER_REFUSED
    assert ref.incarnation == 1


def test_a_deferred_tell_needs_no_reply(system: ActorSystem) -> None:
    ref, desk = system.spawn(Player), Desk()
    ref.tell(Do(desk.keep))
    request = desk.take()
    assert request.answered
    assert request.reply(1) is False
    assert isinstance(request.message, Do)


def test_a_reply_to_somebody_who_waits_no_longer_is_dropped(system: ActorSystem) -> None:
    ref, desk = system.spawn(Player), Desk()
    future = ref.ask(Do(desk.keep), block=False, timeout=0.01)
    try:
        request = desk.take()
    except AssertionError:  # pragma: no cover - it expired before it was handled
        return
    assert kind_of(lambda: future.get(timeout=PATIENCE)) == ErrorKind.MAILBOX_TIMEOUT
    assert request.reply(1) is False


@EVERY_DISPATCHER
@pytest.mark.parametrize("quick", [False, True])
def test_a_reply_to_a_blocking_ask_that_timed_out_is_known_to_reach_nobody(
    system: ActorSystem, player: type[Player], quick: bool
) -> None:
    """Whoever answers late can take back what the answer was about, also where the asker ran the handler itself."""
    ref, desk = system.spawn(player), Desk()
    ref.ask(Note(1), timeout=PATIENCE)
    for timeout in (0.1, 1.0, 10.0):  # on a busy machine it may expire before it is handled
        ref._cell.handlers.quick[Do] = quick
        assert kind_of(partial(ref.ask, Do(desk.keep), timeout=timeout)) in (
            ErrorKind.MAILBOX_TIMEOUT,
            ErrorKind.MAILBOX_EXPIRED,
        )
        if desk.kept.acquire(timeout=timeout):
            break
    (request,) = desk.requests
    assert request.answered
    assert request.reply(1) is False
    assert request.fail(Refusal("too late")) is False


@EVERY_DISPATCHER
def test_a_reply_to_a_blocking_ask_whose_asker_was_killed_is_known_to_reach_nobody(
    system: ActorSystem, player: type[Player]
) -> None:
    ref, desk = system.spawn(player), Desk()
    asker = system.spawn(ThreadPlayer, shutdown="brutal_kill")
    asked = asker.ask(Do(lambda _actor: ref.ask(Do(desk.keep))), block=False)
    request = desk.take()
    asker.stop()
    assert kind_of(lambda: asked.get(timeout=PATIENCE)) == ErrorKind.HANDLER_KILLED
    deadline = time.monotonic() + PATIENCE
    while not request.answered and time.monotonic() < deadline:  # its thread is on its way out
        time.sleep(0.001)
    assert request.reply(1) is False


@EVERY_DISPATCHER
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_who_owes_a_reply_when_it_ends_says_so(system: ActorSystem, player: type[Player], how: str) -> None:
    ref, desk = system.spawn(player), Desk()
    future = ref.ask(Do(desk.keep), block=False)
    request = desk.take()

    def crash(_actor: Player) -> None:
        raise ValueError("meant to")

    if how == "stop":
        ref.stop()
    else:
        ref.tell(Do(crash))
    assert kind_of(lambda: future.get(timeout=PATIENCE)) == ErrorKind.REPLY_MISSING
    while how == "crash" and ref.incarnation == 1:
        assert ref.is_alive()
    with pytest.raises(IncarnationFenced):
        request.reply("late")
    with pytest.raises(IncarnationFenced):
        request.fail(ValueError())


def test_a_handler_that_defers_and_then_raises_fails_the_request(system: ActorSystem) -> None:
    ref, desk = system.spawn(Player), Desk()

    def defer_and_crash(actor: Player) -> None:
        desk.keep(actor)
        raise ValueError("meant to")

    with pytest.raises(HandlerFailed, match="meant to"):
        ref.ask(Do(defer_and_crash), timeout=PATIENCE)


def test_a_coroutine_may_answer_what_it_deferred(system: ActorSystem) -> None:
    ref = system.spawn(LoopPlayer)

    async def defer(actor: LoopPlayer) -> None:
        request = actor.defer_reply()

        async def answer() -> None:
            await asyncio.sleep(0)
            request.reply("from a task")

        actor.task = asyncio.ensure_future(answer())  # type: ignore[attr-defined]

    assert ref.ask(Await(defer), timeout=PATIENCE) == "from a task"


# --- continue_with -----------------------------------------------------------------------------------------


class Step(Message[None]):
    number: int


class Stepper(Actor):
    """Handles a step before everything that waits; each begins with one."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log

    def on_start(self) -> None:
        self.continue_with(Step(0))

    @handles
    def step(self, message: Step) -> None:
        self.log.append(message.number)
        if message.number % 3:
            self.continue_with(Step(message.number + 1))

    @handles
    def note(self, message: Note) -> int:
        self.log.append(-message.value)
        return len(self.log)

    @handles
    def do(self, message: Do) -> Any:
        return message.work(self)


def test_what_an_actor_continues_with_comes_before_what_waits(system: ActorSystem) -> None:
    log: list[Any] = []
    ref: ActorRef[Any] = system.spawn(Stepper, log)
    with stuck(ref):
        ref.tell(Step(1))
        ref.tell(Note(1))
    ref.ask(Note(2), timeout=PATIENCE)
    assert log == [0, 1, 2, 3, -1, -2]


def test_an_actor_may_continue_after_its_start_before_anybody_else_is_heard(system: ActorSystem) -> None:
    log: list[Any] = []
    for _ in range(20):
        system.spawn(Stepper, log).ask(Note(1), timeout=PATIENCE)
    assert log == [0, -1] * 20


def test_a_full_mailbox_does_not_keep_an_actor_from_continuing(system: ActorSystem) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=3))
    with stuck(ref):
        ref.tell(Do(lambda actor: actor.continue_with(Note(-1))))
        ref.tell(Note(1))
        ref.tell(Note(2))
    assert seen(ref) == [-1, 1, 2]


# --- what an ended incarnation may not do ------------------------------------------------------------------


def test_an_incarnation_that_has_ended_may_do_nothing_any_more(system: ActorSystem) -> None:
    ref, other = system.spawn(Player), system.spawn(Player)
    old: list[Player] = []
    ref.ask(Do(old.append), timeout=PATIENCE)

    def crash(_actor: Player) -> None:
        raise ValueError("meant to")

    ref.tell(Do(crash))
    while ref.incarnation == 1:
        assert ref.is_alive()
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    (actor,) = old
    for action in (
        lambda: actor.after(1.0, Note(2)),
        lambda: actor.every(1.0, Note(2)),
        lambda: actor.watch(other),
        lambda: actor.continue_with(Note(2)),
        actor.stop,
    ):
        assert kind_of(action) == ErrorKind.INCARNATION_FENCED
    assert seen(ref) == [1]


class Stay(Message[None]):
    pass


class Stubborn(Player):
    """Swallows being killed; its next life begins once the thread of the old one has ended."""

    def __init__(self, stage: dict[str, Any]) -> None:
        super().__init__()
        self.stage = stage
        self.life = self._cell.incarnation

    def on_start(self) -> None:
        if self.life > 1:
            self.stage["thread"].join(PATIENCE)

    @handles
    def stay(self, message: Stay) -> None:
        self.stage["thread"] = threading.current_thread()
        self.stage["entered"].set()
        try:
            while True:
                pass
        except BaseException:
            self.stage["swallowed"] = True

    @handles
    def note(self, message: Note) -> int:
        self.stage["handled"].append((self.life, message.value))
        return self.life


class StubbornThread(Stubborn):
    dispatcher = "thread"


@pytest.mark.parametrize("kind", [Stubborn, StubbornThread])
def test_a_handler_that_swallows_being_killed_handles_nothing_more(kind: type[Stubborn]) -> None:
    """What waits is for the next incarnation, also where the old one does not know that it is over."""
    stage: dict[str, Any] = {"entered": threading.Event(), "handled": []}
    children = [
        Child(kind, name="stubborn", args=(stage,), shutdown="brutal_kill"),
        Child(Player, name="sibling"),
    ]
    with ActorSystem("stubborn", Supervisor("both", strategy="one_for_all", children=children)) as system:
        ref = system.lookup("both/stubborn")
        ref.tell(Stay())
        wait(stage["entered"])
        for number in range(5):
            ref.tell(Note(number))

        def crash(_actor: Player) -> None:
            raise ValueError("meant to")

        system.tell("both/sibling", Do(crash))
        assert ref.ask(Note(5), timeout=PATIENCE) == 2
    assert stage["swallowed"]
    assert stage["handled"] == [(2, number) for number in range(6)]

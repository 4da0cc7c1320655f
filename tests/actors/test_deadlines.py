"""Deadlines: set by `ask(timeout=…)`, inherited by what is asked while handling, looked at before a handler runs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pykka
import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, ErrorCode, ErrorKind, Mailbox, Message, handles
from understudy.messages.errors import AskTimeout

from .core_stage import PATIENCE, Await, Do, LoopPlayer, Note, Player, ThreadPlayer, kind_of, seen, stuck

EVERY_DISPATCHER = pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])


class Deadlines(Message[list[float | None]]):
    """The deadlines that this request has on its way, with so many more asks."""

    hops: int = 0
    deadline: float = 0.0
    """A field that happens to have this name means nothing to the runtime."""


class Relay(Actor):
    def __init__(self, following: ActorRef[Any] | None = None) -> None:
        super().__init__()
        self.following = following

    @handles
    def deadlines(self, message: Deadlines) -> list[float | None]:
        own = self._cell.current.deadline
        if not message.hops or self.following is None:
            return [own]
        return [own, *self.following.ask(Deadlines(message.hops - 1), timeout=100.0)]


class ThreadRelay(Relay):
    dispatcher = "thread"


class LoopRelay(Actor):
    def __init__(self, following: ActorRef[Any] | None = None) -> None:
        super().__init__()
        self.following = following

    @handles
    async def deadlines(self, message: Deadlines) -> list[float | None]:
        own = self._cell.current.deadline
        if not message.hops or self.following is None:
            return [own]
        return [own, *await self.following.ask(Deadlines(message.hops - 1), block=False, timeout=100.0)]


@EVERY_DISPATCHER
def test_an_ask_that_is_not_answered_in_time_fails(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player, name="slow")

    def register_order() -> None:
        ref.ask(Note(1), timeout=0.01)

    with stuck(ref), pytest.raises(AskTimeout) as caught:
        register_order()
    assert isinstance(caught.value, pykka.Timeout)
    response = caught.value.response
    assert (response.code, response.kind) == (ErrorCode.MAILBOX_CHANNEL, ErrorKind.MAILBOX_TIMEOUT)
    assert (response.method, response.retryable) == ("register_order.slow.ask", True)


@EVERY_DISPATCHER
def test_a_future_that_is_not_answered_in_time_fails_by_itself(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player)
    failed = threading.Event()
    with stuck(ref):
        future = ref.ask(Note(1), block=False, timeout=0.01)
        future.on_done(failed.set)
        assert failed.wait(PATIENCE)
    assert kind_of(future.get) == ErrorKind.MAILBOX_TIMEOUT
    assert seen(ref) == []


def test_an_answer_that_comes_too_late_is_dropped(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    entered, leave = threading.Event(), threading.Event()

    def answer_late(_actor: Player) -> str:
        entered.set()
        assert leave.wait(PATIENCE)
        return "late"

    future = ref.ask(Do(answer_late), block=False)
    assert entered.wait(PATIENCE)
    assert future.try_fail(AskTimeout("too late"))  # what its timer does
    leave.set()
    with pytest.raises(AskTimeout):
        future.get(timeout=PATIENCE)
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    assert ref.incarnation == 1


@pytest.mark.parametrize("kind", [Relay, ThreadRelay, LoopRelay])
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_a_deadline_travels_with_what_is_asked_on(system: ActorSystem, kind: type[Any], hops: int) -> None:
    line: ActorRef[Any] | None = None
    for _ in range(hops + 1):
        line = system.spawn(kind, line)
    assert line is not None
    for _ in range(3):  # in the pool at first, on the asking thread later
        before = system.runtime.clock()
        deadlines = line.ask(Deadlines(hops), timeout=50.0)
        assert len(deadlines) == hops + 1
        assert len(set(deadlines)) == 1
        assert deadlines[0] is not None
        assert before + 50.0 <= deadlines[0] <= system.runtime.clock() + 50.0


def test_an_own_deadline_that_is_nearer_counts(system: ActorSystem) -> None:
    line = system.spawn(Relay, system.spawn(Relay))
    far, near = line.ask(Deadlines(1), timeout=500.0)
    assert far is not None
    assert near is not None
    assert far > near


def test_without_a_deadline_there_is_none(system: ActorSystem) -> None:
    relay = system.spawn(Relay)
    for _ in range(3):
        assert relay.ask(Deadlines()) == [None]


def test_what_was_told_has_no_deadline_whatever_its_fields_are_called(system: ActorSystem) -> None:
    """A field of the message that is called `deadline` is its sender's affair."""
    target = system.spawn(Relay)
    answers: list[Any] = []
    answered = threading.Event()

    class Asking(Actor):
        @handles
        def take(self, message: Deadlines) -> None:
            answers.append(target.ask(Deadlines()))
            answered.set()

    system.spawn(Asking).tell(Deadlines(deadline=1.0))
    assert answered.wait(PATIENCE)
    assert answers == [[None]]


def test_a_wait_for_room_inherits_the_deadline(system: ActorSystem) -> None:
    narrow = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="block"))
    teller = system.spawn(Player)
    kinds: list[ErrorKind] = []
    with stuck(narrow):
        narrow.tell(Note(0))
        wait = Do(lambda _: kinds.append(kind_of(lambda: narrow.tell(Note(1)))))
        with suppress(AskTimeout):  # the asker's time is over at the same moment as the teller's
            teller.ask(wait, timeout=0.5)
        assert teller.ask(Note(0), timeout=PATIENCE) == 1
        assert kinds == [ErrorKind.MAILBOX_TIMEOUT]
    assert seen(narrow) == [0]


def test_a_deadline_in_the_past_fails_at_once_and_handles_nothing(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    with stuck(ref):
        assert kind_of(lambda: ref.ask(Note(1), timeout=0)) == ErrorKind.MAILBOX_TIMEOUT
        assert kind_of(lambda: ref.ask(Note(1), timeout=-1.0)) == ErrorKind.MAILBOX_TIMEOUT
    assert seen(ref) == []


def test_a_coroutine_may_wait_shorter_by_itself(system: ActorSystem) -> None:
    ref = system.spawn(Player)

    async def wait_shortly() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ref.ask(Note(1), block=False)

    with stuck(ref):
        asyncio.run(wait_shortly())
    assert seen(ref) == [1]


# --- a deadline that passes in the middle ------------------------------------------------------------------


class Through(Message[Any]):
    """Ask ``target`` that ``message``, with an own time-out if one is given."""

    target: Any
    message: Any
    own: float | None = None


class Middle(Player):
    """Hands questions on, and lets what they raise escape."""

    @handles
    def through(self, message: Through) -> Any:
        return message.target.ask(message.message, timeout=message.own)


class ThreadMiddle(Middle):
    dispatcher = "thread"


class LoopMiddle(Player):
    @handles
    async def through(self, message: Through) -> Any:
        return await message.target.ask(message.message, block=False, timeout=message.own)


EVERY_MIDDLE = pytest.mark.parametrize("middle", [Middle, ThreadMiddle, LoopMiddle])


@EVERY_MIDDLE
@pytest.mark.parametrize("block", [True, False])
def test_an_impatient_asker_crashes_nobody_on_the_way(system: ActorSystem, middle: type[Any], block: bool) -> None:
    store = system.spawn(Player)
    near, far = system.spawn(middle), system.spawn(middle)
    with stuck(store):
        for _ in range(6):  # more than the system would forgive
            question = Through(near, Through(store, Note(1)))
            with pytest.raises(AskTimeout):
                far.ask(question, timeout=0.01) if block else far.ask(question, block=False, timeout=0.01).get()
    assert seen(store) == []
    for each in (near, far):
        assert each.ask(Note(1), timeout=PATIENCE) == 1
        assert each.incarnation == 1
    assert system.outcome == "running"


@EVERY_MIDDLE
def test_who_still_waits_is_told_that_the_time_ran_out_in_the_middle(system: ActorSystem, middle: type[Any]) -> None:
    relay = system.spawn(middle)

    class Late(Player):
        """Answers with the time-out of an ask whose deadline is the request's, before its asker gives up."""

        @handles
        def through(self, message: Through) -> Any:
            error = AskTimeout("the store did not answer")
            error.deadline = self._cell.current.deadline
            raise error

    with pytest.raises(AskTimeout) as raised:
        relay.ask(Through(system.spawn(Late, name="late"), Through(None, None)), timeout=PATIENCE)
    assert raised.value.kind == ErrorKind.MAILBOX_TIMEOUT
    assert relay.incarnation == 1
    assert system.lookup("late").incarnation == 1


@EVERY_MIDDLE
def test_a_shorter_time_out_of_the_handlers_own_is_a_crash(system: ActorSystem, middle: type[Any]) -> None:
    store, relay = system.spawn(Player), system.spawn(middle)
    with stuck(store):
        for timeout in (PATIENCE, None):
            with pytest.raises(ActorError) as raised:
                relay.ask(Through(store, Note(1), 0.01), timeout=timeout)
            assert raised.value.kind == ErrorKind.HANDLER_FAILED
            assert isinstance(raised.value.__cause__, AskTimeout)


# --- tasks that a handler makes ----------------------------------------------------------------------------


def test_a_task_that_its_handler_awaits_has_the_deadline_of_the_request(system: ActorSystem) -> None:
    far, ref = system.spawn(Relay), system.spawn(LoopPlayer)

    async def gather(actor: Any) -> Any:
        async def ask() -> Any:
            return await far.ask(Deadlines(), block=False)

        return actor._cell.current.deadline, await asyncio.gather(ask(), asyncio.create_task(ask()))

    own, found = ref.ask(Await(gather), timeout=PATIENCE)
    assert found == [[own], [own]]


def test_a_task_that_outlives_its_handler_has_no_deadline_of_another_request(system: ActorSystem) -> None:
    far, ref = system.spawn(Relay), system.spawn(LoopPlayer)

    async def leave(actor: Any) -> None:
        actor.go = asyncio.Event()

        async def later() -> Any:
            await actor.go.wait()
            return await far.ask(Deadlines(), block=False)

        actor.task = asyncio.create_task(later())

    async def meet(actor: Any) -> Any:
        actor.go.set()
        return await actor.task

    ref.ask(Await(leave), timeout=PATIENCE)
    assert ref.ask(Await(meet), timeout=PATIENCE) == [None]

"""What ends a handler that does not return, and what that must leave unharmed."""

import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, Mailbox, Message, handles
from understudy.actors import killing, lifecycle
from understudy.actors.cell import Cell
from understudy.messages.errors import MailboxFull


class Spin(Message[None]):
    """Never return."""

    how: str


class Ping(Message[str]):
    """Answer."""


class Sink(Actor):
    def on_receive(self, message: Any) -> None:
        return None

    @handles
    def ping(self, _message: Ping) -> str:
        return "pong"


class Stuck(Actor):
    """Never returns, busy with something else each time; tells when it has begun and when it was hit."""

    def __init__(self, begun: threading.Event, hit: threading.Event) -> None:
        super().__init__()
        self.begun, self.hit = begun, hit

    @handles
    def spin(self, message: Spin) -> None:
        sink = self.lookup("sink")
        try:
            self.begun.set()  # within: an exception at a loop's very start belongs to what stands before the loop
            while True:
                if message.how == "sleep":
                    time.sleep(0.001)
                elif message.how == "tell":
                    try:
                        sink.tell(1)
                    except ActorError:
                        continue
                elif message.how == "ask":
                    sink.ask(Ping())
        finally:
            self.hit.set()


class StuckOnThread(Stuck):
    dispatcher = "thread"


def answered(sink: ActorRef[Sink]) -> str:
    """Ask until there is room in its mailbox."""
    while True:
        try:
            return sink.ask(Ping(), timeout=10)
        except MailboxFull:
            continue


@pytest.mark.parametrize("how", ["python", "sleep", "tell", "ask"])
@pytest.mark.parametrize("kind", [Stuck, StuckOnThread])
def test_a_handler_that_never_returns_is_killed_and_whom_it_was_busy_with_is_unharmed(
    kind: type[Stuck], how: str
) -> None:
    begun, hit = threading.Event(), threading.Event()
    with ActorSystem("kill") as system:
        sink = system.spawn(Sink, name="sink", mailbox=Mailbox(100, overflow="drop_oldest"))
        stuck = system.spawn(kind, begun, hit, shutdown=0.05)
        answer = stuck.ask(Spin(how), block=False)
        assert begun.wait(10)
        assert stuck.stop(timeout=10)
        with pytest.raises(ActorError) as raised:
            answer.get(timeout=10)
        assert raised.value.kind == "actor.handler.killed"
        assert hit.wait(10), "the exception never reached the handler"
        assert answered(sink) == "pong"
        assert system.abandoned == 1


class Which(Message[int]):
    """Answer with the number of the incarnation that handles this."""


class Numbered(Actor):
    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.seen = seen
        self.number = self.actor_ref.incarnation

    @handles
    def which(self, _message: Which) -> int:
        self.seen.append(self.number)
        return self.number


class NumberedOnLoop(Actor):
    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.seen = seen
        self.number = self.actor_ref.incarnation

    @handles
    async def which(self, _message: Which) -> int:
        self.seen.append(self.number)
        return self.number


class KillingQueue(deque[Any]):
    """Ends by force the incarnation that takes a message out, in between its look and its handler."""

    cell: Cell
    armed = True

    def popleft(self) -> Any:
        item = super().popleft()
        if self.armed:
            self.armed = False
            lifecycle.kill(self.cell)
        return item


@pytest.mark.parametrize("kind", [Numbered, NumberedOnLoop])
def test_what_a_killed_incarnation_was_just_taking_up_is_handled_by_the_next_in_order(
    kind: type[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the runtime's own code nothing is injected; this queue's `popleft` would pass for a handler's.
    monkeypatch.setattr(killing, "strike", lambda _thread_id, _actor: None)
    seen: list[int] = []
    with ActorSystem("kill") as system:
        actor = system.spawn(kind, seen)
        cell = actor._cell
        queue = KillingQueue()
        queue.cell = cell
        cell.queue = queue
        answers = [actor.ask(Which(), block=False) for _ in range(3)]
        assert [answer.get(timeout=10) for answer in answers] == [2, 2, 2]
        assert seen == [2, 2, 2]


class Abandon(Message[None]):
    """Do not return before the gate opens, whatever is raised meanwhile; then return as if nothing had been."""

    begun: Any
    gate: Any


class Clinging(Numbered):
    @handles
    def abandon(self, message: Abandon) -> None:
        message.begun.set()
        while not message.gate.is_set():
            try:
                message.gate.wait(10)
            except BaseException:  # it clings to life
                continue


@pytest.mark.parametrize("ask", [False, True])
def test_an_abandoned_handler_that_returns_after_all_leaves_the_mailbox_to_the_next_incarnation(ask: bool) -> None:
    seen: list[int] = []
    begun, gate = threading.Event(), threading.Event()
    with ActorSystem("kill") as system:
        actor = system.spawn(Clinging, seen)
        if ask:
            actor.ask(Abandon(begun, gate), block=False)
        else:
            actor.tell(Abandon(begun, gate))
        assert begun.wait(10)
        lifecycle.kill(actor._cell)
        first = actor.ask(Which(), timeout=10)
        gate.set()
        answers = [actor.ask(Which(), block=False) for _ in range(1_000)]
        assert {answer.get(timeout=10) for answer in answers} == {first} == {2}
        assert seen == [2] * 1_001


def test_a_handler_that_ends_in_the_moment_in_which_it_is_struck_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its own entry out on its way; what was raised in its thread just after that is taken back."""
    thread_id = threading.get_ident()
    actor: Any = SimpleNamespace(_cell=object())
    taken_back: list[int] = []
    monkeypatch.setattr(killing, "_in_own_code", lambda *_: True)
    monkeypatch.setattr(killing, "inject", lambda _: killing.struck.pop(thread_id))
    monkeypatch.setattr(killing, "_take_back", taken_back.append)
    killing.strike(thread_id, actor)
    assert taken_back == [thread_id]
    assert thread_id not in killing.struck

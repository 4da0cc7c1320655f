"""What ends a handler that does not return, and what that must leave unharmed."""

import threading
import time
from typing import Any

import pytest

from understudy import Actor, ActorError, ActorRef, ActorSystem, Mailbox, Message, handles
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

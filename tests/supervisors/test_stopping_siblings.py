"""Children that wait for each other do not hold up their supervisor's stop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from understudy import Actor, ActorRef, ActorSystem, Child, Message, Supervisor, handles
from understudy.actors.events import ShutdownError

PATIENCE = 60.0


class Hold(Message[None]):
    entered: threading.Event
    leave: threading.Event


class AskThere(Message[Any]):
    target: ActorRef[Any]


class Ping(Message[str]):
    pass


class Peer(Actor):
    @handles
    def hold(self, message: Hold) -> None:
        message.entered.set()
        assert message.leave.wait(PATIENCE)

    @handles
    def ask_there(self, message: AskThere) -> Any:
        return message.target.ask(Ping())

    @handles
    def ping(self, message: Ping) -> str:
        return "pong"


class ThreadPeer(Peer):
    dispatcher = "thread"


@pytest.mark.parametrize("peer", [Peer, ThreadPeer])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("asker_first", [True, False])
def test_whoever_waits_for_a_sibling_that_has_stopped_is_answered(
    peer: type[Peer], static: bool, asker_first: bool
) -> None:
    """Else it would wait until its own deadline, and be killed."""
    late: list[str] = []
    tree = Supervisor("peers", children=[Child(peer, name="first"), Child(peer, name="second")]) if static else None
    system = ActorSystem("siblings", tree)
    system.events.subscribe(ShutdownError, lambda event: late.append(event.child))
    entered, leave = threading.Event(), threading.Event()
    try:
        if static:
            first, second = system.lookup("peers/first"), system.lookup("peers/second")
        else:
            first, second = system.spawn(peer, name="first"), system.spawn(peer, name="second")
        asker, asked = (first, second) if asker_first else (second, first)
        asked.tell(Hold(entered, leave))
        assert entered.wait(PATIENCE)
        asker.tell(AskThere(asked))
        while not asked._cell.queue:
            assert asker.is_alive()
        stopping = threading.Thread(target=system.stop)
        stopping.start()
        while not (asked if asker_first or not static else asker)._cell.control:
            assert stopping.is_alive()
        leave.set()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    finally:
        leave.set()
        system.stop()
    assert [name for name in late if "killed" in name] == []
    assert system.abandoned == 0

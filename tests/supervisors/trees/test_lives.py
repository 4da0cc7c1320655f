"""One incarnation after another in the same place."""

from __future__ import annotations

from understudy import NORMAL, SHUTDOWN, Actor, Child, Message, Supervisor, handles
from understudy.actors.events import ActorRestarted, HandlerAbandoned, ShutdownError
from understudy.messages.errors import MailboxClosed

from ..players import Hang, Note, Plain, Stage, refused, shown


class QuitTwice(Message[None]):
    """Say twice that you want to end."""


class Insistent(Actor):
    @handles
    def quit_twice(self, _message: QuitTwice) -> None:
        self.stop(NORMAL)
        self.stop(SHUTDOWN)


def test_an_order_to_end_one_incarnation_does_not_end_the_next(stage: Stage) -> None:
    stage.supervise(Child(Insistent, name="a"))
    stage.ref("sup/a").tell(QuitTwice())
    stage.settle()
    assert [event.reason for event in stage.of(ActorRestarted)] == ["normal"]
    assert stage.ref("sup/a").incarnation == 2


def test_a_supervisor_hears_of_the_killing_of_an_idle_child(stage: Stage) -> None:
    sup = stage.supervise(Child(Plain, name="a"), Child(Plain, name="b", restart="temporary"))
    stage.end("sup/a", "killed")
    stage.end("sup/b", "killed")
    assert [event.reason for event in stage.of(ActorRestarted)] == ["killed"]
    assert shown(sup) == {"a": "running"}


def test_children_that_are_killed_with_their_supervisor_ended_as_they_were_told(stage: Stage) -> None:
    stage.supervise(Supervisor("inner", children=[stage.child("a"), stage.child("b")]))
    stage.ref("sup/inner/a").tell(Hang())
    stage.settle()
    stage.end("sup/inner", "killed")
    assert [event.path for event in stage.of(HandlerAbandoned)] == ["sup/inner/a"]
    assert stage.of(ShutdownError) == []
    assert "stop b" not in stage.log


def test_a_child_whose_elder_sibling_fails_to_come_back_waits_for_it_and_is_let_go_with_it(stage: Stage) -> None:
    """It is the one that crashed; but what is being restarted now is the other, and with that it is given up."""
    sup = stage.supervise(stage.child("a"), stage.child("b"), strategy="one_for_all", intensity=10**9)
    stage.every_start("a", ValueError("not yet"))
    stage.begin_end("sup/b", "error")
    stage.simulation.run_until(lambda: "fail a" in stage.log)
    waiting = stage.ref("sup/b").ask(Note(1), block=False)
    assert stage.ref("sup/a").stop(), "an order that overtakes the next try"
    assert shown(sup) == {"a": None, "b": None}
    refused(MailboxClosed, waiting.get, timeout=0)
    assert sup.restart_child("b").ref is not None

"""One incarnation after another in the same place."""

from __future__ import annotations

from understudy import NORMAL, SHUTDOWN, Actor, Child, Message, handles
from understudy.actors.events import ActorRestarted

from ..players import Plain, Stage, shown


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

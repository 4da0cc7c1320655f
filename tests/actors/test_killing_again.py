"""An interruption that lands in a weak reference's callback or in a ``__del__``, where the interpreter drops it."""

import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from understudy import Actor, ActorSystem, Message, handles
from understudy.actors.reasons import ActorKilled, WorkCancelled
from understudy.actors.tasks.router import TaskRouter
from understudy.messages.tasks import RawTask

from .background_stage import PATIENCE, Do, Host, wait
from .tasks.stage import staged


class Stuck:
    """Code that never returns: first it sits in such a place, where an exception gets it out and no further."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.begun, self.dropped, self.hit = threading.Event(), threading.Event(), threading.Event()
        self.errors: list[str] = []

    def run(self) -> None:
        try:
            if self.place == "callback":
                target: Any = threading.Event()
                _watch = weakref.ref(target, lambda _: self.sit())
            else:
                target = Finalised(self)
            del target
            self.dropped.set()
            for _ in iter(int, 1):
                pass
        except BaseException as error:
            self.errors.append(type(error).__name__)
            raise
        finally:
            self.hit.set()

    def sit(self) -> None:
        self.begun.set()
        for _ in iter(int, 1):
            pass


class Finalised:
    def __init__(self, stuck: Stuck) -> None:
        self.stuck = stuck

    def __del__(self) -> None:
        self.stuck.sit()


class Run(Message[None]):
    stuck: Any


class OnPool(Actor):
    @handles
    def run(self, message: Run) -> None:
        message.stuck.run()


class OnThread(OnPool):
    dispatcher = "thread"


@pytest.fixture(params=["callback", "del"])
def stuck(request: pytest.FixtureRequest) -> Stuck:
    return Stuck(request.param)


@pytest.mark.parametrize("kind", [OnPool, OnThread])
def test_a_handler_is_killed_nevertheless(system: ActorSystem, kind: type[OnPool], stuck: Stuck) -> None:
    ref = system.spawn(kind, shutdown=0.05)
    ref.tell(Run(stuck))
    wait(stuck.begun)
    assert ref.stop(timeout=PATIENCE)
    wait(stuck.hit)
    assert stuck.dropped.is_set()
    assert stuck.errors == ["ActorKilled"]


def test_cancelled_work_ends_nevertheless(system: ActorSystem, stuck: Stuck) -> None:
    host = system.spawn(Host)
    task = host.ask(Do(lambda actor: actor.spawn(stuck.run)), timeout=PATIENCE)
    wait(stuck.begun)
    assert task.cancel()
    task.ended.get(timeout=PATIENCE)
    assert stuck.dropped.is_set()
    assert stuck.errors == ["WorkCancelled"]


def test_a_cancelled_task_leaves_its_handler_nevertheless(tmp_path: Path, stuck: Stuck) -> None:
    router = TaskRouter()

    @router.handles("t")
    def handle(_task: RawTask) -> None:
        stuck.run()

    with staged(tmp_path, router, concurrency=1) as stage:
        stage.put("c", "t")
        wait(stuck.begun)
        stage.engine.cancel("c")
        wait(stuck.hit)
        assert stuck.errors == ["WorkCancelled"]


@pytest.mark.parametrize("error", [ActorKilled, WorkCancelled, ValueError])
def test_what_is_not_ours_is_told_to_whoever_listened_before(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Ours, where nobody is to be hit any more, is nobody's business."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    stuck = Stuck("callback")
    ref = system.spawn(OnPool, shutdown=0.05)
    ref.tell(Run(stuck))
    wait(stuck.begun)
    assert ref.stop(timeout=PATIENCE)
    wait(stuck.hit)

    class Raising:
        def __del__(self) -> None:
            raise error

    Raising()
    assert told == ([ValueError] if error is ValueError else [])

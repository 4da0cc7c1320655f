"""Death watch: told once that another actor is gone for good, and why; restarts are not told."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from understudy import Actor, ActorRef, ActorSystem, ExitReason, Mailbox, Terminated, handles
from understudy.actors.watching import watch

from .core_stage import PATIENCE, Do, LoopPlayer, Player, ThreadPlayer, in_thread, stuck


class Watcher(Actor):
    """Notes who is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[tuple[ActorRef[Any], ExitReason]] = []
        self.told = threading.Semaphore(0)

    @handles
    def do(self, message: Do) -> Any:
        return message.work(self)

    @handles
    def terminated(self, message: Terminated) -> None:
        self.gone.append((message.ref, message.reason))
        self.told.release()


def spawn_watcher(system: ActorSystem, *watched: ActorRef[Any], **options: Any) -> ActorRef[Any]:
    watcher: ActorRef[Any] = system.spawn(Watcher, **options)
    for each in watched:
        watcher.ask(Do(lambda actor, each=each: actor.watch(each)), timeout=PATIENCE)  # type: ignore[misc]
    return watcher


def gone(watcher: ActorRef[Any], number: int) -> list[tuple[ActorRef[Any], ExitReason]]:
    """What the watcher was told, once it was told so often."""
    actor = watcher._cell.actor
    for _ in range(number):
        assert actor.told.acquire(timeout=PATIENCE)
    found: list[tuple[ActorRef[Any], ExitReason]] = watcher.ask(Do(lambda actor: list(actor.gone)), timeout=PATIENCE)
    return found


def crash(_actor: Any) -> None:
    raise ValueError("meant to")


@pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])
def test_a_stop_is_told_with_its_reason(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player)
    watcher = spawn_watcher(system, ref)
    ref.stop()
    assert [(each, reason.kind) for each, reason in gone(watcher, 1)] == [(ref, "shutdown")]


def test_the_end_of_a_temporary_actor_is_told_with_its_error(system: ActorSystem) -> None:
    ref = system.spawn(Player, restart="temporary")
    watcher = spawn_watcher(system, ref)
    ref.tell(Do(crash))
    ((told, reason),) = gone(watcher, 1)
    assert told == ref
    assert reason.kind == "error"
    assert isinstance(reason.error, ValueError)


def test_a_restart_is_not_told(system: ActorSystem) -> None:
    ref, other = system.spawn(Player), system.spawn(Player)
    watcher = spawn_watcher(system, ref, other)
    ref.tell(Do(crash))
    while ref.incarnation == 1:
        assert ref.is_alive()
    other.stop()
    assert [each for each, _ in gone(watcher, 1)] == [other]


def test_whoever_is_gone_already_is_told_at_once(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    ref.stop()
    watcher = spawn_watcher(system, ref)
    assert [(each, reason.kind) for each, reason in gone(watcher, 1)] == [(ref, "shutdown")]


def test_several_watch_one_and_one_watches_several(system: ActorSystem) -> None:
    refs = [system.spawn(Player) for _ in range(3)]
    watchers = [spawn_watcher(system, *refs) for _ in range(3)]
    for ref in refs:
        ref.stop()
    for watcher in watchers:
        assert [each for each, _ in gone(watcher, 3)] == refs


def test_a_watch_can_be_taken_back(system: ActorSystem) -> None:
    ref, other = system.spawn(Player), system.spawn(Player)
    watcher = spawn_watcher(system, ref, other)
    watcher.ask(Do(lambda actor: actor.unwatch(ref)), timeout=PATIENCE)
    ref.stop()
    other.stop()
    assert [each for each, _ in gone(watcher, 1)] == [other]


def test_a_full_mailbox_is_told_all_the_same(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    watcher = spawn_watcher(system, ref, mailbox=Mailbox(capacity=1))
    with stuck(watcher):
        watcher.tell(Do(lambda _: None))
        ref.stop()
    assert [each for each, _ in gone(watcher, 1)] == [ref]


def test_actors_without_a_supervisor_can_be_watched_and_watch() -> None:
    ref, watcher = Player.start(), Watcher.start()
    try:
        watcher.ask(Do(lambda actor: actor.watch(ref)), timeout=PATIENCE)
        ref.stop()
        assert [(each, reason.kind) for each, reason in gone(watcher, 1)] == [(ref, "normal")]
    finally:
        watcher.stop()


def test_a_watcher_that_is_gone_harms_nobody(system: ActorSystem) -> None:
    ref, other = system.spawn(Player), system.spawn(Player)
    watchers = [spawn_watcher(system, ref) for _ in range(2)]
    watchers[0].stop()
    ref.stop()
    assert [each for each, _ in gone(watchers[1], 1)] == [ref]
    other.stop()


def test_a_watcher_that_is_gone_is_forgotten_by_those_it_watched(system: ActorSystem) -> None:
    """A long-lived actor that short-lived ones watch must not keep them all."""
    ref = system.spawn(Player)
    for _ in range(200):
        spawn_watcher(system, ref).stop()
    assert ref._cell.needs.watchers == {}


def test_a_watch_that_is_begun_while_the_other_ends_is_told_once(system: ActorSystem) -> None:
    pairs = [(system.spawn(Player), system.spawn(Watcher)) for _ in range(200)]
    for ref, watcher in pairs:
        begin = threading.Barrier(2)

        def stop(ref: ActorRef[Any] = ref, begin: threading.Barrier = begin) -> None:
            begin.wait(PATIENCE)
            ref.stop()

        def begin_to_watch(ref: ActorRef[Any] = ref, watcher: Any = watcher, begin: Any = begin) -> None:
            begin.wait(PATIENCE)
            watch(ref._cell, watcher._cell)

        for thread in [in_thread(stop), in_thread(begin_to_watch)]:
            thread()
    for ref, watcher in pairs:
        assert [each for each, _ in gone(watcher, 1)] == [ref]


def test_whoever_watches_twice_is_told_once(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    watcher = spawn_watcher(system, ref, ref)
    ref.stop()
    assert [each for each, _ in gone(watcher, 1)] == [ref]

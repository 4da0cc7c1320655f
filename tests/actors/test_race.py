"""Races: the first result wins; the losers are cancelled, waited for, and what became of them is known."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from understudy import Actor, ActorRef, ActorSystem, Message, handles
from understudy.actors import background, execution
from understudy.actors.background import TaskFailed
from understudy.actors.channel import Channel
from understudy.actors.events import BackgroundAbandoned, BackgroundFailed
from understudy.actors.future import Future
from understudy.actors.race import race
from understudy.messages.errors import BackgroundCancelled

from .background_stage import PATIENCE, Do, Echo, Host, do, wait


@pytest.fixture
def host(system: ActorSystem) -> ActorRef[Host]:
    return system.spawn(Host, name="host")


def run(host: ActorRef[Any], *works: Any, **options: Any) -> Any:
    """Let the works race in the background of the host, and return what comes out of it."""
    future = do(host, lambda actor: actor.race(*works, **{"grace": PATIENCE, **options}))
    return future.get(timeout=PATIENCE)


def fail(text: str) -> Any:
    raise ValueError(text)


# --- the winner ------------------------------------------------------------------------------------------------


def test_the_first_result_wins(host: ActorRef[Host]) -> None:
    never: Channel[str] = Channel()

    async def forever() -> str:
        return await asyncio.Event().wait() and ""

    assert run(host, never.get, lambda: "won", forever) == "won"


def test_a_coroutine_wins_against_a_function_and_may_be_given_as_such(host: ActorRef[Host]) -> None:
    never: Channel[str] = Channel()

    async def quick(text: str) -> str:
        return text

    assert run(host, never.get, partial(quick, "function")) == "function"
    assert run(host, never.get, quick("coroutine")) == "coroutine"


def test_none_is_a_result_as_well(host: ActorRef[Host]) -> None:
    never: Channel[str] = Channel()
    assert run(host, lambda: None, never.get) is None


def test_one_work_alone_wins(host: ActorRef[Host]) -> None:
    assert run(host, lambda: 1) == 1


def test_a_race_of_nothing_is_refused(host: ActorRef[Host]) -> None:
    with pytest.raises(Exception, match="at least one work"):
        run(host)


def test_a_race_that_cannot_begin_leaves_nothing_behind(host: ActorRef[Host]) -> None:
    """What has begun is cancelled, and no coroutine is left that was never awaited."""
    never: Channel[str] = Channel()
    began: list[Any] = []

    async def late() -> None:
        raise AssertionError("it never runs")

    def compete(actor: Host) -> None:
        began.append(actor.spawn(never.get))
        with pytest.raises(TypeError):
            actor.race(began[0], "not callable", late())

    do(host, compete)
    began[0].ended.get(timeout=PATIENCE)
    assert began[0].cancelled


def test_a_race_is_awaited_in_a_coroutine(system: ActorSystem) -> None:
    class Compete(Message[str]):
        pass

    async def sleep(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "won" if seconds == 0 else "lost"

    class Racer(Actor):
        @handles
        async def compete(self, message: Compete) -> str:
            return await self.race(partial(sleep, 3600), partial(sleep, 0))

    assert system.spawn(Racer).ask(Compete(), timeout=PATIENCE) == "won"


def test_a_race_needs_no_actor(system: ActorSystem) -> None:
    """Then its works end with the system at the latest."""
    never: Channel[str] = Channel()
    assert race(system.runtime, never.get, lambda: "won", grace=PATIENCE).get(timeout=PATIENCE) == "won"
    unfinished = race(system.runtime, never.get)
    system.stop()
    with pytest.raises(BackgroundCancelled):
        unfinished.get(timeout=PATIENCE)


# --- the losers ------------------------------------------------------------------------------------------------


def test_the_losers_have_ended_when_the_result_is_there(host: ActorRef[Host]) -> None:
    """In a call, in the middle of a computation, waiting on the loop: all of them, and nothing of them is left."""
    never: Channel[str] = Channel()
    started, ended = [threading.Event() for _ in range(3)], [threading.Event() for _ in range(3)]

    def waits() -> None:
        started[0].set()
        try:
            never.get()
        finally:
            ended[0].set()

    def computes() -> None:
        try:
            while True:
                started[1].set()
        finally:
            ended[1].set()

    async def awaits() -> None:
        started[2].set()
        try:
            await asyncio.Event().wait()
        finally:
            ended[2].set()

    def wins() -> str:
        for event in started:
            wait(event)
        return "won"

    assert run(host, waits, computes, awaits, wins) == "won"
    assert all(event.is_set() for event in ended)
    assert not do(host, lambda actor: actor._cell.extras.background)


def test_what_a_loser_holds_is_free_when_the_result_is_there(host: ActorRef[Host]) -> None:
    """A lock, and one that is given back by asking an actor."""
    lock, holds = threading.Lock(), threading.Event()
    never: Channel[str] = Channel()
    given_back: list[str] = []

    def loses() -> None:
        with lock:
            holds.set()
            try:
                never.get()
            finally:
                given_back.append(host.ask(Echo("given back")))

    def wins() -> str:
        wait(holds)
        return "won"

    assert run(host, loses, wins) == "won"
    assert lock.acquire(blocking=False)
    assert given_back == ["given back"]


def test_a_loser_that_has_not_begun_never_begins(system: ActorSystem) -> None:
    """Here because it waits for a place on the loop, which is hogged."""
    hogging, proceed = threading.Event(), threading.Event()
    began: list[int] = []

    async def hog() -> None:
        hogging.set()
        proceed.wait(PATIENCE)

    async def late() -> None:
        began.append(1)

    host = system.spawn(Host)
    do(host, lambda actor: actor.spawn(hog))
    wait(hogging)
    assert run(host, late, lambda: "won") == "won"
    proceed.set()
    run(host, partial(asyncio.sleep, 0))
    assert began == []


def test_a_loser_that_cannot_be_ended_holds_the_result_up_for_the_grace_only(
    system: ActorSystem, host: ActorRef[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own result is dropped, and it is reported."""
    monkeypatch.setattr(background, "PATIENCE", 0.0)
    abandoned: Channel[BackgroundAbandoned] = Channel(1)
    system.events.subscribe(BackgroundAbandoned, abandoned.put)
    call, started = threading.Lock(), threading.Event()
    call.acquire()

    def stuck() -> str:
        started.set()
        call.acquire()
        return "too late"

    def wins() -> str:
        wait(started)
        return "won"

    assert run(host, stuck, wins, grace=0.01) == "won"
    assert abandoned.get(timeout=PATIENCE).work.endswith("stuck")
    call.release()


def test_errors_of_losers_are_published(system: ActorSystem, host: ActorRef[Host]) -> None:
    """Of one that failed before the race was won, and of one that failed in giving up."""
    events: list[BackgroundFailed] = []
    system.events.subscribe(BackgroundFailed, events.append)
    never: Channel[str] = Channel()
    failed, started = threading.Event(), threading.Event()

    def fails() -> None:
        try:
            fail("at once")
        finally:
            failed.set()

    def clumsy() -> None:
        started.set()
        try:
            never.get()
        finally:
            fail("in giving up")

    def wins() -> str:
        wait(failed)
        wait(started)
        return "won"

    assert run(host, fails, clumsy, wins) == "won"
    assert sorted(str(event.error) for event in events) == ["at once", "in giving up"]


def test_the_reply_that_comes_too_late_loses(host: ActorRef[Host], system: ActorSystem) -> None:
    """An ask is withdrawn: if its message still waits, nobody handles it."""
    busy, proceed, handled = threading.Event(), threading.Event(), threading.Event()
    slow = system.spawn(Host)

    def be_busy(actor: Host) -> None:
        busy.set()
        wait(proceed)

    slow.tell(Do(be_busy))
    wait(busy)
    late = slow.ask(Do(lambda actor: handled.set()), block=False)
    assert run(host, late, host.ask(Echo("quick"), block=False)) == "quick"
    with pytest.raises(BackgroundCancelled, match="too late"):
        late.get(timeout=0)
    proceed.set()
    slow.ask(Echo(1), timeout=PATIENCE)
    assert not handled.is_set()


def test_a_task_that_runs_already_can_take_part(host: ActorRef[Host]) -> None:
    never: Channel[str] = Channel()
    task = do(host, lambda actor: actor.spawn(never.get))
    assert run(host, task, lambda: "won") == "won"
    assert task.cancelled


def test_a_mapped_future_can_take_part(host: ActorRef[Host]) -> None:
    never: Channel[str] = Channel()
    assert run(host, never.get, host.ask(Echo(20), block=False).map(lambda reply: reply + 1)) == 21


# --- all fail --------------------------------------------------------------------------------------------------


def test_if_all_fail_it_fails_with_the_first_error_and_tells_of_the_others(host: ActorRef[Host]) -> None:
    first: Future[Any] = Future()
    first.try_fail(ValueError("first"))
    with pytest.raises(ValueError, match="first") as failed:
        run(host, first, partial(dict[str, int]().__getitem__, "second"))
    assert failed.value.__notes__ == ["in the same race: KeyError: 'second'"]


def test_an_actor_is_not_told_of_failures_that_the_race_tells_it_of(system: ActorSystem) -> None:
    heard: list[TaskFailed] = []

    class Listener(Host):
        @handles
        def failed(self, message: TaskFailed) -> None:
            heard.append(message)

    listener = system.spawn(Listener)
    with pytest.raises(ValueError, match="alone"):
        run(listener, partial(fail, "alone"))
    listener.ask(Echo(1), timeout=PATIENCE)
    assert heard == []


def test_if_the_incarnation_ends_the_race_is_over(host: ActorRef[Host]) -> None:
    never: Channel[str] = Channel()
    future = do(host, lambda actor: actor.race(never.get, never.get))
    host.stop()
    with pytest.raises(BackgroundCancelled, match="has ended"):
        future.get(timeout=PATIENCE)


# --- deadlines -------------------------------------------------------------------------------------------------


def test_works_and_the_race_inherit_the_deadline_of_the_request(host: ActorRef[Host]) -> None:
    def deadline() -> float | None:
        return execution.inherited_deadline(execution.current.get())

    def both(actor: Host) -> Any:
        return deadline(), actor.race(deadline).get(), actor.race(deadline, timeout=1.0).get()

    own, inherited, shorter = do(host, both)
    assert own == inherited
    assert shorter < own

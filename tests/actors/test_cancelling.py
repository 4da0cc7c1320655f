"""Cancelling work in the background: wherever it is, it ends; nothing else is hurt; what it held is let go."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from understudy import Actor, ActorRef, ActorSystem, Mailbox, Message, handles
from understudy.actors import background
from understudy.actors.background import BackgroundTask, cancelled, check_cancelled
from understudy.actors.channel import Channel
from understudy.actors.events import ActorCrashed, BackgroundAbandoned, BackgroundFailed
from understudy.actors.reasons import WorkCancelled
from understudy.messages.errors import BackgroundCancelled

from .background_stage import PATIENCE, Do, Echo, Host, do, wait


class Work:
    """What a piece of work notes of itself."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.errors: list[str] = []

    def note(self, error: BaseException) -> None:
        self.errors.append(type(error).__name__)


@pytest.fixture
def host(system: ActorSystem) -> ActorRef[Host]:
    return system.spawn(Host, name="host")


def start(host: ActorRef[Host], work: Any, *args: Any) -> BackgroundTask[Any]:
    return do(host, lambda actor: actor.spawn(work, *args))  # type: ignore[no-any-return]


def keep_silent(work: Work, actor: Host) -> None:
    """Never answer what is being asked."""
    actor.defer_reply()
    work.started.set()


def cancel_and_see_it_end(task: BackgroundTask[Any]) -> None:
    assert task.cancel()
    with pytest.raises(BackgroundCancelled):
        task.result.get(timeout=0)
    task.ended.get(timeout=PATIENCE)
    assert not task.cancel(), "it is over"


# --- functions -------------------------------------------------------------------------------------------------


def test_a_function_that_computes_ends_at_its_next_bytecode(host: ActorRef[Host]) -> None:
    """No ``except Exception`` holds it up, and its ``finally`` runs."""
    work = Work()

    def compute() -> None:
        try:
            while True:
                try:
                    for _ in iter(int, 1):
                        work.started.set()
                except Exception as error:
                    work.note(error)
        except BaseException as error:
            work.note(error)
            raise

    task = start(host, compute)
    wait(work.started)
    cancel_and_see_it_end(task)
    assert work.errors == ["WorkCancelled"]


def test_a_function_that_waits_for_an_actor_is_woken(system: ActorSystem, host: ActorRef[Host]) -> None:
    work = Work()
    silent = system.spawn(Host, name="silent")

    def ask() -> None:
        try:
            silent.ask(Do(partial(keep_silent, work)))
        except BaseException as error:
            work.note(error)
            raise

    task = start(host, ask)
    wait(work.started)
    cancel_and_see_it_end(task)
    assert work.errors == ["WorkCancelled"]
    assert silent.ask(Echo("unhurt"), timeout=PATIENCE) == "unhurt"


def test_a_function_that_waits_for_a_channel_is_woken(host: ActorRef[Host]) -> None:
    channel: Channel[int] = Channel()
    task = start(host, channel.get)
    while not channel._getters:
        host.ask(Echo(1))
    cancel_and_see_it_end(task)
    channel.put(1)
    assert channel.get() == 1, "the item was not lost to who is gone"


def test_work_that_goes_on_can_look_whether_it_should(host: ActorRef[Host]) -> None:
    """It was told once; ``check_cancelled`` tells it whenever it asks."""
    channel: Channel[int] = Channel()
    seen: list[Any] = []

    def go_on() -> None:
        seen.append(cancelled())
        try:
            channel.get()
        except WorkCancelled:
            seen.append(cancelled())
        check_cancelled()
        seen.append("not reached")

    task = start(host, go_on)
    while not channel._getters:
        host.ask(Echo(1))
    cancel_and_see_it_end(task)
    assert seen == [False, True]


def test_nobody_else_is_told_to_end(host: ActorRef[Host]) -> None:
    assert not cancelled()
    check_cancelled()
    assert do(host, lambda actor: cancelled()) is False


def test_in_its_finally_cancelled_work_may_ask_and_wait_as_ever(host: ActorRef[Host]) -> None:
    """It is told once, so that it can give back what it holds."""
    work = Work()
    channel: Channel[int] = Channel()
    given_back: list[Any] = []

    def hold() -> None:
        work.started.set()
        try:
            channel.get()
        finally:
            given_back.append(host.ask(Do(lambda actor: "given back")))

    task = start(host, hold)
    wait(work.started)
    cancel_and_see_it_end(task)
    assert given_back == ["given back"]


def test_what_it_returns_all_the_same_is_dropped(host: ActorRef[Host]) -> None:
    work, proceed = Work(), threading.Event()

    def stubborn() -> str:
        try:
            work.started.set()
            wait(proceed)
        except WorkCancelled:
            pass
        return "a result"

    task = start(host, stubborn)
    wait(work.started)
    assert task.cancel()
    proceed.set()
    task.ended.get(timeout=PATIENCE)
    with pytest.raises(BackgroundCancelled):
        task.result.get()


def test_an_error_on_the_way_out_is_published(system: ActorSystem, host: ActorRef[Host]) -> None:
    """Its result was settled when it was cancelled; nothing that went wrong is silent for that."""
    events: list[BackgroundFailed] = []
    system.events.subscribe(BackgroundFailed, events.append)
    channel: Channel[int] = Channel()
    work = Work()

    def clumsy() -> None:
        work.started.set()
        try:
            channel.get()
        finally:
            raise OSError("could not clean up")

    task = start(host, clumsy)
    wait(work.started)
    cancel_and_see_it_end(task)
    assert [str(event.error) for event in events] == ["could not clean up"]


def test_work_may_cancel_itself(host: ActorRef[Host]) -> None:
    tasks: Channel[BackgroundTask[Any]] = Channel()

    def suicidal() -> None:
        tasks.get().cancel()
        for _ in iter(int, 1):
            pass

    task = start(host, suicidal)
    tasks.put(task)
    task.ended.get(timeout=PATIENCE)
    with pytest.raises(BackgroundCancelled):
        task.result.get()


def test_the_thread_of_cancelled_work_serves_the_next(host: ActorRef[Host]) -> None:
    """What was sent to the one never lands in the other."""
    for _ in range(50):
        work = Work()

        def short(work: Work = work) -> None:
            work.started.set()
            for _ in range(100):
                pass

        task = start(host, short)
        wait(work.started)
        task.cancel()
        task.ended.get(timeout=PATIENCE)
        assert start(host, sum, range(1000)).result.get(timeout=PATIENCE) == 499_500


# --- what must not be hurt -------------------------------------------------------------------------------------


class Look(Message[None]):
    """Wait for the gate."""


class Gated(Actor):
    """Notes which thread handles ``Look``, and waits there for the gate."""

    def __init__(self, gate: threading.Event, threads: Channel[str]) -> None:
        super().__init__()
        self.gate, self.threads = gate, threads

    @handles
    def look(self, message: Look) -> None:
        self.threads.put(threading.current_thread().name)
        self.gate.wait(PATIENCE)


def test_an_actor_that_the_work_runs_in_an_assisted_ask_is_not_hurt(system: ActorSystem, host: ActorRef[Host]) -> None:
    """The interruption waits until the thread is back in the work's own code."""
    crashes: list[ActorCrashed] = []
    system.events.subscribe(ActorCrashed, crashes.append)
    gate, threads = threading.Event(), Channel[str](10)
    gated = system.spawn(Gated, gate, threads)
    gated._cell.handlers.quick[Look] = True  # as after a quick one: from now on it is run by who asks

    def ask() -> None:
        gated.ask(Look())
        for _ in iter(int, 1):
            pass

    task = start(host, ask)
    assert "background" in threads.get(timeout=PATIENCE)
    task.cancel()
    gate.set()
    task.ended.get(timeout=PATIENCE)
    gated.ask(Look(), timeout=PATIENCE)
    assert gated.incarnation == 1
    assert crashes == []


@pytest.mark.parametrize("asks", [False, True])
def test_an_actor_that_the_work_writes_to_without_end_is_not_hurt(
    system: ActorSystem, host: ActorRef[Host], asks: bool
) -> None:
    """An interruption in the middle of a ``tell`` could leave the actor without anybody to run it."""
    target = system.spawn(Host, name="target", mailbox=Mailbox(capacity=10, overflow="drop_oldest"))
    for _ in range(20):
        work = Work()

        def flood(work: Work = work) -> None:
            while True:
                if asks:
                    target.ask(Echo(0), block=False)
                else:
                    target.tell(Echo(0))
                work.started.set()

        task = start(host, flood)
        wait(work.started)
        cancel_and_see_it_end(task)
        assert target.ask(Echo("alive"), timeout=PATIENCE) == "alive"
    assert target.incarnation == 1


# --- what cannot be interrupted --------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PATIENCE", 0.01)


@pytest.mark.usefixtures("impatient")
def test_work_that_sits_in_a_c_call_is_reported_and_its_result_dropped(
    system: ActorSystem, host: ActorRef[Host]
) -> None:
    events: Channel[BackgroundAbandoned] = Channel(10)
    system.events.subscribe(BackgroundAbandoned, events.put)
    call, started = threading.Lock(), threading.Event()
    call.acquire()

    def stuck() -> str:
        started.set()
        call.acquire()
        return "at last"

    task = start(host, stuck)
    wait(started)
    task.cancel()
    event = events.get(timeout=PATIENCE)
    assert (event.path, event.work.rpartition(".")[2], event.incarnation) == ("host", "stuck", 1)
    assert event.thread_id
    assert not task.ended.done
    call.release()
    task.ended.get(timeout=PATIENCE)
    with pytest.raises(BackgroundCancelled):
        task.result.get()


@pytest.mark.usefixtures("impatient")
def test_a_coroutine_that_does_not_yield_is_reported(system: ActorSystem, host: ActorRef[Host]) -> None:
    events: Channel[BackgroundAbandoned] = Channel(10)
    system.events.subscribe(BackgroundAbandoned, events.put)
    call, started = threading.Event(), threading.Event()

    async def hog() -> None:
        started.set()
        call.wait(PATIENCE)

    task = start(host, hog)
    wait(started)
    task.cancel()
    assert events.get(timeout=PATIENCE).thread_id == 0
    call.set()
    task.ended.get(timeout=PATIENCE)


# --- coroutines ------------------------------------------------------------------------------------------------


def test_a_coroutine_is_cancelled_where_it_awaits(host: ActorRef[Host]) -> None:
    work = Work()

    async def forever() -> None:
        work.started.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            work.note(error)
            raise

    task = start(host, forever)
    wait(work.started)
    cancel_and_see_it_end(task)
    assert work.errors == ["CancelledError"]


def test_a_coroutine_that_waits_for_an_actor_is_cancelled(system: ActorSystem, host: ActorRef[Host]) -> None:
    work = Work()
    silent = system.spawn(Host, name="silent")

    async def ask() -> None:
        await silent.ask(Do(partial(keep_silent, work)), block=False)

    task = start(host, ask)
    wait(work.started)
    cancel_and_see_it_end(task)
    assert silent.ask(Echo("unhurt"), timeout=PATIENCE) == "unhurt"


def test_a_coroutine_that_was_cancelled_before_it_began_never_begins(host: ActorRef[Host]) -> None:
    """And nothing complains that it was never awaited."""
    hogging, proceed, began = threading.Event(), threading.Event(), threading.Event()

    async def hog() -> None:
        hogging.set()
        proceed.wait(PATIENCE)

    async def late() -> None:
        began.set()

    start(host, hog)
    wait(hogging)
    task = start(host, late)
    cancel_and_see_it_end(task)
    proceed.set()
    start(host, asyncio.sleep, 0).ended.get(timeout=PATIENCE)
    assert not began.is_set()

"""Work in the background of an actor: where it runs, what becomes of its result, how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from functools import partial
from typing import Any

import pytest

from understudy import ActorSystem, Message, handles
from understudy.actors import execution
from understudy.actors.background import BackgroundTask, TaskFailed
from understudy.actors.events import BackgroundFailed
from understudy.messages.errors import AskCycle, AskTimeout, BackgroundCancelled, IncarnationFenced, SystemStopped
from understudy.testing import SimulatedDispatcher

from .background_stage import PATIENCE, Do, Echo, Host, do, wait


class Crash(Message[None]):
    """Raise."""


class Fragile(Host):
    """Crashes when told to, and hears of work that fails."""

    def __init__(self, heard: list[TaskFailed] | None = None) -> None:
        super().__init__()
        self.heard = heard

    @handles
    def crash(self, message: Crash) -> None:
        raise RuntimeError("as told")

    @handles
    def failed(self, message: TaskFailed) -> None:
        if self.heard is not None:
            self.heard.append(message)


def until_ended(task: BackgroundTask[Any]) -> None:
    task.ended.get(timeout=PATIENCE)


# --- where it runs ---------------------------------------------------------------------------------------------


def test_a_function_runs_on_a_thread_of_its_own_and_gives_its_result(system: ActorSystem) -> None:
    host = system.spawn(Host)

    def work(number: int, *, add: int) -> tuple[int, str]:
        return number + add, threading.current_thread().name

    task = do(host, lambda actor: actor.spawn(work, 1, add=2))
    number, thread = task.result.get(timeout=PATIENCE)
    assert number == 3
    assert "background" in thread
    assert task.done


def test_a_coroutine_function_runs_on_the_event_loop(system: ActorSystem) -> None:
    host = system.spawn(Host)

    async def work(number: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return number, threading.current_thread().name

    task = do(host, lambda actor: actor.spawn(work, 1))
    number, thread = task.result.get(timeout=PATIENCE)
    assert number == 1
    assert "asyncio" in thread


def test_the_actor_handles_messages_while_its_work_runs(system: ActorSystem) -> None:
    host = system.spawn(Host)
    proceed = threading.Event()
    task = do(host, lambda actor: actor.spawn(proceed.wait, PATIENCE))
    assert host.ask(Echo("meanwhile"), timeout=PATIENCE) == "meanwhile"
    assert not task.done
    proceed.set()
    assert task.result.get(timeout=PATIENCE) is True


def test_jobs_that_block_keep_no_pooled_actor_waiting(system: ActorSystem) -> None:
    """However many there are, they are not on the pool's threads."""
    host, other = system.spawn(Host), system.spawn(Host)
    proceed = threading.Event()
    tasks = do(host, lambda actor: [actor.spawn(proceed.wait, PATIENCE) for _ in range(100)])
    assert other.ask(Echo(1), timeout=PATIENCE) == 1
    proceed.set()
    assert all(task.result.get(timeout=PATIENCE) for task in tasks)


def test_a_function_that_blocks_does_not_hold_up_the_event_loop(system: ActorSystem) -> None:
    host = system.spawn(Host)
    proceed = threading.Event()

    async def release() -> None:
        proceed.set()

    blocked = do(host, lambda actor: actor.spawn(proceed.wait, PATIENCE))
    do(host, lambda actor: actor.spawn(release))
    assert blocked.result.get(timeout=PATIENCE) is True


def test_work_sees_the_context_variables_of_who_spawned_it(system: ActorSystem) -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace")
    host = system.spawn(Host)

    async def later() -> str:
        return trace.get()

    def spawn_both(actor: Host) -> Any:
        trace.set("abc")
        return actor.spawn(trace.get), actor.spawn(later)

    assert [task.result.get(timeout=PATIENCE) for task in do(host, spawn_both)] == ["abc", "abc"]


def test_an_actor_without_a_supervisor_spawns_as_well(system: ActorSystem) -> None:
    host = Host.start()
    started, proceed = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        wait(proceed)

    task = do(host, lambda actor: actor.spawn(work))
    wait(started)
    host.stop()
    with pytest.raises(BackgroundCancelled):
        task.result.get(timeout=PATIENCE)
    proceed.set()
    until_ended(task)


@pytest.mark.parametrize("work", [5, None, "text"])
def test_what_cannot_be_called_is_refused(system: ActorSystem, work: Any) -> None:
    host = system.spawn(Host, restart="temporary")
    with pytest.raises(Exception, match="can not run in the background") as refused:
        do(host, lambda actor: actor.spawn(work))
    assert isinstance(refused.value.__cause__, TypeError)


def test_a_function_that_makes_a_coroutine_is_told_how_to_be_spawned(system: ActorSystem) -> None:
    host = system.spawn(Host)

    async def work() -> None: ...

    task = do(host, lambda actor: actor.spawn(lambda: work()))  # noqa: PLW0108  # the lambda is the point
    with pytest.raises(TypeError, match="spawn the coroutine function itself"):
        task.result.get(timeout=PATIENCE)


# --- whose turn it is not --------------------------------------------------------------------------------------


def test_work_asks_its_own_actor_like_anybody_else(system: ActorSystem) -> None:
    host = system.spawn(Host)

    async def later() -> Any:
        return await host.ask(Echo("from the loop"), block=False, timeout=PATIENCE)

    task = do(host, lambda actor: actor.spawn(host.ask, Echo("from a thread"), timeout=PATIENCE))
    assert task.result.get(timeout=PATIENCE) == "from a thread"
    assert do(host, lambda actor: actor.spawn(later)).result.get(timeout=PATIENCE) == "from the loop"


@pytest.mark.parametrize("seed", range(5))
def test_a_handler_that_waits_for_work_which_asks_the_actor_gets_a_cycle_instead_of_hanging(seed: int) -> None:
    """Simulated, so that the handler waits for certain before the work asks."""
    with ActorSystem("cycle", dispatcher=SimulatedDispatcher(seed)) as system:
        host = system.spawn(Host)

        def wait_for_it(actor: Host) -> None:
            with pytest.raises(AskCycle, match=r"~ActorRef\.ask → Host"):
                actor.spawn(host.ask, Echo(1)).result.get()

        do(host, wait_for_it)


def test_what_work_waits_for_is_not_what_its_actor_waits_for(system: ActorSystem) -> None:
    """The work asks ``other``, which asks the actor back: no cycle, the actor is free."""
    host, other = system.spawn(Host), system.spawn(Host)
    task = do(host, lambda actor: actor.spawn(do, other, lambda _: host.ask(Echo(7), timeout=PATIENCE)))
    assert task.result.get(timeout=PATIENCE) == 7


def test_work_inherits_no_deadline_since_it_may_outlive_the_request(system: ActorSystem) -> None:
    host = system.spawn(Host)

    def deadline() -> float | None:
        return execution.inherited_deadline(execution.current.get())

    async def later() -> float | None:
        return deadline()

    assert do(host, lambda actor: deadline()) is not None
    assert do(host, lambda actor: actor.spawn(deadline)).result.get(timeout=PATIENCE) is None
    assert do(host, lambda actor: actor.spawn(later)).result.get(timeout=PATIENCE) is None


def test_waiting_for_a_result_has_a_time_limit(system: ActorSystem) -> None:
    host = system.spawn(Host)
    proceed = threading.Event()
    task = do(host, lambda actor: actor.spawn(proceed.wait, PATIENCE))
    with pytest.raises(AskTimeout):
        task.result.get(timeout=0)
    proceed.set()
    until_ended(task)


# --- when it fails ---------------------------------------------------------------------------------------------


def boom() -> None:
    raise ValueError("boom")


async def async_boom() -> None:
    raise ValueError("boom")


@pytest.mark.parametrize("work", [boom, async_boom])
def test_an_exception_is_delivered_published_and_told_to_the_actor_that_handles_it(
    system: ActorSystem, work: Any
) -> None:
    heard: list[TaskFailed] = []
    events: list[BackgroundFailed] = []
    system.events.subscribe(BackgroundFailed, events.append)
    host = system.spawn(Fragile, heard, name="host")
    task = do(host, lambda actor: actor.spawn(work))
    with pytest.raises(ValueError, match="boom") as raised:
        task.result.get(timeout=PATIENCE)
    until_ended(task)
    host.ask(Echo(1), timeout=PATIENCE)  # what was told before was handled before
    assert [(event.path, event.work, event.error) for event in events] == [("host", work.__name__, raised.value)]
    assert "boom" in events[0].traceback
    assert [(message.work, message.error) for message in heard] == [(work.__name__, raised.value)]
    assert host.incarnation == 1


def test_a_failure_that_nobody_waits_for_is_logged(system: ActorSystem, caplog: pytest.LogCaptureFixture) -> None:
    """By the system, and where there is no system by the runtime itself."""
    supervised, alone = system.spawn(Host, name="supervised"), Host.start()
    for host in (supervised, alone):
        until_ended(do(host, lambda actor: actor.spawn(boom)))
    alone.stop()
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    responses = [json.loads(line) for line in logged]
    assert [response["source"] for response in responses] == ["ValueError: boom"] * 2
    assert responses[0]["actor"] == "supervised"
    assert responses[1]["actor"].startswith("Host-")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_not_even_an_exit_ends_the_threads_that_work_runs_on(system: ActorSystem, error: type[BaseException]) -> None:
    host = system.spawn(Host)

    def leave() -> None:
        raise error

    async def leave_the_loop() -> None:
        raise error

    for work in (leave, leave_the_loop):
        with pytest.raises(error):
            do(host, partial(lambda actor, work: actor.spawn(work), work=work)).result.get(timeout=PATIENCE)

    async def fine() -> str:
        return "fine"

    assert do(host, lambda actor: actor.spawn(fine)).result.get(timeout=PATIENCE) == "fine"


# --- when the incarnation ends ---------------------------------------------------------------------------------


def test_work_ends_with_the_incarnation_that_spawned_it(system: ActorSystem) -> None:
    """A function and a coroutine, and the next incarnation is not troubled by either."""
    heard: list[TaskFailed] = []
    host = system.spawn(Fragile, heard)
    started, ended, proceed = threading.Event(), threading.Event(), threading.Event()

    async def forever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    coroutine = do(host, lambda actor: actor.spawn(forever))
    function = do(host, lambda actor: actor.spawn(proceed.wait, PATIENCE))
    wait(started)
    host.tell(Crash())
    assert host.ask(Echo("next"), timeout=PATIENCE) == "next"
    assert host.incarnation == 2
    wait(ended)
    for task in (coroutine, function):
        with pytest.raises(BackgroundCancelled, match="has ended") as cancelled:
            task.result.get(timeout=PATIENCE)
        assert (cancelled.value.code.hex, cancelled.value.incarnation) == ("0xFFF6", 1)
    proceed.set()
    until_ended(function)
    assert host.ask(Echo("still"), timeout=PATIENCE) == "still"
    assert heard == []


def test_what_an_ended_incarnation_spawns_is_refused(system: ActorSystem) -> None:
    host = system.spawn(Fragile)
    old: list[Fragile] = []
    do(host, old.append)
    host.tell(Crash())
    host.ask(Echo(1), timeout=PATIENCE)
    ran = threading.Event()
    with pytest.raises(IncarnationFenced):
        old[0].spawn(ran.set)
    assert not ran.is_set()


def test_work_is_forgotten_when_it_is_over(system: ActorSystem) -> None:
    host = system.spawn(Host)
    tasks = do(host, lambda actor: [actor.spawn(int) for _ in range(10)])
    for task in tasks:
        until_ended(task)
    assert do(host, lambda actor: len(actor._cell.extras.background)) == 0


def test_after_the_system_has_stopped_no_work_runs_and_none_is_taken() -> None:
    with ActorSystem("ends") as system:
        host = system.spawn(Host)
        gate = threading.Event()
        task = do(host, lambda actor: actor.spawn(gate.wait, PATIENCE))
        late: list[Host] = []
        do(host, late.append)
        gate.set()
    until_ended(task)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ends-background")]
    with pytest.raises((SystemStopped, IncarnationFenced)):
        late[0].spawn(int)
    with pytest.raises(SystemStopped):
        system.runtime.background.submit(list[int]().clear)


def test_a_reply_can_be_left_to_the_background(system: ActorSystem) -> None:
    """The actor keeps the request, and the work answers it."""
    host = system.spawn(Host)

    def answer_later(actor: Host) -> None:
        request = actor.defer_reply()
        actor.spawn(request.reply, "from the background")

    assert host.ask(Do(answer_later), timeout=PATIENCE) == "from the background"

"""Task supervisors: starting work, getting what came of it, ending it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any

import pykka
import pytest

from understudy import (
    Actor,
    ActorSystem,
    Child,
    ErrorCode,
    Failed,
    Message,
    Ok,
    PartitionSupervisor,
    TaskSupervisor,
    TaskSupervisorRef,
    handles,
)
from understudy.actors.events import BackgroundFailed, ShutdownError
from understudy.actors.reasons import WorkCancelled
from understudy.messages.errors import (
    AskCycle,
    ChildNotFound,
    LoopBlocked,
    MailboxClosed,
    MaxChildren,
    SpecInvalid,
    TaskCrashed,
    TaskTimeout,
)

from .task_stage import Do, Office, fail, fail_async, new_office, pause, spin, supervise, tasks_of

__all__ = ["new_office"]


def add(first: int, second: int = 0) -> int:
    return first + second


async def add_async(first: int, second: int = 0) -> int:
    await asyncio.sleep(1.0)
    return first + second


# --- results ---------------------------------------------------------------------------------------------


def test_a_function_and_a_coroutine_function_return_their_value(office: Office) -> None:
    assert office.tasks.submit(add, 3, second=4).result() == 7
    assert office.tasks.submit(add_async, 3, second=5).result() == 8
    assert office.tasks.submit(functools.partial(add_async, 1), 1).result() == 2


@pytest.mark.parametrize("work", [fail, fail_async])
def test_a_crash_is_raised_with_its_cause_and_code(office: Office, work: Any) -> None:
    task = office.tasks.submit(work)
    with pytest.raises(TaskCrashed, match=rf"^the task {work.__name__} raised ValueError: no ink$") as caught:
        task.result()
    assert isinstance(caught.value.__cause__, ValueError)
    response = caught.value.response
    assert (response.kind, response.code) == ("supervisor.task.crashed", ErrorCode.SUPERVISION)
    assert response.cause is not None
    assert response.cause.source == "ValueError: no ink"


def test_a_result_can_be_read_again_and_by_others(office: Office) -> None:
    task = office.tasks.submit_nolink(fail)
    first = task.outcome()
    assert task.outcome() is first
    for _ in range(2):
        with pytest.raises(TaskCrashed):
            task.result()
    assert office.clerk().ask(Do(lambda clerk: task.outcome())) is first


def test_an_outcome_is_a_value_to_be_matched(office: Office) -> None:
    seen = []
    for work in (add, fail):
        match office.tasks.submit_nolink(work, 1).outcome():
            case Ok(value):
                seen.append(value)
            case Failed(error):
                seen.append(type(error.__cause__))
    assert seen == [1, ValueError]


def test_a_crash_is_reported_even_if_nobody_reads_it(office: Office) -> None:
    office.tasks.submit_nolink(fail)
    office.settle()
    (event,) = office.of(BackgroundFailed)
    assert (event.work, str(event.error)) == ("fail", "no ink")
    assert event.path.startswith("tasks/")


def test_whoever_waits_too_long_is_told_and_the_task_goes_on(office: Office) -> None:
    task = office.tasks.submit(office.hold("letter", 3.0))
    with pytest.raises(TaskTimeout, match="no result after 2 seconds") as caught:
        task.result(timeout=2.0)
    assert isinstance(caught.value, pykka.Timeout)
    assert caught.value.response.kind == "supervisor.task.timeout"
    assert task.result(timeout=1.5) == "letter"


def test_five_seconds_are_waited_unless_told_otherwise(office: Office) -> None:
    task = office.tasks.submit(office.hold("letter", 6.0))
    with pytest.raises(TaskTimeout):
        task.result()
    assert office.now == 5.0
    assert office.tasks.submit(office.hold("book", 3_600.0)).result(timeout=None) == "book"
    assert task.result() == "letter"


def test_the_deadline_of_what_is_being_handled_holds_for_the_wait(office: Office) -> None:
    caught: list[BaseException] = []

    def act(clerk: Actor) -> None:
        try:
            tasks_of(clerk).submit(office.hold("letter")).result(timeout=60.0)
        except TaskTimeout as error:
            caught.append(error)

    future = office.clerk().ask(Do(act), timeout=2.0, block=False)
    office.simulation.advance(3.0)
    assert isinstance(future.error, pykka.Timeout)
    assert [type(error) for error in caught] == [TaskTimeout]
    office.system.lookup("clerk").stop()


def test_a_coroutine_awaits_a_task_and_its_crash(office: Office) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = [await office.tasks.submit(add, 1, 2), await office.tasks.submit(add_async, 3, 4)]
        try:
            await office.tasks.submit(fail_async)
        except TaskCrashed as error:
            seen.append(type(error.__cause__))
        return seen

    assert office.simulation.run(main()) == [3, 7, ValueError]


def test_a_coroutine_may_not_block_its_loop_with_a_task(office: Office) -> None:
    async def main() -> str:
        task = office.tasks.submit(office.hold_async("letter", 1.0))
        with pytest.raises(LoopBlocked, match="await task"):
            task.result()
        return await task

    assert office.simulation.run(main()) == "letter"


def test_submitting_in_a_coroutine_does_not_wait_so_the_await_tells_of_a_refusal() -> None:
    office = Office(max_children=1)

    async def main() -> None:
        first = office.tasks.submit(office.hold_async("first", 1.0))
        second = office.tasks.submit(add, 1)
        with pytest.raises(MaxChildren):
            await second
        assert second.ref is None
        assert await first == "first"

    office.simulation.run(main())
    office.close()


def test_work_that_asks_who_waits_for_it_is_told_of_the_cycle(office: Office) -> None:
    clerk = office.clerk()

    def act(actor: Actor) -> Any:
        return tasks_of(actor).submit_nolink(lambda: clerk.ask(Do(id))).outcome()

    outcome = clerk.ask(Do(act))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error.__cause__, AskCycle)


def test_the_work_sees_the_context_variables_of_its_caller(office: Office) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    variable.set("ada")

    async def read() -> str:
        return variable.get()

    assert office.tasks.submit(variable.get).result() == "ada"
    assert office.tasks.submit(read).result() == "ada"


def test_what_is_no_function_is_refused(office: Office) -> None:
    with pytest.raises(TypeError, match="is no task: give a function"):
        office.tasks.submit(3)  # type: ignore[call-overload]  # what is tested
    coroutine = add_async(1)
    with pytest.raises(TypeError, match="is no task"):
        office.tasks.submit(coroutine)  # type: ignore[call-overload]  # likewise
    coroutine.close()


# --- as children -----------------------------------------------------------------------------------------


def test_a_task_is_a_child_as_long_as_its_code_runs(office: Office) -> None:
    task = office.tasks.submit(office.hold("letter", 1.0))
    assert task.ref is not None
    assert office.tasks.count_children() == (1, 1, 0, 1)
    assert [info.ref for info in office.tasks.which_children()] == [task.ref]
    task.result()
    office.settle()
    assert office.tasks.count_children() == (0, 0, 0, 0)
    assert not task.ref.is_alive()


def test_what_a_task_was_given_is_not_kept_by_its_supervisor(office: Office) -> None:
    task = office.tasks.submit(office.hold("letter", 1.0), "a secret")
    assert task.ref is not None
    assert "secret" not in repr(office.tasks.get_childspec(task.ref))
    task.result()


def test_there_are_no_more_tasks_than_may_be() -> None:
    office = Office(max_children=2)
    tasks = [office.tasks.submit(office.hold(name)) for name in ("one", "two")]
    for start in (office.tasks.submit, office.tasks.submit_nolink, office.tasks.start_child):
        with pytest.raises(MaxChildren):
            start(add, 1)
    for task in tasks:
        task.cancel()
    office.close()


def test_a_cancelled_task_ends_and_whoever_reads_it_is_told(office: Office) -> None:
    held = [office.hold("function"), office.hold_async("coroutine")]
    tasks = [office.tasks.submit(work) for work in held]
    office.settle()
    for task in tasks:
        assert task.cancel()
        assert not task.cancel()
        assert (task.cancelled, task.done) == (True, True)
        with pytest.raises(TaskCrashed, match="was stopped"):
            task.result()
    office.settle()
    assert office.log[2:] == ["function gets WorkCancelled", "coroutine gets CancelledError"]
    assert office.running == 0


def test_a_task_that_is_over_cannot_be_cancelled(office: Office) -> None:
    task = office.tasks.submit(add, 1)
    assert task.result() == 1
    assert not task.cancel()
    assert not task.cancelled


def test_a_task_is_terminated_by_its_reference_and_the_order_waits_for_its_code(office: Office) -> None:
    def slow_to_end() -> None:
        try:
            pause(None)
        finally:
            pause(2.0)
            office.log.append("cleaned up")

    task = office.tasks.submit(slow_to_end)
    office.settle()
    assert task.ref is not None
    office.tasks.terminate_child(task.ref)
    assert office.log == ["cleaned up"]
    assert office.now == 2.0
    with pytest.raises(TaskCrashed, match="was stopped"):
        task.result()
    with pytest.raises(ChildNotFound):
        office.tasks.terminate_child(task.ref)


def test_a_task_may_have_itself_terminated(office: Office) -> None:
    def suicide() -> None:
        (info,) = office.tasks.which_children()
        office.tasks.terminate_child(info.ref)  # type: ignore[arg-type]  # it runs, so it is a reference

    task = office.tasks.submit_nolink(suicide)
    assert isinstance(task.outcome(), Failed)
    assert office.tasks.incarnation == 1


# --- start_child -----------------------------------------------------------------------------------------


def test_nobody_waits_for_a_started_child(office: Office) -> None:
    assert office.tasks.start_child(office.hold("letter", 1.0)) is not None
    office.tasks.start_child(fail)
    office.tasks.start_child(office.hold_async("note", 1.0))
    office.simulation.advance(1.0)
    assert sorted(office.log) == ["letter begins", "letter is done", "note begins", "note is done"]
    assert office.tasks.incarnation == 1


def test_a_transient_child_is_called_anew_until_it_does_not_raise(office: Office) -> None:
    tries: list[int] = []

    def work(limit: int) -> None:
        tries.append(len(tries))
        if len(tries) < limit:
            raise OSError("again")

    office.tasks.start_child(work, 3, restart="transient")
    office.settle()
    assert tries == [0, 1, 2]


def test_a_permanent_child_is_called_anew_whenever_it_ended(office: Office) -> None:
    ref = office.tasks.start_child(office.hold("round", 1.0), restart="permanent")
    assert ref is not None
    office.simulation.advance(2.5)
    assert office.log.count("round begins") == 3
    office.tasks.terminate_child(ref)


def test_a_child_that_crashes_too_often_ends_its_supervisor() -> None:
    office = Office(intensity=2, restart="temporary")
    office.tasks.start_child(fail, restart="permanent")
    office.settle()
    assert not office.tasks.is_alive()
    office.close()


def test_an_actor_can_be_a_child_beside_tasks(office: Office) -> None:
    class Echo(Actor):
        @handles
        def do(self, message: Do) -> Any:
            return message.act

    ref = office.tasks.start_child(Child(Echo))
    assert ref is not None
    assert ref.ask(Do(3)) == 3
    office.tasks.terminate_child(ref)


# --- the end of the supervisor ---------------------------------------------------------------------------


def test_a_stop_waits_for_the_code_of_all_tasks(office: Office) -> None:
    def slow_to_end(name: str) -> None:
        try:
            pause(None)
        finally:
            pause(3.0)
            office.log.append(name)

    for name in ("one", "two", "three"):
        office.tasks.submit(slow_to_end, name)
    office.settle()
    office.tasks.stop()
    assert sorted(office.log) == ["one", "three", "two"]
    assert office.now == 3.0  # they were stopped at the same time
    assert office.of(ShutdownError) == []


def test_a_stop_waits_no_longer_than_the_specs_allow(office: Office) -> None:
    def stubborn() -> None:
        try:
            pause(None)
        finally:
            pause(60.0)

    first = office.tasks.submit(stubborn)
    office.tasks.submit(stubborn)
    office.tasks.start_child(stubborn, shutdown="brutal_kill")
    office.settle()
    assert first.ref is not None
    path = first.ref.path
    office.tasks.stop()
    assert office.now == 5.0
    errors = office.of(ShutdownError)
    assert len(errors) == 2
    assert path in {event.child for event in errors}
    office.simulation.advance(60.0)


def test_a_brutal_kill_waits_for_nothing(office: Office) -> None:
    ref = office.tasks.start_child(office.hold("letter"), shutdown="brutal_kill")
    office.settle()
    assert ref is not None
    office.tasks.terminate_child(ref)
    assert office.now == 0.0
    office.settle()
    assert office.log == ["letter begins", "letter gets WorkCancelled"]


def test_after_the_stop_nothing_is_started(office: Office) -> None:
    office.tasks.stop()
    for start in (office.tasks.submit, office.tasks.submit_nolink, office.tasks.start_child):
        with pytest.raises(MailboxClosed):
            start(add, 1)


def test_arguments_belong_to_tasks_not_to_their_supervisor() -> None:
    with pytest.raises(SpecInvalid, match="extra_arguments"):
        TaskSupervisor(extra_arguments=(1,))


def test_a_task_supervisor_can_be_partitioned(office: Office) -> None:
    pools = office.system.spawn(PartitionSupervisor("pools", TaskSupervisor(), partitions=2))
    pool = pools.route("ada")
    assert isinstance(pool, TaskSupervisorRef)
    assert pool.submit(add, 1, 2).result() == 3


# --- on threads ------------------------------------------------------------------------------------------


class Ping(Message[str]):
    """Answer."""


class Echo(Actor):
    @handles
    def ping(self, message: Ping) -> str:
        return "pong"


def threads_of(system: ActorSystem) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(system.name)]


def test_functions_that_block_keep_no_actor_waiting_and_leave_no_thread() -> None:
    with ActorSystem("blocked-office", pool_size=2) as system:
        tasks = supervise(system)
        go = threading.Event()
        blocked = [tasks.submit(go.wait) for _ in range(20)]
        echo = system.spawn(Echo)
        assert [echo.ask(Ping(), timeout=30.0) for _ in range(10)] == ["pong"] * 10
        go.set()
        assert all(task.result(timeout=30.0) for task in blocked)
    assert threads_of(system) == []


def test_a_function_in_a_loop_is_interrupted_when_it_is_cancelled() -> None:
    with ActorSystem("looping-office") as system:
        tasks = supervise(system)
        begun, ended = threading.Event(), threading.Event()

        def loop() -> None:
            try:
                begun.set()
                spin()
            except WorkCancelled:
                ended.set()
                raise

        task = tasks.submit(loop)
        assert begun.wait(30.0)
        assert task.ref is not None
        tasks.terminate_child(task.ref)
        assert ended.is_set()
    assert threads_of(system) == []


def test_a_nest_of_tasks_that_wait_for_each_other_needs_no_thread_limit() -> None:
    """Each waits for the next, 100 deep, where 64 functions run at once: one that waits is not counted."""
    with ActorSystem("deep-office") as system:
        tasks = supervise(system)

        def descend(depth: int) -> int:
            return depth if depth == 100 else tasks.submit(descend, depth + 1).result(timeout=60.0)

        assert tasks.submit(descend, 1).result(timeout=60.0) == 100
    assert threads_of(system) == []


def test_on_threads_and_the_real_loop_results_come_in_time() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number

    with ActorSystem("busy-office") as system:
        tasks = supervise(system)
        submitted = [tasks.submit(work if number % 2 else add, number) for number in range(100)]
        assert [task.result(timeout=60.0) for task in submitted] == list(range(100))
    assert threads_of(system) == []

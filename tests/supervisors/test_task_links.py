"""Links between a task and whoever submitted it: an actor, or another task."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy import (
    Actor,
    ActorRef,
    ActorSystem,
    Child,
    Failed,
    Ok,
    Supervisor,
    Task,
    TaskSupervisor,
    TaskSupervisorRef,
    handles,
)
from understudy.actors import lifecycle
from understudy.actors.events import ActorCrashed
from understudy.messages.errors import HandlerFailed, TaskCrashed, TaskTimeout

from .task_stage import AsyncClerk, Clerk, Do, Office, fail, fail_async, new_office, pause, spin, supervise, tasks_of

__all__ = ["new_office"]


def crashes(office: Office) -> list[tuple[str, str]]:
    """Who crashed, with what."""
    return [(event.path, type(event.error).__name__) for event in office.of(ActorCrashed)]


# --- the crash of a task reaches the actor that submitted it ---------------------------------------------


@pytest.mark.parametrize("work", [fail, fail_async])
def test_a_handler_that_reads_the_result_gets_the_crash_and_its_asker_too(office: Office, work: Any) -> None:
    clerk = office.clerk()
    with pytest.raises(HandlerFailed) as caught:
        clerk.ask(Do(lambda actor: tasks_of(actor).submit(work).result()))
    crash = caught.value.__cause__
    assert isinstance(crash, TaskCrashed)
    assert isinstance(crash.__cause__, ValueError)
    office.settle()
    assert clerk.incarnation == 2
    assert crashes(office) == [("clerk", "TaskCrashed")]


def test_a_handler_that_catches_the_crash_lives_on(office: Office) -> None:
    def act(actor: Actor) -> str:
        try:
            tasks_of(actor).submit(fail).result()
        except TaskCrashed as error:
            return type(error.__cause__).__name__
        return "nothing"

    clerk = office.clerk()
    assert clerk.ask(Do(act)) == "ValueError"
    office.settle()
    assert clerk.incarnation == 1


def test_an_outcome_that_was_read_ends_nobody(office: Office) -> None:
    clerk = office.clerk()
    assert isinstance(clerk.ask(Do(lambda actor: tasks_of(actor).submit(fail).outcome())), Failed)
    office.settle()
    assert clerk.incarnation == 1


@pytest.mark.parametrize("work", [fail, fail_async])
def test_a_handler_that_does_not_read_the_result_ends_its_incarnation_by_the_crash(office: Office, work: Any) -> None:
    """What it replied stands; what comes next is the next incarnation's."""
    clerk = office.clerk()
    task = clerk.ask(Do(lambda actor: tasks_of(actor).submit(work)))
    assert isinstance(task, Task)
    office.settle()
    assert clerk.incarnation == 2
    assert crashes(office) == [("clerk", "TaskCrashed")]
    assert clerk.ask(Do(lambda actor: "at work")) == "at work"


def test_a_handler_that_is_not_done_yet_may_still_read_the_crash(office: Office) -> None:
    """The task has crashed long since, but the actor comes to its links after the handler."""

    def act(actor: Actor) -> bool:
        task = tasks_of(actor).submit(fail)
        pause(1.0)
        return task.done and isinstance(task.outcome(), Failed)

    clerk = office.clerk()
    assert clerk.ask(Do(act)) is True
    office.settle()
    assert clerk.incarnation == 1


def test_who_gave_up_waiting_is_ended_by_a_later_crash(office: Office) -> None:
    def late() -> None:
        pause(2.0)
        fail()

    def act(actor: Actor) -> str:
        try:
            tasks_of(actor).submit(late).result(timeout=1.0)
        except TaskTimeout:
            return "gave up"
        return "got it"

    clerk = office.clerk()
    assert clerk.ask(Do(act)) == "gave up"
    assert clerk.incarnation == 1
    office.simulation.advance(2.0)
    assert clerk.incarnation == 2


def test_that_somebody_else_reads_the_crash_does_not_save_the_one_it_is_linked_to(office: Office) -> None:
    clerk = office.clerk()

    def late() -> None:
        pause(1.0)
        fail()

    task = clerk.ask(Do(lambda actor: tasks_of(actor).submit(late)))
    with pytest.raises(TaskCrashed):
        task.result()
    office.settle()
    assert clerk.incarnation == 2


def test_a_coroutine_handler_is_linked_too(office: Office) -> None:
    async def uncaught(actor: Actor) -> Any:
        return await tasks_of(actor).submit(fail_async)

    async def caught(actor: Actor) -> str:
        try:
            await tasks_of(actor).submit(fail_async)
        except TaskCrashed:
            return "caught"
        return "nothing"

    async def unread(actor: Actor) -> None:
        tasks_of(actor).submit(fail_async)

    clerk = office.system.spawn(AsyncClerk, name="clerk")
    assert clerk.ask(Do(caught)) == "caught"
    office.settle()
    assert clerk.incarnation == 1
    with pytest.raises(HandlerFailed):
        clerk.ask(Do(uncaught))
    office.settle()
    assert clerk.incarnation == 2
    clerk.ask(Do(unread))
    office.settle()
    assert clerk.incarnation == 3


def test_a_task_without_a_link_ends_nobody(office: Office) -> None:
    clerk = office.clerk()
    clerk.ask(Do(lambda actor: tasks_of(actor).submit_nolink(fail)))
    clerk.ask(Do(lambda actor: tasks_of(actor).start_child(fail)))
    office.settle()
    assert clerk.incarnation == 1


def test_a_linked_task_that_somebody_stops_ends_its_owner_in_good_order(office: Office) -> None:
    """As in OTP the exit reason is the task's: a transient actor is not restarted after it."""
    clerk = office.clerk(restart="transient")
    task = clerk.ask(Do(lambda actor: tasks_of(actor).submit(office.hold("letter"))))
    office.tasks.terminate_child(task.ref)
    office.settle()
    assert not clerk.is_alive()
    assert crashes(office) == []


def test_an_actor_may_cancel_its_own_task_and_lives_on(office: Office) -> None:
    def act(actor: Actor) -> bool:
        return tasks_of(actor).submit(office.hold("letter")).cancel()

    clerk = office.clerk()
    assert clerk.ask(Do(act)) is True
    office.settle()
    assert clerk.incarnation == 1


def test_a_broken_link_of_an_earlier_incarnation_does_not_end_the_next(office: Office) -> None:
    """Two linked tasks crash at the same moment; only one incarnation ends by them."""

    def act(actor: Actor) -> None:
        for _ in range(2):
            tasks_of(actor).submit(fail)
        pause(1.0)

    clerk = office.clerk()
    clerk.ask(Do(act))
    office.settle()
    assert clerk.incarnation == 2


# --- the end of an actor reaches its tasks ---------------------------------------------------------------

Ending = Callable[[Office, ActorRef[Any]], object]

ENDINGS: dict[str, Ending] = {
    "crashed": lambda office, clerk: clerk.tell(Do(fail)),
    "stopped itself": lambda office, clerk: clerk.tell(Do(lambda actor: actor.stop())),
    "stopped": lambda office, clerk: clerk.stop(),
    "killed": lambda office, clerk: lifecycle.kill(clerk._cell),
}


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
@pytest.mark.parametrize("how", ENDINGS)
def test_linked_tasks_are_cancelled_when_their_owner_ends_and_others_are_not(
    office: Office, how: str, restart: str
) -> None:
    clerk = office.clerk(restart=restart)

    def act(actor: Actor) -> None:
        tasks_of(actor).submit(office.hold("function"))
        tasks_of(actor).submit(office.hold_async("coroutine"))
        tasks_of(actor).submit_nolink(office.hold("unlinked", 1.0))

    clerk.ask(Do(act))
    office.settle()
    ENDINGS[how](office, clerk)
    office.settle()
    assert set(office.log[3:]) == {"function gets WorkCancelled", "coroutine gets CancelledError"}
    assert office.running == 1
    office.simulation.advance(1.0)
    assert office.log[-1] == "unlinked is done"


def test_a_handler_that_is_killed_while_it_waits_for_its_task_takes_it_along(office: Office) -> None:
    clerk = office.clerk(restart="temporary", shutdown="brutal_kill")
    asked = clerk.ask(Do(lambda actor: tasks_of(actor).submit(office.hold("letter")).result(None)), block=False)
    office.settle()
    clerk.stop()
    office.settle()
    assert office.log == ["letter begins", "letter gets WorkCancelled"]
    assert isinstance(asked.error, HandlerFailed)


@pytest.mark.parametrize("seed", range(60))
def test_whenever_an_owner_is_killed_no_linked_task_is_left(seed: int) -> None:
    """Other seeds let the kill come before, between and after the task's start."""
    office = Office(seed)
    clerk = office.clerk(restart="temporary", shutdown="brutal_kill")
    clerk.tell(Do(lambda actor: [tasks_of(actor).submit(office.hold(str(n))) for n in range(3)]))
    stopped = clerk.stop(block=False)
    stopped.get()
    office.settle()
    begun = [line for line in office.log if line.endswith("begins")]
    ended = [line for line in office.log if line.endswith("gets WorkCancelled")]
    assert len(begun) == len(ended)
    office.close()


def test_what_is_over_is_not_kept_by_its_owner(office: Office) -> None:
    clerk = office.clerk()
    clerk.ask(Do(lambda actor: [tasks_of(actor).submit(int).result() for _ in range(10)]))
    office.settle()
    assert clerk._cell.needs.background == {}


def test_a_rest_for_one_tree_of_tasks_and_their_owners_comes_back(office: Office) -> None:
    """The usual tree: when the task supervisor ends, the actors that use it start anew."""
    tree = Supervisor(
        "tree",
        strategy="rest_for_one",
        children=[TaskSupervisor("pool", intensity=0), Child(Clerk, name="user")],
    )
    office.system.spawn(tree)
    pool: object = office.system.lookup("tree/pool")
    assert isinstance(pool, TaskSupervisorRef)
    user = office.system.lookup("tree/user")
    user.ask(Do(lambda actor: pool.submit(office.hold("letter"))))
    pool.start_child(fail, restart="permanent")
    office.settle()
    assert pool.incarnation == 2
    assert user.ask(Do(lambda actor: pool.submit(int).result())) == 0
    office.settle()
    assert office.log == ["letter begins", "letter gets WorkCancelled"]
    assert pool.count_children() == (0, 0, 0, 0)


# --- tasks that submit tasks -----------------------------------------------------------------------------


def test_a_crash_goes_up_a_nest_of_tasks_with_all_its_causes(office: Office) -> None:
    def outer() -> Any:
        return office.tasks.submit(middle).result()

    def middle() -> Any:
        return office.tasks.submit(fail_async).result()

    outcome = office.tasks.submit_nolink(outer).outcome()
    assert isinstance(outcome, Failed)
    causes: list[str] = []
    error: BaseException | None = outcome.error
    while error is not None:
        causes.append(f"{type(error).__name__}: {error}".split(" raised ")[0])
        error = error.__cause__
    assert causes == [
        "TaskCrashed: the task outer",
        "TaskCrashed: the task middle",
        "TaskCrashed: the task fail_async",
        "ValueError: no ink",
    ]


def test_a_task_may_catch_the_crash_of_a_task_that_it_waits_for(office: Office) -> None:
    def outer() -> str:
        try:
            office.tasks.submit(fail).result()
        except TaskCrashed:
            return "caught"
        return "nothing"

    assert office.tasks.submit(outer).outcome() == Ok("caught")


@pytest.mark.parametrize("seed", range(10))
def test_a_task_ends_by_the_crash_of_one_that_it_does_not_wait_for(seed: int) -> None:
    office = Office(seed)

    def outer() -> None:
        office.tasks.submit(fail)
        office.hold("outer")()

    outcome = office.tasks.submit_nolink(outer).outcome()
    assert isinstance(outcome, Failed)
    assert "the task outer raised TaskCrashed: the task fail raised ValueError" in str(outcome.error)
    office.settle()
    assert office.log in (["outer begins", "outer gets WorkCancelled"], [])
    office.close()


@pytest.mark.parametrize("coroutines", [False, True])
def test_when_a_task_ends_those_that_it_submitted_are_cancelled_all_the_way_down(
    office: Office, coroutines: bool
) -> None:
    def outer() -> str:
        office.tasks.submit(inner)
        pause(1.0)
        return "done"

    def inner() -> None:
        hold = office.hold_async if coroutines else office.hold
        office.tasks.submit(hold("innermost"))
        office.hold("inner")()

    assert office.tasks.submit(outer).result() == "done"
    office.settle()
    name = "CancelledError" if coroutines else "WorkCancelled"
    assert set(office.log[2:]) == {"inner gets WorkCancelled", f"innermost gets {name}"}
    assert office.running == 0


def test_cancelling_a_task_cancels_what_hangs_from_it_and_ends_nobody_else(office: Office) -> None:
    def outer() -> None:
        office.tasks.submit(office.hold("inner")).result(timeout=None)

    clerk = office.clerk()
    task = clerk.ask(Do(lambda actor: tasks_of(actor).submit(outer)))
    bystander = office.tasks.submit(office.hold("bystander", 1.0))
    office.settle()
    task.cancel()
    office.settle()
    assert office.log[2:] == ["inner gets WorkCancelled"]
    assert clerk.incarnation == 1
    assert bystander.result() == "bystander"


def test_background_work_of_an_actor_can_submit_linked_tasks(office: Office) -> None:
    def work() -> Any:
        return office.tasks.submit(office.hold("letter", 2.0)).result()

    spawned = office.clerk().ask(Do(lambda actor: actor.spawn(work)))
    assert spawned.result.get() == "letter"
    again = office.system.lookup("clerk").ask(Do(lambda actor: actor.spawn(work)))
    office.settle()
    again.cancel()
    office.settle()
    assert office.log[2:] == ["letter begins", "letter gets WorkCancelled"]


# --- actors without a supervisor -------------------------------------------------------------------------


class Lone(Actor):
    @handles
    def do(self, message: Do) -> Any:
        return message.act(self)


def test_an_actor_started_pykkas_way_is_not_ended_by_a_task_but_ends_its_tasks() -> None:
    with ActorSystem("lone-office") as system:
        tasks = supervise(system)
        begun, ended = threading.Event(), threading.Event()

        def loop() -> None:
            try:
                begun.set()
                spin()
            finally:
                ended.set()

        lone = Lone.start()
        try:
            task = lone.ask(Do(lambda actor: tasks.submit(fail)))
            assert isinstance(task.outcome(timeout=30.0), Failed)
            assert lone.ask(Do(lambda actor: "alive")) == "alive"
            lone.ask(Do(lambda actor: tasks.submit(loop)))
            assert begun.wait(30.0)
        finally:
            lone.stop()
        assert ended.wait(30.0)

"""Streams of tasks: what they give, in which order, and that no task outlives the loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from understudy import Actor, ActorSystem, Failed, Ok
from understudy.messages.errors import (
    AskCycle,
    HandlerFailed,
    LoopBlocked,
    MaxChildren,
    SpecInvalid,
    TaskCrashed,
    TaskTimeout,
)

from .task_stage import AsyncClerk, Do, Office, fail, new_office, pause, spin, supervise, tasks_of

__all__ = ["new_office"]


def nap(seconds: float) -> float:
    pause(seconds)
    return seconds


async def nap_async(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def fail_on_odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


Collect = Callable[..., list[Any]]


def collect_in_for(office: Office, stream: Any) -> list[Any]:
    return list(stream)


def collect_in_async_for(office: Office, stream: Any) -> list[Any]:
    async def main() -> list[Any]:
        return [outcome async for outcome in stream]

    return office.simulation.run(main())


@pytest.fixture(params=[collect_in_for, collect_in_async_for], ids=["for", "async for"])
def collect(request: pytest.FixtureRequest) -> Collect:
    """Both ways to iterate."""
    chosen: Collect = request.param
    return chosen


@pytest.fixture(params=[nap, nap_async], ids=["function", "coroutine"])
def work(request: pytest.FixtureRequest) -> Callable[[float], Any]:
    """Both kinds of work."""
    chosen: Callable[[float], Any] = request.param
    return chosen


def values(outcomes: list[Any]) -> list[Any]:
    return [outcome.value if isinstance(outcome, Ok) else type(outcome.error) for outcome in outcomes]


# --- what it gives ---------------------------------------------------------------------------------------


def test_outcomes_come_in_the_order_of_the_items(office: Office, collect: Collect, work: Any) -> None:
    outcomes = collect(office, office.tasks.stream(work, [4.0, 1.0, 3.0, 2.0], max_concurrency=4))
    assert outcomes == [Ok(4.0), Ok(1.0), Ok(3.0), Ok(2.0)]
    assert office.now == 4.0


def test_unordered_they_come_as_soon_as_they_are_there(office: Office, collect: Collect, work: Any) -> None:
    stream = office.tasks.stream(work, [4.0, 1.0, 3.0, 2.0], max_concurrency=4, ordered=False)
    assert values(collect(office, stream)) == [1.0, 2.0, 3.0, 4.0]


def test_there_are_never_more_tasks_at_once_than_may_be(office: Office, collect: Collect) -> None:
    running, most = 0, 0

    def count(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        pause(1.0 + number % 3)
        running -= 1
        return number

    stream = office.tasks.stream(count, range(20), max_concurrency=3, ordered=False)
    assert sorted(values(collect(office, stream))) == list(range(20))
    assert most == 3


def test_one_at_a_time_is_a_plain_loop(office: Office, collect: Collect) -> None:
    assert values(collect(office, office.tasks.stream(nap, [1.0, 2.0], max_concurrency=1))) == [1.0, 2.0]
    assert office.now == 3.0


def test_there_is_one_task_per_core_unless_told_otherwise(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    taken = itertools.count()
    for _ in office.tasks.stream(nap, (1.0 for _ in taken)):
        break
    assert next(taken) == 3


def test_items_are_taken_as_they_are_needed(office: Office) -> None:
    """Endless items are no trouble, and nothing is begun before the loop begins."""
    taken = itertools.count()
    stream = office.tasks.stream(str, taken, max_concurrency=2)
    assert office.running == 0
    assert values(list(itertools.islice(stream, 5))) == ["0", "1", "2", "3", "4"]
    assert next(taken) <= 8


def test_without_items_there_is_nothing(office: Office, collect: Collect) -> None:
    assert collect(office, office.tasks.stream(nap, [])) == []


def test_each_loop_calls_the_work_anew(office: Office) -> None:
    stream = office.tasks.stream(str, [1, 2])
    assert list(stream) == list(stream) == [Ok("1"), Ok("2")]


def test_a_crash_ends_the_loop(office: Office, collect: Collect) -> None:
    with pytest.raises(TaskCrashed, match="1 is odd"):
        collect(office, office.tasks.stream(fail_on_odd, range(10), max_concurrency=4))


def test_without_links_a_crash_is_an_outcome_like_any_other(office: Office, collect: Collect) -> None:
    outcomes = collect(office, office.tasks.stream_nolink(fail_on_odd, range(4)))
    assert values(outcomes) == [0, TaskCrashed, 2, TaskCrashed]
    assert isinstance(outcomes[1], Failed)
    assert str(outcomes[1].error.__cause__) == "1 is odd"
    assert outcomes[1].input is None


def test_a_failure_carries_its_item_where_that_was_asked_for(office: Office, collect: Collect) -> None:
    stream = office.tasks.stream_nolink(fail_on_odd, range(4), zip_input_on_exit=True)
    assert [outcome.input for outcome in collect(office, stream) if isinstance(outcome, Failed)] == [1, 3]


# --- time-outs -------------------------------------------------------------------------------------------


def test_a_task_that_takes_too_long_ends_the_loop(office: Office, collect: Collect, work: Any) -> None:
    with pytest.raises(TaskTimeout, match="no result after 5 seconds"):
        collect(office, office.tasks.stream(work, [1.0, 60.0, 2.0], max_concurrency=3))
    assert office.now == 5.0


def test_or_it_is_killed_and_the_loop_goes_on(office: Office, collect: Collect, work: Any) -> None:
    stream = office.tasks.stream(
        work, [1.0, 60.0, 2.0], timeout=3.0, on_timeout="kill_task", zip_input_on_exit=True, max_concurrency=3
    )
    outcomes = collect(office, stream)
    assert values(outcomes) == [1.0, TaskTimeout, 2.0]
    assert outcomes[1].input == 60.0
    assert office.now == 3.0


def test_each_task_has_its_own_time(office: Office, collect: Collect) -> None:
    """The last ones begin late, and still have all of it."""
    stream = office.tasks.stream(nap, [2.0] * 6, timeout=3.0, max_concurrency=2)
    assert values(collect(office, stream)) == [2.0] * 6
    assert office.now == 6.0


def test_every_task_that_is_late_is_killed_when_it_is_late(office: Office) -> None:
    """Not only when its turn comes: the second is, while the first is still waited for."""
    work = {0: office.hold("slow", 9.0), 1: office.hold("late")}
    stream = office.tasks.stream(lambda n: work[n](), [0, 1], timeout=10.0, max_concurrency=2, on_timeout="kill_task")
    first = next(iter(stream))
    assert first == Ok("slow")
    stream = office.tasks.stream(lambda n: work[n](), [0, 1], timeout=2.0, max_concurrency=2, on_timeout="kill_task")
    assert values(list(stream)) == [TaskTimeout, TaskTimeout]


def test_without_a_time_out_it_waits(office: Office, collect: Collect) -> None:
    assert values(collect(office, office.tasks.stream(nap, [3_600.0], timeout=None))) == [3_600.0]


def test_the_deadline_of_what_is_being_handled_ends_the_loop(office: Office) -> None:
    caught: list[BaseException] = []

    def act(actor: Actor) -> None:
        try:
            list(tasks_of(actor).stream(nap, [60.0, 60.0], timeout=None))
        except TaskTimeout as error:
            caught.append(error)

    clerk = office.clerk()
    asked = clerk.ask(Do(act), timeout=2.0, block=False)
    office.simulation.advance(2.0)
    assert asked.done
    assert [type(error) for error in caught] == [TaskTimeout]
    assert office.running == 0


# --- no task outlives the loop ---------------------------------------------------------------------------


class Stop(Exception):
    """Leaves a loop."""


def leave_by_break(stream: Any) -> None:
    for _ in stream:
        break


def leave_by_raising(stream: Any) -> None:
    try:
        for _ in stream:
            raise Stop
    except Stop:
        pass


def leave_by_closing(stream: Any) -> None:
    loop = iter(stream)
    next(loop)
    loop.close()


def leave_behind(stream: Any) -> None:
    loop = iter(stream)
    next(loop)
    del loop
    gc.collect()


def leave_before_the_first(stream: Any) -> None:
    loop = iter(stream)
    loop.close()


LEAVES = [leave_by_break, leave_by_raising, leave_by_closing, leave_behind, leave_before_the_first]


@pytest.mark.parametrize("leave", LEAVES, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("ordered", [True, False])
def test_however_the_loop_is_left_no_task_is(office: Office, work: Any, ordered: bool, leave: Any) -> None:
    """Their code has ended when the loop has, not some time later."""
    begun: list[float] = []
    ended: list[float] = []

    def tracked(seconds: float) -> float:
        begun.append(seconds)
        try:
            pause(seconds)
        finally:
            ended.append(seconds)
        return seconds

    async def tracked_async(seconds: float) -> float:
        begun.append(seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(seconds)
        return seconds

    chosen: Any = tracked if work is nap else tracked_async
    leave(office.tasks.stream(chosen, [1.0, 60.0, 70.0, 80.0, 90.0], max_concurrency=4, ordered=ordered, timeout=None))
    assert sorted(begun) == sorted(ended) == ([] if leave is leave_before_the_first else [1.0, 60.0, 70.0, 80.0])
    office.settle()
    assert office.running == 0
    assert office.now <= 1.0


def test_the_loop_waits_for_the_clean_up_of_its_tasks(office: Office) -> None:
    def slow_to_end(number: int) -> int:
        if number:
            try:
                pause(None)
            finally:
                pause(2.0)
                office.log.append("cleaned up")
        return number

    leave_by_break(office.tasks.stream(slow_to_end, [0, 1, 2], max_concurrency=3))
    assert office.log == ["cleaned up", "cleaned up"]
    assert office.now == 2.0


def test_the_loop_waits_no_longer_than_five_seconds_for_all_of_them(office: Office) -> None:
    def stubborn(number: int) -> int:
        if number:
            try:
                pause(None)
            finally:
                pause(60.0)
        return number

    leave_by_break(office.tasks.stream(stubborn, [0, 1, 2], max_concurrency=3))
    assert office.now == 5.0
    office.simulation.advance(60.0)


def test_an_async_loop_that_is_left_leaves_no_task_either(office: Office, work: Any) -> None:
    async def main() -> None:
        stream = office.tasks.stream(work, [1.0, 60.0, 70.0], max_concurrency=3, timeout=None)
        async with aclosing(aiter(stream)) as outcomes:
            async for _ in outcomes:
                break
        office.log.append("left")

    office.simulation.run(main())
    assert office.log == ["left"]
    assert office.now <= 1.0
    office.settle()
    assert office.running == 0


def test_an_async_loop_that_is_just_left_is_closed_by_the_event_loop(office: Office, work: Any) -> None:
    async def main() -> None:
        async for _ in office.tasks.stream(work, [1.0, 60.0, 70.0], max_concurrency=3, timeout=None):
            break

    office.simulation.run(main())
    office.settle()
    assert office.running == 0
    assert office.now <= 1.0


def test_on_the_real_loop_too_a_loop_that_is_just_left_leaves_no_task() -> None:
    begun, ended = set[int](), threading.Semaphore(0)

    async def wait(number: int) -> int:
        begun.add(number)
        try:
            while number or len(begun) < 3:
                await asyncio.sleep(0)
        finally:
            ended.release()
        return number

    async def main(_actor: Actor) -> None:
        async for _ in tasks.stream(wait, range(3), max_concurrency=3):
            break

    with ActorSystem("harbour-office") as system:
        tasks = supervise(system)
        system.spawn(AsyncClerk).ask(Do(main), timeout=30.0)
        for _ in range(3):
            assert ended.acquire(timeout=30.0)


def test_an_async_loop_in_a_task_that_is_cancelled_leaves_no_task(office: Office) -> None:
    async def main() -> None:
        async for _ in office.tasks.stream(office.hold("letter"), [1, 2], max_concurrency=2, timeout=None):
            pass

    task = office.tasks.submit(main)
    office.settle()
    task.cancel()
    office.settle()
    assert sorted(office.log[2:]) == ["letter gets WorkCancelled"] * 2
    assert office.running == 0


def test_items_that_raise_end_the_loop_and_its_tasks(office: Office, collect: Collect) -> None:
    def items() -> Iterator[float]:
        yield 60.0
        raise Stop

    with pytest.raises(Stop):
        collect(office, office.tasks.stream(nap, items(), max_concurrency=4))
    assert office.now == 0.0


def test_a_crash_ends_the_tasks_beside_it(office: Office, collect: Collect) -> None:
    def crash_first(number: int) -> None:
        if number == 0:
            fail()
        office.hold(f"task {number}")()

    with pytest.raises(TaskCrashed):
        collect(office, office.tasks.stream(crash_first, range(3), max_concurrency=3))
    office.settle()
    begun = [line for line in office.log if line.endswith("begins")]
    assert len([line for line in office.log if line.endswith("WorkCancelled")]) == len(begun)
    assert office.running == 0


def test_too_many_tasks_end_the_loop_and_its_tasks(collect: Collect) -> None:
    office = Office(max_children=2)
    with pytest.raises(MaxChildren):
        collect(office, office.tasks.stream(nap, [60.0] * 5, max_concurrency=4))
    office.settle()
    assert office.running == 0
    office.close()


@pytest.mark.parametrize("how", ["crash", "stop", "kill"])
def test_the_end_of_the_actor_that_runs_the_loop_ends_its_tasks(office: Office, how: str) -> None:
    def act(actor: Actor) -> None:
        for _ in tasks_of(actor).stream(lambda s: office.hold(str(s), s)(), [1.0, 60.0, 60.0], max_concurrency=3):
            if how == "crash":
                raise Stop

    clerk = office.clerk(restart="temporary", shutdown=0.5)
    clerk.tell(Do(act))
    office.settle()
    if how == "stop":
        clerk.stop()
    elif how == "kill":
        office.system.root.terminate_child(clerk)
    office.simulation.advance(1.0)
    assert office.running == 0
    begun = sum(line.endswith("begins") for line in office.log)
    ended = sum(line.endswith(("is done", "gets WorkCancelled")) for line in office.log)
    assert begun == ended == 3


ENDS = (Stop, TaskCrashed, TaskTimeout, MaxChildren)


class Lottery:
    """Random work and random options; ``running`` is what runs now."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.running: set[int] = set()
        self.patience = self.chance.randint(1, 12)
        self.office = Office(seed, max_children=self.chance.choice([None, None, 3]))

    def stream(self) -> Any:
        chance, tasks = self.chance, self.office.tasks
        options: dict[str, Any] = {
            "max_concurrency": chance.randint(1, 5),
            "ordered": chance.random() < 0.5,
            "timeout": chance.choice([None, 2.0, 5.0]),
            "on_timeout": chance.choice(["exit", "kill_task"]),
            "zip_input_on_exit": chance.random() < 0.5,
        }
        open_stream: Any = chance.choice([tasks.stream, tasks.stream_nolink])
        return open_stream(chance.choice([self.work, self.work_async]), range(chance.randint(0, 12)), **options)

    def work(self, number: int) -> int:
        self.running.add(number)
        try:
            pause(self.chance.choice([0.0, 1.0, 4.0, 20.0]))
            return self.end(number)
        finally:
            self.running.discard(number)

    async def work_async(self, number: int) -> int:
        self.running.add(number)
        try:
            await asyncio.sleep(self.chance.choice([0.0, 1.0, 4.0, 20.0]))
            return self.end(number)
        finally:
            self.running.discard(number)

    def end(self, number: int) -> int:
        if self.chance.random() < 0.2:
            fail()
        return number

    def consume(self, _: Any = None) -> None:
        try:
            for taken, _ in enumerate(self.stream()):
                if taken == self.patience:
                    raise Stop
        except ENDS:
            pass
        assert self.running == set()

    async def consume_async(self, _: Any = None) -> None:
        taken = 0
        try:
            async with aclosing(aiter(self.stream())) as outcomes:
                async for _ in outcomes:
                    taken += 1
                    if taken > self.patience:
                        raise Stop
        except ENDS:
            pass
        assert self.running == set()


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_no_task_is_left(seed: int) -> None:
    """A loop with random work, faults and ends, in the order that the seed chooses."""
    lottery = Lottery(seed)
    office = lottery.office
    match seed % 4:
        case 0:
            lottery.consume()
        case 1:
            office.simulation.run(lottery.consume_async())
        case 2:
            office.clerk().ask(Do(lottery.consume))
        case 3:
            office.system.spawn(AsyncClerk).ask(Do(lottery.consume_async))
    office.close()


# --- in company ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_tasks_that_ask_the_actor_in_the_loop_do_not_hang(seed: int) -> None:
    """Whoever closes the cycle is told of it: a task, or the loop."""
    office = Office(seed)
    clerk = office.clerk()

    def act(actor: Actor) -> list[Any]:
        stream = tasks_of(actor).stream_nolink(lambda n: clerk.ask(Do(id)) if n else n, range(3), max_concurrency=3)
        return list(stream)

    told: list[Any] = []
    try:
        outcomes = clerk.ask(Do(act))
        assert values(outcomes) == [0, TaskCrashed, TaskCrashed]
        told = [outcome.error.__cause__ for outcome in outcomes[1:]]
    except HandlerFailed as error:
        told.append(error.__cause__)
    assert {type(error) for error in told} == {AskCycle}
    office.close()


def test_streams_nest(office: Office, collect: Collect) -> None:
    def row(number: int) -> list[int]:
        return values(list(office.tasks.stream(lambda n: n * number, range(3), max_concurrency=2)))

    assert values(collect(office, office.tasks.stream(row, range(3)))) == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]


def test_a_nested_stream_ends_with_the_outer_one(office: Office) -> None:
    def row(number: int) -> int:
        if number:
            list(office.tasks.stream(office.hold("inner"), range(2), max_concurrency=2, timeout=None))
        else:
            pause(1.0)
        return number

    leave_by_break(office.tasks.stream(row, [0, 1], max_concurrency=2))
    assert office.log == ["inner begins"] * 2 + ["inner gets WorkCancelled"] * 2
    office.settle()
    assert office.running == 0


def test_a_stream_can_be_handed_to_another_actor(office: Office) -> None:
    stream = office.tasks.stream(str, range(3))
    assert office.clerk().ask(Do(lambda actor: list(stream))) == [Ok("0"), Ok("1"), Ok("2")]


def test_a_for_on_an_event_loop_is_refused(office: Office) -> None:
    async def main() -> None:
        with pytest.raises(LoopBlocked, match="async for"):
            list(office.tasks.stream(str, [1]))

    office.simulation.run(main())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_concurrency": 0}, "max_concurrency=0"),
        ({"max_concurrency": 1.5}, "max_concurrency=1.5"),
        ({"max_concurrency": True}, "max_concurrency=True"),
        ({"timeout": -1.0}, "timeout=-1.0"),
        ({"timeout": "5"}, "timeout='5'"),
        ({"ordered": None}, "ordered=None"),
        ({"on_timeout": "explode"}, "on_timeout='explode'.*'exit' or 'kill_task'"),
        ({"zip_input_on_exit": 1}, "zip_input_on_exit=1"),
    ],
)
def test_a_bad_option_is_refused_when_the_stream_is_made(office: Office, options: dict[str, Any], says: str) -> None:
    for open_stream in (office.tasks.stream, office.tasks.stream_nolink):
        with pytest.raises(SpecInvalid, match=says) as caught:
            open_stream(str, [1], **options)
        assert caught.value.field in options


# --- on threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coroutines", [False, True])
def test_on_threads_nothing_runs_on_when_the_loop_was_left(coroutines: bool) -> None:
    begun, ended = threading.Semaphore(0), list[int]()

    def busy(number: int) -> None:
        try:
            begun.release()
            if number:
                spin()
        finally:
            ended.append(number)

    async def busy_async(number: int) -> None:
        try:
            begun.release()
            if number:
                await asyncio.Event().wait()
        finally:
            ended.append(number)

    work: Any = busy_async if coroutines else busy
    with ActorSystem("street-office") as system:
        loop = iter(supervise(system).stream(work, range(4), max_concurrency=4, timeout=60.0))
        assert isinstance(next(loop), Ok)
        for _ in range(4):
            assert begun.acquire(timeout=30.0)
        assert ended == [0]
        del loop
        assert sorted(ended) == [0, 1, 2, 3]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("street-office")] == []

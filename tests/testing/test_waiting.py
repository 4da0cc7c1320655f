"""Handlers may wait for each other as in production, and time passes only when nothing else is left to do."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from understudy import Actor, ActorSystem, Child, Future, Message, Supervisor, handles
from understudy.actors.events import HandlerAbandoned
from understudy.messages.errors import AskCycle, AskTimeout, HandlerFailed, LoopBlocked, SpecInvalid
from understudy.testing import Deadlock, Endless, FaultPlan, SimulatedDispatcher

from .players import Count, Counter, Meet, Note, Notes, Sleep, Sleeper, Wait

SEEDS = range(25)


class Tick(Message[None]):
    """From its own timer."""


class Ticking(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.ticks = 0

    def on_start(self) -> None:
        self.every(60.0, Tick())

    @handles
    def tick(self, _message: Tick) -> None:
        self.ticks += 1

    @handles
    def count(self, _message: Count) -> int:
        return self.ticks


class Restless(Actor):
    """Always has something to do."""

    @handles
    def tick(self, message: Tick) -> None:
        self.actor_ref.tell(message)


class Late(Actor):
    """Is answered too late."""

    @handles
    def meet(self, _message: Meet) -> str:
        try:
            self.lookup("slow").ask(Count(), timeout=2.0)
        except AskTimeout:
            return f"gave up at {self._cell.runtime.clock()}"
        return "was answered"


# --- time ------------------------------------------------------------------------------------------------


def test_an_hour_passes_at_once_and_every_timer_fires_in_it(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Ticking, name="a")
        began = time.monotonic()
        simulation.advance(3600.0)
        assert time.monotonic() - began < 60
        assert simulation.clock() == 3600.0
        assert system.ask("a", Count()) == 60


def test_running_until_idle_lets_no_time_pass(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Ticking, name="a")
        system.tell("a", Tick())
        simulation.run_until_idle()
        assert simulation.clock() == 0.0
        assert system.ask("a", Count()) == 1


def test_a_wait_ends_as_soon_as_its_condition_is_true(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        cell = system.spawn(Ticking, name="a")._cell
        simulation.run_until(lambda: cell.actor.ticks == 3, timeout=600)
        assert simulation.clock() == 180.0
        with pytest.raises(AssertionError, match=r"not within 100 s of virtual time"):
            simulation.run_until(lambda: cell.actor.ticks == 99, timeout=100)
        assert simulation.clock() == 280.0
        with pytest.raises(ZeroDivisionError):
            simulation.run_until(lambda: 1 / 0 > 1)


def test_an_ask_fails_at_its_virtual_deadline(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Counter, name="a")
        with pytest.raises(AskTimeout):
            system.ask("a", Wait(), timeout=1_000.0)
        assert simulation.clock() == 1_000.0
        assert simulation.stuck == ["a"]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_ask_that_waits_in_a_handler_fails_at_its_deadline_too(seed: int) -> None:
    simulation = SimulatedDispatcher(seed, faults=FaultPlan().slow(3.0, "slow"))
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Late, name="late")
        system.spawn(Counter, name="slow")
        assert system.ask("late", Meet(), timeout=10.0) == "gave up at 2.0"


def test_what_never_comes_to_rest_is_reported(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Restless, name="a").tell(Tick())
        with pytest.raises(Endless, match=r"still busy after \d+ steps, at 0 s\n.* run +a Tick"):
            simulation.run_until_idle(max_steps=1_000)
        assert simulation.steps >= 1_000


# --- waiting for each other ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_handlers_wait_for_each_other_in_chains_of_any_depth(seed: int) -> None:
    simulation = SimulatedDispatcher(seed)
    with ActorSystem("x", dispatcher=simulation) as system:
        last = system.spawn(Counter, name="0")
        for depth in range(1, 12):
            last = system.spawn(Counter, last, name=str(depth))
        assert last.ask(Count()) == 12


@pytest.mark.parametrize("seed", SEEDS)
def test_who_waited_first_need_not_go_on_last(seed: int) -> None:
    """a waits for b, which takes long; c, asked meanwhile, waits for d and is done before a."""
    simulation = SimulatedDispatcher(seed, faults=FaultPlan().slow(10.0, "b"))
    with ActorSystem("x", dispatcher=simulation) as system:
        b, d = system.spawn(Counter, name="b"), system.spawn(Counter, name="d")
        a, c = system.spawn(Counter, b, name="a"), system.spawn(Counter, d, name="c")
        long = a.ask(Count(), block=False)
        simulation.advance(1.0)
        assert simulation.stuck == ["a", "b"] or simulation.stuck == ["b", "a"]
        assert c.ask(Count()) == 2
        assert (simulation.clock(), long.done) == (1.0, False)
        assert long.get() == 2
        assert simulation.clock() == 10.0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_actor_that_waits_answers_those_who_asked_meanwhile_when_it_is_done(seed: int) -> None:
    """a asks b; while it waits, c asks a. In production all three finish, and so they do here."""
    simulation = SimulatedDispatcher(seed, faults=FaultPlan().slow(5.0, "b"))
    with ActorSystem("x", dispatcher=simulation) as system:
        b = system.spawn(Counter, name="b")
        a = system.spawn(Counter, b, name="a")
        c = system.spawn(Counter, a, name="c")
        first = a.ask(Count(), block=False)
        simulation.run_until(lambda: len(simulation.stuck) == 2)
        second = c.ask(Count(), block=False)
        assert first.get(timeout=20) == 2
        assert second.get(timeout=20) == 1 + 2 + 2


@pytest.mark.parametrize("seed", SEEDS)
def test_two_that_ask_each_other_get_a_cycle_and_no_deadlock(seed: int) -> None:
    simulation = SimulatedDispatcher(seed)
    with ActorSystem("x", dispatcher=simulation, intensity=10) as system:
        system.spawn(Counter, "b", name="a")
        system.spawn(Counter, "a", name="b")
        asked = [system.ask(name, Meet(), block=False) for name in "ab"]
        for future in asked:
            with pytest.raises(HandlerFailed):
                future.get(timeout=10)
        causes = [future.error.__cause__ for future in asked if future.error is not None]
        assert any(isinstance(cause, (AskCycle, HandlerFailed)) for cause in causes)
        assert simulation.clock() == 0.0, "nobody had to wait for a deadline"


def test_a_deadlock_is_reported_with_who_waits_for_whom(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        waiting = system.spawn(Counter, name="waiting")
        asking = system.spawn(Counter, waiting, name="asking")
        waiting.tell(Wait())
        with pytest.raises(Deadlock) as caught:
            asking.ask(Count())
        text = str(caught.value)
        assert "deadlock: nothing left to run, at 0 s" in text
        assert "asking waits for waiting" in text
        assert "waiting waits for something that nobody in the simulation does" in text
        assert "run      waiting Wait" in text


def test_a_wait_with_a_deadline_is_no_deadlock_and_the_system_still_stops(simulation: SimulatedDispatcher) -> None:
    abandoned: list[str] = []
    with ActorSystem("x", dispatcher=simulation) as system:
        system.events.subscribe(HandlerAbandoned, lambda event: abandoned.append(event.path))
        system.spawn(Counter, name="a").tell(Wait())
        simulation.run_until_idle()
        assert simulation.stuck == ["a"]
    assert abandoned == ["a"]
    assert simulation.clock() == 5.0, "the time that its spec gives it"
    assert simulation.stuck == []


def test_the_simulation_is_driven_by_the_test_alone(simulation: SimulatedDispatcher) -> None:
    class Driving(Actor):
        @handles
        def count(self, _message: Count) -> int:
            simulation.run_until_idle()
            return 1

    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Driving, name="a")
        with pytest.raises(HandlerFailed, match="driven by the test"):
            system.ask("a", Count())


def test_several_threads_may_wait_at_once(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        slow = system.spawn(Sleeper, name="s")
        answers: list[float] = []
        threads = [
            threading.Thread(target=lambda seconds=seconds: answers.append(slow.ask(Sleep(seconds))))
            for seconds in (3.0, 1.0, 2.0)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(answers) == 3


# --- coroutines ------------------------------------------------------------------------------------------


def test_an_interrupted_wait_leaves_the_simulation_usable(
    simulation: SimulatedDispatcher, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C, or the time-out of a test, reaches the thread that waits while a handler runs on another one."""
    # Whoever runs the suite in a shell's background has Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    class Interrupting(Actor):
        @handles
        def count(self, _message: Count) -> int:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return 1

    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Interrupting, name="a")
        system.spawn(Counter, name="b")
        with pytest.raises(KeyboardInterrupt):
            system.ask("a", Count())
        assert system.ask("b", Count()) == 1


def test_coroutines_sleep_in_virtual_time(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        names = [f"s{number}" for number in range(5)]
        for name in names:
            system.spawn(Sleeper, name=name)
        asked = [system.ask(name, Sleep(100.0), block=False, timeout=200.0) for name in names]
        assert [future.get() for future in asked] == [100.0] * 5, "all at once: each waits for itself"
        assert system.ask("s0", Sleep(1.0)) == 101.0


def test_the_test_may_be_a_coroutine_too(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Sleeper, name="s")
        system.spawn(Counter, name="a")

        async def main() -> tuple[float, float]:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10.0):
                    await system.ask("s", Sleep(60.0), block=False, timeout=None)
            assert asyncio.get_running_loop().time() == 10.0
            asked = system.ask("s", Sleep(60.0), block=False, timeout=None)
            other, slept = await asyncio.gather(asked, asyncio.sleep(5.0, 1.0))
            return other, slept

        assert simulation.run(main()) == (120.0, 1.0)


def test_a_coroutine_may_send_blocking_work_to_a_thread_which_is_a_step(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Sleeper, name="s")
        assert system.ask("s", Count()) == 1
        assert any(step[1] == "job" for step in simulation.trace)


def test_a_blocking_ask_on_the_loop_for_one_that_runs_there_is_refused(simulation: SimulatedDispatcher) -> None:
    class Blocking(Actor):
        @handles
        async def meet(self, _message: Meet) -> str:
            return str(self.lookup("counter").ask(Count()))

        @handles
        async def count(self, _message: Count) -> int:
            return int(self.lookup("s").ask(Sleep(1.0)))

    with ActorSystem("x", dispatcher=simulation, intensity=10) as system:
        system.spawn(Blocking, name="a")
        system.spawn(Sleeper, name="s")
        system.spawn(Counter, name="counter")
        assert system.ask("a", Meet()) == "1", "for a pooled actor the loop may wait, bad manners as it is"
        with pytest.raises(HandlerFailed) as caught:
            system.ask("a", Count())
        assert isinstance(caught.value.__cause__, LoopBlocked)


def test_a_coroutine_that_hangs_is_cancelled_when_it_is_killed(simulation: SimulatedDispatcher) -> None:
    cancelled: list[float] = []

    class Hanging(Actor):
        @handles
        async def wait(self, _message: Wait) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(simulation.clock())
                raise

    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Child(Hanging, name="a", shutdown=2.0)).tell(Wait())
        simulation.run_until_idle()
    assert cancelled == [2.0]


def test_hooks_of_async_actors_are_awaited(simulation: SimulatedDispatcher) -> None:
    seen: list[tuple[str, float]] = []

    class Hooked(Actor):
        async def on_start(self) -> None:  # type: ignore[override]  # an async actor's hooks may be coroutines
            await asyncio.sleep(3.0)
            seen.append(("start", simulation.clock()))

        async def on_stop(self) -> None:  # type: ignore[override]  # as above
            await asyncio.sleep(1.0)
            seen.append(("stop", simulation.clock()))

        @handles
        async def count(self, _message: Count) -> int:
            return 1

    with ActorSystem("x", Supervisor("t", children=[Child(Hooked, name="a")]), dispatcher=simulation):
        assert simulation.clock() == 3.0
    assert seen == [("start", 3.0), ("stop", 4.0)]


# --- the end ---------------------------------------------------------------------------------------------


def test_nothing_runs_once_it_has_stopped(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        system.spawn(Ticking, name="a")
    steps = simulation.steps
    simulation.advance(3600.0)
    assert simulation.steps == steps


def test_handlers_that_still_wait_when_it_stops_are_ended() -> None:
    ended: list[str] = []

    class Stubborn(Actor):
        @handles
        def wait(self, _message: Wait) -> None:
            try:
                Future[None]().get()
            finally:
                ended.append("wait")

    simulation = SimulatedDispatcher(1)
    system = ActorSystem("x", dispatcher=simulation)
    system.spawn(Stubborn, name="a").tell(Wait())
    simulation.run_until_idle()
    simulation.stop()
    assert (ended, simulation.stuck) == (["wait"], [])
    system.kill()  # it has not been told to stop, and would be in pykka's registry for the tests that follow


def test_notes_told_before_an_ask_are_handled_before_it(simulation: SimulatedDispatcher) -> None:
    with ActorSystem("x", dispatcher=simulation) as system:
        counter = system.spawn(Counter, name="a")
        for number in range(5):
            counter.tell(Note(number))
        assert counter.ask(Notes()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5])
def test_an_ask_whose_time_has_passed_is_not_handled(timeout: float) -> None:
    """As in production, where time goes on between the question and the handler."""
    simulation = SimulatedDispatcher(seed=1)
    with ActorSystem("test", dispatcher=simulation) as system:
        ref = system.spawn(Ticking)
        ref.tell(Tick())
        with pytest.raises(AskTimeout):
            ref.ask(Count(), timeout=timeout)
        later = ref.ask(Count(), block=False, timeout=timeout)
        with pytest.raises(AskTimeout):
            later.get()
        assert ref.ask(Count()) == 1


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, "1", None])
def test_only_seconds_can_pass(seconds: float) -> None:
    """Anything else would never end, or say that it was done."""
    simulation = SimulatedDispatcher(seed=1)
    with ActorSystem("test", dispatcher=simulation):
        with pytest.raises(SpecInvalid):
            simulation.advance(seconds)
        simulation.advance(0)
        simulation.advance(1)
        assert simulation.clock() == 1.0

"""Many children: the cost of one does not grow with their number (cases 78, 88).

What is compared are counted steps, and processor time with a factor of ten to spare: a machine that is busy with
other things must not fail a test, a cost that is quadratic must.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

from understudy import ActorSystem, Child, DynamicSupervisor, Supervisor
from understudy.supervisors.ref import SupervisorRef

from ..players import Plain, Stage


def processor_seconds(work: Callable[[], Any]) -> float:
    """What the process spends on it, garbage collection apart; at least a millisecond, for the sake of ratios."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        work()
        return max(time.process_time() - begun, 0.001)
    finally:
        gc.enable()


@pytest.mark.otp(78, "simple_one_for_one_scale_many_temporary_children")
def test_terminating_temporary_children_one_by_one_is_linear(stage: Stage) -> None:
    sup = stage.supervise_dynamic()
    spec = Child(Plain, restart="temporary")

    def run(count: int) -> tuple[int, float]:
        children = [sup.start_child(spec) for _ in range(count)]
        before = stage.simulation.steps

        def terminate_all() -> None:
            for child in children:
                assert child is not None
                sup.terminate_child(child)

        seconds = processor_seconds(terminate_all)
        assert sup.count_children() == (0, 0, 0, 0)
        return stage.simulation.steps - before, seconds

    (few_steps, few_seconds), (many_steps, many_seconds) = run(200), run(2_000)
    assert many_steps <= 10 * few_steps + 10
    assert many_seconds < 10 * 10 * few_seconds


@pytest.mark.otp(78, "simple_one_for_one_scale_many_temporary_children")
@pytest.mark.parametrize("order", ["oldest first", "newest first"])
def test_temporary_children_come_and_go_by_the_ten_thousand(order: str) -> None:
    """On the real pool, as OTP's test has it: ten times as many take less than fifty times as long."""
    with ActorSystem("many", DynamicSupervisor("sup")) as system:
        sup = system.lookup("sup")
        assert isinstance(sup, SupervisorRef)
        spec = Child(Plain, restart="temporary")

        def run(count: int) -> float:
            children = [sup.start_child(spec) for _ in range(count)]
            if order == "newest first":
                children.reverse()

            def terminate_all() -> None:
                for child in children:
                    assert child is not None
                    sup.terminate_child(child)

            return processor_seconds(terminate_all)

        few, many = run(1_000), run(10_000)
        assert sup.count_children() == (0, 0, 0, 0)
        assert many < 50 * few


@pytest.mark.otp(88, "scale_start_stop_many_children")
def test_starting_and_stopping_a_hundred_thousand_children_is_about_linear() -> None:
    def run(count: int) -> tuple[float, float]:
        tree = Supervisor("sup", children=[Child(Plain, name=str(number)) for number in range(count)])
        systems: list[ActorSystem] = []
        starting = processor_seconds(lambda: systems.append(ActorSystem("many", tree)))
        (system,) = systems
        sup = system.lookup("sup")
        assert isinstance(sup, SupervisorRef)
        assert sup.count_children() == (count, count, 0, count)
        stopping = processor_seconds(system.stop)
        assert not sup.is_alive()
        return starting, stopping

    few, many = run(1_000), run(100_000)
    assert many[0] < 100 * 10 * few[0]
    assert many[1] < 100 * 10 * few[1]

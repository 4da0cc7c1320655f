"""Whatever happens to a supervisor, in whatever order: it does what the model does.

The run is a long random series of orders, ends of children, failing starts and passing time. After each step the
children's states, the reason of the supervisor's end, and every single start and stop in their order are compared;
and every message that was ever sent is answered, or waits for a child that will come back.

``UNDERSTUDY_MODEL_EXAMPLES=100000`` runs more, and other ones every time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from understudy import IGNORE, ActorRef, Backoff, ErrorKind
from understudy.messages.errors import (
    ChildNotFound,
    ChildRunning,
    MaxChildren,
    NameTaken,
    StartFailed,
)
from understudy.supervisors.ref import SupervisorRef
from understudy.supervisors.requests import CountChildren, WhichChildren

from ..players import ABNORMAL, ENDINGS, Ending, Note, Stage
from .model import Model, ModelChild, Outcome

MORE = int(os.environ.get("UNDERSTUDY_MODEL_EXAMPLES", "0"))
NAMES = ("a", "b", "c", "d", "e")
RESET_AFTER = 10.0

indices = st.integers(0, 11)
moments = st.sampled_from([0.25, 0.5, 1.0, 2.0, 5.0, 20.0])
outcomes: st.SearchStrategy[list[Outcome]] = st.lists(
    st.sampled_from(["fail", "fail", "ignore", "ok"]), min_size=1, max_size=4
)
specs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "restart": st.sampled_from(["permanent", "permanent", "transient", "temporary"]),
        "significant": st.booleans(),
        "backoff": st.sampled_from([None, None, (1.0, 4.0), (0.5, 0.5)]),
    }
)

RESULTS: dict[ErrorKind, str] = {
    ErrorKind.CHILD_ALREADY_STARTED: "already started",
    ErrorKind.CHILD_ALREADY_PRESENT: "already present",
    ErrorKind.NAME_TAKEN: "taken",
    ErrorKind.CHILD_RUNNING: "running",
    ErrorKind.CHILD_RESTARTING: "restarting",
}


def result_of(call: Any, *args: Any) -> str:
    """How a call ends, in the model's words."""
    try:
        value = call(*args)
    except (NameTaken, ChildRunning) as error:
        return RESULTS[error.kind]
    except ChildNotFound:
        return "not found"
    except StartFailed:
        return "failed"
    except MaxChildren:
        return "max children"
    if value is None:
        return "nothing"
    return "ignored" if getattr(value, "ref", value) is None else "started"


def going_on(comparison: Any) -> bool:
    """Whether the supervisor is still there."""
    return comparison.model.ended is None


def over(comparison: Any) -> bool:
    """Whether the supervisor has ended."""
    return not going_on(comparison)


class Comparison(RuleBasedStateMachine):
    """A supervisor on a stage, and its model."""

    dynamic = False

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage
        self.sup: SupervisorRef
        self.model: Model
        self.sent: list[tuple[str, Any]] = []
        self.refs: dict[str, ActorRef[Any]] = {}
        self.flags: dict[str, Any] = {}
        self.scripts: dict[str, list[Outcome]] = {}

    # --- the steps -------------------------------------------------------------------------------------

    @precondition(over)
    @rule()
    def begin_again(self) -> None:
        """The supervisor has ended: another one takes its name."""
        self.begin_with([])

    @precondition(going_on)
    @rule(spec=specs)
    def start_child(self, spec: dict[str, Any]) -> None:
        """Add a child, which may not start."""
        child = ModelChild(**self.fitting(spec))
        expected = self.model.start_child(child)
        found = result_of(self.sup.start_child, self.spec_of(child))
        assert found == ("nothing" if expected == "ignored" else expected)
        self.compare()

    @precondition(going_on)
    @rule(which=indices, rarely=st.integers(0, 2))
    def terminate_child(self, which: int, rarely: int) -> None:
        """Stop a child by order."""
        name = self.known(which) if not rarely else None
        if name is not None:
            self.model.terminate_child(name)
            assert result_of(self.sup.terminate_child, self.handle(name)) == "nothing"
            self.compare()

    @precondition(lambda self: bool(going_on(self) and self.model.running()))
    @rule(which=indices, how=st.sampled_from(ENDINGS))
    def child_ends(self, which: int, how: Ending) -> None:
        """A child ends on its own."""
        running = self.model.running()
        name = running[which % len(running)]
        self.model.child_ends(name, how)
        self.stage.end(self.stage.ref(f"sup/{name}"), how)
        self.compare()

    @precondition(lambda self: bool(going_on(self) and self.model.running()))
    @rule(which=indices, how=st.sampled_from(ABNORMAL), script=outcomes, whose=indices)
    def child_crashes_and_does_not_come_back(self, which: int, how: Ending, script: list[Outcome], whose: int) -> None:
        """A child ends, and one of those that might be restarted then will not start at first."""
        self.write(self.known(whose), script)
        self.child_ends(which, how)

    @rule(seconds=moments)
    def time_passes(self, seconds: float) -> None:
        """Nothing else happens for a while."""
        self.model.advance(seconds)
        self.stage.advance(seconds)
        self.compare()

    @precondition(going_on)
    @rule()
    def send_to_all(self) -> None:
        """Send a message to every child, through the oldest reference to it that there is."""
        for name, ref in self.refs.items():
            self.sent.append((name, ref.ask(Note(len(self.sent)), block=False)))
        self.stage.settle()
        self.compare()

    @precondition(going_on)
    @rule(rarely=st.integers(0, 9))
    def stop(self, rarely: int) -> None:
        """Stop the supervisor by order."""
        if not rarely:
            self.model.stop()
            self.sup.stop()
            self.compare()

    # --- the comparison --------------------------------------------------------------------------------

    def begin_with(self, declared: list[dict[str, Any]]) -> None:
        """Start a supervisor with these children, and its model."""
        children = list({spec["name"]: ModelChild(**self.fitting(spec)) for spec in declared}.values())
        self.model = Model(
            **self.flags,
            dynamic=self.dynamic,
            reset_after=RESET_AFTER,
            now=self.stage.now,
            scripts=self.scripts,
        )
        if self.dynamic:
            self.sup = self.stage.supervise_dynamic(**self.flags)
            for child in children:
                self.sup.start_child(self.spec_of(child))
        else:
            self.sup = self.stage.supervise(*map(self.spec_of, children), **self.flags)
        for child in children[: self.flags.get("max_children")]:
            self.model.start_child(child)
        self.compare()

    def set_up(self, seed: int, declared: list[dict[str, Any]], flags: dict[str, Any]) -> None:
        """Begin a run."""
        self.stage = Stage(seed, watched=False)
        self.flags = flags
        if self.dynamic and flags["max_children"] is not None:
            declared = declared[: flags["max_children"]]
        self.begin_with(declared)

    def fitting(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The spec, insignificant where it must be."""
        may_be = spec["restart"] != "permanent" and self.flags.get("auto_shutdown", "never") != "never"
        backoff = spec["backoff"]
        if backoff is not None:  # no two of different children are ever due at the same moment
            backoff = tuple(seconds * (1 + 0.0137 * NAMES.index(spec["name"])) for seconds in backoff)
        return {**spec, "significant": spec["significant"] and may_be, "backoff": backoff}

    def spec_of(self, child: ModelChild) -> Any:
        """The child's spec on the stage."""
        backoff = Backoff(*child.backoff, jitter=0.0, reset_after=RESET_AFTER) if child.backoff else None
        restart: Any = child.restart
        return self.stage.child(child.name, restart=restart, significant=child.significant, backoff=backoff)

    def known(self, which: int) -> Any:
        """The name of a child that there is, if there is any."""
        children = self.model.children
        return children[which % len(children)].name if children else None

    def write(self, name: str, script: list[Outcome]) -> None:
        """Give both the same script."""
        lines = {"ok": "ok", "fail": ValueError("no"), "ignore": IGNORE}
        self.stage.starts(name, *(lines[line] for line in script))
        self.scripts[name] = list(script)

    def handle(self, name: str) -> Any:
        """How the child is addressed in an order."""
        return name

    def compare(self) -> None:
        """Both must have done the same, and be in the same state."""
        model, stage = self.model, self.stage
        stage.settle()
        assert self.in_order(stage.take_log()) == self.in_order(model.log)
        model.log.clear()
        assert stage.now == pytest.approx(model.now)
        assert self.sup.is_alive() == (model.ended is None)
        if model.ended is None:
            shown = {
                info.id: info.ref if not isinstance(info.ref, ActorRef) else "running"
                for info in self.keeper._which_children(WhichChildren())
            }
            assert list(shown.items()) == list(model.shown().items())
            active = sum(child.status == "running" for child in model.children)
            assert self.keeper._count_children(CountChildren()) == (len(shown), active, 0, len(shown))
        self.compare_mail()

    @property
    def keeper(self) -> Any:
        """The supervisor's actor: nothing runs now, so it is asked without a message, which is much faster."""
        return self.sup._cell.actor

    def in_order(self, log: list[str]) -> Any:
        """The log as far as its order is fixed."""
        return log

    def compare_mail(self) -> None:
        """A place is open while its child runs or will come back; what was sent there waits, or is answered."""
        for name in self.model.gone:
            ref = self.refs.pop(name, None)
            assert ref is None or not ref.is_alive()
        open_places = {child.name: child.status for child in self.model.children if child.status is not None}
        for name in NAMES:
            ref = self.refs.get(name)
            if name not in open_places:
                assert ref is None or not ref.is_alive()
                self.refs.pop(name, None)
            elif ref is None:
                self.refs[name] = self.stage.ref(f"sup/{name}")
            else:
                assert self.stage.ref(f"sup/{name}") == ref, "references outlive restarts"
        waiting = []
        for name, future in self.sent:
            if open_places.get(name) in ("restarting", "waiting") and name not in self.model.gone and not future.done:
                waiting.append((name, future))
            else:
                assert future.done, f"a message to {name} is neither answered nor waits for anybody"
        self.sent = waiting
        self.model.gone.clear()

    def teardown(self) -> None:
        """Stop everything; whatever still waits is answered now."""
        if hasattr(self, "stage"):
            self.stage.close()
            assert all(future.done for _, future in self.sent)


class StaticComparison(Comparison):
    """A static supervisor."""

    @initialize(
        seed=st.integers(0, 2**32),
        declared=st.lists(specs, min_size=2, max_size=6),
        strategy=st.sampled_from(["rest_for_one", "one_for_all", "one_for_one"]),
        auto_shutdown=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
        intensity=st.sampled_from([10, 50, 3, 10, 1, 0]),
        period=st.sampled_from([1.0, 5.0]),
    )
    def begin(self, seed: int, declared: list[dict[str, Any]], **flags: Any) -> None:
        """Choose the flags, and the children."""
        self.set_up(seed, declared, flags)

    @precondition(going_on)
    @rule(which=indices)
    def restart_child(self, which: int) -> None:
        """Start a child by order."""
        name = self.known(which)
        if name is not None:
            expected = self.model.restart_child(name)
            assert result_of(self.sup.restart_child, name) == expected
            self.compare()

    @precondition(going_on)
    @rule(which=indices)
    def delete_child(self, which: int) -> None:
        """Forget a child."""
        name = self.known(which)
        if name is not None:
            expected = self.model.delete_child(name)
            assert result_of(self.sup.delete_child, name) == ("nothing" if expected == "deleted" else expected)
            self.compare()


class DynamicComparison(Comparison):
    """A dynamic supervisor."""

    dynamic = True

    @initialize(
        seed=st.integers(0, 2**32),
        declared=st.lists(specs, min_size=2, max_size=6),
        intensity=st.sampled_from([10, 50, 3, 10, 1, 0]),
        period=st.sampled_from([1.0, 5.0]),
        max_children=st.sampled_from([None, None, 3]),
    )
    def begin(self, seed: int, declared: list[dict[str, Any]], **flags: Any) -> None:
        """Choose the flags, and the children."""
        self.set_up(seed, declared, flags)

    def handle(self, name: str) -> Any:
        """By reference."""
        return self.refs[name]

    def in_order(self, log: list[str]) -> Any:
        """Children are stopped in parallel."""
        stops = sorted(line for line in log if line.startswith("stop"))
        return [line for line in log if not line.startswith("stop")], stops


@contextmanager
def quiet() -> Iterator[None]:
    """Thousands of crashes need not be logged."""
    logger = logging.getLogger("understudy")
    before, logger.level = logger.level, logging.CRITICAL + 1
    logging.getLogger("understudy.errors")
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        logger.setLevel(before)


@pytest.mark.timeout(0 if MORE else 600)
@pytest.mark.parametrize(("machine", "examples"), [(StaticComparison, 1_300), (DynamicComparison, 700)])
def test_it_does_what_the_model_does(machine: type[Comparison], examples: int) -> None:
    """In thousands of runs, each of them under another seed of the simulation."""
    with quiet():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=MORE or examples,
                stateful_step_count=25,
                derandomize=not MORE,
                deadline=None,
                database=None,
                suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]  # mypy reads the enumeration right
            ),
        )

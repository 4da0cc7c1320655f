"""The engines against a model: whatever is done in whatever order, both agree on where every task stands."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from understudy.actors.tasks.engine import LEASE_SECONDS, Ending, Lease
from understudy.messages.errors import TaskError
from understudy.messages.tasks import TaskState

from .conftest import ENGINES, Client, Clock

IDS = [f"t{number}" for number in range(4)]
HOW = st.sampled_from(["done", "retry", "retry", "archive", "requeue", "defer"])
S = TaskState


@dataclass
class Modelled:
    """A task as the model knows it."""

    state: TaskState
    score: float
    retried: int = 0
    attempt: int = 0
    retention: int = 0
    lock: str = ""


class Machine(RuleBasedStateMachine):
    """Drives one engine and the model."""

    engine_name = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        open_one = ENGINES[self.engine_name](Path(self.folder.name), self.clock)
        self.clients = [Client(open_one(), self.clock) for _ in range(2)]
        self.turn = 0
        self.tasks: dict[str, Modelled] = {}
        self.queue: list[str] = []
        self.locks: dict[str, tuple[str, float]] = {}
        self.lapsed: set[str] = set()
        self.held: list[tuple[Lease, int]] = []
        self.attempts = 0
        self.processed = self.failed = 0
        self.paused = False
        self.listening: list[Any] = []

    @property
    def client(self) -> Client:
        """Each step goes through the other connection."""
        self.turn += 1
        return self.clients[self.turn % 2]

    @property
    def now(self) -> float:
        return self.clock.at

    def teardown(self) -> None:
        for client in self.clients:
            client.engine.close()
        self.folder.cleanup()

    # --- what is done ----------------------------------------------------------------------------------

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1), delay=st.sampled_from([0, 0, 20]), retention=st.booleans())
    def enqueue(self, ids: list[str], delay: int, retention: bool) -> None:
        options = {"process_in": delay} if delay else {}
        for task_id in ids:
            self._enqueue(task_id, b"", delay, "", retention=50 * retention, **options)

    @rule(task_id=st.sampled_from(IDS), payload=st.sampled_from([b"x", b"y"]), delay=st.sampled_from([0, 20]))
    def enqueue_unique(self, task_id: str, payload: bytes, delay: int) -> None:
        options = {"process_in": delay} if delay else {}
        self._enqueue(task_id, payload, delay, payload.decode(), unique=40, **options)

    def _enqueue(self, task_id: str, payload: bytes, delay: int, lock: str, **options: Any) -> None:
        outcome = self.client.put(task_id, payload, **options)
        held = self.locks.get(lock, ("", 0.0))[1] > self.now
        if held and lock in self.lapsed:  # the clock was set back since: an engine may have forgotten it, or not
            held = outcome == "task.duplicate"
        if held:
            assert outcome == "task.duplicate"
        elif task_id in self.tasks:
            assert outcome == "task.id.conflict"
        else:
            state = S.SCHEDULED if delay else S.PENDING
            assert not isinstance(outcome, str)
            assert outcome.state == state
            self.tasks[task_id] = Modelled(state, self.now + delay, retention=options.get("retention", 0), lock=lock)
            if not delay:
                self.queue.append(task_id)
            if lock:
                self.locks[lock] = (task_id, self.now + delay + 40)
                self.lapsed.discard(lock)

    @rule(count=st.integers(1, 4))
    def dequeue(self, count: int) -> None:
        leases = self.client.take(count)
        expected = [] if self.paused else self.queue[:count]
        assert [lease.message.id for lease in leases] == expected
        for lease in leases:
            self.queue.remove(lease.message.id)
            self.attempts += 1
            task = self.tasks[lease.message.id]
            task.state, task.score, task.attempt = S.ACTIVE, self.now + LEASE_SECONDS, self.attempts
            assert lease.message.retried == task.retried
            self.held.append((lease, self.attempts))

    @rule(how=HOW, failure=st.booleans(), forget=st.booleans(), late=st.sampled_from([0, 0, 0, 29, 30]))
    def work(self, how: Any, failure: bool, forget: bool, late: int) -> None:
        """Dequeue and finish; where it comes late, or early enough by a second."""
        before = len(self.held)
        self.dequeue(2)
        self.clock.at += late
        for place in range(before, len(self.held)):
            self._finish(place, how, failure=failure, forget=forget)

    @precondition(lambda self: self.held)
    @rule(back=st.integers(1, 6), how=HOW, failure=st.booleans(), forget=st.booleans())
    def finish(self, back: int, how: Any, failure: bool, forget: bool) -> None:
        """By one of the latest attempts: late, twice, or in time."""
        self._finish(-min(back, len(self.held)), how, failure=failure, forget=forget)

    def _finish(self, place: int, how: Any, *, failure: bool, forget: bool) -> None:
        lease, attempt = self.held[place]
        task_id = lease.message.id
        accepted = self.client.end(lease, how, at=self.now + 15, failure=failure, forget=forget)
        task = self.tasks.get(task_id)
        current = task is not None and task.state == S.ACTIVE and task.attempt == attempt and task.score > self.now
        assert accepted == current
        if accepted and task is not None:
            self._ended(task_id, task, how, self.now + 15, failure=failure, forget=forget)

    def _ended(self, task_id: str, task: Modelled, how: str, at: float, *, failure: bool, forget: bool) -> None:
        if how == "requeue":
            task.state = S.PENDING
            self.queue.insert(0, task_id)
            return
        if how == "defer":
            task.state, task.score = S.SCHEDULED, at
            return
        if how == "retry":
            task.state, task.score = S.RETRY, at
            task.retried += failure
            self.processed += failure
            self.failed += failure
            return
        self.processed += 1
        if how == "archive":
            self.failed += 1
            task.state, task.score = S.ARCHIVED, self.now
            return
        self._release(task_id)
        if task.retention and not forget:
            task.state, task.score = S.COMPLETED, self.now + task.retention
        else:
            del self.tasks[task_id]

    def _release(self, task_id: str) -> None:
        lock = self.tasks[task_id].lock
        if lock and self.locks.get(lock, ("", 0.0))[0] == task_id:
            del self.locks[lock]

    @precondition(lambda self: self.held)
    @rule(back=st.integers(1, 6))
    def extend(self, back: int) -> None:
        lease, attempt = self.held[-min(back, len(self.held))]
        (extended,) = self.client.engine.extend([lease])
        task = self.tasks.get(lease.message.id)
        if task is not None and task.state == S.ACTIVE and task.attempt == attempt and task.score > self.now:
            assert extended is not None
            task.score = self.now + LEASE_SECONDS
        else:
            assert extended is None

    def recover(self, archive: bool) -> None:
        engine = self.client.engine
        expired = engine.expired(["default"])
        expected = {name for name, task in self.tasks.items() if task.state == S.ACTIVE and task.score <= self.now}
        assert {lease.message.id for lease in expired} == expected
        how: Any = "archive" if archive else "retry"
        accepted = engine.finish([Ending(lease, how, at=self.now) for lease in expired], recovering=True)
        assert all(accepted)
        for lease in expired:
            task = self.tasks[lease.message.id]
            self._ended(lease.message.id, task, how, self.now, failure=True, forget=False)

    def forward(self) -> None:
        moved = self.client.engine.forward(["default"])
        due = 0
        for state in (S.SCHEDULED, S.RETRY):
            names = [name for name, task in self.tasks.items() if task.state == state and task.score <= self.now]
            # Of tasks that are due at the same instant any may go first.
            self._to_pending(names)
            due += len(names)
        assert moved == due

    def _to_pending(self, names: list[str]) -> None:
        for name in names:
            self.tasks[name].state = S.PENDING
        if names:
            listed = [info.id for info in self.client.engine.tasks("default", S.PENDING, size=100)]
            assert listed[: len(self.queue)] == self.queue
            scores = [self.tasks[name].score for name in listed if name in names]
            assert scores == sorted(scores)
            self.queue = listed

    def sweep(self) -> None:
        swept = self.client.engine.sweep(["default"], 100)
        over = [name for name, task in self.tasks.items() if task.state == S.COMPLETED and task.score <= self.now]
        assert swept == len(over)
        self.locks = {name: lock for name, lock in self.locks.items() if lock[1] > self.now}
        for name in over:
            del self.tasks[name]

    @precondition(lambda self: self.tasks)
    @rule(task_id=st.sampled_from(IDS), what=st.sampled_from(["run", "archive", "delete"]))
    def manage(self, task_id: str, what: str) -> None:
        task = self.tasks.get(task_id)
        refused = {"run": {S.ACTIVE, S.PENDING}, "archive": {S.ACTIVE, S.ARCHIVED}, "delete": {S.ACTIVE}}[what]
        operation = getattr(self.client.engine, what)
        if task is None or task.state in refused:
            with pytest.raises(TaskError) as caught:
                operation("default", task_id)
            assert (caught.value.kind == "task.state.invalid") == (task is not None)
            return
        operation("default", task_id)
        if task.state == S.PENDING:
            self.queue.remove(task_id)
        if what == "run":
            task.state = S.PENDING
            self.queue.append(task_id)
        elif what == "archive":
            task.state, task.score = S.ARCHIVED, self.now
        else:
            self._release(task_id)
            del self.tasks[task_id]

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3))
    def cancel(self, ids: list[str]) -> None:
        """Whatever state it is in, or if there is no such task: processors are told, and no state changes by it."""
        if not self.listening:
            self.listening = [client.engine.cancellations(None, 0.0)[0] for client in self.clients]
        for task_id in ids:
            self.client.engine.cancel(task_id)
        for place, client in enumerate(self.clients):
            heard: list[str] = []
            while len(heard) < len(ids):
                self.listening[place], some = client.engine.cancellations(self.listening[place], 10.0)
                assert some, "it was told, and not heard"
                heard += some
            assert heard == ids

    @rule(stay=st.sampled_from([False, False, False, True]))
    def pause(self, stay: bool) -> None:
        """Mostly for a moment only: while it is paused not much else happens."""
        if not self.paused:
            self.client.engine.pause("default")
        assert self.client.take(9) == []
        if not stay:
            self.client.engine.unpause("default")
        self.paused = stay

    @rule(
        seconds=st.sampled_from([0, 1, 15, 31, 55, -20]),
        then=st.sampled_from(["forward", "forward", "sweep", "recover: retry", "recover: archive", ""]),
    )
    def time_passes(self, seconds: int, then: str) -> None:
        """The clock jumps, past leases and delays, or back; and a processor's rounds go on."""
        self.clock.at += seconds
        what, _, how = then.partition(": ")
        if what == "recover":
            self.recover(how == "archive")
        elif what:
            getattr(self, what)()

    # --- what is always true ---------------------------------------------------------------------------

    @invariant()
    def note_lapsed_locks(self) -> None:
        self.lapsed |= {name for name, (_, until) in self.locks.items() if until <= self.now}

    @invariant()
    def both_agree(self) -> None:
        if not self.tasks:
            return
        engine = self.client.engine
        found: dict[str, tuple[TaskState, int]] = {}
        for state in TaskState:
            for info in engine.tasks("default", state, size=100):
                assert info.id not in found, "a task is in one state"
                found[info.id] = (info.state, info.message.retried)
        assert found == {name: (task.state, task.retried) for name, task in self.tasks.items()}
        assert [info.id for info in engine.tasks("default", S.PENDING, size=100)] == self.queue
        counted = engine.queue_info("default")
        assert (counted.processed_total, counted.failed_total) == (self.processed, self.failed)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_does_what_the_model_does(name: str) -> None:
    """Enqueue, dequeue, fail, retry, archive, run, delete, cancel, lease expiry, clock jumps, in any order."""
    machine = type("Machine", (Machine,), {"engine_name": name})
    run_state_machine_as_test(machine, settings=replace_settings(max_examples=150, stateful_step_count=50))


def replace_settings(**changed: Any) -> settings:
    """The suite's settings with some changed."""
    return settings(settings.get_profile("understudy"), **changed)

"""Much at once: children that end while others end, are started, stopped and asked; on virtual and on real threads."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from understudy import Actor, ActorSystem, Backoff, Child, DynamicSupervisor, Message, Supervisor, handles
from understudy.messages.errors import ActorError, HandlerFailed, MailboxError, SupervisionError
from understudy.supervisors.ref import SupervisorRef
from understudy.supervisors.requests import StartChild

from ..players import ENDINGS, Note, Player, Stage, pause

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class Only(Player):
    """Finds out whether another incarnation of it is there at the same time."""

    there: Counter[str] = Counter()  # noqa: RUF012  # that is what they share

    def on_start(self) -> Any:
        """Come."""
        value = super().on_start()
        self.there[self.label] += 1
        assert self.there[self.label] == 1, f"there are two of {self.label}"
        return value

    def on_stop(self) -> None:
        """Go, in good order."""
        super().on_stop()
        self.there[self.label] -= 1

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Go, after a crash."""
        self.there[self.label] -= 1

    def _on_killed(self) -> None:
        self.there[self.label] -= 1


@pytest.mark.parametrize("strategy", [*STRATEGIES, "dynamic"])
@pytest.mark.parametrize("seed", range(40))
def test_a_storm_on_virtual_threads_leaves_nothing_unanswered_and_nobody_twice(strategy: Any, seed: int) -> None:
    Only.there.clear()
    stage, chance = Stage(seed), random.Random(seed)
    names = "abcdef"
    options: dict[str, Any] = {"intensity": chance.choice([5, 1_000]), "period": 5.0}
    sup = stage.supervise_dynamic(**options) if strategy == "dynamic" else stage.supervise(strategy=strategy, **options)

    def spec(name: str) -> Child:
        restart: Any = chance.choice(["permanent", "permanent", "transient", "temporary"])
        shutdown: Any = chance.choice([1.0, 5.0, "brutal_kill"])
        backoff = chance.choice([None, None, Backoff(0.5, 2.0)])
        return Child(Only, (stage, name), name=name, restart=restart, shutdown=shutdown, backoff=backoff)

    for name in names:
        sup.start_child(spec(name))
        stage.stops(name, lambda _player: pause(chance.choice([0.0, 0.0, 0.5, 3.0])))
    refs = {name: stage.ref(f"sup/{name}") for name in names}
    futures: list[Any] = []
    for _ in range(60):
        name = chance.choice(names)
        match chance.randrange(8):
            case 0 | 1 | 2:
                if refs[name].is_alive():
                    stage.begin_end(refs[name], chance.choice(ENDINGS))
            case 3 | 4:
                futures.append(refs[name].ask(Note(len(futures)), block=False))
            case 5:
                stage.starts(name, *[ValueError("no")] * chance.randrange(3))
            case 6:
                futures.append(sup.ask(StartChild(spec(name)), block=False))
                futures.append(refs[name].stop(block=False))
            case _:
                stage.advance(chance.choice([0.0, 0.1, 1.0]))
    stage.advance(60.0)
    left = [future for future in futures if not future.done]
    assert left == []
    for future in futures:
        with suppress(MailboxError, HandlerFailed, SupervisionError):
            future.get(timeout=0)
    if sup.is_alive():
        shown = {info.id: info.ref for info in sup.which_children()}
        assert "restarting" not in shown.values()
        assert {name for name in names if Only.there[name]} == {str(name) for name, ref in shown.items() if ref}
    stage.close()
    assert set(Only.there.values()) <= {0}


class Work(Message[int]):
    """To be done, unless it is the one that cannot be."""

    value: int


class Worker(Actor):
    """Fails at every fiftieth."""

    @handles
    def work(self, message: Work) -> int:
        if message.value % 50 == 49:
            raise ArithmeticError(message.value)
        return message.value


class WorkerWithThread(Worker):
    """The same, on a thread of its own."""

    dispatcher = "thread"


@pytest.mark.parametrize("strategy", [*STRATEGIES, "dynamic"])
@pytest.mark.parametrize("worker", [Worker, WorkerWithThread])
def test_in_a_storm_on_real_threads_every_ask_is_answered(strategy: Any, worker: type[Worker]) -> None:
    """Four threads ask four children that fail now and then; the last tenth of it while the system stops."""
    names = [f"w{number}" for number in range(4)]
    children = [Child(worker, name=name) for name in names]
    tree: Any = DynamicSupervisor("sup", intensity=10**6)
    if strategy != "dynamic":
        tree = Supervisor("sup", strategy=strategy, intensity=10**6, children=children)
    system = ActorSystem("storm", tree)
    sup = system.lookup("sup")
    assert isinstance(sup, SupervisorRef)
    if strategy == "dynamic":
        for child in children:
            sup.start_child(child)
    refs = [system.lookup(f"sup/{name}") for name in names]
    count = 400
    outcomes: list[Counter[str]] = [Counter() for _ in names]
    nearly_done = threading.Barrier(len(names) + 1)

    def ask(which: int) -> None:
        for value in range(count):
            if value == count * 9 // 10:
                nearly_done.wait(60)
            ref = refs[(which + value) % len(refs)]
            try:
                outcomes[which]["answered" if ref.ask(Work(value), timeout=60) == value else "wrong"] += 1
            except HandlerFailed:
                outcomes[which]["failed"] += 1
            except ActorError as error:
                outcomes[which][type(error).__name__] += 1

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(len(names))]
    for thread in threads:
        thread.start()
    nearly_done.wait(60)
    assert sup.incarnation == 1
    system.stop()
    for thread in threads:
        thread.join(60)
    for counted in outcomes:
        assert sum(counted.values()) == count
        assert counted["failed"] >= count * 9 // 10 // 50
        assert set(counted) <= {"answered", "failed", "MailboxClosed"}, "neither a time-out nor a wrong answer"

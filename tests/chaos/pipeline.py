"""One run: notifications are published, stored and cached, while whatever they go through is killed.

What is published is published again under the same id until the broker confirms it, as a caller would do that got
an error. Every ask has a deadline, and it is measured how long each caller really waited.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from understudy import (
    ActorError,
    ActorSystem,
    AllNotifs,
    Broker,
    Cache,
    CacheItems,
    Child,
    ConsumeNotif,
    CountNotifs,
    CountQueue,
    DeadLetters,
    Message,
    Mutator,
    NotifData,
    ProduceNotif,
    Supervisor,
    handles,
)

from ..servers.process import PrivateServer
from .faults import LAST, Fault, Striker

EXCHANGE, QUEUE, TAG = "SavageEx", "TestOnion", "cons_tag0"
BROKER, MUTATOR, CACHE = (f"notifications/{name}" for name in ("broker", "mutator", "cache"))

DEADLINE = 10.0
"""Seconds that a caller waits."""
SLACK = 2.0
"""Seconds by which a busy machine may wake a caller late."""
IN_FLIGHT = 1_000
AHEAD = 5_000
"""How far publishing may run ahead of storing, so that both are in the middle of their work at every fault."""
PER_RECEIVER = 500
"""Fewer than a cached list may hold."""
CACHED_FOR = 36_000
AGAIN_AFTER = 0.05
"""Seconds until what failed is published again."""
LOOK_EVERY = 0.05
QUEUES_SAVED = 3.0
"""Seconds after which RabbitMQ has certainly written down that a new queue exists. A quorum queue that was declared
within the last second before a SIGKILL comes back without a leader and never answers: 3.10.8 does that after 0.6 s,
with any client, and not after 1.0 s."""


class Sabotage(Message[None]):
    """Make the consumer fall."""


class FragileBroker(Broker):
    """The broker actor, which is the consumer, with a way to make it crash."""

    @handles
    def sabotage(self, _message: Sabotage) -> None:
        raise RuntimeError("crashed on purpose")


@dataclass
class Outcome:
    """What a run showed."""

    count: int
    seconds: float = 0.0
    published: int = 0
    missing: list[str] = field(default_factory=list)
    """Published and not stored."""
    uncached: list[str] = field(default_factory=list)
    """Published and not cached."""
    stored_twice: list[str] = field(default_factory=list)
    cached_twice: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    left_in_queue: int = 0
    longest_wait: float = 0.0
    """Seconds that a caller waited at most; each had a deadline of `DEADLINE`."""
    errors: Counter[str] = field(default_factory=Counter)
    """The errors that publishers got, by kind; each was published again."""
    restarts: int = 0
    abandoned: int = 0
    done: list[str] = field(default_factory=list)
    ended_by_itself: bool = False

    def problems(self) -> list[str]:
        """What is not as it must be."""
        checks = [
            (self.ended_by_itself, f"it did not end by itself: {self.left_in_queue} left in the queue"),
            (self.published == self.count, f"published {self.published} of {self.count}"),
            (not self.missing, f"{len(self.missing)} published and not stored: {self.missing[:5]}"),
            (not self.uncached, f"{len(self.uncached)} published and not cached: {self.uncached[:5]}"),
            (not self.stored_twice, f"{len(self.stored_twice)} stored twice: {self.stored_twice[:5]}"),
            (not self.cached_twice, f"{len(self.cached_twice)} cached twice: {self.cached_twice[:5]}"),
            (not self.dead_letters, f"{len(self.dead_letters)} dead letters: {self.dead_letters[:5]}"),
            (self.longest_wait <= DEADLINE + SLACK, f"a caller waited {self.longest_wait:.2f} s of {DEADLINE} s"),
            (not self.abandoned, f"{self.abandoned} handlers ended by force"),
        ]
        return [text for fine, text in checks if not fine]


def notification(number: int) -> NotifData:
    """The notification of that number."""
    return NotifData(
        id=f"chaos-{number}",
        receiver_info=str(number // PER_RECEIVER),
        action_data={"pid": 200.4, "number": number},
        actioner_info="2",
        fired_at=1_714_316_645 + number,
    )


def run(
    count: int,
    urls: Sequence[str],
    faults: Sequence[Fault],
    servers: Mapping[str, PrivateServer],
    *,
    patience: float,
    tell: Callable[[str], None],
) -> Outcome:
    """Run the pipeline once.

    Args:
        count: How many notifications.
        urls: Of the broker, the store and the cache.
        faults: What goes wrong meanwhile.
        servers: The private servers, by the names that the faults have.
        patience: Seconds after which the run counts as one that does not end by itself.
        tell: Called now and then with a line that says how far it is.
    """
    broker_url, store_url, cache_url = urls
    tree = Supervisor(
        "notifications",
        intensity=100,
        period=5.0,
        children=[
            Child(Cache, name="cache", args=(cache_url,)),
            Child(Mutator, name="mutator", args=(store_url,)),
            Child(FragileBroker, name="broker", args=(broker_url,)),
        ],
    )
    outcome = Outcome(count)
    began = time.monotonic()
    with ActorSystem("chaos", tree) as system:
        striker = Striker(faults, servers, lambda: system.tell(BROKER, Sabotage()))
        line = Line(system, outcome, striker, began + patience, tell)
        line.start_consuming()
        if servers:
            time.sleep(QUEUES_SAVED)
        striker.start()
        try:
            line.pump()
        finally:
            striker.finish()
        line.settle()
        outcome.seconds = time.monotonic() - began
        line.read_back()
        outcome.done = striker.done
        for failure in striker.failures:
            raise failure
    outcome.abandoned = system.abandoned
    return outcome


class Line:
    """The callers of the pipeline: those who publish, and those who look how far it is."""

    def __init__(
        self, system: ActorSystem, outcome: Outcome, striker: Striker, end: float, tell: Callable[[str], None]
    ) -> None:
        self._system, self._outcome, self._striker, self._end, self._tell = system, outcome, striker, end, tell
        self._answers: SimpleQueue[tuple[int, float, Any]] = SimpleQueue()
        self._in_flight = 0
        self._again: deque[tuple[float, int]] = deque()
        self._stored = 0
        self._looked = self._told = time.monotonic()

    def start_consuming(self) -> None:
        """Have everything that is published stored and cached."""
        self._insist(
            BROKER,
            ConsumeNotif(
                queue=QUEUE,
                exchange_name=EXCHANGE,
                tag=TAG,
                redis_cache_exp=CACHED_FOR,
                cache_on_redis=True,
                store_in_db=True,
            ),
        )

    def pump(self) -> None:
        """Publish everything, each until it is confirmed; returns when all is stored."""
        waiting = deque(range(self._outcome.count))
        while self._stored < self._outcome.count and time.monotonic() < self._end:
            now = time.monotonic()
            while self._again and self._again[0][0] <= now and self._in_flight < IN_FLIGHT:
                self._publish(self._again.popleft()[1])
            ahead = self._outcome.count - len(waiting) - self._stored
            # The last ones wait for the last fault: the run is to go on after it.
            kept = 0 if self._striker.over else self._outcome.count * (100 - LAST) // 100
            while len(waiting) > kept and self._in_flight < IN_FLIGHT and ahead < AHEAD:
                self._publish(waiting.popleft())
                ahead += 1
            self._take_answers()
            if now - self._looked >= LOOK_EVERY:
                self._look()

    def settle(self) -> None:
        """Wait until every delivery is acknowledged."""
        while time.monotonic() < self._end:
            self._take_answers()
            counts = self._ask(BROKER, CountQueue(QUEUE))
            if counts is not None:
                self._outcome.left_in_queue = counts.ready + counts.unsettled
                if not self._outcome.left_in_queue and not self._in_flight:
                    self._outcome.ended_by_itself = True
                    return

    def read_back(self) -> None:
        """Compare what is stored and cached with what was published."""
        outcome = self._outcome
        ids = {notification(number).id for number in range(outcome.count)}
        rows: list[Any] = []
        for start in range(0, outcome.count * 2, 5_000):
            page = self._insist(MUTATOR, AllNotifs(from_=start, to=start + 5_000, page_size=5_000))
            rows += page
            if not page:
                break
        stored = Counter(row.nid for row in rows)
        cached: Counter[str] = Counter()
        for receiver in range((outcome.count - 1) // PER_RECEIVER + 1):
            cached.update(item["id"] for item in self._insist(CACHE, CacheItems(f"notif_owner:{receiver}")))
        outcome.missing = sorted(ids - stored.keys())
        outcome.uncached = sorted(ids - cached.keys())
        outcome.stored_twice = sorted(nid for nid, times in stored.items() if times > 1)
        outcome.cached_twice = sorted(nid for nid, times in cached.items() if times > 1)
        try:
            outcome.dead_letters = [letter.message_id for letter in self._insist(BROKER, DeadLetters(QUEUE, 1_000))]
        except ActorError as error:
            outcome.dead_letters = [f"unknown: {error.response}"]

    # --- one ask ---------------------------------------------------------------------------------------------

    def _publish(self, number: int) -> None:
        self._in_flight += 1
        message = ProduceNotif(notif_data=notification(number), exchange_name=EXCHANGE)
        began = time.monotonic()
        try:
            future = self._system.ask(BROKER, message, block=False, timeout=DEADLINE)
        except ActorError as error:
            self._answers.put((number, began, error))
            return

        def note() -> None:
            waited = time.monotonic() - began
            try:
                self._answers.put((number, waited, future.get(timeout=0)))
            except ActorError as error:
                self._answers.put((number, waited, error))

        future.on_done(note)

    def _take_answers(self) -> None:
        timeout = 0.01
        while True:
            try:
                number, waited, answer = self._answers.get(timeout=timeout)
            except Empty:
                return
            timeout = 0.0
            self._in_flight -= 1
            if isinstance(answer, ActorError):
                self._outcome.errors[str(answer.kind)] += 1
                self._again.append((time.monotonic() + AGAIN_AFTER, number))
            else:
                self._outcome.published += 1
            self._outcome.longest_wait = max(self._outcome.longest_wait, waited)

    def _look(self) -> None:
        stored = self._ask(MUTATOR, CountNotifs())
        self._looked = time.monotonic()
        if stored is not None:
            self._stored = stored
            self._striker.reached(stored)
        if self._looked - self._told > 5.0:
            self._told = self._looked
            self._tell(f"published {self._outcome.published}, stored {self._stored}")

    def _ask(self, path: str, message: Message[Any]) -> Any:
        """Ask once; None where there is no answer in time."""
        began = time.monotonic()
        try:
            return self._system.ask(path, message, timeout=DEADLINE)
        except ActorError as error:
            self._outcome.errors[f"{type(message).__name__}: {error.kind}"] += 1
            return None
        finally:
            self._outcome.longest_wait = max(self._outcome.longest_wait, time.monotonic() - began)

    def _insist(self, path: str, message: Message[Any]) -> Any:
        """Ask until there is an answer."""
        end = time.monotonic() + 60.0
        while True:
            began = time.monotonic()
            try:
                return self._system.ask(path, message, timeout=DEADLINE)
            except ActorError:
                if time.monotonic() > end:
                    raise
                time.sleep(AGAIN_AFTER)
            finally:
                self._outcome.longest_wait = max(self._outcome.longest_wait, time.monotonic() - began)

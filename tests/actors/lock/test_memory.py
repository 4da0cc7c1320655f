"""The in-memory lock beyond the contract: any order of calls against a model, and threads."""

import queue
import threading
from collections import Counter
from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from understudy.actors.lock.backend import Acquire, Lease
from understudy.actors.lock.memory import MemoryLock, MemoryLocks
from understudy.messages.errors import LockError


@dataclass
class Wish:
    """What the model knows of a wish."""

    number: int
    ttl: int
    deadline: int
    ends: int = 0
    token: int = 0


class LockAgainstModel(RuleBasedStateMachine):
    """One resource; time passes in whole seconds, so the model can go through it second by second."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.backend = MemoryLock(MemoryLocks(lambda: float(self.now)))
        self.held: Wish | None = None
        self.line: list[Wish] = []
        self.expected: dict[int, str] = {}
        self.answers: dict[int, str] = {}
        self.tokens: dict[int, int] = {}
        self.expected_lost: list[int] = []
        self.lost: list[int] = []
        self.asked = 0

    def grant(self, wish: Wish) -> None:
        wish.ends = self.now + wish.ttl
        self.held = wish
        self.expected[wish.number] = "granted"

    def hand_on(self) -> None:
        self.held = None
        if self.line:
            self.grant(self.line.pop(0))

    @rule(ttl=st.integers(1, 5), wait=st.integers(0, 5))
    def acquire(self, ttl: int, wait: int) -> None:
        number = self.asked
        self.asked += 1
        wish = Wish(number, ttl, self.now + wait)

        def answer(what: Lease | LockError) -> None:
            assert number not in self.answers, "a wish was answered twice"
            if isinstance(what, Lease):
                self.answers[number] = "granted"
                self.tokens[number] = what.token
            else:
                self.answers[number] = str(what.kind)

        def lost(lease: Lease) -> None:
            assert lease.token == self.tokens[number]
            self.lost.append(number)

        if self.held is None:
            self.grant(wish)
        elif wait == 0:
            self.expected[number] = "lock.timeout"
        else:
            self.line.append(wish)
        self.backend.acquire(Acquire("r", "me", f"wish {number}", float(ttl), float(wait)), answer, lost)

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        assert self.held is not None
        self.backend.release("r", self.tokens[self.held.number])
        self.hand_on()

    @precondition(lambda self: self.held)
    @rule(ttl=st.integers(1, 5))
    def renew(self, ttl: int) -> None:
        assert self.held is not None
        self.backend.renew("r", self.tokens[self.held.number], float(ttl))
        self.held.ends = self.now + ttl

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        wish = data.draw(st.sampled_from(self.line))
        self.line.remove(wish)
        assert self.backend.withdraw("r", f"wish {wish.number}")

    @rule()
    def a_second_passes(self) -> None:
        self.now += 1
        for wish in [each for each in self.line if each.deadline <= self.now]:
            self.line.remove(wish)
            self.expected[wish.number] = "lock.timeout"
        if self.held is not None and self.held.ends <= self.now:
            self.expected_lost.append(self.held.number)
            self.hand_on()
        due = self.backend.next_tick()
        if due is not None and due <= self.now:
            self.backend.tick()

    @invariant()
    def agrees(self) -> None:
        assert self.answers == self.expected
        assert self.lost == self.expected_lost
        in_order = [self.tokens[number] for number in self.tokens]
        assert in_order == sorted(set(in_order)), "tokens are handed out in growing order"
        holder = self.backend.holder("r")
        assert (holder and (holder.token, holder.expires_at)) == (
            self.held and (self.tokens[self.held.number], self.held.ends)
        )
        ends = [wish.deadline for wish in self.line] + ([self.held.ends] if self.held else [])
        assert self.backend.next_tick() == min(ends, default=None)


TestLockAgainstModel = LockAgainstModel.TestCase


def test_many_threads_are_never_in_at_the_same_time() -> None:
    locks = MemoryLocks(lambda: 0.0)
    inside, visits, tokens = threading.Lock(), Counter[int](), list[int]()

    def visit(number: int) -> None:
        backend = MemoryLock(locks)
        for turn in range(200):
            answers: queue.SimpleQueue[Lease | LockError] = queue.SimpleQueue()
            wish = Acquire("door", str(number), f"{number}-{turn}", 1.0, 1.0)
            backend.acquire(wish, answers.put, lambda lease: None)
            lease = answers.get(timeout=10)
            assert isinstance(lease, Lease)
            assert inside.acquire(blocking=False), "two were in"
            visits[number] += 1
            tokens.append(lease.token)
            inside.release()
            backend.release("door", lease.token)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert visits == dict.fromkeys(range(4), 200)
    assert tokens == sorted(set(tokens))


def test_short_work_under_long_leases_leaves_nothing_behind() -> None:
    """Leases of an hour that are released at once, and waits of an hour answered at once, are forgotten."""
    locks = MemoryLocks(lambda: 0.0)
    backend = MemoryLock(locks)
    leases: list[Lease | LockError] = []
    for turn in range(5_000):
        for wish in (f"{turn}", f"{turn} again"):
            backend.acquire(Acquire("r", "me", wish, 3600.0, 3600.0), leases.append, lambda lease: None)
        for _ in range(2):
            lease = leases.pop()
            assert isinstance(lease, Lease)
            backend.release("r", lease.token)
    assert len(locks._due) < 200
    assert locks._resources == {}

"""The in-memory cache beyond the contract: its bound, its sweeping, threads, and any order of calls."""

import threading
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from understudy.actors.cache.backend import Operation
from understudy.actors.cache.memory import MemoryCache, MemoryStore
from understudy.messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from understudy.messages.errors import CacheError

KEYS = st.sampled_from(["a", "b", "c", "d"])
EXPIRES = st.one_of(st.none(), st.integers(1, 4))


class CacheAgainstModel(RuleBasedStateMachine):
    """The model keeps everything for ever and works out what can still be seen."""

    LIMIT, ENTRIES = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.store = MemoryStore(lambda: float(self.now), max_entries=self.ENTRIES)
        self.cache = MemoryCache(self.store)
        self.content: dict[str, Any] = {}
        self.ids: dict[str, list[str]] = {}
        self.ends: dict[str, int | None] = {}

    def run(self, operation: Operation) -> Any:
        (outcome,) = self.cache.run([operation])
        return outcome.kind if isinstance(outcome, CacheError) else outcome

    def forget(self, key: str) -> None:
        for part in (self.content, self.ids, self.ends):
            part.pop(key, None)

    def use(self, key: str) -> bool:
        """Whether there is such an entry; it is now the most recently used one."""
        ends = self.ends.get(key)
        if ends is not None and ends <= self.now:
            self.forget(key)
        if key in self.content:
            self.content[key] = self.content.pop(key)
        return key in self.content

    def put(self, key: str, content: Any, expires: int | None) -> None:
        self.forget(key)
        self.content[key] = content
        self.ids[key] = []
        self.ends[key] = None if expires is None else self.now + expires
        if len(self.content) > self.ENTRIES:
            self.forget(next(iter(self.content)))

    @initialize()
    def begin(self) -> None:
        self.now = 100

    @rule(key=KEYS, value=st.integers(0, 9), expires=EXPIRES)
    def set(self, key: str, value: int, expires: int | None) -> None:
        assert self.run(CacheSet(key, value, expires)) is None
        self.expired_first()
        self.put(key, value, expires)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        self.expired_first()
        expected = self.content[key] if self.use(key) else None
        assert self.run(CacheGet(key)) == ("cache.value.wrong_type" if isinstance(expected, list) else expected)

    @rule(key=KEYS, item_id=st.sampled_from(["", *"uvwxyz"]), expires=EXPIRES)
    def append(self, key: str, item_id: str, expires: int | None) -> None:
        outcome = self.run(CacheAppend(key, item_id, item_id, self.LIMIT, expires))
        self.expired_first()
        if not self.use(key):
            self.put(key, [], expires)
        content = self.content[key]
        if not isinstance(content, list):
            assert outcome == "cache.value.wrong_type"
            return
        # Known are the ids in the list, and the last LIMIT ids that were dropped from it.
        dropped = [each for each in self.ids[key][: len(self.ids[key]) - len(content)] if each]
        known = bool(item_id) and item_id in (*content, *dropped[-self.LIMIT :])
        assert outcome is not known
        if not known:
            self.ids[key].append(item_id)
            content.append(item_id)
            del content[: -self.LIMIT]

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.expired_first()
        assert self.run(CacheDelete(key)) is (key in self.content)
        self.forget(key)

    @rule(key=KEYS, expires=EXPIRES)
    def expire(self, key: str, expires: int | None) -> None:
        self.expired_first()
        assert self.run(CacheExpire(key, expires)) is self.use(key)
        if key in self.content:
            self.ends[key] = None if expires is None else self.now + expires

    @rule(key=KEYS)
    def items(self, key: str) -> None:
        self.expired_first()
        expected = self.content[key] if self.use(key) else []
        assert self.run(CacheItems(key)) == (expected if isinstance(expected, list) else "cache.value.wrong_type")

    @rule(key=KEYS)
    def remaining(self, key: str) -> None:
        self.expired_first()
        ends = self.ends.get(key) if self.use(key) else None
        assert self.run(CacheRemaining(key)) == (None if ends is None else ends - self.now)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def expired_first(self) -> None:
        """What has expired is swept before an operation, so it cannot push out what has not."""
        for key in [key for key, ends in self.ends.items() if ends is not None and ends <= self.now]:
            self.forget(key)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.store) <= self.ENTRIES


TestCacheAgainstModel = CacheAgainstModel.TestCase


def test_expired_entries_that_nobody_asks_for_are_swept() -> None:
    now = 0.0
    store = MemoryStore(lambda: now)
    cache = MemoryCache(store)
    cache.run([CacheSet(f"short {number}", number, expires=1) for number in range(1_000)])
    now = 1.0
    cache.run([CacheGet("nothing") for _ in range(100)])
    assert len(store) == 0


def test_keys_that_are_written_again_and_again_leave_nothing_behind() -> None:
    store = MemoryStore(lambda: 0.0)
    cache = MemoryCache(store)
    cache.run([CacheSet("key", number, expires=3600) for number in range(5_000)])
    assert len(store._due) < 200


def test_the_least_recently_used_entry_goes_first() -> None:
    cache = MemoryCache(MemoryStore(lambda: 0.0, max_entries=2))
    cache.run([CacheSet("a", 1), CacheSet("b", 2), CacheGet("a"), CacheSet("c", 3)])
    assert cache.run([CacheGet("a"), CacheGet("b"), CacheGet("c")]) == [1, None, 3]


def test_appends_from_many_threads_are_all_there_once() -> None:
    store = MemoryStore(lambda: 0.0)

    def append(number: int) -> None:
        cache = MemoryCache(store)
        for turn in range(250):
            # Each item is appended by two threads: one of them comes too late.
            cache.run([CacheAppend("list", turn, item_id=f"{number // 2}-{turn}")])

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (items,) = MemoryCache(store).run([CacheItems("list")])
    assert sorted(items) == sorted([*range(250)] * 2)

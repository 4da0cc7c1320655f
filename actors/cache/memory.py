"""A cache in this process's memory.

`MemoryStore` is what is cached, `MemoryCache` a client's connection to it: what is cached outlives the actor
that cached it. There is no thread that throws out what has expired; each operation throws out a little, and
what has expired is never seen.
"""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod
from itertools import islice
from math import inf, isfinite
from typing import Any, Final

import orjson

from ...messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from ...messages.codec import encode_reply
from ...messages.errors import CacheError, CodecError, ErrorKind
from .backend import DEFAULT_LIST_LIMIT, Operation, Outcome

DEFAULT_MAX_ENTRIES: Final = 100_000
SWEPT_PER_OPERATION: Final = 16
"""How many expired entries one operation throws out: work stays small, and more go than come."""


@dataclass(slots=True, eq=False)
class _List:
    """Items as JSON, oldest first, and the ids that are known: the items', and those of some dropped ones."""

    items: deque[tuple[str, bytes]] = field(default_factory=deque)
    ids: set[str] = field(default_factory=set)
    dropped: deque[str] = field(default_factory=deque)

    def append(self, item_id: str, item: bytes, limit: int) -> bool:
        """Add an item unless its id is known, and drop what is above the limit."""
        if item_id and item_id in self.ids:
            return False
        self.items.append((item_id, item))
        if item_id:
            self.ids.add(item_id)
        while len(self.items) > limit:
            oldest, _ = self.items.popleft()
            if oldest:
                self.dropped.append(oldest)
        while len(self.dropped) > limit:
            self.ids.discard(self.dropped.popleft())
        return True


@dataclass(slots=True, eq=False)
class _Entry:
    """What a key holds: a value as JSON, or a list; and when it ends."""

    content: bytes | _List
    ends: float = inf


class MemoryStore:
    """Entries, the least recently used first. Not locked: its connections lock it.

    Args:
        clock: Seconds, monotonic.
        max_entries: How many keys it may hold; beyond that the least recently used one is forgotten.
    """

    def __init__(self, clock: Callable[[], float], max_entries: int = DEFAULT_MAX_ENTRIES) -> None:
        self.lock = threading.Lock()
        self._clock = clock
        self._max_entries = max_entries
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # When each entry ends. What is overwritten or deleted stays until then, or until most are like it.
        self._due: list[tuple[float, int, str, _Entry]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._entries)

    def run(self, operation: Operation) -> Outcome:
        """Carry one operation out."""
        now = self._clock()
        self._sweep(now)
        try:
            return self._run(operation, now)
        except CacheError as error:
            return error

    @singledispatchmethod
    def _run(self, operation: Operation, now: float) -> Any:
        raise AssertionError(f"{operation!r} is no operation of a cache")

    @_run.register
    def _get(self, operation: CacheGet, now: float) -> Any:
        entry = self._find(operation.key, now)
        return None if entry is None else orjson.loads(_value(operation.key, entry))

    @_run.register
    def _set(self, operation: CacheSet, now: float) -> None:
        self._put(operation.key, _Entry(_json(operation.key, operation.value), _ends(operation.expires, now)))

    @_run.register
    def _append(self, operation: CacheAppend, now: float) -> bool:
        limit = DEFAULT_LIST_LIMIT if operation.limit is None else operation.limit
        if limit < 1:
            raise _invalid(f"limit={operation.limit!r} must be at least 1")
        item = _json(operation.key, operation.item)
        ends = _ends(operation.expires, now)
        entry = self._find(operation.key, now)
        if entry is None:
            entry = _Entry(_List(), ends)
            self._put(operation.key, entry)
        return _list(operation.key, entry).append(operation.item_id, item, limit)

    @_run.register
    def _items(self, operation: CacheItems, now: float) -> list[Any]:
        entry = self._find(operation.key, now)
        if entry is None:
            return []
        items = _list(operation.key, entry).items
        start = 0 if operation.last is None else max(0, len(items) - operation.last)
        return [orjson.loads(item) for _, item in islice(items, start, None)]

    @_run.register
    def _delete(self, operation: CacheDelete, now: float) -> bool:
        return self._find(operation.key, now) is not None and self._entries.pop(operation.key) is not None

    @_run.register
    def _expire(self, operation: CacheExpire, now: float) -> bool:
        ends = _ends(operation.expires, now)
        entry = self._find(operation.key, now)
        if entry is not None:
            entry.ends = ends
            self._at(operation.key, entry)
        return entry is not None

    @_run.register
    def _remaining(self, operation: CacheRemaining, now: float) -> float | None:
        entry = self._find(operation.key, now)
        return None if entry is None or entry.ends == inf else entry.ends - now

    def _find(self, key: str, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.ends <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry

    def _put(self, key: str, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        self._at(key, entry)

    def _at(self, key: str, entry: _Entry) -> None:
        if entry.ends == inf:
            return
        if len(self._due) > 2 * len(self._entries) + 64:
            self._due = [due for due in self._due if self._is_current(due)]
            heapq.heapify(self._due)
        self._order += 1
        heapq.heappush(self._due, (entry.ends, self._order, key, entry))

    def _sweep(self, now: float) -> None:
        for _ in range(SWEPT_PER_OPERATION):
            if not self._due or self._due[0][0] > now:
                return
            due = heapq.heappop(self._due)
            if self._is_current(due):
                del self._entries[due[2]]

    def _is_current(self, due: tuple[float, int, str, _Entry]) -> bool:
        ends, _, key, entry = due
        return entry.ends == ends and self._entries.get(key) is entry


class MemoryCache:
    """A connection to a `MemoryStore`; a backend of the cache actor. Safe to use from any thread.

    Args:
        store: What is cached.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._closed = False

    def run(self, operations: Sequence[Operation], timeout: float | None = None) -> list[Outcome]:
        """See `CacheBackend.run`."""
        with self._store.lock:
            if self._closed:
                return [
                    CacheError("the connection to the cache is closed", kind=ErrorKind.CACHE_CLOSED) for _ in operations
                ]
            return [self._store.run(operation) for operation in operations]

    def close(self) -> None:
        """See `CacheBackend.close`."""
        with self._store.lock:
            self._closed = True


def _value(key: str, entry: _Entry) -> bytes:
    if isinstance(entry.content, bytes):
        return entry.content
    raise CacheError(f"key {key!r} holds a list, not a value", kind=ErrorKind.CACHE_WRONG_TYPE)


def _list(key: str, entry: _Entry) -> _List:
    if isinstance(entry.content, _List):
        return entry.content
    raise CacheError(f"key {key!r} holds a value, not a list", kind=ErrorKind.CACHE_WRONG_TYPE)


def _json(key: str, value: object) -> bytes:
    # Kept as text: what is handed out is never what somebody else may be changing.
    try:
        return encode_reply(value)
    except CodecError as error:
        raise CacheError(
            f"key {key!r}: {str(error).removeprefix('reply: ')}", kind=ErrorKind.CACHE_REQUEST_INVALID, cause=error
        ) from error


def _ends(expires: float | None, now: float) -> float:
    if expires is None:
        return inf
    if not (isfinite(expires) and expires > 0):
        raise _invalid(f"expires={expires!r} must be finite and above 0 seconds")
    return now + expires


def _invalid(text: str) -> CacheError:
    return CacheError(text, kind=ErrorKind.CACHE_REQUEST_INVALID)

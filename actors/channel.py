"""Channels: a bounded line of items between threads and coroutines, in any combination.

    channel = Channel[Row](100)
    channel.put(row, timeout=1.0)       # on a thread: waits while it is full
    await channel.aput(row)             # in a coroutine: the loop goes on meanwhile
    for row in channel: ...             # ends when the channel is closed and empty; `async for` likewise

Items are taken in the order they were put, and who waits is served in the order of coming, threads and
coroutines in one line. A pooled actor that waits here lends its worker to others, as in an ask.

Whoever waits is served by the one who comes, under the channel's lock: the item itself is handed over, not
merely the news that there is one, so that nobody can come in between.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from ..messages.errors import ChannelClosed, ChannelTimeout, ErrorKind, LoopBlocked, SpecInvalid
from ..messages.redact import repr_of
from . import execution
from .timeouts import as_timeout

__all__ = ["Channel"]

T = TypeVar("T")

WAITING, SERVED, CLOSED, GONE = range(4)
"""What has become of a waiter."""


class _Waiter(Generic[T]):
    """Somebody in the line: who waits for an item, or with one for a place."""

    __slots__ = ("number", "parcel", "state")

    def __init__(self, *parcel: T) -> None:
        self.parcel = parcel
        self.number = 0  # the place in the order of items of what was handed over
        self.state = WAITING

    def wake(self) -> bool:
        """Let it go on. Returns False if it cannot any more."""
        raise NotImplementedError


class _Thread(_Waiter[T]):
    __slots__ = ("latch",)

    def __init__(self, *parcel: T) -> None:
        super().__init__(*parcel)
        self.latch = threading.Lock()
        self.latch.acquire()

    def wake(self) -> bool:
        execution.free(self.latch)
        return True


class _Coroutine(_Waiter[T]):
    __slots__ = ("loop", "settled")

    def __init__(self, *parcel: T) -> None:
        super().__init__(*parcel)
        self.loop = asyncio.get_running_loop()
        self.settled: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> bool:
        try:
            self.loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop was closed, and the coroutine with it
            return False
        return True

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)


class Channel(Generic[T]):
    """A bounded line of items between threads and coroutines. See the module's description.

    Args:
        capacity: how many items may lie in it before ``put`` waits; at least 1.

    Raises:
        SpecInvalid: the capacity is not a number above zero.
    """

    def __init__(self, capacity: int = 1) -> None:
        if type(capacity) is not int or capacity < 1:
            raise SpecInvalid(
                f"a channel's capacity is an int of at least 1, not {repr_of(capacity)}",
                kind=ErrorKind.CHANNEL_INVALID,
                field="capacity",
                value=capacity,
            )
        self._capacity = capacity
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._items: deque[tuple[int, T]] = deque()
        self._getters: deque[_Waiter[T]] = deque()  # only while there are no items
        self._putters: deque[_Waiter[T]] = deque()  # only while it is full
        self._closed = False

    @property
    def capacity(self) -> int:
        """How many items may lie in it."""
        return self._capacity

    @property
    def closed(self) -> bool:
        """Whether nothing can be put any more; what lies in it can still be taken."""
        return self._closed

    def __len__(self) -> int:
        """How many items lie in it."""
        return len(self._items)

    def __bool__(self) -> bool:
        """A channel is true, empty or not."""
        return True

    # --- threads ---------------------------------------------------------------------------------------

    def put(self, item: T, *, timeout: float | None = None) -> None:
        """Put ``item`` at the end, waiting for a place.

        Args:
            item: what to put.
            timeout: seconds to wait at most; 0 or less: not at all; None: no limit.

        Raises:
            ChannelClosed: the channel is closed, or was while this waited; the item was not put.
            ChannelTimeout: (also a ``pykka.Timeout``) there was no place in time; the item was not put.
            LoopBlocked: it would have to wait on an event loop's thread.
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
        """
        timeout = as_timeout(timeout, verb="put")
        with self._lock:
            if self._put_at_once(item):
                return
            waiter = self._line_up(self._putters, _Thread(item), "put", timeout)
        self._wait(self._putters, waiter, "put", timeout)

    def get(self, *, timeout: float | None = None) -> T:
        """Take the item that has been there longest, waiting for one.

        Args:
            timeout: seconds to wait at most; 0 or less: not at all; None: no limit.

        Raises:
            ChannelClosed: the channel is closed and empty.
            ChannelTimeout: (also a ``pykka.Timeout``) nothing came in time.
            LoopBlocked: it would have to wait on an event loop's thread.
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
        """
        timeout = as_timeout(timeout, verb="get")
        with self._lock:
            if self._items:
                return self._take()
            waiter = self._line_up(self._getters, _Thread(), "get", timeout)
        self._wait(self._getters, waiter, "get", timeout)
        return waiter.parcel[0]

    def __iter__(self) -> Iterator[T]:
        """Take items until the channel is closed and empty."""
        with suppress(ChannelClosed):
            while True:
                yield self.get()

    # --- coroutines ------------------------------------------------------------------------------------

    async def aput(self, item: T) -> None:
        """As ``put``, in a coroutine; use ``asyncio.timeout`` for a limit.

        If it is cancelled while it waits, the item was not put; unless a place became free in that very moment.

        Raises:
            ChannelClosed: the channel is closed, or was while this waited; the item was not put.
        """
        with self._lock:
            if self._put_at_once(item):
                return
            waiter = self._line_up(self._putters, _Coroutine(item), "put", None)
        await self._await(self._putters, waiter, "put")

    async def aget(self) -> T:
        """As ``get``, in a coroutine; use ``asyncio.timeout`` for a limit. Cancelling it loses no item.

        Raises:
            ChannelClosed: the channel is closed and empty.
        """
        with self._lock:
            if self._items:
                return self._take()
            waiter = self._line_up(self._getters, _Coroutine(), "get", None)
        await self._await(self._getters, waiter, "get")
        return waiter.parcel[0]

    async def __aiter__(self) -> AsyncIterator[T]:
        """Take items until the channel is closed and empty."""
        with suppress(ChannelClosed):
            while True:
                yield await self.aget()

    # --- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let nothing be put any more; harmless if it is closed already.

        What lies in the channel can still be taken; then ``get`` raises ``ChannelClosed`` and loops end. Who
        waits with an item for a place gets ``ChannelClosed``.
        """
        with self._lock:
            self._closed = True
            for line in (self._getters, self._putters):
                while line:
                    waiter = line.popleft()
                    waiter.state = CLOSED
                    waiter.wake()

    # --- under the lock --------------------------------------------------------------------------------

    def _put_at_once(self, item: T) -> bool:
        """Put the item where there is a place or somebody waits for it."""
        if self._closed:
            raise self._closed_error("put")
        if len(self._items) >= self._capacity:
            return False
        self._lay_down(next(self._numbers), item)
        return True

    def _lay_down(self, number: int, item: T) -> None:
        """Give the item to who waits for one, or put it in its place."""
        items = self._items
        if self._hand_over(number, item):
            return
        behind = len(items)
        while behind and items[behind - 1][0] > number:  # it was taken before, and comes back
            behind -= 1
        items.insert(behind, (number, item))

    def _hand_over(self, number: int, item: T) -> bool:
        """Give the item to who has waited longest for one, if anybody does."""
        while self._getters:
            getter = self._getters.popleft()
            getter.number, getter.parcel = number, (item,)
            getter.state = SERVED
            if getter.wake():
                return True
            getter.state = GONE
        return False

    def _take(self) -> T:
        """Take the first item, and let who has waited longest for a place have it."""
        _, item = self._items.popleft()
        while self._putters and len(self._items) < self._capacity:
            putter = self._putters.popleft()
            putter.state = SERVED  # before it is woken: it looks without the lock
            if putter.wake():
                self._items.append((next(self._numbers), putter.parcel[0]))
            else:
                putter.state = GONE
        return item

    def _line_up(self, line: deque[_Waiter[T]], waiter: _Waiter[T], verb: str, timeout: float | None) -> _Waiter[T]:
        if self._closed:
            raise self._closed_error(verb)
        if timeout is not None and timeout <= 0:
            raise self._timeout_error(verb, timeout)
        if isinstance(waiter, _Thread) and execution.on_event_loop():
            raise LoopBlocked(
                f"{verb} would hold up the event loop that runs on this thread: await channel.a{verb}()",
                kind=ErrorKind.CHANNEL_BLOCKS_LOOP,
                verb=verb,
            )
        line.append(waiter)
        return waiter

    def _withdraw(self, line: deque[_Waiter[T]], waiter: _Waiter[T]) -> None:
        """Leave the line; what was handed over in the last moment goes back to where it came from."""
        if waiter.state == WAITING:
            line.remove(waiter)
        elif waiter.state == SERVED and line is self._getters:
            self._lay_down(waiter.number, waiter.parcel[0])

    # --- waiting ---------------------------------------------------------------------------------------

    def _wait(self, line: deque[_Waiter[T]], waiter: _Waiter[T], verb: str, timeout: float | None) -> None:
        assert isinstance(waiter, _Thread)
        try:
            execution.wait(waiter.latch, timeout, None)
        except BaseException:  # the actor was killed, or the work cancelled
            with self._lock:
                self._withdraw(line, waiter)
            raise
        with self._lock:
            state = waiter.state
            if state == WAITING:
                line.remove(waiter)
        self._check(state, verb, timeout)

    async def _await(self, line: deque[_Waiter[T]], waiter: _Waiter[T], verb: str) -> None:
        assert isinstance(waiter, _Coroutine)
        try:
            await waiter.settled
        except BaseException:  # cancelled
            with self._lock:
                self._withdraw(line, waiter)
            raise
        self._check(waiter.state, verb, None)

    def _check(self, state: int, verb: str, timeout: float | None) -> None:
        if state == CLOSED:
            raise self._closed_error(verb)
        if state == WAITING:
            raise self._timeout_error(verb, timeout)

    def _closed_error(self, verb: str) -> ChannelClosed:
        what = "nothing can be put into it" if verb == "put" else "everything in it is taken"
        return ChannelClosed(f"the channel is closed: {what}", verb=verb)

    def _timeout_error(self, verb: str, timeout: float | None) -> ChannelTimeout:
        what = f"no place among {self._capacity}" if verb == "put" else "nothing came"
        return ChannelTimeout(f"{what} within {timeout} seconds", verb=verb)

    def __repr__(self) -> str:
        state = "closed, " if self._closed else ""
        return f"<Channel {state}{len(self._items)} of {self._capacity}>"

"""Streams of tasks: a function called with many items, several at a time, and no task that outlives the loop."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypedDict, TypeVar, get_args

from ..actors import execution
from ..actors.future import Future
from ..actors.timers import Timer
from ..messages.errors import AskTimeout, ErrorKind, LoopBlocked, SpecInvalid, TaskCrashed, TaskTimeout
from ..messages.redact import repr_of
from .child import WORKER_SHUTDOWN
from .task import TASK_TIMEOUT, Failed, Task, TaskOutcome, settling

if TYPE_CHECKING:
    from ..actors.cell import Cell
    from ..actors.dispatch.background import Background
    from ..actors.execution import Party, Wait

__all__ = ["OnTimeout", "StreamKeywords", "StreamOptions", "TaskStream"]

T = TypeVar("T")
R = TypeVar("R")

OnTimeout = Literal["exit", "kill_task"]


class StreamKeywords(TypedDict, total=False):
    """The keyword arguments of ``stream``."""

    max_concurrency: int | None
    ordered: bool
    timeout: float | None
    on_timeout: OnTimeout
    zip_input_on_exit: bool


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream runs; see ``TaskSupervisorRef.stream``.

    Raises:
        SpecInvalid: an option is not what it may be.
    """

    max_concurrency: int | None = None
    ordered: bool = True
    timeout: float | None = TASK_TIMEOUT
    on_timeout: OnTimeout = "exit"
    zip_input_on_exit: bool = False

    def __post_init__(self) -> None:
        limit, timeout = self.max_concurrency, self.timeout
        good = limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1)
        _require("max_concurrency", limit, good, "a whole number, 1 or more, or None")
        _require("ordered", self.ordered, isinstance(self.ordered, bool), "True or False")
        seconds = isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and timeout >= 0
        _require("timeout", timeout, timeout is None or seconds, "seconds, 0 or more, or None")
        choices = get_args(OnTimeout)
        _require("on_timeout", self.on_timeout, self.on_timeout in choices, " or ".join(map(repr, choices)))
        zips = self.zip_input_on_exit
        _require("zip_input_on_exit", zips, isinstance(zips, bool), "True or False")

    @property
    def limit(self) -> int:
        """How many tasks there are at once."""
        return self.max_concurrency or os.cpu_count() or 1


def _require(field: str, value: object, good: bool, wanted: str) -> None:
    if not good:
        raise SpecInvalid(
            f"stream({field}={repr_of(value)}): give {wanted}",
            kind=ErrorKind.SUPERVISOR_FLAGS_INVALID,
            field=field,
            value=value,
        )


class TaskStream(Generic[T, R]):
    """What ``stream`` gives: iterate over it, by ``for`` or ``async for``. Each loop calls the work anew.

    An ``async for`` that is left early leaves its end to the event loop, as any does; to wait for it there::

        async with aclosing(aiter(stream)) as outcomes:
            async for outcome in outcomes: ...
    """

    def __init__(
        self,
        supervisor: Cell,
        begin: Callable[[T], Task[R]],
        items: Iterable[T],
        options: StreamOptions,
        *,
        linked: bool,
    ) -> None:
        self.supervisor = supervisor
        self.begin = begin
        self.items = items
        self.options = options
        self.linked = linked

    def __iter__(self) -> Generator[TaskOutcome[R], None, None]:
        """On a thread: wait for the outcomes."""
        if execution.on_event_loop():
            raise LoopBlocked("a `for` over a stream of tasks would block the event loop: write `async for`")
        window = _Window(self)
        try:
            while window.fill():
                window.wait()
                yield window.take()
        finally:
            window.close()

    async def __aiter__(self) -> AsyncGenerator[TaskOutcome[R], None]:
        """In a coroutine: await the outcomes."""
        window = _Window(self)
        try:
            while window.fill():
                await window.await_next()
                yield window.take()
        finally:
            await window.aclose()


class _Entry(Generic[T, R]):
    """An item and its task."""

    __slots__ = ("item", "task", "timer")

    def __init__(self, item: T, task: Task[R]) -> None:
        self.item = item
        self.task = task
        self.timer: Timer | None = None


class _Window(Generic[T, R]):
    """The tasks of one loop that were started and whose outcome was not taken yet.

    To whom they keep waiting it is one party (``execution.Party``): a task that asks the actor which runs the
    loop is told of the cycle.
    """

    actor: None = None
    current: None = None
    latch: threading.Lock | None = None
    depth = 0

    def __init__(self, stream: TaskStream[T, R]) -> None:
        self.runtime = stream.supervisor.runtime
        self.waiting_on: tuple[Party | Wait, ...] = ()
        self._stream = stream
        self._options = stream.options
        self._items = iter(stream.items)
        self._exhausted = False
        self._open: dict[_Entry[T, R], None] = {}
        self._done: dict[_Entry[T, R], None] = {}
        self._refused: _Entry[T, R] | None = None
        self._ending: list[Task[R]] = []  # whose outcome was taken, but whose code may still run
        self._change = threading.Lock()
        self._arrival: Future[None] | None = None

    def raise_if_cancelled(self) -> None:
        """Nobody cancels it but itself."""

    @property
    def path(self) -> str:
        """How it is named in texts."""
        return f"{self._stream.supervisor.path}~stream"

    @property
    def dispatcher(self) -> Background:
        """What its tasks run on."""
        return self.runtime.background

    # --- starting tasks and taking outcomes ------------------------------------------------------------

    def fill(self) -> bool:
        """Start tasks for the next items, as far as may be. Returns whether there is an outcome to wait for."""
        while not self._exhausted and len(self._open) < self._options.limit:
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
            else:
                self._start(item)
        return bool(self._open)

    def _start(self, item: T) -> None:
        task = self._stream.begin(item)
        entry = _Entry(item, task)
        self._open[entry] = None
        timeout = self._options.timeout
        if timeout is not None:
            entry.timer = self.runtime.after(timeout, lambda: task._expire(timeout))
        task._result.on_done(lambda: self._arrived(entry))

    def _arrived(self, entry: _Entry[T, R]) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        with self._change:
            self._done[entry] = None
            if entry.task._refused:
                self._refused = entry
            arrival = self._arrival
        if arrival is not None:
            arrival.try_set(None)

    def _next(self) -> _Entry[T, R] | None:
        """Whose outcome comes next, if it is there."""
        with self._change:
            if self._refused is not None:  # the loop ends by it: there is no point in waiting for those before
                return self._refused
            candidates = self._open if self._options.ordered else self._done
            first = next(iter(candidates), None)
            return first if first in self._done else None

    def take(self) -> TaskOutcome[R]:
        """The next outcome, which is there; raises what ends the loop."""
        entry = self._next()
        assert entry is not None
        with self._change:
            del self._open[entry], self._done[entry]
        self._ending = [task for task in (*self._ending, entry.task) if not task._ended.done]
        outcome = entry.task._read()
        if not isinstance(outcome, Failed):
            return outcome
        error = outcome.error
        match error:
            case TaskTimeout():
                goes_on = self._options.on_timeout == "kill_task"
            case TaskCrashed():
                goes_on = not self._stream.linked
            case _:
                goes_on = False  # it was not even started
        if not goes_on:
            raise error.with_traceback(None)
        return Failed(error, entry.item) if self._options.zip_input_on_exit else outcome

    # --- waiting ---------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Wait until the next outcome is there."""
        while self._next() is None:
            with _within_deadline():
                self._arrival_of_one().get()

    async def await_next(self) -> None:
        """As ``wait``, in a coroutine."""
        while self._next() is None:
            with _within_deadline():
                await self._arrival_of_one()

    def _arrival_of_one(self) -> Future[None]:
        """Settled when another task is done."""
        arrival: Future[None] = Future()
        arrival.target = self
        self.waiting_on = tuple(entry.task._work for entry in self._open if entry.task._work is not None)
        with self._change:
            self._arrival = arrival
        if self._next() is not None:
            arrival.try_set(None)
        deadline = execution.inherited_deadline(execution.current.get())
        if deadline is not None:
            arrival.expire_at(deadline)
        return arrival

    # --- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel what runs, and wait until its code has ended."""
        self._cancel()
        if execution.on_event_loop():
            return  # a generator that was left behind is closed wherever the last reference to it goes
        # As nobody in particular: a consumer that is itself being killed or cancelled waits here all the same.
        before = execution.current.set(None)
        try:
            until = self.runtime.clock() + WORKER_SHUTDOWN
            for task in self._left():
                with suppress(AskTimeout):
                    settling(task._ended, task._work).get(timeout=max(0.0, until - self.runtime.clock()))
        finally:
            execution.current.reset(before)

    async def aclose(self) -> None:
        """As ``close``, in a coroutine."""
        import asyncio

        self._cancel()
        left = self._left()
        if left:
            with suppress(TimeoutError):
                async with asyncio.timeout(WORKER_SHUTDOWN):
                    for task in left:
                        await settling(task._ended, None)

    def _cancel(self) -> None:
        for entry in self._open:
            if entry.timer is not None:
                entry.timer.cancel()
            entry.task._stop()

    def _left(self) -> list[Task[R]]:
        """The tasks whose code may still run."""
        return [task for task in (*(entry.task for entry in self._open), *self._ending) if not task._ended.done]


@contextmanager
def _within_deadline() -> Iterator[None]:
    """Turns the deadline of what is being handled into the stream's own error."""
    try:
        yield
    except AskTimeout as error:
        raise TaskTimeout(
            "the deadline of what is being handled passed before the stream of tasks came to its end", verb="stream"
        ) from error

"""The reply that is not here yet: pykka's future, cheaper, awaitable without blocking the loop."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pykka

from ..messages.errors import ActorError, AskCycle, AskTimeout
from . import execution
from .forking import renewed_in_forks
from .timeouts import INFINITY, as_timeout
from .timers import Timer

if TYPE_CHECKING:
    from .execution import Party

__all__ = ["Future", "not_answered"]

T = TypeVar("T")
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
Outcome = tuple[Any, ExcInfo | None]

# One lock for every future's few instructions of settling: a million waiting asks need no million locks.
_settling = renewed_in_forks(threading.Lock())
_UNSET = pykka.Future()._get_hook_result


class Future(pykka.Future[T]):
    """The outcome of an ask.

    It is pykka's future (``get``, ``set``, ``map``, ``join`` …) with three differences: waiting in a pooled
    actor lends the worker to others, ``await`` never blocks the event loop, and a wait that would close a
    cycle of actors raises ``AskCycle`` instead of hanging.
    """

    _get_hook: Callable[[float | None], T] | None = None
    _get_hook_result: Any = _UNSET
    _outcome: Outcome | None = None
    _callbacks: list[Callable[[], None]] | None = None
    target: Party | None = None
    """Who will answer, where that is known: waiting for it may close a cycle."""
    ground: Party | None = None
    """A cell on whose dispatcher the answer comes about, where the wait for it needs no note, or has one."""
    method: str | None = None
    """For the future of an ask: the name that its caller gave the call, or nothing."""
    verb: str = "ask"
    """What is waited for, as errors say it."""

    def __init__(self) -> None:
        """Make an empty future; pykka's own set-up is replaced by the class's defaults."""

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._outcome is not None

    @property
    def error(self) -> BaseException | None:
        """What it was failed with; None if there is a value, or nothing yet."""
        outcome = self._outcome
        return None if outcome is None or outcome[1] is None else outcome[1][1]

    def get(self, *, timeout: float | None = None) -> T:
        """Wait for the value and return it.

        Args:
            timeout: seconds to wait, None for no limit. Below 0 is as 0: it has passed already.

        Raises:
            AskTimeout: (also a ``pykka.Timeout``) when the time ran out.
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
            AskCycle: when the actor that calls is itself waited for by the one that would answer.
            Exception: what the future was failed with.
        """
        if timeout is not None and (type(timeout) is not float or not 0.0 <= timeout < INFINITY):
            timeout = self._as_timeout(timeout)
        if self._get_hook is not None:
            return self._get_by_hook(timeout)
        outcome = self._outcome
        if outcome is None:
            self._wait(timeout)
            outcome = cast("Outcome", self._outcome)
        value, exc_info = outcome
        if exc_info is None:
            return cast("T", value)
        exc_type, error, traceback = exc_info
        if error is None:
            error = cast("type[BaseException]", exc_type)()
        if self.method is not None and self.target is not None and isinstance(error, ActorError):
            error.note_call(self.method or None, self.target.path, self.verb)
            error.note_message("", self.target.runtime.new_id)
        if error.__traceback__ is not traceback:
            raise error.with_traceback(traceback)
        raise error

    def set(self, value: T | None = None) -> None:
        """Give the value.

        Raises:
            queue.Full: if there is an outcome or a get hook already.
        """
        if not self._settle((value, None)):
            raise queue.Full

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Fail the future with ``exc_info``, by default the exception that is being handled.

        Raises:
            queue.Full: if there is an outcome or a get hook already.
        """
        assert exc_info is None or len(exc_info) == 3
        if not self._settle((None, sys.exc_info() if exc_info is None else exc_info)):
            raise queue.Full

    def try_set(self, value: T | None) -> bool:
        """Give the value if nothing came before; a late reply is dropped.

        Returns:
            whether this was the first outcome.
        """
        return self._settle((value, None))

    def try_fail(self, error: BaseException) -> bool:
        """Fail the future if nothing came before; returns whether this was the first outcome."""
        return self._settle((None, (type(error), error, error.__traceback__)))

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Let ``func(timeout)`` produce the value when it is first asked for.

        Raises:
            queue.Full: if there is an outcome already.
        """
        with _settling:
            if self._outcome is not None:
                raise queue.Full
            self._get_hook = func
            self._hook_lock = threading.RLock()

    def on_done(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once there is an outcome: at once if there is one, else on the answering thread."""
        with _settling:
            if self._outcome is None:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def expire_at(self, deadline: float, message_type: str = "") -> None:
        """Fail with ``AskTimeout`` at ``deadline`` (the target's clock), unless an outcome comes before."""
        target = self.target
        assert target is not None

        def expire() -> None:
            if not self.done:
                self.try_fail(not_answered(target, None, message_type, deadline))

        timer = target.runtime.timers.add(Timer(deadline, expire))
        self.on_done(timer.cancel)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in a coroutine: the loop goes on with other tasks."""
        if self._get_hook is not None:
            import asyncio  # whoever awaits has it; whoever does not need not pay for it

            loop = asyncio.get_running_loop()
            return (yield from loop.run_in_executor(None, self.get).__await__())
        if self._outcome is None:
            yield from self._await_outcome()
        return self.get()

    __iter__ = __await__

    def _await_outcome(self) -> Generator[Any, None, None]:
        import asyncio

        loop = asyncio.get_running_loop()
        settled = loop.create_future()

        def release() -> None:
            if not settled.done():
                settled.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(release)

        self.on_done(wake)
        try:
            yield from self._await_noted(settled)
        finally:
            self._forget(wake)

    def _await_noted(self, settled: Awaitable[None]) -> Generator[Any, None, None]:
        here, target = execution.current.get(), self.target
        if here is None or target is None or execution.is_left_behind(here):
            yield from settled.__await__()
            return
        try:
            with execution.Awaiting(here, target, self):
                yield from settled.__await__()
        except AskCycle as cycle:
            self.try_fail(cycle)
            raise

    def _forget(self, callback: Callable[[], None]) -> None:
        """Who waited has gone: a wait that is begun again and again must not pile callbacks up."""
        if self._callbacks is not None:
            with _settling:
                if self._callbacks is not None and callback in self._callbacks:
                    self._callbacks.remove(callback)

    def _settle(self, outcome: Outcome) -> bool:
        with _settling:
            if self._outcome is not None or self._get_hook is not None:
                return False
            self._outcome = outcome
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()
        return True

    def _as_timeout(self, timeout: object) -> float | None:
        target = self.target
        pykkas = target is not None and getattr(target, "parent", self) is None
        path = None if target is None else target.path
        return as_timeout(timeout, target=path, verb="get", as_pykka=pykkas)

    def _get_by_hook(self, timeout: float | None) -> T:
        with self._hook_lock:
            if self._get_hook_result is _UNSET:
                assert self._get_hook is not None
                self._get_hook_result = self._get_hook(timeout)
            return cast("T", self._get_hook_result)

    def _wait(self, timeout: float | None) -> None:
        here, target = execution.current.get(), self.target
        if here is None or target is None:
            self._block(timeout, target or self.ground)
            return
        try:
            with execution.Blocking(here, target, self):
                self._block(timeout, target)
        except AskCycle as cycle:
            self.try_fail(cycle)  # what would wait for itself must not be handled either
            raise

    def _block(self, timeout: float | None, target: Party | None) -> None:
        if timeout is not None and timeout <= 0 and (target is None or not target.dispatcher.drives_waiters):
            arrived = self._outcome is not None
        else:
            latch = threading.Lock()
            latch.acquire()

            def wake() -> None:
                execution.free(latch)  # a killer may have released it

            self.on_done(wake)
            try:
                arrived = execution.wait(latch, timeout, target)
            finally:
                self._forget(wake)
        if not arrived and self._outcome is None:
            raise not_answered(target, timeout, verb=self.verb)


def not_answered(
    who: Party | None,
    timeout: float | None,
    message_type: str = "",
    deadline: float | None = None,
    verb: str = "ask",
) -> AskTimeout:
    """The error for who waited in vain.

    Args:
        who: did not answer; None if nobody knows.
        timeout: seconds that were waited; None: until the deadline.
        message_type: what was asked.
        deadline: that of the ask, if it is this that has passed.
        verb: what was called.
    """
    path = "" if who is None else who.path
    what = "nothing came" if not path else f"{path} did not answer {message_type}".rstrip()
    when = "before the deadline" if timeout is None else f"within {round(timeout, 3):g} seconds"
    error = AskTimeout(f"{what} {when}", actor=path, target=path, verb=verb, message_type=message_type)
    error.deadline = deadline
    return error

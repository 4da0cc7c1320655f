"""What an actor starts beside its messages: work in the background, and races."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

if TYPE_CHECKING:
    import pykka

    from .actor import Actor
    from .background import BackgroundTask
    from .future import Future

__all__ = ["Spawning"]

P = ParamSpec("P")
R = TypeVar("R")

GRACE = 0.1
"""Seconds that a decided race waits for the losers to end."""


class Spawning:
    """The part of ``Actor`` that starts work in the background."""

    @overload
    def spawn(
        self, work: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> BackgroundTask[R]: ...
    @overload
    def spawn(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BackgroundTask[R]: ...

    def spawn(self, work: Any, /, *args: Any, **kwargs: Any) -> BackgroundTask[Any]:
        """Run ``work`` in the background: a function on a worker thread, a coroutine function on the event loop.

        The actor goes on handling messages meanwhile; the work shares no state with it and tells it what it
        found out. When the incarnation ends, the work is cancelled. It may outlive the request that started
        it, so it inherits no deadline. An exception is delivered through the task's ``result``, published as a
        ``BackgroundFailed`` event, and told to the actor as ``TaskFailed`` if there is a handler for it.

        Args:
            work: the function or coroutine function; a lambda that returns a coroutine is neither.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            the task: its ``result``, and ``cancel()``.

        Raises:
            IncarnationFenced: this incarnation has ended.
            SystemStopped: the system has stopped.
            DispatcherExhausted: there is no thread for it.
            ForkedSystem: the process was forked after the system had started.
        """
        from .launching import launch  # asyncio comes with it: only who spawns pays for that

        owner = cast("Actor", self)
        return launch(owner._cell.runtime, owner, work, args, kwargs)

    @overload
    def race(
        self,
        *works: Callable[[], Coroutine[Any, Any, R]] | Coroutine[Any, Any, R],
        timeout: float | None = None,
        grace: float = GRACE,
    ) -> Future[R]: ...
    @overload
    def race(
        self,
        *works: Callable[[], R] | BackgroundTask[R] | pykka.Future[R],
        timeout: float | None = None,
        grace: float = GRACE,
    ) -> Future[R]: ...
    @overload
    def race(self, *works: Any, timeout: float | None = None, grace: float = GRACE) -> Future[Any]: ...

    def race(self, *works: Any, timeout: float | None = None, grace: float = GRACE) -> Future[Any]:
        """Run ``works`` at once in the background; the first result wins, the others are cancelled.

        The race waits for the losers to end, so that what they held is free again when the result is there;
        at most ``grace`` seconds, since a thread that sits in a C call cannot be ended.

        Args:
            works: functions and coroutine functions without arguments (``functools.partial`` gives them some),
                coroutines, tasks that were spawned, futures of asks. A future that loses is failed, and its
                message dropped unhandled if it still waits.
            timeout: seconds until all are cancelled and the race fails. The deadline of the request that is
                being handled holds as well; asks that the works make inherit it.
            grace: seconds to wait for the losers' end.

        Returns:
            the future of the winner's result. If all works fail it fails with the first error, the others
            being its notes; with ``RaceTimeout`` (also a ``pykka.Timeout``) if time runs out.

        Raises:
            TypeError: there are no works, or one that cannot be run.
            SpecInvalid: ``config.timeout.invalid``: a time is no number.
            IncarnationFenced, SystemStopped, DispatcherExhausted, ForkedSystem: as ``spawn``.
        """
        from .race import race

        owner = cast("Actor", self)
        return race(owner._cell.runtime, *works, owner=owner, timeout=timeout, grace=grace)

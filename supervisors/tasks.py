"""The task supervisor: work of a moment, done beside the actors, each piece under supervision.

    tasks = system.spawn(TaskSupervisor("tasks"))
    task = tasks.submit(fetch, url)                      # linked: its crash is the caller's
    page = task.result(timeout=2.0)                      # or `await task`
    outcome = tasks.submit_nolink(fetch, url).outcome()  # Ok(page), or Failed(error)
    tasks.start_child(warm_up)                           # nobody waits for it
    for outcome in tasks.stream(fetch, urls, max_concurrency=8): ...

A function runs on one of the threads for work in the background, of which there are 64: it may block, and no actor
waits for it. A coroutine function runs on the event loop. Each task is a child of the supervisor as long as its
code runs.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar, Unpack, overload

from ..actors import execution
from ..actors.actor import Actor, build
from ..actors.background import BackgroundTask
from ..actors.cell import Cell
from ..actors.events import ShutdownError
from ..actors.future import Future
from ..actors.ref import ActorRef
from ..messages.errors import AskCycle, AskTimeout
from .child import Child, ChildSpec, Restart, Shutdown
from .dynamic import DynamicKeeper, DynamicSupervisor
from .keeper import Record
from .ref import SupervisorRef
from .requests import StartChild, StartedChild
from .streams import OnTimeout, StreamKeywords, StreamOptions, TaskStream
from .task import TASK_TIMEOUT, Task, name_of, settling
from .working import Job, TaskActor

__all__ = ["TaskKeeper", "TaskSupervisor", "TaskSupervisorRef"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_TASK = Child(TaskActor, restart="temporary")


@dataclass(frozen=True)
class TaskSupervisor(DynamicSupervisor):
    """A declared supervisor of tasks; its reference starts them. After Elixir's Task.Supervisor.

    Attributes:
        name: the supervisor's name.
        max_children: how many tasks there may be at once; None for no limit.
    """

    name: str | None = "tasks"

    def __post_init__(self) -> None:
        super().__post_init__()
        extra = self.extra_arguments
        self._flag("extra_arguments", extra, extra == (), "none: a task gets its arguments when it is submitted")

    @property
    def actor_class(self) -> type[Actor]:
        """``TaskKeeper``."""
        return TaskKeeper

    def build(
        self,
        cell: Cell,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Actor:
        """Make the supervisor's actor."""
        return build(TaskKeeper, cell, (self,), {})


class TaskSupervisorRef(SupervisorRef):
    """The reference of a task supervisor: starts tasks, beside what all supervisors do."""

    @overload
    def submit(self, work: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    @overload
    def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Start a task that is linked to who calls: an actor whose handler runs, or another task.

        When the caller ends, the task is cancelled. When the task crashes, the caller gets the error from
        ``task.result()``, or ends with it. Where no actor calls, there is nothing to be linked with: the crash is
        in ``result`` only.

        Args:
            work: a function, which runs on a worker thread, or a coroutine function, which runs on the event loop.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            the task. On an event loop's thread, at once: an error of those below is then raised by ``await task``.

        Raises:
            MaxChildren: there are as many tasks as may be.
            StartFailed: there is no thread for it, or the system is being stopped.
            MailboxClosed: the supervisor is gone.
        """
        return self._begin(work, args, kwargs, owner=_here(), takes_owner_along=True)

    @overload
    def submit_nolink(
        self, work: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...
    @overload
    def submit_nolink(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    def submit_nolink(self, work: Any, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """As ``submit``, without a link: a crash is only in ``task.outcome()``, and the task outlives the caller."""
        return self._begin(work, args, kwargs, owner=None)

    def start_child(
        self,
        spec: ChildSpec | Callable[..., Any],
        *args: Any,
        timeout: float | None = None,
        restart: Restart = "temporary",
        shutdown: Shutdown | None = None,
        **kwargs: Any,
    ) -> ActorRef[Any] | None:
        """Start a task that nobody waits for; or any other child, by its spec.

        Args:
            spec: a function, a coroutine function, or a spec.
            args: positional arguments of the function.
            timeout: seconds to wait for the start.
            restart: whether the function is called anew: ``permanent``: whenever it ended; ``transient``: after it
                raised; ``temporary``: never.
            shutdown: how long it may take to stop: seconds, ``"infinity"``, ``"brutal_kill"``; 5 seconds.
            kwargs: keyword arguments of the function.

        Returns:
            the reference of the child, which ``terminate_child`` takes.

        Raises:
            MaxChildren, StartFailed, MailboxClosed: see ``submit``.
        """
        if isinstance(spec, ChildSpec):
            return super().start_child(spec, *args, timeout=timeout, **kwargs)
        job = Job(_checked(spec), args, kwargs, contextvars.copy_context(), None)
        child = _TASK
        if restart != "temporary" or shutdown is not None:
            child = Child(TaskActor, restart=restart, shutdown=shutdown)
        return super().start_child(child, job, timeout=timeout)

    @overload
    def stream(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], **options: Unpack[StreamKeywords]
    ) -> TaskStream[T, R]: ...
    @overload
    def stream(
        self, work: Callable[[T], R], items: Iterable[T], **options: Unpack[StreamKeywords]
    ) -> TaskStream[T, R]: ...

    def stream(
        self,
        work: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = TASK_TIMEOUT,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
    ) -> TaskStream[Any, Any]:
        """Call ``work`` with each of the items, several at a time, and give what comes of each.

        Use it in a ``for``, or in an ``async for``. Items are taken as they are needed. No task outlives the loop:
        when it is left, by a ``break``, an error or otherwise, the tasks that run are cancelled and waited for
        (at most 5 seconds: a thread that sits in a C call cannot be ended).

        Args:
            work: a function or coroutine function of one argument.
            items: what to call it with.
            max_concurrency: how many tasks there are at once, those included whose outcome has not been taken yet;
                one per core.
            ordered: whether the outcomes come in the order of the items, or as soon as they are there.
            timeout: seconds that each task may take; None for no limit.
            on_timeout: ``exit``: the loop raises the ``TaskTimeout``; ``kill_task``: that task is cancelled, its
                outcome is ``Failed`` with the ``TaskTimeout``, and the loop goes on.
            zip_input_on_exit: whether ``Failed.input`` is the item.

        Returns:
            the stream of ``Ok`` and ``Failed``.

        Raises:
            SpecInvalid: an option is not what it may be. And, in the loop:
            TaskCrashed: a task raised; ``stream_nolink`` gives that as a ``Failed``.
            TaskTimeout: a task took too long, or the deadline passed of what is being handled.
            MaxChildren, StartFailed, MailboxClosed: see ``submit``.
            LoopBlocked: a ``for`` on an event loop's thread.
        """
        options = StreamOptions(max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit)
        return self._stream(work, items, options, linked=True)

    @overload
    def stream_nolink(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], **options: Unpack[StreamKeywords]
    ) -> TaskStream[T, R]: ...
    @overload
    def stream_nolink(
        self, work: Callable[[T], R], items: Iterable[T], **options: Unpack[StreamKeywords]
    ) -> TaskStream[T, R]: ...

    def stream_nolink(
        self, work: Callable[[Any], Any], items: Iterable[Any], **options: Unpack[StreamKeywords]
    ) -> TaskStream[Any, Any]:
        """As ``stream``, but a task that raises gives a ``Failed``, and the loop goes on."""
        return self._stream(work, items, StreamOptions(**options), linked=False)

    def _stream(
        self, work: Callable[[Any], Any], items: Iterable[Any], options: StreamOptions, *, linked: bool
    ) -> TaskStream[Any, Any]:
        def begin(item: Any) -> Task[Any]:
            return self._begin(work, (item,), {}, owner=_here())

        return TaskStream(self._cell, begin, items, options, linked=linked)

    def _begin(
        self,
        work: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        owner: Cell | BackgroundTask[Any] | None,
        takes_owner_along: bool = False,
    ) -> Task[Any]:
        """Start a task. It is tied to its owner before it exists, so that it cannot get lost in between."""
        task: Task[Any] = Task(name_of(_checked(work)), owner, takes_owner_along=takes_owner_along)
        order = StartChild(_TASK, (Job(work, args, kwargs, contextvars.copy_context(), task),))
        task._tie()
        if execution.on_event_loop():
            started = self.ask(order, block=False)
            started.on_done(lambda: _note_start(task, started))
            return task
        try:
            task._note_start(self.ask(order))
        except BaseException:
            task._abandon()
            raise
        return task


class TaskKeeper(DynamicKeeper):
    """The actor behind ``TaskSupervisor``: a task that it stops has stopped when its code runs no more."""

    _ref_class: ClassVar[type[ActorRef[Any]]] = TaskSupervisorRef

    def on_stop(self) -> None:
        """Stop all tasks at once, and wait for their code as long as their specs allow."""
        working = self._working(self._records())
        super().on_stop()
        self._await_work(working)

    def _halt(self, records: Iterable[Record]) -> None:
        records = tuple(records)
        working = self._working(records)
        super()._halt(records)
        self._await_work(working)

    def _working(self, records: Iterable[Record]) -> list[_Working]:
        """What work is under way, and when it must have ended."""
        now = self._cell.runtime.clock()
        return [
            _Working(actor.work, record.cell.path, now + record.spec.shutdown_seconds)
            for record in records
            if record.cell is not None
            and isinstance(actor := record.cell.actor, TaskActor)
            and actor.work is not None
            and record.spec.shutdown != "brutal_kill"
        ]

    def _await_work(self, working: list[_Working]) -> None:
        runtime = self._cell.runtime
        for each in sorted(working, key=lambda one: one.deadline):
            try:
                settling(each.work.ended, each.work).get(timeout=each.seconds_left(runtime.clock()))
            except AskCycle:
                pass  # it is the work itself, or somebody it waits for, that had it stopped
            except AskTimeout:
                if runtime.events.wanted(ShutdownError):
                    runtime.events.publish(
                        ShutdownError(path=self._cell.path, child=each.path, reason="its code did not end in time")
                    )


@dataclass(frozen=True, slots=True)
class _Working:
    """Work that is being stopped."""

    work: BackgroundTask[Any]
    path: str
    deadline: float

    def seconds_left(self, now: float) -> float | None:
        return None if self.deadline == math.inf else max(0.0, self.deadline - now)


def _here() -> Cell | BackgroundTask[Any] | None:
    """The actor or the background work that calls."""
    here = execution.current.get()
    return here if isinstance(here, (Cell, BackgroundTask)) else None


def _note_start(task: Task[Any], started: Future[StartedChild]) -> None:
    error = started.error
    if error is None:
        task._note_start(started.get())
    else:
        task._refuse(error)


def _checked(work: Any) -> Callable[..., Any]:
    if not callable(work):
        raise TypeError(f"{work!r} is no task: give a function or a coroutine function, and its arguments")
    return work  # type: ignore[no-any-return]  # `callable` tells that it can be called, not with what

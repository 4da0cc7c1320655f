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
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar, overload

from ..actors import execution
from ..actors.actor import Actor, build
from ..actors.background import BackgroundTask
from ..actors.cell import Cell
from ..actors.events import ShutdownError
from ..actors.handlers import handles
from ..actors.lifecycle import IGNORE
from ..actors.reasons import NORMAL, SHUTDOWN, ExitReason
from ..actors.ref import ActorRef
from ..messages.errors import ActorError, AskCycle, AskTimeout, BackgroundCancelled, TaskCrashed
from ..messages.message import Message
from .child import Child, ChildSpec, Restart, Shutdown
from .dynamic import DynamicKeeper, DynamicSupervisor
from .keeper import Record
from .ref import SupervisorRef
from .requests import StartChild
from .streams import OnTimeout, TaskStream
from .task import TASK_TIMEOUT, Task, name_of

__all__ = ["TaskKeeper", "TaskSupervisor", "TaskSupervisorRef"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


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
            SystemStopped: the system has stopped.
            StartFailed: there is no thread for it.
            MailboxClosed: the supervisor is gone.
        """
        return self._begin(work, args, kwargs, _here(), takes_owner_along=True)

    @overload
    def submit_nolink(
        self, work: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...
    @overload
    def submit_nolink(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    def submit_nolink(self, work: Any, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """As ``submit``, without a link: a crash is only in ``task.outcome()``, and the task outlives the caller."""
        return self._begin(work, args, kwargs, None)

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
            MaxChildren, SystemStopped, StartFailed, MailboxClosed: see ``submit``.
        """
        if isinstance(spec, ChildSpec):
            return super().start_child(spec, *args, timeout=timeout, **kwargs)
        job = _Job(_checked(spec), args, kwargs, contextvars.copy_context(), None)
        child = _TEMPORARY
        if restart != "temporary" or shutdown is not None:
            child = Child(TaskActor, restart=restart, shutdown=shutdown)
        return super().start_child(child, job, timeout=timeout)

    def stream(
        self,
        work: Callable[[T], Coroutine[Any, Any, R]] | Callable[[T], R],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = TASK_TIMEOUT,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
    ) -> TaskStream[T, R]:
        """Call ``work`` with each of the items, several at a time, and give what comes of each.

        Use it in a ``for``, or in an ``async for``. Items are taken as they are needed. No task outlives the loop:
        when it is left, by a ``break``, an error or otherwise, the tasks that run are cancelled and waited for
        (at most 5 seconds: a thread in a C call cannot be ended).

        Args:
            work: a function or coroutine function of one argument.
            items: what to call it with.
            max_concurrency: how many tasks there are at once, those included whose outcome has not been taken yet;
                one per core.
            ordered: whether the outcomes come in the order of the items, or as they are there.
            timeout: seconds that each task may take; None for no limit.
            on_timeout: ``exit``: the loop raises the ``TaskTimeout``; ``kill_task``: that task is cancelled, its
                outcome is ``Failed`` with it, and the loop goes on.
            zip_input_on_exit: whether ``Failed.input`` is the item.

        Returns:
            the stream of ``Ok`` and ``Failed``.

        Raises:
            SpecInvalid: an option is not what it may be. And, in the loop:
            TaskCrashed: a task raised; ``stream_nolink`` gives it as a ``Failed``.
            TaskTimeout: a task took too long, or the deadline passed of what is being handled.
            MaxChildren, SystemStopped, StartFailed, MailboxClosed: see ``submit``.
            LoopBlocked: a ``for`` on an event loop's thread.
        """
        return TaskStream(
            self, _checked(work), items, True, max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit
        )

    def stream_nolink(
        self,
        work: Callable[[T], Coroutine[Any, Any, R]] | Callable[[T], R],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = TASK_TIMEOUT,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
    ) -> TaskStream[T, R]:
        """As ``stream``, but a task that raises gives a ``Failed``, and the loop goes on."""
        return TaskStream(
            self, _checked(work), items, False, max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit
        )

    def _begin(
        self,
        work: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        owner: Cell | BackgroundTask[Any] | None,
        *,
        takes_owner_along: bool = False,
    ) -> Task[Any]:
        """Start a task; it is tied to ``owner`` before it exists, so that it cannot get lost."""
        task: Task[Any] = Task(name_of(_checked(work)), owner, takes_owner_along=takes_owner_along)
        order = StartChild(_TEMPORARY, (_Job(work, args, kwargs, contextvars.copy_context(), task),))
        task._tie()
        if execution.on_event_loop():
            started = self.ask(order, block=False)
            started.on_done(lambda: _note_start(task, started.error, started))
            return task
        try:
            task.ref = self.ask(order).ref
        except BaseException:
            task.cancel()
            task._untie()
            raise
        return task

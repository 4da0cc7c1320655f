"""Distributing tasks: the actor that stores them, and the object that a program distributes with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, Unpack

from ...messages.errors import ActorError, CodecError, TaskError
from ...messages.tasks import DistributeTask, DistributeTasks, RawTask, TaskInfo, TaskOptions, TaskPayload
from ..embedded import Embedded
from ..handlers import handles_batch
from ..ref import ActorRef
from ..request import Request
from ..service import ServiceActor
from .engine import TaskEngine
from .following import chain
from .opening import DEFAULT_URL, VARIABLE, open_engine
from .options import NewTask, plan

__all__ = ["ActorTaskDistributor", "Distributor", "TaskDistributor"]

BATCH = 500
"""Requests that share one transaction at most."""
PATIENCE = 10.0
"""Seconds to wait until a task is stored, unless said otherwise."""


class TaskDistributor(Protocol):
    """What distributes tasks. Extend it with the tasks that your program must be able to distribute."""

    def distribute(self, payload: TaskPayload[Any] | RawTask, **options: Unpack[TaskOptions]) -> TaskInfo:
        """Put a task into its queue. It is stored when this returns."""
        ...

    def distribute_batch(self, tasks: Iterable[DistributeTask]) -> list[TaskInfo | TaskError]:
        """Put many tasks into their queues at once; for each where it stands, or why it was refused."""
        ...


class ActorTaskDistributor:
    """Distributes through a ``Distributor`` actor; a ``TaskDistributor``. Threads may share one.

    ::

        tasks = ActorTaskDistributor(system.lookup("tasks/distributor"))
        tasks.distribute(SendVerifyEmail("ada"), max_retry=10, process_in=5, queue="critical")

    Args:
        distributor: the actor's reference.
        timeout: seconds to wait until a task is stored.
    """

    def __init__(self, distributor: ActorRef[Any], timeout: float = PATIENCE) -> None:
        self._distributor = distributor
        self._timeout = timeout

    def distribute(self, payload: TaskPayload[Any] | RawTask, **options: Unpack[TaskOptions]) -> TaskInfo:
        """Put a task into its queue.

        Args:
            payload: what it is about.
            options: see ``TaskOptions``.

        Returns:
            the task and where it stands, once it is stored.

        Raises:
            TaskError: ``task.option.invalid``, ``task.type.invalid``; ``TaskDuplicate``, ``TaskIdConflict``.
            CodecError: the payload cannot be written as JSON, or is too large.
            StorageError: it could not be stored.
            AskTimeout: it is not known whether it is stored: with a ``task_id`` it can be distributed again.
        """
        return self._distributor.ask(DistributeTask(payload, options), timeout=self._timeout)

    async def distribute_async(self, payload: TaskPayload[Any] | RawTask, **options: Unpack[TaskOptions]) -> TaskInfo:
        """As ``distribute``, in a coroutine."""
        return await self._distributor.ask(DistributeTask(payload, options), block=False, timeout=self._timeout)

    def chain(self, *steps: Any, on_failure: Any = None) -> TaskInfo:
        """Put the first of several tasks into its queue; each of the others follows when the one before it is done.

        Args:
            steps: each a payload, a payload with its options, or a ``DistributeTask``.
            on_failure: follows each of them that is archived and says nothing else.

        Raises:
            TaskError: as ``distribute``.
            CodecError: as ``distribute``.
            StorageError: the first could not be stored.
        """
        return self._distributor.ask(chain(*steps, on_failure=on_failure), timeout=self._timeout)

    def distribute_batch(self, tasks: Iterable[DistributeTask]) -> list[TaskInfo | TaskError]:
        """Put many tasks into their queues, in one step.

        Args:
            tasks: payloads with their options.

        Returns:
            for each where it stands, or the error it was refused with; a refused one does not keep others out.

        Raises:
            StorageError: none is stored.
        """
        return self._distributor.ask(DistributeTasks(tuple(tasks)), timeout=self._timeout)


class Distributor(ServiceActor[TaskEngine]):
    """Stores tasks in their queues: everything that waits is stored at once, and each answered when it is.

    It answers `DistributeTask` and `DistributeTasks`; see ``ActorTaskDistributor`` for a friendlier face.

    Args:
        url: where the queues are; None takes ``UNDERSTUDY_TASKS_URL``, or else ``sqlite:///understudy.db``.
    """

    variable: ClassVar[str] = VARIABLE
    default_url: ClassVar[str] = DEFAULT_URL
    refusals = (TaskError, CodecError)

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> TaskEngine:
        return open_engine(url, embedded, clock)

    @handles_batch(max_size=BATCH, assisted=True)
    def distribute(self, requests: list[Request[DistributeTask]]) -> None:
        """Store tasks."""
        outcomes = self._store([request.message for request in requests], self._time_left(requests))
        for request, outcome in zip(requests, outcomes, strict=True):
            self._answer(request, outcome)

    @handles_batch(max_size=1, assisted=True)
    def distribute_many(self, requests: list[Request[DistributeTasks]]) -> None:
        """Store many tasks in one step."""
        for request in requests:
            outcomes = self._store(request.message.tasks, self._time_left([request]))
            failed = next((each for each in outcomes if _is_failure(each)), None)
            self._answer(request, outcomes if failed is None else failed)

    def _store(self, tasks: Iterable[DistributeTask], timeout: float | None) -> list[TaskInfo | ActorError]:
        now = self._backend.now()
        outcomes: list[TaskInfo | ActorError | None] = []
        planned: list[NewTask] = []
        for task in tasks:
            try:
                planned.append(plan(task.payload, task.options, now))
                outcomes.append(None)
            except (TaskError, CodecError) as error:
                outcomes.append(error)
        self._refuse_if_fenced("store")
        stored = iter(self._enqueue(planned, timeout))
        return [next(stored) if outcome is None else outcome for outcome in outcomes]

    def _enqueue(self, planned: list[NewTask], timeout: float | None) -> list[TaskInfo | ActorError]:
        if not planned:
            return []
        try:
            return list(self._backend.enqueue(planned, timeout))
        except ActorError as failed:
            # One error for each request: they are raised on different threads, at different times.
            return [type(failed)(str(failed), kind=failed.kind, cause=failed.__cause__) for _ in planned]


def _is_failure(outcome: object) -> bool:
    """Whether the storage failed, which is about all tasks, and not only about this one."""
    return isinstance(outcome, ActorError) and not isinstance(outcome, (TaskError, CodecError))

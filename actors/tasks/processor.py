"""The processor: takes tasks from queues and has them handled. Its parts are supervised actors below it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, Literal

from ...messages.errors import ActorError, ErrorKind, SpecInvalid
from ...messages.message import Message
from ..connection import Part
from ..embedded import Embedded
from ..events import SystemStopping
from ..handlers import handles
from ..service import ServiceActor
from .crew import Crew, logger
from .engine import TaskEngine
from .forwarder import Forwarder
from .opening import DEFAULT_URL, VARIABLE, open_engine
from .parts import Aggregator, Fetcher, Heartbeater, Janitor, Recoverer, Subscriber, Syncer
from .router import TaskProcessor, TaskRouter
from .settings import ProcessorSettings
from .workers import EndRuns, Workers

__all__ = ["Processor", "ResumeFetching", "StopFetching"]

REQUEUE_SECONDS = 2.0
"""How long a stop waits until what is unfinished is requeued."""
TAKING_SECONDS = 10.0
"""How long it waits for the storage when it was told to take no more; that gives up by itself before."""
STORE_AGAIN = 0.1
"""Seconds between two tries to store how attempts ended, in a stop."""


class StopFetching(Message[None]):
    """Take no more tasks; those that are being processed go on."""


class ResumeFetching(Message[None]):
    """Take tasks again."""


class Processor(ServiceActor[TaskEngine]):
    """Processes tasks, with the handlers of a router.

    Below it run its parts: ``syncer``, ``heartbeater``, ``workers``, ``subscriber``, ``recoverer``, ``forwarder``,
    ``janitor``, ``aggregator`` where groups are aggregated, and ``fetcher``. When it stops it takes no more tasks,
    waits for those that are being processed, and requeues what is not finished in time.

    Args:
        tasks: what has the handlers; a ``TaskRouter``, or an object of yours.
        url: where the queues are; None takes ``UNDERSTUDY_TASKS_URL``, or else ``sqlite:///understudy.db``.
        settings: how it works.

    Raises:
        SpecInvalid: ``config.task_processing.invalid``.
    """

    variable: ClassVar[str] = VARIABLE
    default_url: ClassVar[str] = DEFAULT_URL
    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(self, tasks: TaskProcessor, url: str | None = None, settings: ProcessorSettings | None = None) -> None:
        super().__init__(url)
        router = tasks.routes() if callable(getattr(tasks, "routes", None)) else None
        if not isinstance(router, TaskRouter):
            raise SpecInvalid(
                f"Processor: {tasks!r:.200} has no routes() that returns a TaskRouter",
                kind=ErrorKind.TASK_PROCESSING_INVALID,
            )
        self._router = router
        self._settings = settings or ProcessorSettings()
        self._crew: Crew | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def on_start(self) -> None:
        """Open the connection and start the parts; no task is taken once the system has begun to stop."""
        super().on_start()
        crew = self._crew
        if crew is not None:
            runtime = self._cell.runtime
            self._unsubscribe = runtime.events.subscribe(SystemStopping, lambda _event: crew.set_fetching(False))
            runtime.quieting.append(self._be_quiet)

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> TaskEngine:
        return open_engine(url, embedded, clock)

    def _own_parts(self) -> list[Part]:
        runtime = self._cell.runtime
        identity = socket.gethostname(), os.getpid(), runtime.new_urn().rpartition(":")[2]
        crew = self._crew = Crew(self._backend, self._router, self._settings, identity, runtime)
        parts = [
            Part("syncer", Syncer, (crew,)),
            Part("heartbeater", Heartbeater, (crew,)),
            Part("workers", Workers, (crew,)),
            Part("subscriber", Subscriber, (crew,)),
            Part("recoverer", Recoverer, (crew,)),
            Part("forwarder", Forwarder, (crew,)),
            Part("janitor", Janitor, (crew,)),
        ]
        if self._settings.aggregate is not None:
            parts.append(Part("aggregator", Aggregator, (crew,)))
        return [*parts, Part("fetcher", Fetcher, (crew,))]

    @handles
    def stop_fetching(self, _message: StopFetching) -> None:
        """Take no more tasks. What is being taken at this moment still is: the answer comes after that."""
        if self._crew is None:
            return
        self._crew.set_fetching(False)
        if not self._crew.wait_until_taken(TAKING_SECONDS):
            logger.warning("%s: the storage does not answer; what it is asked for may still be taken", self._cell.path)

    @handles
    def resume_fetching(self, _message: ResumeFetching) -> None:
        """Take tasks again."""
        if self._crew is not None:
            self._crew.set_fetching(True)

    def _be_quiet(self) -> None:
        if self._crew is not None:
            self._crew.set_fetching(False)

    def _disconnect(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            with suppress(ValueError):
                self._cell.runtime.quieting.remove(self._be_quiet)
        if self._crew is not None:
            self._crew.close()
        super()._disconnect()

    def on_stop(self) -> None:
        """Finish what is being processed, requeue what takes too long, and close the connection."""
        crew = self._crew
        if crew is not None:
            crew.set_fetching(False)
            if not crew.wait_until_idle(self._settings.shutdown_timeout) and crew.workers is not None:
                crew.workers._cell.put_always(EndRuns(list(crew.runs()), "shutdown"))
                crew.wait_until_idle(REQUEUE_SECONDS)
            until = crew.clock() + REQUEUE_SECONDS
            while not crew.store_endings() and crew.clock() < until:
                crew.pause(STORE_AGAIN)
            with suppress(ActorError):  # it is shown for a few seconds more
                crew.engine.leave(crew.report().id)
        super().on_stop()

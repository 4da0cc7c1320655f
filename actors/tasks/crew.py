"""What the parts of a processor share: the attempts that are being made, and the ends that are not yet stored."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...messages.errors import ActorError, ErrorKind, TaskError
from ...messages.tasks import TaskMessage
from ..ref import ActorRef
from .context import TaskContext
from .engine import Ending, Lease, ServerInfo, TaskEngine, WorkerInfo
from .limits import Limiter, limits_of
from .outcome import after_failure, followed
from .queues import QueueOrder
from .router import TaskRouter
from .settings import ProcessorSettings

__all__ = ["Crew", "Run", "logger"]

logger = logging.getLogger("understudy.tasks")


@dataclass(eq=False)
class Run:
    """An attempt that is being made.

    Attributes:
        lease: the attempt; replaced when it is extended.
        context: what its handler sees.
        started_at: unix seconds.
        due: monotonic seconds at which it is cancelled.
        wait: seconds until it may begin.
        work: what can be cancelled: the slot or the coroutine it runs in; None: not yet.
    """

    lease: Lease
    context: TaskContext
    started_at: float
    due: float
    wait: float = 0.0
    work: Any = field(default=None, repr=False)


class Crew:
    """Shared by the parts of one processor, each of which is an actor on a thread of its own.

    Args:
        engine: where the queues are.
        router: the handlers.
        settings: how the processor works.
        identity: host, pid and a uuid, joined by colons.
        chance: random numbers.
    """

    def __init__(
        self,
        engine: TaskEngine,
        router: TaskRouter,
        settings: ProcessorSettings,
        identity: tuple[str, int, str],
        chance: random.Random,
    ) -> None:
        self.engine = engine
        self.router = router
        self.settings = settings
        self.chance = chance
        self.order = QueueOrder(settings.queues, strict=settings.strict_priority, chance=chance)
        self.identity = identity
        self.started_at = engine.now()
        self.status = "active"
        self.workers: ActorRef[Any] | None = None
        self.limiter = Limiter(engine, limits_of(settings.limits)) if settings.limits else None
        self.syncer: ActorRef[Any] | None = None
        self.forwarder: ActorRef[Any] | None = None
        self.sync_order: Callable[[], Any] | None = None
        self.changed = threading.Condition()
        self.fetching = True
        self._runs: dict[str, Run] = {}
        self._endings: deque[Ending] = deque()
        self._storing = threading.Lock()
        self._settling = 0
        self._unstored = 0
        self._taking = False
        self.closed = False

    # --- attempts --------------------------------------------------------------------------------------

    def free(self, timeout: float) -> int:
        """How many more tasks may be taken, waiting for at least one; 0: none within ``timeout`` seconds.

        A task counts until its end is stored: so not more than ``concurrency`` are done again when the process dies.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.closed or (self.fetching and self._room > 0), timeout)
            free = self._room if self.fetching else 0
            self._taking = free > 0
            return free

    @property
    def _room(self) -> int:
        return self.settings.workers - len(self._runs) - self._settling - self._unstored

    def begin(self, leases: Sequence[Lease], instants: Sequence[float] = ()) -> list[Run]:
        """Note attempts that were begun, or that none was, after ``free``. The handler's time counts from here.

        Args:
            leases: the attempts.
            instants: unix seconds before which each must not begin; none: at once.
        """
        runs = [self._run(lease) for lease in leases]
        for run, at in zip(runs, instants, strict=False):
            run.wait = at - run.started_at
        with self.changed:
            for run in runs:
                self._runs[_key(run.lease.message)] = run
            self._taking = False
            self.changed.notify_all()
        return runs

    def _run(self, lease: Lease) -> Run:
        now = self.engine.now()
        message = lease.message
        limits = [now + message.timeout] if message.timeout > 0 else []
        if message.deadline > 0:
            limits.append(float(message.deadline))
        deadline = min(limits, default=0.0)
        due = time.monotonic() + max(0.0, deadline - now) if deadline else float("inf")
        return Run(lease, TaskContext(self.engine, lease, deadline), now, due)

    def runs(self) -> list[Run]:
        """The attempts that are being made."""
        with self.changed:
            return list(self._runs.values())

    def claim(self, run: Run) -> bool:
        """Be the one who says how this attempt ended; False if somebody else has."""
        key = _key(run.lease.message)
        with self.changed:
            if self._runs.get(key) is not run:
                return False
            del self._runs[key]
            self._settling += 1
            self.changed.notify_all()
            return True

    def settled(self) -> None:
        """It was decided what becomes of a claimed attempt."""
        with self.changed:
            self._settling -= 1
            self.changed.notify_all()

    def holds(self, run: Run) -> bool:
        """Whether this attempt is still to be made, or is being made."""
        with self.changed:
            return self._runs.get(_key(run.lease.message)) is run

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no attempt is being made, and how each ended is known; False: time (seconds) ran out."""
        with self.changed:
            return self.changed.wait_for(lambda: not (self._runs or self._settling or self._taking), timeout)

    def set_fetching(self, fetching: bool) -> None:
        """Take tasks, or none any more."""
        with self.changed:
            self.fetching = fetching
            self.status = "active" if fetching else "stopped"
            self.changed.notify_all()
        self.engine.wake()

    def close(self) -> None:
        """The connection is about to be closed: the parts have nothing more to do."""
        with self.changed:
            self.closed = True
            self.fetching = False
            self.changed.notify_all()

    def wait_until_closed(self, timeout: float) -> bool:
        """Wait until there is nothing more to do; False: time (seconds) ran out."""
        with self.changed:
            return self.changed.wait_for(lambda: self.closed, timeout)

    # --- how they ended --------------------------------------------------------------------------------

    def fail(self, run: Run, error: BaseException) -> None:
        """A claimed attempt has failed: tell the error handler, then decide what becomes of the task."""
        self.settings.tell_failure(run.lease.message, error)
        self.end(after_failure(run.lease, error, self.settings, self.engine.now(), self.chance))

    def end(self, ending: Ending) -> None:
        """A claimed attempt has ended: have it stored."""
        self._endings.append(followed(ending, self.engine.now()) if ending.lease.message.headers else ending)
        self._note_unstored(1)
        self.settled()
        order, syncer = self.sync_order, self.syncer
        if order is not None and syncer is not None:
            syncer._cell.put_always(order())

    def put_back(self, endings: Sequence[Ending]) -> None:
        """Have the ends of attempts stored that were not made after all."""
        self._endings.extend(endings)
        self._note_unstored(len(endings))
        self.store_endings()

    def store_endings(self) -> bool:
        """Store how attempts ended; False: the storage cannot be reached, they are kept.

        What has lost its lease is refused: the recoverer takes care of that task. Who calls this while another thread
        does comes back when both are done.
        """
        with self._storing:
            return self._store_endings()

    def _store_endings(self) -> bool:
        endings: list[Ending] = []
        while self._endings:
            endings.append(self._endings.popleft())
        if not endings:
            return True
        try:
            accepted = self.engine.finish(endings)
        except ActorError as error:
            now = self.engine.now()
            kept = [ending for ending in endings if ending.lease.expires_at > now]
            self._endings.extendleft(reversed(kept))
            self._note_unstored(len(kept) - len(endings))
            logger.warning("%d ended tasks are not stored yet: %s", len(kept), error)
            for ending in endings:
                if ending not in kept:
                    _note_stale(ending)
            return False
        except BaseException:  # their tasks are done again when the leases have ended
            self._note_unstored(-len(endings))
            raise
        self._note_unstored(-len(endings))
        for ending, taken in zip(endings, accepted, strict=True):
            if not taken:
                _note_stale(ending)
        return True

    def _note_unstored(self, more: int) -> None:
        with self.changed:
            self._unstored += more
            self.changed.notify_all()

    # --- what is reported ------------------------------------------------------------------------------

    def report(self) -> ServerInfo:
        """The processor, as it reports itself."""
        host, pid, unique = self.identity
        workers = tuple(
            WorkerInfo(
                run.lease.message.id,
                run.lease.message.type,
                run.lease.message.queue,
                run.lease.message.payload,
                run.started_at,
                run.context.deadline,
            )
            for run in self.runs()
        )
        return ServerInfo(
            f"{host}:{pid}:{unique}",
            host,
            pid,
            self.settings.workers,
            dict(self.order.weights),
            self.order.strict,
            self.status,
            self.started_at,
            workers,
        )


def _key(message: TaskMessage) -> str:
    return f"{message.queue}\0{message.id}"


def _note_stale(ending: Ending) -> None:
    message = ending.lease.message
    error = TaskError(
        f"task {message.id!r} of queue {message.queue}: the attempt ended ({ending.how}) after it had lost its lease; "
        "it is done again",
        kind=ErrorKind.TASK_LEASE_EXPIRED,
    )
    logger.error("%s", error.response.to_json().decode())

"""What the parts of a processor share: the attempts that are being made, and the ends that are not yet stored."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...messages.errors import ActorError, ErrorKind, TaskError
from ...messages.message import Message
from ...messages.tasks import TaskMessage
from ..ref import ActorRef
from .context import TaskContext
from .engine import Ending, Lease, ServerInfo, TaskEngine, WorkerInfo
from .limits import Limiter, limits_of
from .line import Bell, WorkLine
from .outcome import after_failure, followed
from .queues import QueueOrder
from .router import TaskRouter
from .settings import ProcessorSettings

if TYPE_CHECKING:
    from ..runtime import Runtime

__all__ = ["Crew", "Run", "StartRuns", "logger"]

logger = logging.getLogger("understudy.tasks")


@dataclass(eq=False, slots=True)
class Run:
    """An attempt that is being made.

    Attributes:
        lease: the attempt; replaced when it is extended.
        context: what its handler sees.
        started_at: unix seconds.
        due: seconds of the system's clock at which it is cancelled.
        wait: seconds until it may begin.
        work: what can be cancelled: the slot or the coroutine it runs in; None: not yet.
    """

    lease: Lease
    context: TaskContext
    started_at: float
    due: float
    wait: float = 0.0
    work: Any = field(default=None, repr=False)


class StartRuns(Message[None]):
    """Make these attempts."""

    runs: list[Any]


class Crew:
    """Shared by the parts of one processor, each of which is an actor on a thread of its own.

    Args:
        engine: where the queues are.
        router: the handlers.
        settings: how the processor works.
        identity: host, pid and a uuid, joined by colons.
        runtime: the system's clock and random numbers.
    """

    def __init__(
        self,
        engine: TaskEngine,
        router: TaskRouter,
        settings: ProcessorSettings,
        identity: tuple[str, int, str],
        runtime: Runtime,
    ) -> None:
        self.engine = engine
        self.router = router
        self.settings = settings
        self.chance = runtime.random
        self.clock = runtime.clock
        self.simulated = runtime.simulation is not None
        self.order = QueueOrder(settings.queues, strict=settings.strict_priority, chance=runtime.random)
        self.identity = identity
        self.started_at = engine.now()
        self.status = "active"
        self.workers: ActorRef[Any] | None = None
        self.limiter = Limiter(engine, limits_of(settings.limits)) if settings.limits else None
        self.syncer: ActorRef[Any] | None = None
        self.forwarder: ActorRef[Any] | None = None
        self.sync_order: Callable[[], Any] | None = None
        self.work: WorkLine[Run] = WorkLine()
        self.has_slots = False
        self.fetching = True
        self.closed = False
        self._bell = Bell(runtime.clock)
        self._lock = self._bell.lock
        self._runs: dict[tuple[str, str], Run] = {}
        self._endings: deque[Ending] = deque()
        self._storing = threading.Lock()
        self._settling = 0
        self._unstored = 0
        self._taking = False
        self.fresh = False
        self._fetcher_waits = False
        self._sync_ordered = False

    # --- attempts --------------------------------------------------------------------------------------

    def free(self, timeout: float) -> int:
        """How many more tasks may be taken, waiting for at least one; 0: none within ``timeout`` seconds.

        A task counts until its end is stored: so not more than ``concurrency`` are done again when the process dies.
        While it waits, it stores how attempts ended: so many at once as ended meanwhile.
        """
        if not self._wait_for_something(timeout):
            return 0
        if self.fresh:
            self.store_endings()
        with self._lock:
            free = self._room if self.fetching else 0
            self._taking = free > 0
            return free

    def take(self, timeout: float) -> list[Lease] | None:
        """As ``free``, and take as many tasks; None: none may be taken. ``begin`` must follow, whatever it raises.

        How attempts ended is stored in the same step, so the places of these are free again.
        """
        if not self._wait_for_something(timeout):
            return None
        with self._storing:
            endings = self._take_endings()
            with self._lock:
                count = self._room + len(endings) if self.fetching else 0
                self._taking = count > 0
            if count <= 0:
                self._store(endings, self.engine.finish)
                return None
            leases: list[Lease] = []

            def store_and_take(endings: Sequence[Ending]) -> list[bool]:
                accepted, found = self.engine.turn(endings, self.order.draw(), count)
                leases.extend(found)
                return accepted

            if endings:
                self._store(endings, store_and_take)
                return leases
        return self.engine.dequeue(self.order.draw(), count)

    def _wait_for_something(self, timeout: float) -> bool:
        self._fetcher_waits = True
        try:
            return self._bell.wait_for(self._is_something_to_do, timeout)
        finally:
            self._fetcher_waits = False

    def _is_something_to_do(self) -> bool:
        return self.closed or self.fresh or (self.fetching and self._room > 0)

    @property
    def _room(self) -> int:
        return self.settings.workers - len(self._runs) - self._settling - self._unstored

    def begin(self, leases: Sequence[Lease], instants: Sequence[float] = ()) -> list[Run]:
        """Note attempts that were begun, or that none was, after ``free``. The handler's time counts from here.

        Args:
            leases: the attempts.
            instants: unix seconds before which each must not begin; none: at once.
        """
        now, clock = self.engine.now(), self.clock()
        runs = [self._run(lease, now, clock) for lease in leases]
        for run, at in zip(runs, instants, strict=False):
            run.wait = at - run.started_at
        with self._lock:
            for run in runs:
                self._runs[_key(run.lease.message)] = run
            self._taking = False
            self._bell.ring()
        return runs

    def _run(self, lease: Lease, now: float, clock: float) -> Run:
        message = lease.message
        deadline = now + message.timeout if message.timeout > 0 else 0.0
        if message.deadline > 0:
            deadline = min(deadline or message.deadline, float(message.deadline))
        due = clock + max(0.0, deadline - now) if deadline else float("inf")
        return Run(lease, TaskContext(self.engine, lease, deadline), now, due)

    def start(self, runs: Sequence[Run]) -> None:
        """Have attempts made: those with ``def`` handlers by the next free slot, the others by the workers' actor."""
        route = self.router.route
        ready = [run for run in runs if run.wait <= 0 and not route(run.lease.message.type).is_async]
        if self.has_slots and len(ready) == len(runs):
            self.work.put_all(ready)
        elif self.workers is not None:
            self.workers._cell.put_always(StartRuns(list(runs)))

    def runs(self) -> list[Run]:
        """The attempts that are being made."""
        with self._lock:
            return list(self._runs.values())

    def claim(self, run: Run) -> bool:
        """Be the one who says how this attempt ended; False if somebody else has."""
        key = _key(run.lease.message)
        with self._lock:
            if self._runs.get(key) is not run:
                return False
            del self._runs[key]
            self._settling += 1
            return True

    def settled(self) -> None:
        """It was decided what becomes of a claimed attempt."""
        with self._lock:
            self._settling -= 1
            self._bell.ring()

    def holds(self, run: Run) -> bool:
        """Whether this attempt is still to be made, or is being made."""
        return self._runs.get(_key(run.lease.message)) is run

    def pause(self, seconds: float) -> bool:
        """Wait; True: there is nothing more to do."""
        return self._bell.wait_for(lambda: self.closed, seconds)

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no attempt is being made, and how each ended is known; False: time (seconds) ran out."""
        return self._bell.wait_for(lambda: not (self._runs or self._settling or self._taking), timeout)

    def wait_until_taken(self, timeout: float) -> bool:
        """Wait until no task is being taken; False: time (seconds) ran out."""
        return self._bell.wait_for(lambda: not self._taking or self.closed, timeout)

    def set_fetching(self, fetching: bool) -> None:
        """Take tasks, or none any more."""
        with self._lock:
            self.fetching = fetching
            self.status = "active" if fetching else "stopped"
            self._bell.ring()
        self.engine.wake()

    def close(self) -> None:
        """The connection is about to be closed: the parts have nothing more to do."""
        with self._lock:
            self.closed = True
            self.fetching = False
            self._bell.ring()

    # --- how they ended --------------------------------------------------------------------------------

    def fail(self, run: Run, error: BaseException) -> None:
        """A claimed attempt has failed: tell the error handler, then decide what becomes of the task.

        Whoever is interrupted in a function of the program's leaves the task to the recoverer, but not its place taken.
        """
        try:
            self.settings.tell_failure(run.lease.message, error)
            ending = after_failure(run.lease, error, self.settings, self.engine.now(), self.chance)
        except BaseException:
            self.settled()
            raise
        self.end(ending)

    def end(self, ending: Ending) -> None:
        """A claimed attempt has ended: have it stored."""
        ending = self._followed(ending)
        with self._lock:
            self._settling -= 1
            self._add(ending)
        self._have_it_stored()

    def finish(self, run: Run, ending: Ending) -> bool:
        """Claim an attempt and say how it ended; False if somebody else has."""
        key = _key(run.lease.message)
        ending = self._followed(ending)
        with self._lock:
            if self._runs.get(key) is not run:
                return False
            del self._runs[key]
            self._add(ending)
        self._have_it_stored()
        return True

    def _followed(self, ending: Ending) -> Ending:
        return followed(ending, self.engine.now()) if ending.lease.message.headers else ending

    def _add(self, ending: Ending) -> None:
        self._endings.append(ending)
        self._unstored += 1
        self.fresh = True
        self._bell.ring()

    def _have_it_stored(self) -> None:
        """By the fetcher, if it waits for something to do; else by the syncer."""
        if self._fetcher_waits or self._sync_ordered:
            return
        order, syncer = self.sync_order, self.syncer
        if order is not None and syncer is not None:
            self._sync_ordered = True
            syncer._cell.put_always(order())

    def put_back(self, endings: Sequence[Ending]) -> None:
        """Have the ends of attempts stored that were not made after all."""
        with self._lock:
            self._endings.extend(endings)
            self._unstored += len(endings)
        self.store_endings()

    def store_endings(self) -> bool:
        """Store how attempts ended; False: the storage cannot be reached, they are kept.

        What has lost its lease is refused: the recoverer takes care of that task. Who calls this while another thread
        does comes back when both are done.
        """
        self._sync_ordered = False
        with self._storing:
            return self._store(self._take_endings(), self.engine.finish)

    def _take_endings(self) -> list[Ending]:
        with self._lock:
            endings = list(self._endings)
            self._endings.clear()
            self.fresh = False
            return endings

    def _store(self, endings: list[Ending], store: Callable[[Sequence[Ending]], list[bool]]) -> bool:
        if not endings:
            return True
        try:
            accepted = store(endings)
        except ActorError as error:
            now = self.engine.now()
            kept = [ending for ending in endings if ending.lease.expires_at > now]
            with self._lock:
                self._endings.extendleft(reversed(kept))
            self._note_stored(len(endings) - len(kept))
            logger.warning("%d ended tasks are not stored yet: %s", len(kept), error)
            for ending in endings:
                if ending not in kept:
                    _note_stale(ending)
            return False
        except BaseException:  # their tasks are done again when the leases have ended
            self._note_stored(len(endings))
            raise
        self._note_stored(len(endings))
        if not all(accepted):
            for ending, taken in zip(endings, accepted, strict=True):
                if not taken:
                    _note_stale(ending)
        return True

    def _note_stored(self, number: int) -> None:
        with self._lock:
            self._unstored -= number
            self._bell.ring()

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


def _key(message: TaskMessage) -> tuple[str, str]:
    return message.queue, message.id


def _note_stale(ending: Ending) -> None:
    message = ending.lease.message
    error = TaskError(
        f"task {message.id!r} of queue {message.queue}: the attempt ended ({ending.how}) after it had lost its lease; "
        "it is done again",
        kind=ErrorKind.TASK_LEASE_EXPIRED,
    )
    logger.error("%s", error.response.to_json().decode())

"""The parts of a processor that fetch, store and look after tasks."""

from __future__ import annotations

from typing import Any

from ...messages.errors import ErrorKind, TaskError
from ...messages.message import Message
from ..handlers import handles
from ..reasons import INTERRUPTIONS
from .crew import Crew, logger
from .engine import Ending, Lease
from .forwarder import ForwardAt
from .limits import Admitted, Limiter
from .options import plan
from .outcome import after_failure, followed, text_for
from .part import Part, WaitingPart
from .workers import EndRuns

__all__ = [
    "Aggregator",
    "Fetcher",
    "Heartbeater",
    "Janitor",
    "Recoverer",
    "Subscriber",
    "SyncNow",
    "Syncer",
]

WAIT_AT_MOST = 0.5
"""Seconds after which a part that waits looks up."""
SIMULATED_LOOK = 0.5
"""Seconds between two looks for news in a simulation."""
PRESENCE_SECONDS = 2.0
"""How many rounds of the heartbeat a processor's report lasts."""
AGGREGATE_AT_MOST = 7.0
"""Seconds between two looks at the groups."""


class Fetcher(WaitingPart):
    """Takes as many tasks as there are free workers. Where there is none it waits for news, not for a time."""

    def _do(self) -> None:
        crew = self._crew
        if crew.limiter is not None:
            if free := crew.free(WAIT_AT_MOST):
                self._take_limited(crew.limiter, free)
            return
        leases: list[Lease] | None = None
        try:
            leases = crew.take(WAIT_AT_MOST)
        finally:
            runs = crew.begin(leases or ())
        if runs:
            crew.start(runs)
        elif leases is not None and not crew.fresh:
            self._wait_for_news(self._queues, WAIT_AT_MOST)

    def _take_limited(self, limiter: Limiter, free: int) -> None:
        """As many as the limits let begin; the others go back."""
        crew = self._crew
        admitted = Admitted([], [])
        try:
            admitted = limiter.take(crew.order.draw(), free)
        finally:
            runs = crew.begin([lease for lease, _ in admitted.leases], [at for _, at in admitted.leases])
        if runs:
            crew.start(runs)
        if admitted.endings:
            crew.put_back(admitted.endings)
            later = [ending.at for ending in admitted.endings if ending.how == "defer"]
            if later and crew.forwarder is not None:
                crew.forwarder._cell.put_always(ForwardAt(later))
        elif not runs:
            self._wait_for_news(limiter.open(self._queues), limiter.pause(self._queues, WAIT_AT_MOST))

    def _wait_for_news(self, queues: tuple[str, ...], seconds: float) -> None:
        """In a simulation nobody may wait for the world outside: it looks now and then."""
        if not self._crew.simulated:
            self._crew.engine.wait(queues, seconds)
        elif not self._crew.engine.wait(queues, 0.0):
            self._crew.pause(min(seconds, SIMULATED_LOOK))


class SyncNow(Message[None]):
    """An attempt has ended: store how."""


class Syncer(Part):
    """Stores how attempts ended: all that did meanwhile at once; again after a while where that failed."""

    def on_start(self) -> None:
        """Take orders."""
        self._crew.syncer = self.actor_ref
        self._crew.sync_order = SyncNow
        super().on_start()

    @handles
    def sync_now(self, _message: SyncNow) -> None:
        """Store what there is."""
        self._crew.store_endings()

    def _pause(self) -> float:
        return self._crew.settings.sync

    def _do(self) -> None:
        self._crew.store_endings()


class Heartbeater(Part):
    """Extends the leases of the attempts that go on, and reports the processor."""

    def _pause(self) -> float:
        return self._crew.settings.heartbeat

    def _do(self) -> None:
        crew = self._crew
        runs = crew.runs()
        lost = []
        for run, extended in zip(runs, crew.engine.extend([run.lease for run in runs]), strict=True):
            if extended is None:
                lost.append(run)
            else:
                run.lease = extended
        if lost and crew.workers is not None:
            crew.workers._cell.put_always(EndRuns(lost, "lease"))
        crew.engine.beat(crew.report(), PRESENCE_SECONDS * crew.settings.heartbeat)


class Recoverer(Part):
    """Finds attempts that others have let down: their tasks are tried again, or archived."""

    def _pause(self) -> float:
        return self._crew.settings.recover

    def _do(self) -> None:
        crew = self._crew
        endings = []
        for lease in crew.engine.expired(self._queues):
            error = TaskError("the lease has expired", kind=ErrorKind.TASK_LEASE_EXPIRED)
            if not lease.message.type:
                error = TaskError("the record cannot be read", kind=ErrorKind.TASK_RECORD_INVALID)
                endings.append(Ending(lease, "archive", error=text_for(error)))
            else:
                endings.append(after_failure(lease, error, crew.settings, crew.engine.now(), crew.chance))
        if endings:
            now = crew.engine.now()
            accepted = crew.engine.finish([followed(ending, now) for ending in endings], recovering=True)
            logger.warning("%s: recovered %d tasks whose lease had expired", self._cell.path, sum(accepted))
        if crew.settings.aggregate is not None:
            crew.engine.reclaim(self._queues)


class Janitor(Part):
    """Deletes what is kept no longer."""

    def _pause(self) -> float:
        return self._crew.settings.janitor

    def _do(self) -> None:
        self._crew.engine.sweep(self._queues, self._crew.settings.janitor_batch)


class Subscriber(WaitingPart):
    """Hears which attempts are to be cancelled."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self._after: Any = None

    def _do(self) -> None:
        crew = self._crew
        self._after, ids = crew.engine.cancellations(self._after, 0.0 if crew.simulated else WAIT_AT_MOST)
        runs = [run for run in crew.runs() if run.lease.message.id in ids]
        if runs and crew.workers is not None:
            crew.workers._cell.put_always(EndRuns(runs, "cancelled"))
        if crew.simulated:
            crew.pause(SIMULATED_LOOK)


class Aggregator(Part):
    """Makes the tasks of a group into one, once it is complete."""

    def _pause(self) -> float:
        return min(AGGREGATE_AT_MOST, self._crew.settings.group_grace)

    def _do(self) -> None:
        for queue in self._queues:
            for group in self._crew.engine.groups(queue):
                self._aggregate(queue, group)

    def _aggregate(self, queue: str, group: str) -> None:
        crew, settings = self._crew, self._crew.settings
        if settings.aggregate is None:
            return
        found = crew.engine.gather(
            queue,
            group,
            grace=settings.group_grace,
            max_delay=settings.group_max_delay,
            max_size=settings.group_max_size,
        )
        if found is None:
            return
        set_id, messages = found
        began = crew.clock()
        try:
            made = plan(settings.aggregate(group, messages), {"queue": queue}, crew.engine.now())
        except INTERRUPTIONS:
            raise
        except BaseException:
            # The set goes back to its group when its time is up, and is tried again.
            logger.exception("%s: aggregate raised for group %r of queue %s", self._cell.path, group, queue)
            return
        try:
            dropped = crew.engine.drop_set(queue, set_id, made)
        except TaskError as error:  # of this group alone
            logger.error("%s: the task made of group %r is refused: %s", self._cell.path, group, error)
            return
        if not dropped:
            took = crew.clock() - began
            logger.error("%s: aggregating group %r took %.0f s; it is done again", self._cell.path, group, took)

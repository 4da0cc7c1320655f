"""The other parts of a processor: each does one thing, over and over.

A part outlives a storage that cannot be reached: it says so in the log and tries again in its next round.
"""

from __future__ import annotations

import heapq
import time
from typing import Any, ClassVar, Literal

from ...messages.errors import ActorError, ErrorKind, TaskError
from ...messages.message import Message
from ..actor import Actor
from ..background import TaskFailed, cancelled
from ..handlers import handles
from ..ref import ActorRef
from ..timers import Timer
from .crew import Crew, logger
from .engine import Ending, Lease
from .limits import Admitted, Limiter
from .options import plan
from .outcome import after_failure, followed, text_for
from .workers import EndRuns, StartRuns

__all__ = [
    "Aggregator",
    "Fetcher",
    "Forwarder",
    "Heartbeater",
    "Janitor",
    "Recoverer",
    "Subscriber",
    "SyncNow",
    "Syncer",
]

WAIT_AT_MOST = 0.5
"""Seconds after which a part that waits looks up."""
AFTER_ERROR = 1.0
"""Seconds that a part waits at least after an error."""
PRESENCE_SECONDS = 2.0
"""How many rounds of the heartbeat a processor's report lasts."""
AGGREGATE_AT_MOST = 7.0
"""Seconds between two looks at the groups."""


class Round(Message[None]):
    """Do it again."""


class Part(Actor):
    """Something that is done in rounds.

    Args:
        crew: what the parts of the processor share.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self._crew = crew

    def on_start(self) -> None:
        """Begin with a round."""
        self.continue_with(Round())

    @handles
    def round(self, _message: Round) -> None:
        """One round, and the next one in a while."""
        seconds = self._pause()
        try:
            self._do()
        except ActorError as error:
            if self._crew.closed:
                return
            logger.warning("%s: %s", self._cell.path, error)
            seconds = max(seconds, AFTER_ERROR)
        if not self._crew.closed:
            self.after(seconds, Round())

    def _pause(self) -> float:
        raise NotImplementedError

    def _do(self) -> None:
        raise NotImplementedError

    @property
    def _queues(self) -> tuple[str, ...]:
        return self._crew.order.names


class WaitingPart(Part):
    """Something that waits for news all the time: in the background, so that the actor itself is idle."""

    @handles
    def round(self, _message: Round) -> None:
        """Begin to wait."""
        self.spawn(self._wait)

    @handles
    def failed(self, message: TaskFailed) -> None:
        """What waits has fallen: so does this incarnation, and the next one waits again."""
        raise message.error

    def _wait(self) -> None:
        crew = self._crew
        while not (cancelled() or crew.closed):
            try:
                self._do()
            except ActorError as error:
                if not crew.closed:
                    logger.warning("%s: %s", self._cell.path, error)
                    crew.wait_until_closed(AFTER_ERROR)


class Fetcher(WaitingPart):
    """Takes as many tasks as there are free workers. Where there is none it waits for news, not for a time."""

    def _do(self) -> None:
        crew = self._crew
        workers = crew.workers
        free = crew.free(WAIT_AT_MOST)
        if not free or workers is None:
            return
        if crew.limiter is not None:
            self._take_limited(crew.limiter, workers, free)
            return
        leases: list[Lease] = []
        try:
            leases = crew.engine.dequeue(crew.order.draw(), free)
        finally:
            runs = crew.begin(leases)
        if runs:
            workers._cell.put_always(StartRuns(list(runs)))
        else:
            crew.engine.wait(self._queues, WAIT_AT_MOST)

    def _take_limited(self, limiter: Limiter, workers: ActorRef[Any], free: int) -> None:
        """As many as the limits let begin; the others go back."""
        crew = self._crew
        admitted = Admitted([], [])
        try:
            admitted = limiter.take(crew.order.draw(), free)
        finally:
            runs = crew.begin([lease for lease, _ in admitted.leases], [at for _, at in admitted.leases])
        if runs:
            workers._cell.put_always(StartRuns(list(runs)))
        if admitted.endings:
            crew.put_back(admitted.endings)
            later = [ending.at for ending in admitted.endings if ending.how == "defer"]
            if later and crew.forwarder is not None:
                crew.forwarder._cell.put_always(ForwardAt(later))
        elif not runs:
            crew.engine.wait(limiter.open(self._queues), limiter.pause(self._queues, WAIT_AT_MOST))


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


class ForwardAt(Message[None]):
    """Tasks of this processor are due at these instants (unix seconds): before the next round, perhaps."""

    instants: list[float]


class ForwardNow(Message[None]):
    """It is due."""


class Forwarder(Part):
    """Makes tasks pending whose time has come. Those that this processor deferred itself it does in time."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self._due: list[float] = []
        self._timer: Timer | None = None

    def on_start(self) -> None:
        """Take orders."""
        self._crew.forwarder = self.actor_ref
        super().on_start()

    @handles
    def forward_at(self, message: ForwardAt) -> None:
        """Note when to forward."""
        for instant in message.instants:
            heapq.heappush(self._due, instant)
        self._set()

    @handles
    def forward_now(self, _message: ForwardNow) -> None:
        """Forward, and wait for the next."""
        now = self._crew.engine.now()
        is_due = bool(self._due) and self._due[0] <= now
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
        try:
            if is_due:
                self._do()
        except ActorError as error:  # the rounds try again
            if not self._crew.closed:
                logger.warning("%s: %s", self._cell.path, error)
        self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._due and not self._crew.closed:
            self._timer = self.after(max(0.0, self._due[0] - self._crew.engine.now()), ForwardNow())

    def _pause(self) -> float:
        return self._crew.settings.forward

    def _do(self) -> None:
        self._crew.engine.forward(self._queues)


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
        self._after, ids = crew.engine.cancellations(self._after, WAIT_AT_MOST)
        runs = [run for run in crew.runs() if run.lease.message.id in ids]
        if runs and crew.workers is not None:
            crew.workers._cell.put_always(EndRuns(runs, "cancelled"))


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
        began = time.monotonic()
        try:
            made = plan(settings.aggregate(group, messages), {"queue": queue}, crew.engine.now())
        except Exception:
            # The set goes back to its group when its time is up, and is tried again.
            logger.exception("%s: aggregate raised for group %r of queue %s", self._cell.path, group, queue)
            return
        if not crew.engine.drop_set(queue, set_id, made):
            took = time.monotonic() - began
            logger.error("%s: aggregating group %r took %.0f s; it is done again", self._cell.path, group, took)

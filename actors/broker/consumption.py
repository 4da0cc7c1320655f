"""One consumer of the broker actor: what becomes of a delivery from its arrival to its settlement.

A delivery is acknowledged when every step of its plan was answered well, and not before. If a step fails for a
passing reason (a full mailbox, an actor that restarts), it is taken again, a little later each time. If it fails
for another reason, or keeps failing, the delivery goes back to its queue, where failures are counted.

Deliveries that have failed before are worked on one at a time: one that brings a whole batch down with it does so
once, and then falls alone.

All of this runs in the broker actor; only `Arrived` and `Answered` come from other threads, as messages.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from ...messages.broker import RpcReply
from ...messages.catalogue import entry_of
from ...messages.errors import ActorError, BrokerError, ErrorKind, HandlerFailed, UnknownActor
from ...messages.message import Message
from ..future import Future
from ..ref import ActorRef
from .backend import BrokerBackend, Delivery, Publication, Subscription
from .plans import Plan, Step
from .validation import fault_of

logger = logging.getLogger("understudy.broker")

RETRIES: Final = 10
FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 5.0
"""A step that fails for a passing reason is taken again after 0.05 s, 0.1 s, 0.2 s … 5 s: for about 20 s in all."""

OUTAGE_RETRIES: Final = 185
"""Where a server cannot be reached: every 5 s for a quarter of an hour, half of what RabbitMQ gives a consumer."""

_OUTAGES: Final = frozenset(
    {
        ErrorKind.CACHE_UNAVAILABLE,
        ErrorKind.POSTGRES_UNAVAILABLE,
        ErrorKind.REDIS_UNAVAILABLE,
        ErrorKind.SQLITE_UNAVAILABLE,
    }
)

RESUME_DELAY: Final = 1.0
"""Seconds until a consumer that the broker ended is started again."""


class Arrived(Message[None]):
    """A delivery has come."""

    consumption: Any
    delivery: Any


class Read(Message[None]):
    """A delivery was made out in the background, or could not be."""

    consumption: Any
    job: Any
    outcome: Any


class Answered(Message[None]):
    """A step has an outcome."""

    consumption: Any
    job: Any
    step: Any
    future: Any


class Again(Message[None]):
    """Time to take the failed steps of a job again."""

    consumption: Any
    job: Any


class Cancelled(Message[None]):
    """The broker ended a consumer."""

    consumption: Any
    reason: Any


class Resume(Message[None]):
    """Time to start a consumer again that the broker ended."""

    consumption: Any


class Owner(Protocol):
    """What a consumption needs of the broker actor."""

    def resolve(self, path: str) -> ActorRef[Any]:
        """The reference of the actor at that path; raises `UnknownActor`."""
        ...

    def post(self, message: Message[None]) -> None:
        """Have a message handled by this incarnation. Any thread may."""

    def later(self, seconds: float, message: Message[None]) -> None:
        """Have a message handled in a while."""

    def in_background(self, work: Callable[[], Any], then: Callable[[Any], Message[None]]) -> None:
        """Do work in the background, then have the message handled that `then` makes of its result or error."""


class Job(msgspec.Struct, eq=False):
    """A delivery that is being worked on."""

    delivery: Delivery
    left: list[Step] = msgspec.field(default_factory=list)
    """Steps that were not answered well yet."""
    running: int = 0
    """How many of them have been asked and not answered."""
    tries: int = 0
    error: Exception | None = None
    reply: RpcReply | None = None
    """What is to be sent to the one who waits for it."""


class Consumption:
    """One consumer.

    Args:
        owner: The broker actor.
        backend: Its connection.
        plan: What is done with deliveries.
        queue: Where they come from.
        tag: The consumer's name.
        prefetch: How many may be worked on at a time.
    """

    def __init__(
        self, owner: Owner, backend: BrokerBackend, plan: Plan, *, queue: str, tag: str, prefetch: int
    ) -> None:
        self.tag = tag
        self._owner = owner
        self._backend = backend
        self._plan = plan
        self._subscription = Subscription(queue, tag, prefetch, self._deliver, self._cancelled)
        self._failed_before: deque[Job] = deque()
        self._alone: Job | None = None

    def start(self) -> None:
        """Begin to consume; raises what `BrokerBackend.consume` raises."""
        self._backend.consume(self._subscription)

    def stop(self) -> None:
        """End it; what is being worked on goes back to the queue."""
        self._backend.cancel(self.tag)

    # --- on whichever thread the backend calls ---------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> None:
        self._owner.post(Arrived(self, delivery))

    def _cancelled(self, reason: BrokerError) -> None:
        self._owner.post(Cancelled(self, reason))

    # --- in the broker actor ---------------------------------------------------------------------------------

    def arrived(self, delivery: Delivery) -> None:
        """Begin to work on a delivery, or let it wait for those that failed before it."""
        job = Job(delivery)
        if delivery.attempt == 1:
            self._begin(job)
        else:
            self._failed_before.append(job)
            self._next_alone()

    def answered(self, job: Job, step: Step, future: Future[Any]) -> None:
        """Take note of a step's outcome; after the last one, settle the delivery or try again."""
        job.running -= 1
        try:
            value = future.get(timeout=0.0)
            if isinstance(value, RpcReply) and job.delivery.publication.reply_to:
                job.reply = value
            job.left = [each for each in job.left if each is not step]
        except Exception as error:
            # One that will not pass by itself says more than one that will.
            if job.error is None or passing(job.error):
                job.error = error
        if job.running == 0:
            self._conclude(job)

    def again(self, job: Job) -> None:
        """Take the failed steps again."""
        job.error = None
        for step in job.left:
            self._take(job, step)

    def cancelled(self, reason: BrokerError) -> None:
        """The broker ended the consumer: what it had been given goes back; start again in a while."""
        self._failed_before.clear()
        self._alone = None
        logger.warning("%s", reason.response.to_json().decode())
        self._owner.later(RESUME_DELAY, Resume(self))

    def resume(self) -> None:
        """Start again; if that fails, later."""
        try:
            self.start()
        except BrokerError as error:
            self.cancelled(error)

    def read(self, job: Job, outcome: Any) -> None:
        """Begin with the steps of a delivery that was made out, or give up on it."""
        if isinstance(outcome, Exception):
            job.error = outcome
        else:
            job.left = self._plan.steps(job.delivery, outcome)
        if job.left:
            self.again(job)
        else:
            self._settle(job)

    def _begin(self, job: Job) -> None:
        work = partial(self._plan.read, job.delivery)
        if self._plan.in_background:
            self._owner.in_background(work, partial(Read, self, job))
        else:
            self.read(job, attempt(work))

    def _take(self, job: Job, step: Step) -> None:
        job.running += 1
        future: Future[Any]
        try:
            future = self._owner.resolve(step.to).ask(step.message, block=False, timeout=step.timeout)
        except UnknownActor as error:
            future = Future()
            future.try_fail(error)
        future.on_done(self._report(job, step, future))

    def _report(self, job: Job, step: Step, future: Future[Any]) -> Callable[[], None]:
        return lambda: self._owner.post(Answered(self, job, step, future))

    def _conclude(self, job: Job) -> None:
        if job.error is not None and job.tries < tries_for(job.error):
            delay = min(FIRST_DELAY * 2**job.tries, LONGEST_DELAY)
            job.tries += 1
            self._owner.later(delay, Again(self, job))
        else:
            self._settle(job)

    def _settle(self, job: Job) -> None:
        # Either call says False when the delivery is not ours any more: then it comes again, and is known.
        if job.error is None and job.reply is not None:
            self._reply(job.delivery, job.reply)
        elif job.error is None:
            self._backend.ack(job.delivery)
        elif self._backend.requeue(job.delivery) and job.delivery.final:
            self._report_dead_letter(job.delivery, job.error)
        if job is self._alone:
            self._alone = None
            self._next_alone()

    def _reply(self, delivery: Delivery, reply: RpcReply) -> None:
        """Send a reply; when the broker has it, or nobody waits for it any more, the work is done."""
        asked = delivery.publication

        def report(_: int, error: ActorError | None) -> None:
            if error is None or error.kind is ErrorKind.UNROUTABLE:
                self._backend.ack(delivery)
            else:
                logger.warning("%s", error.response.to_json().decode())
                self._backend.requeue(delivery)

        try:
            fault = fault_of(reply)
            if fault is not None:
                raise fault
            publication = Publication(
                exchange="",
                routing_key=asked.reply_to,
                body=reply.body,
                message_id=asked.message_id,
                headers=reply.headers,
                content_type=reply.content_type,
                persistent=False,
                correlation_id=asked.correlation_id,
            )
        except ActorError as error:
            report(0, error)
        else:
            self._backend.publish([publication], report)

    def _next_alone(self) -> None:
        while self._alone is None and self._failed_before:
            self._alone = job = self._failed_before.popleft()
            self._begin(job)

    def _report_dead_letter(self, delivery: Delivery, error: Exception) -> None:
        dead = BrokerError(
            f"queue {delivery.queue!r}: message {delivery.publication.message_id!r} failed {delivery.attempt} "
            f"times and is a dead letter: {error}",
            kind=ErrorKind.DEAD_LETTERED,
            message_id=delivery.publication.message_id,
            cause=error,
        )
        logger.error("%s", dead.response.to_json().decode())


def attempt(work: Callable[[], Any]) -> Any:
    """What `work` returns, or the error of the catalogue that it raises."""
    try:
        return work()
    except ActorError as error:
        return error


def tries_for(error: Exception) -> int:
    """How often what failed so is tried again before the delivery counts as a failed one.

    In an outage no delivery is at fault, and none is to become a dead letter for it.
    """
    if not passing(error):
        return 0
    return OUTAGE_RETRIES if isinstance(error, ActorError) and error.kind in _OUTAGES else RETRIES


def passing(error: Exception) -> bool:
    """Whether a failure is about the moment and not about the message, so that trying again soon may help.

    A handler that failed is no such case, although it is restarted: the message may be what it failed on.
    """
    if not isinstance(error, ActorError) or isinstance(error, HandlerFailed):
        return False
    entry = entry_of(error.kind)
    return isinstance(error, UnknownActor) or (entry is not None and entry.retryable)

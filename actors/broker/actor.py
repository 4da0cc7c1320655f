"""The broker actor: publishing and consuming, for notifications and for anything else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

from ...messages.broker import (
    BindQueue,
    CountQueue,
    DeadLetters,
    DeclareExchange,
    DeclareQueue,
    Publish,
    Published,
    PurgeDeadLetters,
    ReplayDeadLetters,
    RpcReply,
    SendRpcMessage,
    Subscribe,
    Unsubscribe,
)
from ...messages.catalogue import entry_of
from ...messages.errors import BrokerError, CodecError, EncryptionError, ErrorKind, MailboxError, UnknownActor
from ...messages.message import Message
from ...messages.notifications import (
    ConsumeNotif,
    NotifData,
    ProduceNotif,
    StopConsuming,
    UnwatchNotifs,
    WatchNotifs,
)
from ..embedded import Embedded
from ..handlers import handles, handles_batch
from ..launching import launch
from ..ref import ActorRef
from ..request import Request
from ..service import ServiceActor
from ..watching import Terminated
from .backend import BrokerBackend, Publication
from .consumption import RESUME_DELAY, Again, Answered, Arrived, Cancelled, Consumption, Read, Resume, attempt
from .encryption import CONTENT_TYPE, cipher_of
from .opening import open_backend
from .plans import Forward, Notify, Plan, write
from .topology import DEFAULT_EXCHANGE, Binding, Exchange, Queue
from .validation import fault_of

__all__ = ["Broker"]

DECLARED_KEPT = 10_000
"""Exchanges that are not declared again because it was done before; then it starts from nothing."""

RPC_TIMEOUT = 30.0
"""Seconds that a request without a deadline waits for its reply."""
RPC_MARGIN = 0.25
"""Seconds, or a tenth of the time if that is less, by which a requester hears of it before its deadline."""

logger = logging.getLogger("understudy.broker")

Consumer: TypeAlias = ConsumeNotif | Subscribe


class Written(Message[None]):
    """A notification was encoded, or could not be."""

    by: Any
    request: Any
    outcome: Any


class Managed(Message[None]):
    """What was asked about a queue is known."""

    by: Any
    request: Any
    outcome: Any


class Begin(Message[None]):
    """Time to start a consumer again that could not be started."""

    tag: str


class Replied(Message[None]):
    """A reply came to a request."""

    publication: Any


class NoReply(Message[None]):
    """The time for a reply is over."""

    correlation_id: str


class Broker(ServiceActor[BrokerBackend]):
    """Publishes, and hands on what it consumes.

    For notifications it answers `ProduceNotif`, `ConsumeNotif`, `StopConsuming`, `WatchNotifs` and `UnwatchNotifs`;
    for anything else `DeclareExchange`, `DeclareQueue`, `BindQueue`, `Publish`, `SendRpcMessage`, `Subscribe` and
    `Unsubscribe`; and for
    those who look after it `CountQueue`, `DeadLetters`, `ReplayDeadLetters` and `PurgeDeadLetters`. A `BrokerError`,
    `CodecError` or `EncryptionError` if one cannot be done.

    A publish is answered when the broker has confirmed it. A delivery is acknowledged when it was stored and cached,
    or handled by the actor that subscribed. Its consumers outlive an incarnation: the next one starts them again.

    Args:
        url: which broker; None takes ``UNDERSTUDY_BROKER_URL``, or else ``memory://``, a broker in this system's memory
            that outlives this actor.
        mutator: the actor that stores notifications: a sibling's name, or a path.
        cache: the actor that caches them: a sibling's name, or a path.
    """

    variable: ClassVar[str] = "UNDERSTUDY_BROKER_URL"
    default_url: ClassVar[str] = "memory://"
    refusals = (BrokerError, CodecError, EncryptionError, UnknownActor)

    def __init__(self, url: str | None = None, *, mutator: str = "mutator", cache: str = "cache") -> None:
        super().__init__(url)
        self._mutator, self._cache = mutator, cache
        self._path = ""
        self._declared: set[Exchange] = set()
        self._running: dict[str, Consumption] = {}
        self._consumers: dict[str, Consumer] = {}
        self._live: dict[str, str | None] = {}
        self._asked: dict[str, Request[SendRpcMessage]] = {}

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
        return open_backend(url, embedded, clock)

    def on_start(self) -> None:
        """Open the connection, and start the consumers again that an earlier incarnation had."""
        super().on_start()
        self._path = self._cell.path  # it does not change, and is put together each time
        self._consumers = self._handed_on("consumers", dict[str, Consumer])
        self._live = self._handed_on("live subscribers", dict[str, str | None])
        for consumer in list(self._consumers.values()):
            self._start_again(consumer)
        subscribers = {each.to for each in self._consumers.values() if isinstance(each, Subscribe)}
        for path in subscribers | self._live.keys():
            self._watch_over(path)

    # --- publishing --------------------------------------------------------------------------------------------

    @handles
    def produce(self, message: ProduceNotif) -> None:
        """Publish a notification; answered when the broker has confirmed it."""
        self._check(message)
        request = self.defer_reply()
        work = partial(write, message)
        if message.local_spawn:
            self.written(Written(self, request, attempt(work)))
        else:
            self.in_background(work, partial(Written, self, request))

    @handles
    def written(self, message: Written) -> None:
        """Publish a notification that was encoded, or say why it cannot be."""
        if message.by is not self:
            return  # left behind by an earlier incarnation, at whose end the asker was answered
        request: Request[ProduceNotif] = message.request
        if isinstance(message.outcome, Exception):
            self._answer(request, message.outcome)
            return
        wanted = request.message
        ignores_key = wanted.exchange_type == "fanout" and wanted.exchange_name != DEFAULT_EXCHANGE
        key = "" if ignores_key else wanted.routing_key
        try:
            self._declare(wanted.exchange_name, wanted.exchange_type)
            kind = "application/json" if wanted.encryption_config is None else CONTENT_TYPE
            publication = Publication(
                wanted.exchange_name, key, message.outcome, wanted.notif_data.id, content_type=kind
            )
        except BrokerError as error:
            self._answer(request, error)
        else:
            self._publish([request], [publication])

    @handles_batch
    def publish(self, requests: list[Request[Publish]]) -> None:
        """Publish what waits to be, in its order; each is answered when the broker has confirmed it."""
        kept: list[Request[Any]] = []
        publications: list[Publication] = []
        for request in requests:
            message = request.message
            try:
                self._check(message)
                publication = Publication(
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    body=message.body,
                    message_id=message.message_id or self._new_id(),
                    headers=message.headers,
                    content_type=message.content_type,
                    persistent=message.persistent,
                )
            except BrokerError as error:
                self._answer(request, error)
            else:
                kept.append(request.defer())
                publications.append(publication)
        self._publish(kept, publications)

    def _publish(self, requests: Sequence[Request[Any]], publications: Sequence[Publication]) -> None:
        def report(position: int, error: BrokerError | None) -> None:
            sent = publications[position]
            answer = error or Published(sent.message_id, sent.exchange, sent.routing_key)
            self._answer(requests[position], answer)

        self._backend.publish(publications, report, [request.deadline for request in requests])

    # --- request and reply ---------------------------------------------------------------------------------------

    @handles
    def request(self, message: SendRpcMessage) -> None:
        """Publish a request; answered with the reply, or an error."""
        self._check(message)
        correlation_id = self._new_id()
        publication = Publication(
            exchange=message.exchange,
            routing_key=message.routing_key,
            body=message.body,
            message_id=message.message_id or correlation_id,
            headers=message.headers,
            content_type=message.content_type,
            reply_to=self._backend.reply_address(lambda reply: self._post(Replied(reply))),
            correlation_id=correlation_id,
        )
        request = self.defer_reply()
        now = self._cell.runtime.clock()
        left = RPC_TIMEOUT if request.deadline is None else request.deadline - now
        self._asked[correlation_id] = request
        self.later(max(0.0, left - min(RPC_MARGIN, left / 10)), NoReply(correlation_id))

        def report(_: int, error: BrokerError | None) -> None:
            # That it is not known whether it was published matters only if no reply comes either.
            if error is not None and error.kind is not ErrorKind.PUBLISH_UNKNOWN:
                self._answer(request, error)

        # What could not be sent in time is told before that no reply came.
        deadline = None if request.deadline is None else request.deadline - min(RPC_MARGIN, left / 10)
        self._backend.publish([publication], report, [deadline])

    @handles
    def replied(self, message: Replied) -> None:
        """Hand a reply to who waits for it; one that comes too late, or twice, is dropped."""
        reply: Publication = message.publication
        request = self._asked.pop(reply.correlation_id, None)
        if request is not None:
            self._answer(request, RpcReply(reply.body, dict(reply.headers), reply.content_type))

    @handles
    def no_reply(self, message: NoReply) -> None:
        """Tell who waits for a reply that none came."""
        request = self._asked.pop(message.correlation_id, None)
        if request is not None and not request.answered:
            wanted = request.message
            where = f"{wanted.exchange!r} with routing key {wanted.routing_key!r}"
            error = BrokerError(f"request to {where}: no reply came in time", kind=ErrorKind.RPC_TIMEOUT)
            self._answer(request, error)

    # --- topology ----------------------------------------------------------------------------------------------

    @handles
    def declare_exchange(self, message: DeclareExchange) -> None:
        """Make sure that an exchange exists."""
        self._check(message)
        self._backend.declare_exchange(Exchange(message.name, message.type, message.durable))

    @handles
    def declare_queue(self, message: DeclareQueue) -> None:
        """Make sure that a queue exists."""
        self._check(message)
        self._backend.declare_queue(Queue(message.name, message.durable, message.max_length, message.delivery_limit))

    @handles
    def bind_queue(self, message: BindQueue) -> None:
        """Let messages flow from an exchange into a queue."""
        self._check(message)
        self._backend.bind(Binding(message.queue, message.exchange, message.routing_key, message.arguments))

    def _declare(self, name: str, kind: Any) -> None:
        exchange = Exchange(name, kind)
        if name != DEFAULT_EXCHANGE and exchange not in self._declared:
            self._backend.declare_exchange(exchange)
            if len(self._declared) >= DECLARED_KEPT:
                self._declared.clear()
            self._declared.add(exchange)

    # --- consuming ---------------------------------------------------------------------------------------------

    @handles
    def consume(self, message: ConsumeNotif) -> str:
        """Start taking notifications out of a queue; answered with the consumer's tag."""
        self._check(message)
        if message.decryption_config is not None:
            cipher_of(message.decryption_config)  # what cannot decrypt is refused now, not with each delivery
        if message.store_in_db:
            self.resolve(self._mutator)
        if message.cache_on_redis:
            self.resolve(self._cache)
        return self._add(message)

    @handles
    def subscribe(self, message: Subscribe) -> str:
        """Let an actor have a queue's messages; answered with the consumer's tag."""
        self._check(message)
        path = self.resolve(message.to).path
        self._watch_over(path)
        return self._add(Subscribe(message.queue, path, message.tag or self._new_id(), message.prefetch))

    @handles
    def stop_consuming(self, message: StopConsuming | Unsubscribe) -> bool:
        """End a consumer; whether there was one."""
        self._check(message)
        return self._remove(message.tag)

    def _add(self, consumer: Consumer) -> str:
        if self._consumers.get(consumer.tag) != consumer:  # the same wish again is no second consumer
            if consumer.tag in self._consumers:
                raise BrokerError(f"consumer tag {consumer.tag!r} is in use", kind=ErrorKind.CONSUMER_INVALID)
            self._start(consumer)
            self._consumers[consumer.tag] = consumer
        return consumer.tag

    def _remove(self, tag: str) -> bool:
        running = self._running.pop(tag, None)
        if running is not None:
            running.stop()
        return self._consumers.pop(tag, None) is not None

    def _start(self, consumer: Consumer) -> None:
        """Declare what the consumer needs, and let it begin."""
        plan: Plan
        if isinstance(consumer, Subscribe):
            plan = Forward(consumer.to)
        else:
            plan = Notify(consumer, self._show, self._mutator, self._cache)
            self._backend.declare_queue(Queue(consumer.queue, delivery_limit=consumer.delivery_limit))
            if consumer.exchange_name != DEFAULT_EXCHANGE:
                self._declare(consumer.exchange_name, consumer.exchange_type)
                self._backend.bind(Binding(consumer.queue, consumer.exchange_name, consumer.routing_key))
        consumption = Consumption(
            self, self._backend, plan, queue=consumer.queue, tag=consumer.tag, prefetch=consumer.prefetch
        )
        consumption.start()
        self._running[consumer.tag] = consumption

    def _start_again(self, consumer: Consumer) -> None:
        """Start a consumer that an earlier incarnation had; while the server is away, in a while."""
        try:
            self._start(consumer)
        except BrokerError as error:
            entry = entry_of(error.kind)
            if entry is None or not entry.retryable:
                raise
            logger.warning("%s", error.response.to_json().decode())
            self.later(RESUME_DELAY, Begin(consumer.tag))

    @handles
    def begin(self, message: Begin) -> None:
        """Try again to start a consumer, unless it is running or was ended."""
        consumer = self._consumers.get(message.tag)
        if consumer is not None and message.tag not in self._running:
            self._start_again(consumer)

    @handles
    def consuming(self, message: Arrived | Read | Answered | Again | Cancelled | Resume) -> None:
        """Take a consumer one step further, unless it was stopped, or belonged to an earlier incarnation."""
        consumption: Consumption = message.consumption
        if self._running.get(consumption.tag) is not consumption:
            return
        match message:
            case Arrived():
                consumption.arrived(message.delivery)
            case Read():
                consumption.read(message.job, message.outcome)
            case Answered():
                consumption.answered(message.job, message.step, message.future)
            case Again():
                consumption.again(message.job)
            case Cancelled():
                consumption.cancelled(message.reason)
            case Resume():
                consumption.resume()

    # --- live subscribers --------------------------------------------------------------------------------------

    @handles
    def watch_notifs(self, message: WatchNotifs) -> None:
        """Have an actor told every notification that is consumed."""
        self._check(message)
        path = self.resolve(message.to).path
        self._watch_over(path)
        self._live[path] = message.receiver_info

    @handles
    def unwatch_notifs(self, message: UnwatchNotifs) -> bool:
        """Take a watch back; whether there was one."""
        self._check(message)
        path = self.resolve(message.to).path
        known = path in self._live
        self._live.pop(path, None)
        return known

    def _show(self, notif: NotifData) -> None:
        for path, receiver in self._live.items():
            if receiver in (None, notif.receiver_info):
                try:
                    self.lookup(path).tell(notif)
                except MailboxError:
                    self._cell.runtime.events.dead_letter(path, notif, "dropped")

    # --- looking after it --------------------------------------------------------------------------------------

    @handles
    def count_queue(self, message: CountQueue) -> None:
        """Count a queue's messages."""
        self._manage(message, partial(self._backend.counts, message.queue))

    @handles
    def dead_letters(self, message: DeadLetters) -> None:
        """List the oldest dead letters of a queue."""
        self._manage(message, partial(self._backend.dead_letters, message.queue, message.limit))

    @handles
    def replay(self, message: ReplayDeadLetters) -> None:
        """Put dead letters back; how many."""
        self._manage(message, partial(self._backend.replay_dead_letters, message.queue, message.message_ids))

    @handles
    def purge(self, message: PurgeDeadLetters) -> None:
        """Delete dead letters; how many."""
        self._manage(message, partial(self._backend.purge_dead_letters, message.queue, message.message_ids))

    def _manage(self, message: Message[Any], work: Callable[[], Any]) -> None:
        """Do in the background what may take long: publishing and consuming go on meanwhile."""
        self._check(message)
        request = self.defer_reply()
        self.in_background(work, partial(Managed, self, request), request.deadline)

    @handles
    def managed(self, message: Managed) -> None:
        """Answer who asked about a queue."""
        if message.by is self:
            self._answer(message.request, message.outcome)

    def _check(self, message: Message[Any]) -> None:
        """Refuse a request that was made with a value of a wrong type: only what comes by wire was checked before."""
        fault = fault_of(message)
        if fault is not None:
            raise fault

    # --- what a consumption needs ------------------------------------------------------------------------------

    def resolve(self, path: str) -> ActorRef[Any]:
        """The reference of a sibling of that name, or of the actor at that path.

        Raises:
            UnknownActor: there is neither.
        """
        return self._cell.runtime.directory.near(self._path, path)

    def post(self, message: Message[None]) -> None:
        """Have a message handled by this incarnation. Any thread may."""
        self._post(message)

    def later(self, seconds: float, message: Message[None]) -> None:
        """Have a message handled in a while."""
        self.after(seconds, message)

    def in_background(
        self, work: Callable[[], Any], then: Callable[[Any], Message[None]], deadline: float | None = None
    ) -> None:
        """Do work in the background, then have the message handled that `then` makes of its result or error.

        Args:
            work: what to do.
            then: makes the message.
            deadline: of the request that it is done for, in seconds of the system's clock.
        """

        def do() -> None:
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            self._post(then(outcome))

        launch(self._cell.runtime, self, do, deadline=deadline)

    # --- those who are gone ------------------------------------------------------------------------------------

    def _watch_over(self, path: str) -> None:
        """Be told when an actor is gone for good, so that nothing is delivered to nobody."""
        try:
            self.watch(self.lookup(path))
        except UnknownActor:  # it went while this actor was being restarted
            self._forget(path)

    @handles
    def gone(self, message: Terminated) -> None:
        """A subscriber is gone: what it had not handled waits in the queue for another."""
        self._forget(message.ref.path)

    def _forget(self, path: str) -> None:
        self._live.pop(path, None)
        for tag, consumer in list(self._consumers.items()):
            if isinstance(consumer, Subscribe) and consumer.to == path:
                self._remove(tag)

    def _new_id(self) -> str:
        return self._cell.runtime.new_urn().removeprefix("urn:uuid:")

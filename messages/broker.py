"""What is said to the broker, whatever the payload. Notifications have messages of their own."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from .message import Message
from .registry import register

HeaderValue: TypeAlias = str | int | float | bool | None
Headers: TypeAlias = dict[str, HeaderValue]


class Published(Message[None]):
    """The broker has confirmed a message: it is in every queue that it was routed to."""

    message_id: str
    exchange: str
    routing_key: str


@register("broker.declare_exchange")
class DeclareExchange(Message[None]):
    """Make sure that an exchange exists."""

    name: str
    type: Literal["fanout", "direct", "headers", "topic"] = "direct"
    durable: bool = True


@register("broker.declare_queue")
class DeclareQueue(Message[None]):
    """Make sure that a queue exists, and a place for its dead letters."""

    name: str
    durable: bool = True
    max_length: Annotated[int, Meta(ge=1)] | None = None
    """How many messages it may hold before a publish is refused; None leaves it to the broker."""
    delivery_limit: Annotated[int, Meta(ge=0)] | None = None
    """How often a failed delivery is repeated before it becomes a dead letter; None: as the broker does."""


@register("broker.bind_queue")
class BindQueue(Message[None]):
    """Let messages flow from an exchange into a queue."""

    queue: str
    exchange: str
    routing_key: str = ""
    """The exact key (direct), or a pattern with `*` and `#` (topic)."""
    arguments: Headers = msgspec.field(default_factory=dict)
    """For a headers exchange: the values to match, and `x-match`: `all` or `any`."""


@register("broker.publish")
class Publish(Message[Published]):
    """Publish a body; answered when the broker has confirmed it."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str = ""
    """Stays the same when it is published again, so that a consumer can tell; made up if empty."""
    headers: Headers = msgspec.field(default_factory=dict)
    content_type: str = "application/json"
    persistent: bool = True


@register("broker.subscribe")
class Subscribe(Message[str]):
    """Let an actor have a queue's messages, as `Delivered`; answered with the consumer's tag.

    A delivery is acknowledged when the actor has handled it, and delivered again when its handler failed.
    """

    queue: str
    to: str
    """The path of the actor."""
    tag: str = ""
    """The consumer's name; made up if empty."""
    prefetch: Annotated[int, Meta(ge=1, le=65_535)] = 100
    """How many deliveries may be unacknowledged at a time."""


@register("broker.unsubscribe")
class Unsubscribe(Message[bool]):
    """End a consumer; what was not acknowledged goes back. Answered with whether there was one."""

    tag: str


@register("broker.delivered")
class Delivered(Message[None]):
    """A message out of a queue, told to the actor that subscribed."""

    queue: str
    tag: str
    """The consumer that it was delivered to."""
    attempt: int
    """1 for the first; counts how often handling it failed, plus one."""
    redelivered: bool
    """Whether any consumer may have seen it before."""
    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: Headers = msgspec.field(default_factory=dict)
    content_type: str = "application/json"
    reply_to: str = ""
    """Where a reply is waited for; a handler that returns `RpcReply` has it sent there."""
    correlation_id: str = ""
    """What the requester knows its request by."""


@register("broker.rpc_reply")
class RpcReply(Message[None]):
    """What a handler of `Delivered` returns to reply, and what `SendRpcMessage` is answered with."""

    body: bytes
    headers: Headers = msgspec.field(default_factory=dict)
    content_type: str = "application/json"


@register("broker.send_rpc_message")
class SendRpcMessage(Message[RpcReply]):
    """Publish a request, and wait for the reply of whoever consumes it.

    It is answered with the reply, or by the asker's deadline with an error: that nothing takes the request, that it
    could not be published, or that no reply came. A request may be handled more than once, as any message.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str = ""
    headers: Headers = msgspec.field(default_factory=dict)
    content_type: str = "application/json"


class DeadLetter(Message[None]):
    """A message that its queue gave up on."""

    queue: str
    message_id: str
    attempts: int
    """How often it was delivered and failed."""
    reason: str
    exchange: str
    routing_key: str
    body: bytes
    headers: Headers = msgspec.field(default_factory=dict)


@register("broker.dead_letters")
class DeadLetters(Message[list[DeadLetter]]):
    """List the oldest dead letters of a queue."""

    queue: str
    limit: Annotated[int, Meta(ge=0)] = 100


@register("broker.replay_dead_letters")
class ReplayDeadLetters(Message[int]):
    """Put dead letters at the end of their queue, to be tried anew; answered with how many."""

    queue: str
    message_ids: list[str] | None = None
    """Which ones; None means all."""


@register("broker.purge_dead_letters")
class PurgeDeadLetters(Message[int]):
    """Delete dead letters; answered with how many."""

    queue: str
    message_ids: list[str] | None = None
    """Which ones; None means all."""


class QueueCounts(Message[None]):
    """How many messages a queue holds, and how many consumers it has."""

    ready: int
    """Waiting."""
    unsettled: int
    """Delivered, and neither acknowledged nor refused yet."""
    dead: int
    """Given up."""
    consumers: int


@register("broker.count_queue")
class CountQueue(Message[QueueCounts]):
    """Count a queue's messages."""

    queue: str

"""Notifications: what they are, and how one is sent into the broker and taken out of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from .broker import Published
from .message import Message
from .registry import register

ExchangeType: TypeAlias = Literal["fanout", "direct", "headers", "topic"]

UnixSeconds: TypeAlias = Annotated[int, Meta(ge=0, le=253_402_300_799)]
"""Seconds since 1970, up to the end of the year 9999: what a database's timestamp can hold."""

NO_NUL = r"^[^\0]*$"
"""What no database of ours stores: PostgreSQL's texts may not contain it."""

Text: TypeAlias = Annotated[str, Meta(pattern=NO_NUL)]


class ActionType(StrEnum):
    """What happened that somebody is notified of."""

    PRODUCT_PURCHASED = "ProductPurchased"
    ZERLOG = "Zerlog"
    EVENT_CREATED = "EventCreated"
    EVENT_EXPIRED = "EventExpired"
    EVENT_LOCKED = "EventLocked"


@register("notif.data")
class NotifData(Message[None], kw_only=True):
    """One notification, as it travels through the broker and is stored and cached."""

    id: Annotated[str, Meta(min_length=1, max_length=255, pattern=NO_NUL)]
    """Unique; a second one of the same id is taken for a redelivery of the first."""
    receiver_info: Text
    """Whom it is for."""
    action_data: Any
    """Any JSON value."""
    actioner_info: Text
    """Who did it."""
    action_type: ActionType = ActionType.PRODUCT_PURCHASED
    fired_at: UnixSeconds
    is_seen: bool = False


class CryptoConfig(Message[None]):
    """What a notification is encrypted with. It is never shown, and never stored beside the data.

    Both sides need the same one. The key is made of all three; docs/encryption.md says how.
    """

    secret: str
    passphrase: str
    unique_key: str
    """Tells keys apart: a hash of it travels with the data and says which key is needed."""

    def __repr__(self) -> str:
        return "CryptoConfig(secret='***', passphrase='***', unique_key='***')"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Hide the values from rich's tracebacks and printing too."""
        return [("secret", "***"), ("passphrase", "***"), ("unique_key", "***")]


@register("notif.produce")
class ProduceNotif(Message[Published], kw_only=True):
    """Publish a notification; answered when the broker has confirmed it."""

    notif_data: NotifData
    exchange_name: str
    exchange_type: ExchangeType = "fanout"
    routing_key: str = ""
    """Ignored by a fanout exchange."""
    local_spawn: bool = True
    """Whether it is encoded in the actor's own turn; else as background work."""
    encryption_config: CryptoConfig | None = None
    """Encrypts it. If that fails, the request is refused: it is never sent in the clear instead."""


@register("notif.consume")
class ConsumeNotif(Message[str], kw_only=True):
    """Start taking notifications out of a queue; answered with the consumer's tag once it is consuming."""

    queue: str
    exchange_name: str
    exchange_type: ExchangeType = "fanout"
    """The exchange is declared here as well, so that either side may start first."""
    routing_key: str = ""
    tag: str
    """The consumer's name."""
    redis_cache_exp: Annotated[int, Meta(ge=0)] = 0
    """How many seconds the receiver's list stays in the cache; 0 caches nothing."""
    local_spawn: bool = True
    """Whether deliveries are decoded in the actor's own turn; else as background work."""
    cache_on_redis: bool = False
    """Whether notifications are cached, in whatever cache there is."""
    store_in_db: bool = False
    """Whether notifications are stored. One is acknowledged after it was stored and cached."""
    prefetch: Annotated[int, Meta(ge=1, le=65_535)] = 100
    """How many deliveries may be unacknowledged at a time."""
    delivery_limit: Annotated[int, Meta(ge=0)] | None = None
    """How often a failed delivery is repeated before it becomes a dead letter; None: as the queue has it."""
    decryption_config: CryptoConfig | None = None
    """Decrypts what is consumed. What is not encrypted, or with another key, becomes a dead letter."""


@register("notif.stop_consuming")
class StopConsuming(Message[bool]):
    """End a consumer; what it has not acknowledged goes back. Answered with whether there was one."""

    tag: str


@register("notif.watch")
class WatchNotifs(Message[None]):
    """Have an actor told every notification that is consumed, live, as `NotifData`.

    It is told while the notification is being stored and cached, and not again when that fails and is repeated.
    What it has no room for is not kept for it: it goes to the dead letters.
    """

    to: str
    """The path of the actor."""
    receiver_info: str | None = None
    """Only those for this receiver; None means all."""


@register("notif.unwatch")
class UnwatchNotifs(Message[bool]):
    """Take a `WatchNotifs` back. Answered with whether there was one."""

    to: str
    """The path of the actor."""

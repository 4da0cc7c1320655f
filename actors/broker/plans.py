"""What is done with a delivery: which actors are asked what, before it may be acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from ...messages.broker import Delivered
from ...messages.cache import CacheAppend
from ...messages.codec import decode, encode
from ...messages.errors import EncryptionError
from ...messages.message import Message
from ...messages.mutator import StoreNotifEvent
from ...messages.notifications import ConsumeNotif, NotifData
from .backend import Delivery

STEP_TIMEOUT: Final = 30.0
"""Seconds that the mutator and the cache have for one notification before they are asked again."""


class Step(msgspec.Struct, frozen=True):
    """Something to be asked of an actor.

    Args:
        to: The actor's path.
        message: What is asked.
        timeout: Seconds until it is asked again; None waits as long as it takes.
    """

    to: str
    message: Message[Any]
    timeout: float | None


class Plan(Protocol):
    """What a consumer does with its deliveries."""

    @property
    def in_background(self) -> bool:
        """Whether `read` is background work, or done in the broker actor's own turn."""
        ...

    def read(self, delivery: Delivery) -> Any:
        """Make out what was delivered. Any thread may.

        Raises:
            ActorError: it is no delivery that this consumer can do anything with.
        """
        ...

    def steps(self, delivery: Delivery, read: Any) -> list[Step]:
        """What has to be answered well before the delivery is acknowledged, given what `read` returned."""
        ...


class Forward(msgspec.Struct, frozen=True):
    """Hands each delivery to an actor, which has handled it when it answers.

    Args:
        to: The actor's path.
    """

    to: str

    @property
    def in_background(self) -> bool:
        """There is nothing to make out."""
        return False

    def read(self, delivery: Delivery) -> Delivered:
        """What the actor is told."""
        published = delivery.publication
        return Delivered(
            queue=delivery.queue,
            tag=delivery.tag,
            attempt=delivery.attempt,
            redelivered=delivery.redelivered,
            exchange=published.exchange,
            routing_key=published.routing_key,
            body=published.body,
            message_id=published.message_id,
            headers=dict(published.headers),
            content_type=published.content_type,
        )

    def steps(self, delivery: Delivery, read: Delivered) -> list[Step]:
        """Ask the actor to handle it."""
        return [Step(self.to, read, None)]


class Notify(msgspec.Struct, frozen=True):
    """The consuming half of the notification pipeline.

    Args:
        wanted: What is to be done.
        show: Hands a notification to the live subscribers.
        mutator: Path of the actor that stores.
        cache: Path of the actor that caches.
    """

    wanted: ConsumeNotif
    show: Callable[[NotifData], None]
    mutator: str
    cache: str

    @property
    def in_background(self) -> bool:
        """As the one who wants it consumed says."""
        return not self.wanted.local_spawn

    def read(self, delivery: Delivery) -> NotifData:
        """Decode the notification."""
        return decode(delivery.publication.body, NotifData)

    def steps(self, delivery: Delivery, read: NotifData) -> list[Step]:
        """Show the notification, and ask for it to be cached and stored."""
        notif = read
        if delivery.attempt == 1:
            self.show(notif)
        steps: list[Step] = []
        if self.wanted.cache_on_redis and self.wanted.redis_cache_exp > 0:
            steps.append(Step(self.cache, cached(notif, self.wanted.redis_cache_exp), STEP_TIMEOUT))
        if self.wanted.store_in_db:
            stored = StoreNotifEvent(message=notif, local_spawn=self.wanted.local_spawn)
            steps.append(Step(self.mutator, stored, STEP_TIMEOUT))
        return steps


def write(notif: NotifData) -> bytes:
    """Encode a notification. What no consumer could read is refused here, where somebody can mend it.

    Raises:
        CodecError: it is no valid notification.
    """
    body = encode(notif)
    decode(body, NotifData)
    return body


def cached(notif: NotifData, seconds: int) -> CacheAppend:
    """How a notification enters its receiver's list: once, however often it is delivered."""
    key = f"notif_owner:{notif.receiver_info}"
    return CacheAppend(key, notif, item_id=notif.id, expires=float(seconds))


def refuse_encryption(config: object) -> None:
    """Refuse what would have to be encrypted or decrypted.

    Raises:
        EncryptionError: `crypter.failed`. Nothing is ever sent in the clear instead.
    """
    if config is not None:
        raise EncryptionError("this broker cannot encrypt: nothing was published and nothing consumed")

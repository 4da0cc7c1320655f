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
from ...messages.notifications import ConsumeNotif, NotifData, ProduceNotif
from .backend import Delivery
from .encryption import cipher_of, is_encrypted

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
            reply_to=published.reply_to,
            correlation_id=published.correlation_id,
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
        """Decrypt and decode the notification. What should be encrypted and is not, is refused."""
        body, crypto = delivery.publication.body, self.wanted.decryption_config
        if crypto is not None:
            body = cipher_of(crypto).decrypt(body)
        elif is_encrypted(body):
            raise EncryptionError("the body is encrypted, and this consumer was given no key")
        return decode(body, NotifData)

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


def write(wanted: ProduceNotif) -> bytes:
    """Encode a notification, and encrypt it if that is wanted.

    What no consumer could read is refused here, where somebody can mend it.

    Raises:
        CodecError: it is no valid notification.
        EncryptionError: it cannot be encrypted. It is never sent in the clear instead.
    """
    body = encode(wanted.notif_data)
    decode(body, NotifData)
    return body if wanted.encryption_config is None else cipher_of(wanted.encryption_config).encrypt(body)


def cached(notif: NotifData, seconds: int) -> CacheAppend:
    """How a notification enters its receiver's list: once, however often it is delivered."""
    key = f"notif_owner:{notif.receiver_info}"
    return CacheAppend(key, notif, item_id=notif.id, expires=float(seconds))

"""What is said to the cache. Values are JSON values; times are in seconds."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from .message import Message
from .registry import register

Expiry: TypeAlias = Annotated[float, Meta(gt=0)]
"""In how many seconds an entry is forgotten."""


@register("cache.get")
class CacheGet(Message[Any]):
    """Read a value; None if there is none."""

    key: str


@register("cache.set")
class CacheSet(Message[None]):
    """Write a value, whatever was there."""

    key: str
    value: Any
    expires: Expiry | None = None
    """None keeps it for good."""


@register("cache.append")
class CacheAppend(Message[bool]):
    """Append to a list in one step; answered with whether the item was added.

    An expiry that the list has already is kept: `expires` counts when this starts the list.
    """

    key: str
    item: Any
    item_id: str = ""
    """If given, the item is added only if the list holds none of the same id."""
    limit: Annotated[int, Meta(ge=1)] | None = None
    """How many items the list may hold: the oldest go first. None leaves it to the cache."""
    expires: Expiry | None = None
    """None keeps the list for good."""


@register("cache.items")
class CacheItems(Message[list[Any]]):
    """Read a list, oldest item first; an empty one if there is none."""

    key: str
    last: Annotated[int, Meta(ge=1)] | None = None
    """Only so many, from the end; None reads all."""


@register("cache.delete")
class CacheDelete(Message[bool]):
    """Forget an entry; answered with whether there was one."""

    key: str


@register("cache.expire")
class CacheExpire(Message[bool]):
    """Set in how many seconds an entry is forgotten; answered with whether there is one."""

    key: str
    expires: Expiry | None
    """None keeps it for good."""


@register("cache.remaining")
class CacheRemaining(Message[float | None]):
    """Ask in how many seconds an entry is forgotten; None if never, or if there is none."""

    key: str


class CacheFetch(Message[Any]):
    """Read a value, or have it made once if there is none, however many ask for it at the same time.

    The first to miss it has it made; all who ask meanwhile, in other processes with the same server too, wait for that
    one. The maker's error is everybody's answer, and is not kept; neither is None. It is no message for a wire.
    """

    key: str
    maker: str
    """The path of the actor that makes the value; another one than the cache."""
    request: Message[Any]
    """What that actor is asked."""
    expires: Expiry | None = None
    """None keeps it for good."""
    patience: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that making it may take; after that somebody else may try."""

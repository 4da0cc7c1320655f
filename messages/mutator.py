"""What is said to the mutator, which alone writes to the store."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from .lock import Fence
from .message import Message
from .notifications import ActionType, NotifData, UnixSeconds
from .registry import register

Count: TypeAlias = Annotated[int, Meta(ge=0)]


class NotifRow(Message[None], kw_only=True):
    """A notification as it is stored."""

    id: int
    """The row's number, growing in the order of storing."""
    receiver_info: str
    nid: str
    """The notification's own id."""
    action_data: Any
    actioner_info: str
    action_type: ActionType
    fired_at: UnixSeconds
    is_seen: bool


@register("notif.store")
class StoreNotifEvent(Message[bool], kw_only=True):
    """Store a notification; answered with whether a row was added. One of a known id changes nothing."""

    message: NotifData
    local_spawn: bool = True
    """As the consumer was told. The mutator writes in its own turn either way: a batch is one transaction."""
    fence: Fence | None = None
    """The lock under which this is done: refused if a later holder has written already."""


@register("notif.seen")
class SeenNotif(Message[bool]):
    """Mark a notification as seen; answered with whether there is one of this id."""

    id: str
    """The notification's own id."""


@register("notif.of_owner")
class NotifsOfOwner(Message[list[NotifRow]], kw_only=True):
    """Read the notifications of exactly this receiver, newest first."""

    owner: str
    from_: Count = msgspec.field(default=0, name="from")
    """How many to leave out at the start."""
    to: Count = 10
    """Where to end: before this one, counted from the same start as `from`."""
    page_size: Count = 10
    """How many at most."""
    unseen_only: bool = True


@register("notif.all")
class AllNotifs(Message[list[NotifRow]], kw_only=True):
    """Read the notifications of all receivers, newest first."""

    from_: Count = msgspec.field(default=0, name="from")
    """How many to leave out at the start."""
    to: Count = 10
    """Where to end: before this one, counted from the same start as `from`."""
    page_size: Count = 10
    """How many at most."""
    unseen_only: bool = False


@register("notif.by_id")
class NotifById(Message[NotifRow | None]):
    """Read one notification; answered with None if there is none of this id."""

    id: str
    """The notification's own id."""


@register("notif.count")
class CountNotifs(Message[int]):
    """Count the stored notifications, of one receiver or of all."""

    owner: str | None = None

"""What a batch of events comes to, before any of it is sent: which are refused at once, and what the others need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ...messages.codec import encode_reply
from ...messages.errors import CodecError, ErrorKind, StorageError
from ...messages.lock import Fence
from ...messages.mutator import StoreNotifEvent
from ...messages.notifications import ActionType, NotifData

__all__ = ["Plan", "Row", "check_fence", "check_query", "plan_of", "row_invalid", "row_of", "stale", "text_fault"]

MAX_INTEGER: Final = 2**63 - 1
MAX_SECONDS: Final = 253_402_300_799


class Row(NamedTuple):
    """A notification as the store takes it, with the lock that protects it, if any."""

    receiver_info: str
    nid: str
    action_data: str
    actioner_info: str
    action_type: str
    fired_at: int
    is_seen: bool
    lock: str | None
    token: int | None


@dataclass(slots=True)
class Plan:
    """A batch of events.

    Attributes:
        events: all of them, in order.
        refused: what is refused whatever the store holds, by place.
        rows: what is to be stored, by place.
        fences: the highest token of each lock that is presented, in the locks' order: whoever takes several
            locks at once takes them in the same order as the others.
    """

    events: Sequence[StoreNotifEvent]
    refused: dict[int, StorageError] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)


def plan_of(events: Sequence[StoreNotifEvent]) -> Plan:
    """Look at each event by itself, and at the tokens in their order.

    One that is older than another before it in the same batch is as stale as if that one had been stored long ago.
    """
    plan = Plan(events)
    for place, event in enumerate(events):
        notif, fence = event.message, event.fence
        try:
            if fence is not None:
                check_fence(fence)
                highest = plan.fences.get(fence.lock, 0)
                if fence.token < highest:
                    plan.refused[place] = stale(fence, highest)
                    continue
                plan.fences[fence.lock] = fence.token
            plan.rows[place] = row_of(notif, fence)
        except (ValueError, CodecError) as error:
            plan.refused[place] = row_invalid(notif, error)
    if plan.fences:
        plan.fences = dict(sorted(plan.fences.items()))
    return plan


def row_invalid(notif: NotifData, error: BaseException | str) -> StorageError:
    """The refusal of one row."""
    text = f"notification {notif.id!r}: {str(error).removeprefix('reply: ')}"
    return StorageError(text, kind=ErrorKind.ROW_INVALID, cause=error if isinstance(error, BaseException) else None)


def stale(fence: Fence, highest: int) -> StorageError:
    """The refusal of one that does not hold its lock any more."""
    return StorageError(
        f"lock {fence.lock!r}: token {fence.token} is older than {highest}, which has written since",
        kind=ErrorKind.FENCING_STALE,
    )


def check_query(*texts: object) -> None:
    """Refuse to look for a text that no row can have.

    Raises:
        StorageError: `storage.query.invalid`.
    """
    for text in texts:
        fault = text_fault(text)
        if fault is not None:
            raise StorageError(fault, kind=ErrorKind.QUERY_INVALID)


def text_fault(value: object) -> str | None:
    """What is wrong with a text, for a database in UTF-8; None if nothing is."""
    if not isinstance(value, str):
        return f"{value!r} is no text"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return str(error)
    return "a text may not contain a NUL character" if "\0" in value else None


def row_of(notif: NotifData, fence: Fence | None = None) -> Row:
    """The row that a notification becomes.

    Raises:
        ValueError: a field has a value that cannot be stored, or that could not be read again.
        CodecError: so has the data.
    """
    _check_all_texts(notif)
    if not notif.id:
        raise ValueError("id is empty")
    if type(notif.fired_at) is not int or not 0 <= notif.fired_at <= MAX_SECONDS:
        raise ValueError(f"fired_at={notif.fired_at!r} must be seconds since 1970, before the year 10000")
    if type(notif.is_seen) is not bool:
        raise ValueError(f"is_seen={notif.is_seen!r} must be a bool")
    return Row(
        notif.receiver_info,
        notif.id,
        encode_reply(notif.action_data).decode(),
        notif.actioner_info,
        ActionType(notif.action_type).value,
        notif.fired_at,
        notif.is_seen,
        fence.lock if fence is not None else None,
        fence.token if fence is not None else None,
    )


def _check_all_texts(notif: NotifData) -> None:
    try:
        together = notif.id + notif.receiver_info + notif.actioner_info + notif.action_type
        if together.isascii() and "\0" not in together:  # nearly always: one look instead of four
            return
    except (TypeError, AttributeError):
        pass  # one is no text: below it is said which
    _check_texts(
        (
            ("id", notif.id),
            ("receiver_info", notif.receiver_info),
            ("actioner_info", notif.actioner_info),
            ("action_type", notif.action_type),
        )
    )


def _check_texts(texts: Iterable[tuple[str, object]]) -> None:
    for name, value in texts:
        fault = text_fault(value)
        if fault is not None:
            raise ValueError(f"{name}: {fault}")


def check_fence(fence: Fence) -> None:
    """Raise ``ValueError`` for a fence that no store can hold."""
    _check_texts([("lock", fence.lock)])
    if type(fence.token) is not int or not 0 < fence.token <= MAX_INTEGER:
        raise ValueError(f"token={fence.token!r} must be an int from 1 to {MAX_INTEGER}")

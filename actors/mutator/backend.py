"""What the mutator and the accessor need from a store, whichever it is.

A backend is one connection with its schema up to date. It is used by one actor; calls block until the store has
answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from ...messages.errors import ErrorKind, StorageError
from ...messages.mutator import AllNotifs, NotifRow, NotifsOfOwner, StoreNotifEvent

Guard: TypeAlias = Callable[[], None]
"""Called right before a commit; if it raises, nothing is kept. Thus an incarnation that was given up on while it
was writing does not commit behind its successor's back."""

StoreOutcome: TypeAlias = bool | StorageError
"""Whether a row was added (False: one of this id was there), or why it was refused."""

MAX_PAGE: Final = 10_000
"""How many rows one read may ask for."""


class StoreBackend(Protocol):
    """A connection to a store of notifications."""

    def store(self, events: Sequence[StoreNotifEvent], guard: Guard) -> list[StoreOutcome]:
        """Add rows in one transaction and return the outcome of each, in order, once they are committed.

        A row that cannot be stored fails alone, with `storage.row.invalid`; one that carries an older fencing
        token than the store has seen, with `storage.fencing.stale`. If the transaction itself fails, nothing is
        kept and every outcome is that error: `storage.sqlite.failed`, `storage.sqlite.unavailable`, or the kinds
        of another backend.

        Storing a notification again is no error, so a caller that does not know what became of it may repeat it.
        """
        ...

    def mark_seen(self, ids: Sequence[str], guard: Guard) -> list[bool]:
        """Mark notifications as seen in one transaction and say of each whether there is one.

        Raises:
            StorageError: as the outcomes of `store`.
        """
        ...

    def of_owner(self, query: NotifsOfOwner) -> list[NotifRow]:
        """Read the notifications of exactly this receiver, newest first.

        Raises:
            StorageError: `storage.query.invalid`; `storage.row.invalid` for a row that is no notification; and as
                the outcomes of `store`.
        """
        ...

    def all(self, query: AllNotifs) -> list[NotifRow]:
        """Read the notifications of all receivers, newest first; raises as `of_owner`."""
        ...

    def by_id(self, nid: str) -> NotifRow | None:
        """Read the notification of this id; raises as `of_owner`."""
        ...

    def count(self, owner: str | None) -> int:
        """Count the notifications of one receiver, or of all; raises as `of_owner`."""
        ...

    def close(self) -> None:
        """End the connection; what was not committed is not kept. Idempotent."""
        ...


def page_of(query: NotifsOfOwner | AllNotifs) -> tuple[int, int]:
    """Work out how many rows to leave out and how many to read.

    Raises:
        StorageError: `storage.query.invalid`, naming the argument.
    """
    for name, value in (("from", query.from_), ("to", query.to), ("page_size", query.page_size)):
        if type(value) is not int or value < 0:
            raise _invalid(f"{name}={value!r} must be an int of at least 0")
    if query.to < query.from_:
        raise _invalid(f"to={query.to} is before from={query.from_}")
    size = min(query.page_size, query.to - query.from_)
    if size > MAX_PAGE:
        raise _invalid(f"page_size={query.page_size}: a page has at most {MAX_PAGE} rows")
    return query.from_, size


def _invalid(text: str) -> StorageError:
    return StorageError(text, kind=ErrorKind.QUERY_INVALID)

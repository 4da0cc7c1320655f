"""What the mutator and the accessor need from a store, whichever it is.

A backend is a connection with its schema up to date. It is used by one actor; calls block until the store has
answered, or for `timeout` seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from ...messages.errors import ErrorKind, StorageError
from ...messages.mutator import AllNotifs, NotifRow, NotifsOfOwner, StoreNotifEvent
from ...messages.statements import ReadStatement, WriteStatement

Guard: TypeAlias = Callable[[], None]
"""Called right before a commit; if it raises, nothing is kept. Thus an incarnation that was given up on while it
was writing does not commit behind its successor's back."""

StoreOutcome: TypeAlias = bool | StorageError
"""Whether a row was added (False: one of this id was there), or why it was refused."""

MAX_PAGE: Final = 10_000
"""How many rows one read may ask for."""


TIMEOUT: Final = 30.0
"""Seconds that a call takes at most where nobody said how long he waits."""


@dataclass(slots=True)
class Attempt:
    """A write, through all the attempts that it takes.

    Attributes:
        timeout: Seconds that the next attempt may take.
        key: What the write is known by: rows that an earlier attempt added, whose commit nobody heard of, are
            recognised by it and count as added.
        in_doubt: Whether an attempt ended without its outcome being known. The backend sets it.
    """

    timeout: float = TIMEOUT
    key: int = field(default_factory=lambda: random.getrandbits(63))
    in_doubt: bool = False
    _numbers: dict[int, int] = field(default_factory=dict)

    @property
    def prunes(self) -> bool:
        """Whether it is the one write in a hundred that forgets the idempotency keys of the day before."""
        return self.key % 100 == 0

    def key_of(self, message: WriteStatement[Any]) -> str:
        """The idempotency key of a statement: its own, or one that stays the same through all attempts."""
        return message.key or f"{self.key:x}.{self._numbers.setdefault(id(message), len(self._numbers))}"


class StoreBackend(Protocol):
    """A connection to a store of notifications."""

    def store(
        self, events: Sequence[StoreNotifEvent], guard: Guard, attempt: Attempt | None = None
    ) -> list[StoreOutcome]:
        """Add rows in one transaction and return the outcome of each, in order, once they are committed.

        A row that cannot be stored fails alone, with `storage.row.invalid`; one that carries an older fencing
        token than the store has seen, with `storage.fencing.stale`. If the transaction itself fails, nothing is
        kept and every outcome is that error: `storage.sqlite.failed`, `storage.sqlite.unavailable`,
        `storage.postgres.failed`, `storage.postgres.unavailable` or `storage.postgres.denied`.

        After an unavailable one the rows may have been stored, if the answer to the commit was lost; `attempt` says
        so then, and is to be passed again.

        Storing a notification again is no error, so a caller that does not know what became of it may repeat it.
        """
        ...

    def mark_seen(self, ids: Sequence[str], guard: Guard, *, timeout: float = TIMEOUT) -> list[bool]:
        """Mark notifications as seen in one transaction and say of each whether there is one.

        Raises:
            StorageError: as the outcomes of `store`.
        """
        ...

    def of_owner(self, query: NotifsOfOwner, *, timeout: float = TIMEOUT) -> list[NotifRow]:
        """Read the notifications of exactly this receiver, newest first.

        Raises:
            StorageError: `storage.query.invalid`; `storage.row.invalid` for a row that is no notification; and as
                the outcomes of `store`.
        """
        ...

    def all(self, query: AllNotifs, *, timeout: float = TIMEOUT) -> list[NotifRow]:
        """Read the notifications of all receivers, newest first; raises as `of_owner`."""
        ...

    def by_id(self, nid: str, *, timeout: float = TIMEOUT) -> NotifRow | None:
        """Read the notification of this id; raises as `of_owner`."""
        ...

    def count(self, owner: str | None, *, timeout: float = TIMEOUT) -> int:
        """Count the notifications of one receiver, or of all; raises as `of_owner`."""
        ...

    def read(self, statement: ReadStatement[Any], *, timeout: float = TIMEOUT) -> Any:
        """Run a statement of the user's that changes nothing, and return its reply; raises as `of_owner`."""
        ...

    def write(
        self, statements: Sequence[WriteStatement[Any]], guard: Guard, attempt: Attempt | None = None
    ) -> list[Any]:
        """Run statements of the user's in one transaction and return the reply of each, in order.

        One that was refused has its `StorageError` in the reply's place, and fails alone: `storage.row.invalid`,
        `storage.query.invalid`, `storage.fencing.stale`. Otherwise as `store`. One whose key is known is not run
        again: its reply is the one of the first time.
        """
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

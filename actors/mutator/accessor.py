"""The accessor: reads, apart from the mutator, which answers them too where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

from ...messages.errors import ActorError, ErrorKind, SpecInvalid, StorageError
from ...messages.message import Message
from ...messages.mutator import AllNotifs, CountNotifs, NotifById, NotifRow, NotifsOfOwner, StoreNotifEvent
from ...messages.statements import ReadStatement, WriteStatement
from .. import execution
from ..embedded import Embedded
from ..handlers import handles
from ..service import ServiceActor
from .backend import TIMEOUT, StoreBackend
from .opening import open_backend

__all__ = ["Accessor"]

LEAST, MOST_SPARED = 0.05, 0.5
"""Seconds that a call has at least; and at most those that are kept for bringing the answer back in time."""


class Accessor(ServiceActor[StoreBackend]):
    """Reads from the store, so that long reads do not hold up the mutator.

    It answers `NotifsOfOwner`, `AllNotifs`, `NotifById`, `CountNotifs` and every `ReadStatement`; a `StorageError` if
    one cannot be done before the asker's deadline. While a server cannot be reached, requests are answered with
    `storage.postgres.unavailable`; the actor starts without it, too.

    Args:
        url: which store; None takes ``UNDERSTUDY_STORE_URL``, or else ``sqlite:///understudy.db``.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"
    variable: ClassVar[str] = "UNDERSTUDY_STORE_URL"
    default_url: ClassVar[str] = "sqlite:///understudy.db"
    refusals = (StorageError, SpecInvalid)

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> StoreBackend:
        return open_backend(url, embedded, clock, hurried=lambda: bool(self._cell.control))

    @handles
    def of_owner(self, message: NotifsOfOwner) -> list[NotifRow]:
        """Read the notifications of one receiver."""
        self._check(message)
        return self._backend.of_owner(message, timeout=self._seconds_left())

    @handles
    def all(self, message: AllNotifs) -> list[NotifRow]:
        """Read the notifications of all receivers."""
        self._check(message)
        return self._backend.all(message, timeout=self._seconds_left())

    @handles
    def by_id(self, message: NotifById) -> NotifRow | None:
        """Read one notification."""
        self._check(message)
        return self._backend.by_id(message.id, timeout=self._seconds_left())

    @handles
    def count(self, message: CountNotifs) -> int:
        """Count notifications."""
        self._check(message)
        return self._backend.count(message.owner, timeout=self._seconds_left())

    @handles
    def read(self, message: ReadStatement[Any]) -> Any:
        """Run a statement of the user's."""
        return self._backend.read(message, timeout=self._seconds_left())

    def _refusal(self, message: Message[Any], fault: str) -> ActorError:
        writes = isinstance(message, (StoreNotifEvent, WriteStatement))
        kind = ErrorKind.ROW_INVALID if writes else ErrorKind.QUERY_INVALID
        return StorageError(f"{type(message).__name__}: {fault}", kind=kind)

    def _seconds_left(self) -> float:
        """Seconds that the request which is being handled leaves to the store."""
        return self._seconds_until([execution.inherited_deadline(self._cell)])

    def _seconds_until(self, deadlines: Iterable[float | None]) -> float:
        """Seconds until the earliest of some deadlines, less what it takes to bring the answer back before it."""
        known = [deadline for deadline in deadlines if deadline is not None]
        if not known:
            return TIMEOUT
        left = min(known) - self._cell.runtime.clock()
        return min(TIMEOUT, max(LEAST, left - min(0.1 * left, MOST_SPARED)))

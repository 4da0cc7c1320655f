"""The accessor: reads, apart from the mutator, which answers them too where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from ...messages.errors import StorageError
from ...messages.mutator import AllNotifs, CountNotifs, NotifById, NotifRow, NotifsOfOwner
from ..embedded import Embedded
from ..handlers import handles
from ..service import ServiceActor
from .backend import StoreBackend
from .opening import open_backend

__all__ = ["Accessor"]


class Accessor(ServiceActor[StoreBackend]):
    """Reads from the store, so that long reads do not hold up the mutator.

    It answers `NotifsOfOwner`, `AllNotifs`, `NotifById` and `CountNotifs`; a `StorageError` if one cannot be done.

    Args:
        url: which store; None takes ``UNDERSTUDY_STORE_URL``, or else ``sqlite:///understudy.db``.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"
    variable: ClassVar[str] = "UNDERSTUDY_STORE_URL"
    default_url: ClassVar[str] = "sqlite:///understudy.db"
    refusals = (StorageError,)

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> StoreBackend:
        return open_backend(url, embedded, clock)

    @handles
    def of_owner(self, message: NotifsOfOwner) -> list[NotifRow]:
        """Read the notifications of one receiver."""
        return self._backend.of_owner(message)

    @handles
    def all(self, message: AllNotifs) -> list[NotifRow]:
        """Read the notifications of all receivers."""
        return self._backend.all(message)

    @handles
    def by_id(self, message: NotifById) -> NotifRow | None:
        """Read one notification."""
        return self._backend.by_id(message.id)

    @handles
    def count(self, message: CountNotifs) -> int:
        """Count notifications."""
        return self._backend.count(message.owner)

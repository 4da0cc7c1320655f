"""The mutator, which alone writes to the store."""

from __future__ import annotations

from ...messages.mutator import SeenNotif, StoreNotifEvent
from ..handlers import handles, handles_batch
from ..request import Request
from .accessor import Accessor

__all__ = ["Mutator"]

BATCH = 500
"""Rows in one transaction at most: enough to share one commit, few enough to answer soon."""


class Mutator(Accessor):
    """Stores notifications: everything that waits becomes one transaction, and each is answered after the commit.

    Beside the accessor's reads it answers `StoreNotifEvent` and `SeenNotif`; a `StorageError` if one cannot be done.
    A row that cannot be stored fails alone, one that was stored before is no error, and one that carries an older
    fencing token than the store has seen is refused.

    Args:
        url: which store; None takes ``UNDERSTUDY_STORE_URL``, or else ``sqlite:///understudy.db``.
    """

    @handles_batch(max_size=BATCH)
    def store(self, requests: list[Request[StoreNotifEvent]]) -> None:
        """Store notifications in one transaction."""
        outcomes = self._backend.store([request.message for request in requests], self._may_commit)
        for request, outcome in zip(requests, outcomes, strict=True):
            self._answer(request, outcome)

    @handles
    def seen(self, message: SeenNotif) -> bool:
        """Mark a notification as seen; whether there is one of this id."""
        (found,) = self._backend.mark_seen([message.id], self._may_commit)
        return found

    def _may_commit(self) -> None:
        """Refuse the commit of an incarnation that was given up on: its successor may be at the same work."""
        self._refuse_if_fenced("commit")

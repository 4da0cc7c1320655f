"""The mutator, which alone writes to the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...messages.errors import StorageError
from ...messages.message import Message
from ...messages.mutator import SeenNotif, StoreNotifEvent
from ...messages.statements import WriteStatement
from ..handlers import handles_batch
from ..request import Request
from .accessor import Accessor
from .backend import Attempt

__all__ = ["Mutator"]

M = TypeVar("M", bound=Message[Any])

BATCH = 1_000
"""Rows in one transaction at most: enough to share one commit, few enough to answer soon."""


LEAST_TRY = 0.2
"""Seconds that another attempt should have."""


class Mutator(Accessor):
    """Stores notifications: everything that waits becomes one transaction, and each is answered after the commit.

    Beside the accessor's reads it answers `StoreNotifEvent`, `SeenNotif` and every `WriteStatement`; a `StorageError`
    if one cannot be done before the asker's deadline. A row that cannot be stored fails alone, one that was stored
    before is no error, and one that carries an older fencing token than the store has seen is refused.

    Args:
        url: which store; None takes ``UNDERSTUDY_STORE_URL``, or else ``sqlite:///understudy.db``.
    """

    @handles_batch(max_size=BATCH)
    def store(self, requests: list[Request[StoreNotifEvent]]) -> None:
        """Store notifications in one transaction."""
        attempt = Attempt()

        def store(messages: list[StoreNotifEvent], timeout: float) -> Sequence[Any]:
            attempt.timeout = timeout
            return self._backend.store(messages, self._may_commit, attempt)

        self._answer_all(self._sound(requests), store)

    @handles_batch(max_size=BATCH)
    def seen(self, requests: list[Request[SeenNotif]]) -> None:
        """Mark notifications as seen; whether there is one of each id."""

        def mark(messages: list[SeenNotif], timeout: float) -> Sequence[Any]:
            return self._backend.mark_seen([each.id for each in messages], self._may_commit, timeout=timeout)

        self._answer_all(self._sound(requests), mark)

    @handles_batch(max_size=BATCH)
    def write(self, requests: list[Request[WriteStatement[Any]]]) -> None:
        """Run statements of the user's in one transaction."""
        attempt = Attempt()

        def write(messages: list[WriteStatement[Any]], timeout: float) -> Sequence[Any]:
            attempt.timeout = timeout
            return self._backend.write(messages, self._may_commit, attempt)

        self._answer_all(self._sound(requests, WriteStatement), write)

    def _answer_all(self, requests: Sequence[Request[M]], work: Callable[[list[M], float], Sequence[Any]]) -> None:
        """Do what was requested until the earliest deadline, then go on without those whose time is over."""
        while requests:
            timeout = self._seconds_until(request.deadline for request in requests)
            outcomes: Sequence[Any]
            try:
                outcomes = work([request.message for request in requests], timeout)
            except StorageError as failed:
                # One error for each request: they are raised on different threads, at different times.
                outcomes = [StorageError(str(failed), kind=failed.kind, cause=failed.__cause__) for _ in requests]
            patient: list[Request[M]] = []
            if any(isinstance(outcome, StorageError) for outcome in outcomes):
                pairs = zip(requests, outcomes, strict=True)
                patient = [request for request, outcome in pairs if self._may_wait(request, outcome)]
            if len(patient) == len(requests):  # it failed before anybody's time was over: that is the answer
                patient = []
            waiting = set(map(id, patient))
            for request, outcome in zip(requests, outcomes, strict=True):
                if id(request) not in waiting:
                    self._answer(request, outcome)
            requests = patient

    def _may_wait(self, request: Request[Any], outcome: object) -> bool:
        """Whether a failure may still become a success while the asker waits."""
        if not isinstance(outcome, StorageError) or not outcome.response.retryable or request.deadline is None:
            return False
        return self._seconds_until([request.deadline]) > LEAST_TRY

    def _may_commit(self) -> None:
        """Refuse the commit of an incarnation that was given up on: its successor may be at the same work."""
        self._refuse_if_fenced("commit")

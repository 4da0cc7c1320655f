"""The cache actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from ...messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheFetch,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from ...messages.errors import ActorError, CacheError, ErrorKind
from ...messages.message import Message
from ...messages.redact import repr_of
from ..embedded import Embedded
from ..handlers import handles, handles_batch
from ..request import Request
from ..service import ServiceActor
from .backend import CacheBackend, Operation
from .flights import LOOK_EVERY, Flight, LookAgain, Made, claim_of
from .opening import open_backend

__all__ = ["Cache"]

BATCH = 1_000
"""Operations that go to the backend together, at most."""


class Cache(ServiceActor[CacheBackend]):
    """Keeps values and bounded lists until they expire.

    It answers `CacheGet`, `CacheSet`, `CacheAppend`, `CacheItems`, `CacheDelete`, `CacheExpire` and
    `CacheRemaining`, in the order in which they came; a `CacheError` if one cannot be done. What waits goes to the
    backend together. `CacheFetch` has a value made by another actor if there is none: once, however many ask.

    While a server cannot be reached, requests are answered with `cache.unavailable`; the actor starts without it, too.

    Args:
        url: which cache; None takes ``UNDERSTUDY_CACHE_URL``, or else ``memory://``, a cache in this system's memory
            that outlives this actor.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "thread"
    variable: ClassVar[str] = "UNDERSTUDY_CACHE_URL"
    default_url: ClassVar[str] = "memory://"
    refusals = (CacheError,)

    def __init__(self, url: str | None = None) -> None:
        super().__init__(url)
        self._flights: dict[str, Flight] = {}

    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> CacheBackend:
        return open_backend(url, embedded, clock)

    @handles_batch(max_size=BATCH)
    def operate(
        self,
        requests: list[
            Request[CacheGet | CacheSet | CacheAppend | CacheItems | CacheDelete | CacheExpire | CacheRemaining]
        ],
    ) -> None:
        """Carry out what waits, in its order."""
        requests = self._sound(requests)
        outcomes = self._backend.run([request.message for request in requests], self._time_left(requests))
        for request, outcome in zip(requests, outcomes, strict=True):
            self._answer(request, outcome)

    def _refusal(self, message: Message[Any], fault: str) -> ActorError:
        return CacheError(f"{type(message).__name__}: {fault}", kind=ErrorKind.CACHE_REQUEST_INVALID)

    # --- values that are made when they are missed ---------------------------------------------------------------

    @handles
    def fetch(self, message: CacheFetch) -> None:
        """Read a value, or have it made; answered later."""
        self._check(message)
        if self._is_itself(message.maker):
            raise self._refusal(message, f"maker={repr_of(message.maker)} is this cache, which would wait for itself")
        request = self.defer_reply()
        flight = self._flights.get(message.key)
        if flight is None:
            flight = self._flights[message.key] = Flight(message, self._cell.runtime.clock() + message.patience)
            flight.waiting.append(request)
            self._fly(flight)
        else:
            flight.waiting.append(request)

    @handles
    def look_again(self, message: LookAgain) -> None:
        """See whether another process has made a value, or has given it up."""
        flight: Flight = message.flight
        if any(not request.answered for request in flight.waiting):
            self._fly(flight)
        else:  # nobody waits for it any more
            self._land(flight, None)

    @handles
    def made(self, message: Made) -> None:
        """Keep what was made, and answer everybody who waits for it."""
        flight: Flight = message.flight
        outcome: Any = message.value if message.error is None else message.error
        wanted = flight.wanted
        operations: list[Operation] = [CacheDelete(claim_of(wanted.key))]
        if message.error is None and message.value is not None:
            operations.insert(0, CacheSet(wanted.key, message.value, wanted.expires))
        kept, *_ = self._backend.run(operations, wanted.patience)
        if isinstance(kept, CacheError) and kept.kind is ErrorKind.CACHE_REQUEST_INVALID:
            outcome = kept  # it is no value that could be read again
        self._land(flight, outcome)

    def _is_itself(self, path: str) -> bool:
        try:
            return self.lookup(path) == self.actor_ref
        except ActorError:
            return False

    def _fly(self, flight: Flight) -> None:
        """Answer if the value is there; else have it made, unless somebody else does that."""
        wanted = flight.wanted
        patience = flight.gives_up - self._cell.runtime.clock()
        if patience <= 0:
            text = f"key {wanted.key!r}: its value was not made within {wanted.patience:g} s"
            self._land(flight, CacheError(text, kind=ErrorKind.CACHE_FETCH_TIMEOUT))
            return
        claim = CacheAppend(claim_of(wanted.key), 1, "maker", expires=wanted.patience)
        left = self._time_left(flight.waiting)
        (value,) = self._backend.run([CacheGet(wanted.key)], left)
        if value is not None:
            self._land(flight, value)
            return
        claimed, value = self._backend.run([claim, CacheGet(wanted.key)], left)
        if claimed is False and value is None:
            self.after(LOOK_EVERY, LookAgain(flight))
        elif claimed is True and value is None:
            self._make(flight, patience)
        else:  # made meanwhile, or the cache cannot say
            if claimed is True:
                self._backend.run([CacheDelete(claim.key)], left)
            self._land(flight, claimed if isinstance(claimed, CacheError) else value)

    def _make(self, flight: Flight, patience: float) -> None:
        wanted = flight.wanted
        try:
            future = self.lookup(wanted.maker).ask(wanted.request, block=False, timeout=patience)
        except ActorError as error:
            self.made(Made(flight, None, error))
            return

        def settled() -> None:
            try:
                self._post(Made(flight, future.get(timeout=0), None))
            except Exception as error:
                self._post(Made(flight, None, error))

        future.on_done(settled)

    def _land(self, flight: Flight, outcome: Any) -> None:
        """Answer everybody who waits: with a value, or each with an error of its own."""
        del self._flights[flight.wanted.key]
        for request in flight.waiting:
            if isinstance(outcome, CacheError):
                self._answer(request, CacheError(str(outcome), kind=outcome.kind, cause=outcome.__cause__))
            else:
                self._answer(request, outcome)

"""The cache actor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from ...messages.errors import ActorError, AskTimeout, CacheError, ErrorKind
from ...messages.message import Message
from ...messages.redact import repr_of
from .. import execution
from ..embedded import Embedded
from ..handlers import handles, handles_batch
from ..request import Request
from ..service import ServiceActor
from .backend import CacheBackend
from .flights import CLAIMS_KEPT, GOODBYE, LOOK_EVERY, ClaimsLeft, Flight, LookAgain, Made, claim_of
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

    def on_start(self) -> None:
        """Open the connection, and give up what an earlier incarnation had claimed."""
        super().on_start()
        self._claims: dict[str, str] = self._handed_on("claims", dict)
        if self._claims:
            self._post(ClaimsLeft())

    def on_stop(self) -> None:
        """Close the connection; what is being made, other processes may make."""
        self._give_up(self._claims)
        super().on_stop()

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
        if self._flights.get(flight.wanted.key) is not flight:
            return  # an earlier incarnation's: who asked has been told of its end
        if any(not request.answered for request in flight.waiting):
            self._fly(flight)
        else:  # nobody waits for it any more
            self._land(flight, None)

    @handles
    def made(self, message: Made) -> None:
        """Keep what was made, and answer everybody who waits for it."""
        flight: Flight = message.flight
        wanted = flight.wanted
        if self._flights.get(wanted.key) is not flight:
            return  # an earlier incarnation's: who asked has been told of its end
        outcome: Any = message.value if message.error is None else message.error
        if message.error is None and message.value is not None:
            (kept,) = self._backend.run([CacheSet(wanted.key, message.value, wanted.expires)], wanted.patience)
            if isinstance(kept, CacheError) and kept.kind is ErrorKind.CACHE_REQUEST_INVALID:
                outcome = kept  # it is no value that could be read again
        self._release(wanted.key, wanted.patience)
        self._land(flight, outcome)

    @handles
    def claims_left(self, message: ClaimsLeft) -> None:
        """Give up what an earlier incarnation was having made; what was asked for since is this one's own."""
        self._give_up(set(self._claims).difference(self._flights))

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
            self._land(flight, _too_late(wanted))
            return
        left = self._time_left(flight.waiting)
        (value,) = self._backend.run([CacheGet(wanted.key)], left)
        if value is not None:
            self._land(flight, value)
            return
        # One that is left of an earlier incarnation, or whose answer was lost, is taken over with its name.
        mine = self._claims.get(wanted.key) or self._cell.runtime.new_urn()
        self._claims[wanted.key] = mine
        key = claim_of(wanted.key)
        claim = CacheAppend(key, mine, "maker", expires=wanted.patience)
        outcomes = self._backend.run([claim, CacheGet(wanted.key), CacheItems(key)], left)
        claimed, value, holders = outcomes
        fault = next((each for each in outcomes if isinstance(each, CacheError)), None)
        if fault is not None:
            self._land(flight, fault)
        elif value is not None:  # made meanwhile
            self._release(wanted.key, left)
            self._land(flight, value)
        elif holders == [mine]:
            if not claimed:
                self._backend.run([CacheExpire(key, wanted.patience)], left)
            self._make(flight, patience)
        else:
            del self._claims[wanted.key]
            self.after(LOOK_EVERY, LookAgain(flight))

    def _make(self, flight: Flight, patience: float) -> None:
        wanted, clock = flight.wanted, self._cell.runtime.clock
        limits = (flight.gives_up, execution.inherited_deadline(self._cell))
        until = min(limit for limit in limits if limit is not None)
        try:
            future = self.lookup(wanted.maker).ask(wanted.request, block=False, timeout=patience)
        except ActorError as error:
            self.made(Made(flight, None, error))
            return

        def settled() -> None:
            try:
                self._post(Made(flight, future.get(timeout=0.0), None))
            except AskTimeout as error:
                self._post(Made(flight, None, _too_late(wanted, error) if clock() >= until else error))
            except Exception as error:
                self._post(Made(flight, None, error))

        future.on_done(settled)

    def _give_up(self, keys: Iterable[str]) -> None:
        """Let others make what is not made here any more."""
        for key in tuple(keys):
            if not self._release(key, GOODBYE):
                return  # they run out by themselves

    def _release(self, key: str, timeout: float | None) -> bool:
        """Delete the claim of a value, if it is still this actor's; False if the cache cannot say."""
        mine, claim = self._claims.get(key), claim_of(key)
        if mine is None:
            return True
        (outcome,) = self._backend.run([CacheItems(claim)], timeout)
        if outcome == [mine]:
            (outcome,) = self._backend.run([CacheDelete(claim)], timeout)
        done = not isinstance(outcome, CacheError)
        if done or len(self._claims) > CLAIMS_KEPT:
            self._claims.pop(key, None)
        return done

    def _land(self, flight: Flight, outcome: Any) -> None:
        """Answer everybody who waits: with a value, or each with an error of its own."""
        del self._flights[flight.wanted.key]
        for request in flight.waiting:
            if isinstance(outcome, CacheError):
                self._answer(request, CacheError(str(outcome), kind=outcome.kind, cause=outcome.__cause__))
            else:
                self._answer(request, outcome)


def _too_late(wanted: CacheFetch, cause: BaseException | None = None) -> CacheError:
    text = f"key {wanted.key!r}: its value was not made within {wanted.patience:g} s"
    return CacheError(text, kind=ErrorKind.CACHE_FETCH_TIMEOUT, cause=cause)

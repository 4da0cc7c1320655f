"""What the service actors have in common: a URL that chooses the backend, and a connection for each incarnation."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..messages.errors import ActorError, AskTimeout, IncarnationFenced, UrlInvalid
from ..messages.fields import field_fault
from ..messages.message import Message
from . import lifecycle
from .actor import Actor
from .cell import Cell
from .connection import Connection, Part, Server
from .embedded import Embedded
from .forking import renewed_in_forks
from .reasons import SHUTDOWN, ActorKilled
from .request import Request

__all__ = ["Opener", "ServiceActor", "missing_client", "open_by_scheme"]


class Backend(Protocol):
    """A connection."""

    def close(self) -> None:
        """End it."""


B = TypeVar("B", bound=Backend)
K = TypeVar("K")
M = TypeVar("M", bound=Message[Any])

Opener = Callable[[str, Embedded, Callable[[], float]], B]
"""Opens a backend: given the URL's part after ``//``, the system's embedded servers and its monotonic clock."""


def open_by_scheme(
    url: str,
    openers: Mapping[str, Opener[B]],
    embedded: Embedded,
    clock: Callable[[], float],
    *,
    service: str,
) -> B:
    """Open the backend that a URL names.

    Args:
        url: such as ``memory://``.
        openers: by scheme.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.
        service: what it is for, for the error's text.

    Raises:
        UrlInvalid: nothing here opens URLs of that scheme. The text does not repeat the URL, which may hold a
            password.
        ActorError: what the backend raises when it cannot be opened.
    """
    scheme, separator, rest = url.partition("://")
    opener = openers.get(scheme) if separator else None
    if opener is None:
        what = f"the scheme {scheme!r}" if separator else "what is no URL"
        known = ", ".join(f"{each}://" for each in sorted(openers))
        raise UrlInvalid(f"{service}: {what} is not supported here; supported: {known}")
    return opener(rest, embedded, clock)


def missing_client(service: str, scheme: str, extra: str) -> UrlInvalid:
    """What is raised where the client library of a backend is not installed.

    Args:
        service: what it is for.
        scheme: of the URL that asks for it.
        extra: what installs it.
    """
    return UrlInvalid(f"{service}: {scheme}:// needs a client library: pip install 'understudy[{extra}]'")


_closing = renewed_in_forks(threading.Lock())
"""Held while it is decided who closes a connection: who kills an actor, or its start that comes back."""

PARTS_TIMEOUT = 3.0
"""Seconds that the parts of a service actor have to end before they are ended by force."""


class ServiceActor(Actor, Generic[B]):
    """An actor in front of a backend.

    The connection is opened when the incarnation starts and closed when it ends, however it ends. A backend that
    stands for a server (``Server``) is watched by an actor below this one, ``connection``, which is restarted with
    backoff until a lost server answers again.

    Args:
        url: which backend; None takes the class's environment variable, or else the embedded default.
    """

    variable: ClassVar[str]
    """The environment variable that holds the URL."""
    default_url: ClassVar[str]
    """The embedded default."""

    # Of the class, so that they are there when it is killed while a subclass's constructor is stuck.
    _closing: threading.Event | None = None
    _connected: B | None = None
    _to_close: B | None = None
    _parts: Cell | None = None

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self._url = url or os.environ.get(self.variable) or self.default_url
        self._closing = threading.Event()

    @abstractmethod
    def _open(self, url: str, embedded: Embedded, clock: Callable[[], float]) -> B:
        """Open the backend that ``url`` names; raises ``UrlInvalid`` and what the backend raises."""

    @property
    def _backend(self) -> B:
        assert self._connected is not None, "the connection is there from on_start to the end"
        return self._connected

    def on_start(self) -> None:
        """Open the connection; if this or what a subclass does after it fails, it is closed again."""
        runtime = self._cell.runtime
        backend: Any = self._open(self._url, runtime.embedded, runtime.clock)
        self._to_close = self._connected = backend
        if self._fenced:  # it took so long that the start was given up: its successor has the names of the parts
            raise ActorKilled
        if runtime.supervise is None:
            return
        parts = [Part("connection", Connection, (backend, self._closing))] if isinstance(backend, Server) else []
        parts += self._own_parts()
        if parts:
            self._parts = runtime.supervise(self._cell, parts)

    def _own_parts(self) -> list[Part]:
        """What else works below this actor; asked for when the connection is open."""
        return []

    def on_signal(self, signal: Any) -> None:
        """The supervisor of the parts has ended, which it never does by itself: this incarnation ends likewise."""
        if isinstance(signal, lifecycle.ChildExited) and signal.cell is self._parts:
            raise signal.reason.error or RuntimeError(f"the supervisor of its parts ended: {signal.reason}")

    def child_cells(self) -> Iterator[Cell]:
        """The places of its parts."""
        keeper = None if self._parts is None else self._parts.actor
        return iter(()) if keeper is None else keeper.child_cells()

    def on_stop(self) -> None:
        """Close the connection."""
        self._disconnect()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection: what this incarnation had not finished is the next one's."""
        self._disconnect()

    def _on_killed(self) -> None:
        self._disconnect()

    def _on_not_started(self) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        """Close what is open; harmless if that was done, also on another thread: a start that was given up does."""
        if self._closing is not None:
            self._closing.set()
        with _closing:
            backend, self._to_close = self._to_close, None
            parts, self._parts = self._parts, None
        try:
            if backend is not None:
                backend.close()
        finally:
            if parts is not None:
                self._end_parts(parts)

    @staticmethod
    def _end_parts(parts: Cell) -> None:
        """End the parts, so that the next incarnation can have parts of the same names."""
        end = lifecycle.end(parts, SHUTDOWN)
        try:
            end.get(timeout=PARTS_TIMEOUT)
        except AskTimeout:
            lifecycle.kill(parts)
            with suppress(AskTimeout):
                end.get(timeout=PARTS_TIMEOUT)
        lifecycle.close(parts, SHUTDOWN)

    def _time_left(self, requests: Sequence[Request[Any]]) -> float | None:
        """Seconds within which requests are to be answered, by the one with most time; None: no deadline.

        A little is left over, so that an error of the backend's own comes before the asker gives up.
        """
        latest = 0.0
        for request in requests:
            if request.deadline is None:
                return None
            latest = max(latest, request.deadline)
        left = latest - self._cell.runtime.clock()
        return max(0.001, left - min(0.1, 0.1 * left))

    # --- requests whose fields are not what they should be ----------------------------------------------------

    def _refusal(self, message: Message[Any], fault: str) -> ActorError:
        """The service's own error for a request with a field that cannot be."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it refuses {message!r}: {fault}")

    def _check(self, message: Message[Any]) -> None:
        """Refuse a request that was made with a value of a wrong type: only what comes by wire was checked before."""
        fault = field_fault(message)
        if fault is not None:
            raise self._refusal(message, fault)

    def _sound(self, requests: list[Request[M]], declared: type[Message[Any]] | None = None) -> list[Request[M]]:
        """Refuse those of a batch that were made with values of wrong types; returns the others.

        Args:
            requests: the batch.
            declared: the base whose fields are looked at, where the rest are the user's.
        """
        faults = [field_fault(request.message, declared) for request in requests]
        if not any(faults):
            return requests
        for request, fault in zip(requests, faults, strict=True):
            if fault is not None:
                self._answer(request, self._refusal(request.message, fault))
        return [request for request, fault in zip(requests, faults, strict=True) if fault is None]

    # --- for callbacks that come on a foreign thread -----------------------------------------------------

    def _post(self, message: Any) -> None:
        """Have ``message`` handled by this incarnation, however full the mailbox is; none if it has ended."""
        if not self._fenced:
            self._cell.put_always(message)

    def _answer(self, request: Request[Any], reply: Any) -> bool:
        """Answer a request with a reply, or with an error; False if nobody waits for it any more.

        What was only told, and failed, goes to the dead letters.
        """
        try:
            if not isinstance(reply, BaseException):
                return request.reply(reply)
            if isinstance(reply, ActorError):
                reply.note_place(self._cell.path, self._cell.incarnation, type(request.message).__name__)
            if request.reply_to is None:
                self._cell.bury(request.message, "refused", reply)
                return False
            return request.fail(reply)
        except IncarnationFenced:
            return False

    def _handed_on(self, name: str, make: Callable[[], K]) -> K:
        """What earlier incarnations of this place left under ``name``, or what ``make`` makes."""
        kept: dict[str, Any] = self._cell.needs.handed_on
        if name not in kept:
            kept[name] = make()
        return kept[name]  # type: ignore[no-any-return]  # what `make` made

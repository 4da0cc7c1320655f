"""Which broker a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable

from ..embedded import Embedded
from ..service import open_by_scheme
from .backend import BrokerBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
    """Connect to the broker that a URL names.

    Args:
        url: ``memory://``, or ``memory://name`` for another one in the same system.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such broker.
    """
    return open_by_scheme(url, {"memory": _memory}, embedded, clock, service="broker")


def _memory(name: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
    from .memory import MemoryBroker, MemoryServer

    return MemoryBroker(embedded.server("broker", name, MemoryServer))

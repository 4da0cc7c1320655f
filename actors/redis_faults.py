"""What goes wrong with a Redis: lost, denied, or not the one to be asked."""

from __future__ import annotations

from typing import Final

from redis import exceptions

__all__ = [
    "DENIALS",
    "LOSSES",
    "ServerDenied",
    "ServerLost",
    "is_denial",
    "is_not_now",
    "is_not_the_one",
    "is_shut_out",
]

DENIALS: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
LOSSES: Final = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
_MOVED: Final = (exceptions.ReadOnlyError, exceptions.AskError, exceptions.ClusterDownError)
"""What is answered by a server that is not, or not any more, the one to be asked. Nothing was done."""
_MOVED_TEXTS: Final = ("MOVED ", "ASK ", "CLUSTERDOWN")
"""The same from the parsers of redis-py that have no classes for them."""
_NOT_NOW: Final = ("TRYAGAIN", "NOREPLICAS", "MASTERDOWN")


class ServerLost(Exception):
    """The server cannot be reached, did not answer in time, or cannot work now; what was sent may have been done.

    Args:
        text: What was seen.
        reached: Whether there was a connection; without one nothing was sent.
    """

    def __init__(self, text: str, *, reached: bool) -> None:
        super().__init__(text)
        self.reached = reached


class ServerDenied(Exception):
    """The server refuses these credentials, this database or this command to this user."""


def is_denial(error: object) -> bool:
    """Whether an error reply says that this user may not do this."""
    return isinstance(error, DENIALS)


def is_shut_out(error: object) -> bool:
    """Whether an error says that this user may do nothing at all, rather than that there is something it may not do."""
    return isinstance(error, ServerDenied) and not isinstance(error.__cause__, exceptions.NoPermissionError)


def is_not_the_one(error: Exception) -> bool:
    """Whether an error reply says that another server is to be asked; nothing was done."""
    return isinstance(error, _MOVED) or str(error).startswith(_MOVED_TEXTS)


def is_not_now(error: Exception) -> bool:
    """Whether an error reply says that the server cannot do it at the moment; nothing was done."""
    return str(error).startswith(_NOT_NOW)

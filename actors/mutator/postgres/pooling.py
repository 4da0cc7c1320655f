"""The pool of connections, and what it would log of an outage that is told in other ways."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Self

from psycopg_pool import ConnectionPool

from .connection import Connection, Target

__all__ = ["open_pool"]

POOL_SIZE: Final = 2
"""Connections: the actor uses one at a time, and an abandoned handler may still hold another."""

_OURS: Final = "understudy "


def open_pool(target: Target, note: Callable[[BaseException | None], None]) -> ConnectionPool[Connection]:
    """A pool that connects in the background, and once for each time that a connection is wanted.

    Args:
        target: The database.
        note: Told how connecting went: the pool only logs it.
    """
    return ConnectionPool(
        connection_class=_noting(note),
        kwargs={**target.options, "autocommit": True},
        min_size=1,
        max_size=POOL_SIZE,
        reconnect_timeout=0.0,  # who needs a connection makes it try again
        num_workers=1,
        open=True,
        name=f"{_OURS}{target.name}",
    )


def _noting(note: Callable[[BaseException | None], None]) -> type[Connection]:
    """A class of connections that says how connecting went."""

    class Noting(Connection):
        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Self:
            try:
                connection = super().connect(*args, **kwargs)
            except Exception as error:
                note(error)
                raise
            note(None)
            return connection

    return Noting


class _OthersOnly(logging.Filter):
    """Lets pass what the pools of the user's own have to say.

    That a connection of ours was lost, or is given up where its server hangs, is said by the errors that callers get
    and by the restart of the actor that watches the server.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.args if isinstance(record.args, tuple) else ()
        return not any(isinstance(each, Connection) or (isinstance(each, str) and _OURS in each) for each in said)


logging.getLogger("psycopg.pool").addFilter(_OthersOnly())

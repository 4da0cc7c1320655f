"""The connections to one Redis server."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import redis
from redis import exceptions

from .redis_commands import Command, packed
from .redis_sockets import Plain, Socket, Tls, limit

__all__ = ["Address", "Connections"]

Address: TypeAlias = tuple[str, int]
"""Host and port."""

MAX_CONNECTIONS: Final = 8
"""Connections to one server at once; more callers wait for one."""


class Connections:
    """The connections to one server: those in use belong to their callers, the others wait here.

    They come from a `BlockingConnectionPool`, and are kept here between calls because giving one back to the pool
    and taking it again costs as much as a small command.

    Args:
        address: Of the server.
        options: redis-py's arguments.
        tls: Whether they are encrypted.
    """

    def __init__(self, address: Address, options: dict[str, Any], tls: bool) -> None:
        pool: Any = redis.BlockingConnectionPool  # redis-py's own types are not complete
        self._pool = pool(
            max_connections=MAX_CONNECTIONS,
            timeout=1,
            connection_class=Tls if tls else Plain,
            host=address[0],
            port=address[1],
            **options,
        )
        # Before 5.3 the command's name had to be given, since then it must not.
        parameters = inspect.signature(self._pool.get_connection).parameters
        self._needs_name = parameters["command_name"].default is inspect.Parameter.empty
        self._kept: list[Any] = []
        self._sockets: set[Socket] = set()
        self._closed = False

    def take(self) -> Any:
        """A connection that nobody else uses, for `exchange`; raises redis-py's errors and ``OSError``."""
        limit.sockets = self._sockets
        try:
            connection = self._kept.pop()
        except IndexError:
            self._pool.timeout = max(0.001, limit.left())
            get: Any = self._pool.get_connection
            return get("") if self._needs_name else get()
        if connection._sock is None:
            connection.connect()
        return connection

    def exchange(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        """Send commands on a connection that was taken, give it back, and return the replies, errors among them."""
        try:
            connection.send_packed_command([b"".join(map(packed, commands))], check_health=False)
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            self._drop(connection)  # what may still come belongs to nobody
            raise
        self._kept.append(connection)
        if self._closed:  # by another thread, which may have dropped what was kept before this one was
            self.drop_kept()
        return replies

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)

    def drop_kept(self) -> None:
        """One of its connections was lost, so the others may be: do not try them one by one."""
        while self._kept:
            try:
                self._drop(self._kept.pop())
            except IndexError:  # another thread was quicker
                return

    def close(self) -> None:
        """End what is under way on any thread; a connection is taken apart only by the thread that uses it."""
        self._closed = True
        self.drop_kept()
        for each in tuple(self._sockets):
            each.interrupt()


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error

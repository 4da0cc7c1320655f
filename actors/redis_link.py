"""Connections to a Redis, whichever way its URL names it: what the cache and the lock stand on.

redis-py repeats a command by itself when its reply is lost, ten times by default, and so counts twice what is not
idempotent. Here nothing is repeated: a lost reply is a `ServerLost`, and whoever sent the command knows whether it
may be sent again. Every wait has an end in time, the whole of it (see `redis_sockets`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions

from .answers import text_of
from .redis_commands import SLOTS, Command, Script, packed, slot_of
from .redis_connections import Connections
from .redis_faults import DENIALS, LOSSES, ServerDenied, ServerLost, is_denial, is_not_now, is_not_the_one
from .redis_servers import Servers
from .redis_sockets import Plain, Socket, Tls, limit
from .redis_url import RedisUrl

__all__ = [
    "CHECK_TIMEOUT",
    "SLOTS",
    "Command",
    "RedisLink",
    "Script",
    "ServerDenied",
    "ServerLost",
    "is_denial",
    "slot_of",
]

CHECK_TIMEOUT: Final = 2.0
"""Seconds that a server may take to say that it is there."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.25
"""Seconds between two attempts, doubled from the one to the other."""
PROBE: Final = 1.0
"""Seconds that a server may take which is not known to be there."""


class RedisLink:
    """Sends commands to the Redis that a URL names. Safe to use from any thread.

    Nothing is connected before the first command, and everything anew after a loss: a Sentinel's master is asked for,
    a Cluster's slots are read again.

    Args:
        url: Which Redis.
    """

    def __init__(self, url: RedisUrl) -> None:
        self.url = url
        self._closing = threading.Event()
        self._there = False
        self._servers = Servers(url)
        self._listening: set[Socket] = set()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closing.is_set()

    @property
    def clustered(self) -> bool:
        """Whether keys of different slots need commands of their own."""
        return self.url.mode == "cluster"

    @property
    def moves(self) -> bool:
        """Whether another server can take the place of the one that is asked now."""
        return self.url.mode != "server"

    def run(self, commands: Sequence[Command], until: float, slot: int = 0) -> list[Any]:
        """Send commands as one pipeline and return their replies; an error reply is returned as the exception.

        Args:
            commands: Each a sequence of arguments; a `Script` stands for its digest.
            until: When to give up, in seconds of ``time.monotonic``.
            slot: The slot of their keys, for a Cluster.

        Raises:
            ServerLost: They may have been carried out, or not, or some of them.
            ServerDenied: None of them was.
        """
        limit.at = until
        server: Connections | None = None
        connection = None
        try:
            if self.closed:
                raise exceptions.ConnectionError("the connection is closed")
            server = self._servers.find(slot)
            connection = server.take()
            replies = server.exchange(connection, commands)
        except DENIALS as error:
            raise ServerDenied(f"{self.url}: {error}") from error
        except LOSSES as error:
            self._servers.forget()
            if server is not None:
                server.drop_kept()
            raise ServerLost(f"{self.url}: {text_of(error)}", reached=connection is not None) from error
        except exceptions.ResponseError as error:  # while connecting: there is no such database, …
            raise ServerDenied(f"{self.url}: {error}") from error
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        if not refused:
            return replies
        for reply in refused:
            if is_not_the_one(reply):
                self.renew()
                raise ServerLost(f"{self.url}: {reply}", reached=True) from reply
            if is_not_now(reply):
                raise ServerLost(f"{self.url}: {reply}", reached=True) from reply
        return self._with_scripts(replies, commands, until, slot)

    def insist(self, commands: Sequence[Command], until: float, slot: int = 0) -> list[Any]:
        """As `run`, again and again until an answer comes: for what may be sent twice.

        While the server is not known to be there, one that cannot even be connected to is not tried twice, and has
        not long to answer.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                replies = self.run(commands, until if self._there else min(until, time.monotonic() + PROBE), slot)
            except ServerLost as lost:
                if self.closed or (not self._there and not lost.reached):
                    raise
                if time.monotonic() + pause >= until or self._closing.wait(pause):
                    self._there = False
                    raise
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._there = True
                return replies

    def _with_scripts(self, replies: list[Any], commands: Sequence[Command], until: float, slot: int) -> list[Any]:
        """Send those again whose script the server did not know, with its text."""
        unknown = [number for number, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        if unknown:
            scripts = {part.digest: part for number in unknown for part in commands[number] if isinstance(part, Script)}
            self.run([("SCRIPT", "LOAD", script.text) for script in scripts.values()], until, slot)
            again = self.run([commands[number] for number in unknown], until, slot)
            for number, reply in zip(unknown, again, strict=True):
                replies[number] = reply
        return replies

    def check(self) -> None:
        """Ask the server, or one of a Cluster's, whether it answers.

        Raises:
            ServerLost, ServerDenied: as `run`; the latter not where only this command is refused.
        """
        slot = random.randrange(SLOTS) if self.clustered else 0
        (reply,) = self.run([("PING",)], time.monotonic() + CHECK_TIMEOUT, slot)
        if isinstance(reply, exceptions.ResponseError) and not is_denial(reply):
            raise ServerLost(f"{self.url}: {reply}", reached=True) from reply

    def subscription(self, channel: bytes, until: float) -> Any:
        """A connection of its own that listens on a channel; whoever asked for it disconnects it.

        Raises:
            ServerLost, ServerDenied: as `run`.
        """
        limit.at = until
        try:
            address = self._servers.address(random.randrange(SLOTS) if self.clustered else 0)
            limit.sockets = self._listening
            kind: Any = Tls if self.url.tls else Plain
            connection = kind(host=address[0], port=address[1], **self._servers.options())
            connection.send_packed_command([packed(("SUBSCRIBE", channel))], check_health=False)
            connection.read_response()
        except DENIALS as error:
            raise ServerDenied(f"{self.url}: {error}") from error
        except LOSSES as error:
            self._servers.forget()
            raise ServerLost(f"{self.url}: {text_of(error)}", reached=False) from error
        except exceptions.ResponseError as error:
            raise ServerDenied(f"{self.url}: {error}") from error
        if self.closed:
            connection.disconnect()
            raise ServerLost("the connection is closed", reached=False)
        return connection

    def next_message(self, connection: Any, until: float) -> bytes | None:
        """What comes next on a subscription; None if nothing does, and the server is there.

        Raises:
            ServerLost: messages may have been missed.
        """
        limit.at = until
        try:
            try:
                message = connection.read_response(disconnect_on_error=False)
            except exceptions.TimeoutError:
                limit.at = time.monotonic() + CHECK_TIMEOUT
                connection.send_packed_command([packed(("PING",))], check_health=False)
                message = connection.read_response()
        except (*LOSSES, exceptions.ResponseError) as error:
            raise ServerLost(f"{self.url}: {text_of(error)}", reached=True) from error
        return message[2] if isinstance(message, list) and message[0] == b"message" else None

    def renew(self) -> None:
        """Connect anew, and find out anew where to: this server is not the master any more."""
        self._servers.forget(close=True)

    def close(self) -> None:
        """End the connections; a call under way fails. Idempotent."""
        self._closing.set()
        self._servers.close()
        for each in tuple(self._listening):
            each.interrupt()

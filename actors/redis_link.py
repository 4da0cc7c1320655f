"""Connections to a Redis, whichever way its URL names it: what the cache and the lock stand on.

redis-py repeats a command by itself when its reply is lost, ten times by default, and so counts twice what is not
idempotent. Here nothing is repeated: a lost reply is a `ServerLost`, and whoever sent the command knows whether it
may be sent again. Every wait has an end in time, the whole of it, also where a server sends one byte a second:
a socket's own timeout would begin anew with each byte.
"""

from __future__ import annotations

import hashlib
import inspect
import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from .answers import text_of
from .redis_url import RedisUrl

__all__ = ["SLOTS", "RedisLink", "Script", "ServerDenied", "ServerLost", "is_denial", "slot_of"]

Address = tuple[str, int]
Command = Sequence[Any]

MAX_CONNECTIONS: Final = 8
"""Connections to one server at once; more callers wait for one."""
CHECK_TIMEOUT: Final = 2.0
"""Seconds that a server may take to say that it is there."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.25
"""Seconds between two attempts, doubled from the one to the other."""
PROBE: Final = 1.0
"""Seconds that a server may take which is not known to be there."""
LONGEST_WAIT: Final = 1e6
"""Seconds; a socket cannot be told to wait for ages."""
SLOTS: Final = 16384
"""Of a Cluster."""
SENTINEL_TIMEOUT: Final = 1.0
"""Seconds that one Sentinel may take before the next one is asked."""

_DENIALS: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
_LOSSES: Final = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
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


class Script:
    """A Lua script, sent by its digest.

    Args:
        text: Its text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def slot_of(key: bytes) -> int:
    """The Cluster's slot of a key."""
    return int(key_slot(key))


def is_denial(error: object) -> bool:
    """Whether an error reply says that this user may not do this."""
    return isinstance(error, _DENIALS)


class _Limit(threading.local):
    """Until when the work of this thread may take, in seconds of ``time.monotonic``."""

    at = 0.0
    sockets: set[_Socket] | None = None
    """Where those are noted that are opened now."""

    def left(self) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        return min(left, LONGEST_WAIT)


_limit = _Limit()


class _Socket:
    """A socket whose every wait ends at the thread's limit, however many waits there are."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain
        self._blocks = True
        self._told = -1.0
        self._noted = _limit.sockets
        if self._noted is not None:
            self._noted.add(self)

    def interrupt(self) -> None:
        """Let the thread that waits for it see that it has ended; that thread closes it."""
        with suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it."""
        if self._noted is not None:
            self._noted.discard(self)
        self._plain.close()

    def settimeout(self, seconds: float | None) -> None:
        """Only whether to wait at all is taken over; for how long is the limit's matter."""
        self._blocks = seconds != 0

    def _prepare(self) -> None:
        self._wait_at_most(_limit.left() if self._blocks else 0)

    def _wait_at_most(self, seconds: float) -> None:
        # Setting it is a call of the system's, and from one command to the next it hardly changes.
        if not 0.9 * seconds <= self._told <= 1.001 * seconds:
            self._plain.settimeout(seconds)
            self._told = seconds

    def recv(self, *args: Any) -> bytes:
        self._prepare()
        data: bytes = self._plain.recv(*args)
        return data

    def recv_into(self, *args: Any) -> int:
        self._prepare()
        return int(self._plain.recv_into(*args))

    def sendall(self, data: Any) -> None:
        self._wait_at_most(_limit.left())
        self._plain.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class _Plain(redis.Connection):
    def _connect(self) -> Any:
        self.socket_connect_timeout = _limit.left()
        return _Socket(super()._connect())  # type: ignore[no-untyped-call]  # redis-py's own


class _Tls(redis.SSLConnection):
    def _connect(self) -> Any:
        self.socket_connect_timeout = _limit.left()
        return _Socket(super()._connect())  # type: ignore[no-untyped-call]  # redis-py's own


class _Server:
    """The connections to one server: those in use belong to their callers, the others wait here.

    They come from a `BlockingConnectionPool`, and are kept here between calls because giving one back to the pool
    and taking it again costs as much as a small command.
    """

    def __init__(self, address: Address, options: dict[str, Any], tls: bool) -> None:
        pool: Any = redis.BlockingConnectionPool  # redis-py's own types are not complete
        self._pool = pool(
            max_connections=MAX_CONNECTIONS,
            timeout=1,
            connection_class=_Tls if tls else _Plain,
            host=address[0],
            port=address[1],
            **options,
        )
        # Before 5.3 the command's name had to be given, since then it must not.
        parameters = inspect.signature(self._pool.get_connection).parameters
        self._needs_name = parameters["command_name"].default is inspect.Parameter.empty
        self._kept: list[Any] = []
        self._sockets: set[_Socket] = set()

    def take(self) -> Any:
        _limit.sockets = self._sockets
        try:
            connection = self._kept.pop()
        except IndexError:
            self._pool.timeout = max(0.001, _limit.left())
            get: Any = self._pool.get_connection
            return get("") if self._needs_name else get()
        if connection._sock is None:
            connection.connect()
        return connection

    def keep(self, connection: Any) -> None:
        self._kept.append(connection)

    def drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)

    def drop_kept(self) -> None:
        """One of its connections was lost, so the others may be: do not try them one by one."""
        while self._kept:
            try:
                self.drop(self._kept.pop())
            except IndexError:  # another thread was quicker
                return

    def close(self) -> None:
        """End what is under way on any thread; a connection is taken apart only by the thread that uses it."""
        self.drop_kept()
        for each in tuple(self._sockets):
            each.interrupt()


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
        self._servers: dict[Address, _Server] = {}
        self._master: Address | None = url.nodes[0] if url.mode == "server" else None
        self._slots: list[tuple[int, int, Address]] = []
        self._change = threading.Lock()
        self._listening: set[_Socket] = set()

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
        _limit.at = until
        server: _Server | None = None
        connection = None
        try:
            server = self._server(slot)
            connection = server.take()
            replies = self._exchange(server, connection, commands)
        except _DENIALS as error:
            raise ServerDenied(f"{self.url}: {error}") from error
        except _LOSSES as error:
            self._forget()
            if server is not None:
                server.drop_kept()
            raise ServerLost(f"{self.url}: {text_of(error)}", reached=connection is not None) from error
        except exceptions.ResponseError as error:  # while connecting: there is no such database, …
            raise ServerDenied(f"{self.url}: {error}") from error
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        if not refused:
            return replies
        for reply in refused:
            if isinstance(reply, _MOVED) or str(reply).startswith(_MOVED_TEXTS):
                self.renew()
                raise ServerLost(f"{self.url}: {reply}", reached=True) from reply
            if str(reply).startswith(_NOT_NOW):
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

    def _exchange(self, server: _Server, connection: Any, commands: Sequence[Command]) -> list[Any]:
        try:
            connection.send_packed_command([b"".join(map(_packed, commands))], check_health=False)
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            server.drop(connection)  # what may still come belongs to nobody
            raise
        server.keep(connection)
        if self.closed:  # by another thread, which may have dropped what was kept before this one was
            server.drop_kept()
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
        _limit.at = until
        try:
            address = self._address(random.randrange(SLOTS) if self.clustered else 0)
            _limit.sockets = self._listening
            kind: Any = _Tls if self.url.tls else _Plain
            connection = kind(host=address[0], port=address[1], **self._options())
            connection.send_packed_command([_packed(("SUBSCRIBE", channel))], check_health=False)
            connection.read_response()
        except _DENIALS as error:
            raise ServerDenied(f"{self.url}: {error}") from error
        except _LOSSES as error:
            self._forget()
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
        _limit.at = until
        try:
            try:
                message = connection.read_response(disconnect_on_error=False)
            except exceptions.TimeoutError:
                _limit.at = time.monotonic() + CHECK_TIMEOUT
                connection.send_packed_command([_packed(("PING",))], check_health=False)
                message = connection.read_response()
        except (*_LOSSES, exceptions.ResponseError) as error:
            raise ServerLost(f"{self.url}: {text_of(error)}", reached=True) from error
        return message[2] if isinstance(message, list) and message[0] == b"message" else None

    def renew(self) -> None:
        """Connect anew, and find out anew where to: this server is not the master any more."""
        self._forget(close=True)

    def close(self) -> None:
        """End the connections; a call under way fails. Idempotent."""
        self._closing.set()
        self._forget(close=True)
        for each in tuple(self._listening):
            each.interrupt()

    # --- where to send -----------------------------------------------------------------------------------

    def _server(self, slot: int) -> _Server:
        if self.closed:
            raise exceptions.ConnectionError("the connection is closed")
        address = self._address(slot)
        known = self._servers.get(address)
        if known is not None:
            return known
        with self._change:
            server = self._servers.get(address)
            if server is None:
                server = self._servers[address] = _Server(address, self._options(), self.url.tls)
            return server

    def _options(self) -> dict[str, Any]:
        url = self.url
        return {
            "db": url.database,
            "username": url.username or None,
            "password": url.password or None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "understudy",
            **url.tls_options,
        }

    def _address(self, slot: int) -> Address:
        if self.url.mode == "cluster":
            slots = self._slots or self._read_slots()
            for first, last, address in slots:
                if first <= slot <= last:
                    return address
            raise exceptions.ConnectionError(f"no node has the slot {slot}")
        if self._master is None:
            self._master = self._ask_sentinels()
        return self._master

    def _ask_sentinels(self) -> Address:
        timeout = min(SENTINEL_TIMEOUT, _limit.left())
        make: Any = Sentinel  # redis-py's own types are not complete
        sentinels = make(
            self.url.nodes,
            sentinel_kwargs={
                "socket_timeout": timeout,
                "socket_connect_timeout": timeout,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "ssl": self.url.tls,
                **self.url.tls_options,
                **self.url.sentinel_options,
            },
        )
        try:
            host, port = sentinels.discover_master(self.url.service)
        finally:
            for sentinel in sentinels.sentinels:
                sentinel.close()
        return str(host), int(port)

    def _read_slots(self) -> list[tuple[int, int, Address]]:
        known = [*self._servers, *self.url.nodes]
        failure: Exception = exceptions.ConnectionError("no node of the Cluster answers")
        for address in dict.fromkeys(known):
            with self._change:
                server = self._servers.setdefault(address, _Server(address, self._options(), self.url.tls))
            try:
                (reply,) = self._exchange(server, server.take(), [("CLUSTER", "SLOTS")])
            except _DENIALS:
                raise
            except _LOSSES as error:
                failure = error
                continue
            if isinstance(reply, Exception):
                raise reply
            self._slots = [
                (int(first), int(last), ((node[0] or address[0].encode()).decode() or address[0], int(node[1])))
                for first, last, node, *_ in reply
            ]
            return self._slots
        raise failure

    def _forget(self, *, close: bool = False) -> None:
        """After a loss: find out anew where the master or the slots are."""
        if self.moves:
            self._master, self._slots = None, []
        if close:
            with self._change:
                servers, self._servers = self._servers, {}
            for server in servers.values():
                server.close()


def _packed(command: Command) -> bytes:
    """A command as it goes over the wire; redis-py's own takes eight times as long for one with many arguments."""
    parts = [part if type(part) is bytes else _bytes(part) for part in command]
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


def _bytes(part: Any) -> bytes:
    if isinstance(part, Script):
        return part.digest.encode()
    return part.encode() if isinstance(part, str) else b"%d" % part


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error

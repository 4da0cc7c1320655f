"""A TCP proxy that fails when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from .process import HOST, PATIENCE, free_port

CHUNK = 65_536
NO_LINGER = struct.pack("ii", 1, 0)
"""With this a socket that is closed sends a reset instead of an orderly end."""


@dataclass(frozen=True)
class Fault:
    """What happens to bytes on their way; with no field set, nothing."""

    stalls: bool = False
    interval: float | None = None
    """Seconds for each byte."""

    cut_after: int | None = None
    """Bytes of replies that each connection still passes on before it is closed."""


class Link:
    """A client's connection, with the connection to the server behind it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.replied = 0
        """Bytes of replies passed on since the present fault began."""

        self.tasks: list[asyncio.Task[None]] = []


class FaultyProxy:
    """Stands in front of the server at ``url``; clients use the proxy's own ``url``.

    A fault is in force when the method that orders it returns, for the connections that are open and for new ones,
    until the next one or ``heal``. All methods may be called from any thread. A context manager.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self.port = free_port()
        user, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{user}{at}{HOST}:{self.port}"))
        self.accepted = 0
        """Connections accepted so far."""

        self._news = threading.Condition()
        self._fault = Fault()
        self._changed = asyncio.Event()
        """Set when the fault is another one; then replaced."""

        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server((HOST, self.port))
        self._listener.setblocking(False)
        self._accepting: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._do(self._accept_on)

    # --- faults ---------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Pass everything on again, and accept new connections; those that were reset or cut stay so."""
        self._do(self._accept_on)
        self._order(Fault())

    def reset(self) -> None:
        """Break every open connection with a TCP reset. New ones get what is in force."""
        self._do(self._reset)

    def stall(self) -> None:
        """Keep connections open, and pass nothing on in either direction."""
        self._order(Fault(stalls=True))

    def cut_replies(self, after: int) -> None:
        """Let each connection pass ``after`` more bytes from the server on; then close it."""
        self._order(Fault(cut_after=after))

    def trickle(self, interval: float = 1.0) -> None:
        """Pass one byte each way every ``interval`` seconds."""
        self._order(Fault(interval=interval))

    def refuse(self) -> None:
        """Refuse new connections; open ones stay as they are. ``heal`` accepts again."""
        self._do(self._accept_off)

    # --- observation ----------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def wait_accepted(self, number: int, timeout: float = PATIENCE) -> None:
        """Wait until ``accepted`` is at least ``number``.

        Raises:
            TimeoutError: It was not within ``timeout`` seconds.
        """
        with self._news:
            if not self._news.wait_for(lambda: self.accepted >= number, timeout):
                raise TimeoutError(f"{self.accepted} connections of {number} within {timeout:g} s")

    def close(self) -> None:
        """Reset what is open, and end the thread."""
        if self._loop.is_closed():
            return
        self._do(self._accept_off)
        self._do(self._reset)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- on the loop's thread -------------------------------------------------------------------------------

    def _do(self, act: Callable[[], None]) -> None:
        """Run it on the loop's thread, and let the tasks that it ended end before returning."""

        async def turn() -> None:
            act()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(turn(), self._loop).result(PATIENCE)

    def _order(self, fault: Fault) -> None:
        def change() -> None:
            self._fault = fault
            for link in self._links:
                link.replied = 0
            self._changed.set()
            self._changed = asyncio.Event()

        self._do(change)

    def _accept_on(self) -> None:
        if self._accepting is None:
            self._listener.listen()
            self._accepting = self._loop.create_task(self._accept())

    def _accept_off(self) -> None:
        """The port stays ours while nobody listens on it: on Linux a listener that was shut down may listen again."""
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
            self._listener.shutdown(socket.SHUT_RDWR)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setblocking(False)
            with self._news:
                self.accepted += 1
                self._news.notify_all()
            opening = self._loop.create_task(self._open(client))
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _open(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setblocking(False)
        link = Link(client, server)
        self._links.add(link)
        try:
            await self._loop.sock_connect(server, self._target)
        except OSError:
            self._end(link, reset=True)
            return
        if link in self._links:
            for pump in (self._pump(link, client, server), self._pump(link, server, client)):
                link.tasks.append(self._loop.create_task(pump))

    async def _pump(self, link: Link, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := await self._loop.sock_recv(source, CHUNK):
                while data:
                    data = await self._pass(link, data, sink)
            while self._fault.stalls:
                await self._changed.wait()
        except OSError:
            pass
        self._end(link)

    async def _pass(self, link: Link, data: bytes, sink: socket.socket) -> bytes:
        """Pass on as much as the fault in force allows; returns the rest."""
        fault = self._fault
        if fault.stalls:
            await self._changed.wait()
            return data
        if fault.interval is not None:
            await self._loop.sock_sendall(sink, data[:1])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), fault.interval)
            return data[1:]
        if fault.cut_after is not None and sink is link.client:
            allowed = data[: fault.cut_after - link.replied]
            link.replied += len(allowed)
            await self._loop.sock_sendall(sink, allowed)
            if link.replied >= fault.cut_after:
                raise ConnectionAbortedError
            return data[len(allowed) :]
        await self._loop.sock_sendall(sink, data)
        return b""

    def _reset(self) -> None:
        for link in list(self._links):
            self._end(link, reset=True)

    def _end(self, link: Link, *, reset: bool = False) -> None:
        self._links.discard(link)
        for task in link.tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()
        for end in (link.client, link.server):
            if reset and end.fileno() >= 0:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
            end.close()

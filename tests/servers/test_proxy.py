"""The faulty proxy does to a connection what it is told, when it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from .process import HOST
from .proxy import FaultyProxy


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultyProxy]:
    with FaultyProxy(f"echo://user:secret@{HOST}:{echo.port}/path?a=b") as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultyProxy) -> Iterator[socket.socket]:
    with connect(proxy) as connection:
        assert says(connection, b"hello") == b"hello"
        yield connection


def connect(proxy: FaultyProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=10)


def says(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return receive(client, len(data))


def receive(client: socket.socket, size: int) -> bytes:
    """That many bytes, or fewer if the connection ends in good order."""
    got = b""
    while len(got) < size and (data := client.recv(size - len(got))):
        got += data
    return got


def is_silent(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        return not client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)


def test_without_a_fault_everything_passes(client: socket.socket) -> None:
    data = bytes(range(256)) * 4096
    client.settimeout(30)
    threading.Thread(target=client.sendall, args=(data,)).start()
    assert receive(client, len(data)) == data


def test_its_url_is_the_servers_with_another_address(proxy: FaultyProxy) -> None:
    assert proxy.url == f"echo://user:secret@{HOST}:{proxy.port}/path?a=b"


def test_a_reset_breaks_open_connections_and_new_ones_work(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connect(proxy) as another:
        assert says(another, b"again") == b"again"


def test_a_stall_holds_everything_until_it_heals(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.stall()
    client.sendall(b"held")
    with connect(proxy) as another:
        another.sendall(b"too")
        assert is_silent(client)
        assert is_silent(another)
        proxy.heal()
        assert receive(client, 4) == b"held"
        assert receive(another, 3) == b"too"


def test_the_end_of_a_stalled_connection_is_not_told_until_it_heals(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.stall()
    client.shutdown(socket.SHUT_WR)
    assert is_silent(client)
    assert proxy.open == 1
    proxy.heal()
    assert client.recv(1) == b""


def test_a_cut_passes_so_many_bytes_of_replies_and_closes(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.cut_replies(after=7)
    assert says(client, b"12345") == b"12345"
    assert says(client, b"12345") == b"12"
    with connect(proxy) as another:
        assert says(another, b"123456789") == b"1234567"
    proxy.heal()
    with connect(proxy) as another:
        assert says(another, b"123456789") == b"123456789"


def test_a_trickle_passes_a_byte_at_a_time(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.trickle(interval=0.05)
    began = time.monotonic()
    assert says(client, b"12345") == b"12345"
    assert time.monotonic() - began >= 0.2
    proxy.trickle(interval=60.0)
    client.sendall(b"fast again")
    proxy.heal()
    assert receive(client, 10) == b"fast again"


def test_refusing_leaves_open_connections_and_refuses_new_ones(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.refuse()
    assert says(client, b"still here") == b"still here"
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.heal()
    with connect(proxy) as another:
        assert says(another, b"back") == b"back"


def test_a_server_that_is_down_shows_as_a_reset(proxy: FaultyProxy, echo: Echo) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError), connect(proxy) as client:  # it may come before `connect` returns
        client.recv(1)


def test_connections_are_counted(proxy: FaultyProxy, client: socket.socket) -> None:
    with connect(proxy):
        proxy.wait_accepted(2)
    assert proxy.accepted == 2
    with pytest.raises(TimeoutError, match="2 connections of 3"):
        proxy.wait_accepted(3, timeout=0.01)


def test_closing_ends_the_connections_and_the_thread(echo: Echo) -> None:
    proxy = FaultyProxy(f"echo://{HOST}:{echo.port}")
    with connect(proxy) as client:
        assert says(client, b"hello") == b"hello"
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert f"proxy-{proxy.port}" not in {thread.name for thread in threading.enumerate()}

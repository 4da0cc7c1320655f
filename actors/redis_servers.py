"""Finding the Redis server to be asked: the one of the URL, the Sentinels' master, or the node that has a slot."""

from __future__ import annotations

import threading
from typing import Any, Final

from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from .redis_connections import Address, Connections
from .redis_faults import DENIALS, LOSSES
from .redis_sockets import limit
from .redis_url import RedisUrl

__all__ = ["Servers"]

SENTINEL_TIMEOUT: Final = 1.0
"""Seconds that one Sentinel may take before the next one is asked."""


class Servers:
    """The servers behind a URL, and which of them is to be asked. Safe to use from any thread.

    Args:
        url: Which Redis.
    """

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._known: dict[Address, Connections] = {}
        self._master: Address | None = url.nodes[0] if url.mode == "server" else None
        self._slots: list[tuple[int, int, Address]] = []
        self._change = threading.Lock()
        self._closed = False

    def find(self, slot: int) -> Connections:
        """The connections to the server that has a slot; raises redis-py's errors and ``OSError``."""
        address = self.address(slot)
        known = self._known.get(address)
        return known if known is not None else self._add(address)

    def _add(self, address: Address) -> Connections:
        with self._change:
            if self._closed:
                raise exceptions.ConnectionError("the connection is closed")
            known = self._known.get(address)
            if known is None:
                known = self._known[address] = Connections(address, self.options(), self._url.tls)
            return known

    def options(self) -> dict[str, Any]:
        """redis-py's arguments for a connection."""
        url = self._url
        return {
            "db": url.database,
            "username": url.username or None,
            "password": url.password or None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "understudy",
            **url.tls_options,
        }

    def address(self, slot: int) -> Address:
        """Where the server is that has a slot; raises redis-py's errors and ``OSError``."""
        if self._url.mode == "cluster":
            slots = self._slots or self._read_slots()
            for first, last, address in slots:
                if first <= slot <= last:
                    return address
            raise exceptions.ConnectionError(f"no node has the slot {slot}")
        if self._master is None:
            self._master = self._ask_sentinels()
        return self._master

    def forget(self, *, close: bool = False) -> None:
        """After a loss: find out anew where the master or the slots are."""
        if self._url.mode != "server":
            self._master, self._slots = None, []
        if close:
            with self._change:
                servers, self._known = self._known, {}
            for server in servers.values():
                server.close()

    def close(self) -> None:
        """End the connections, and make no more."""
        with self._change:
            self._closed = True
        self.forget(close=True)

    def _ask_sentinels(self) -> Address:
        timeout = min(SENTINEL_TIMEOUT, limit.left())
        make: Any = Sentinel  # redis-py's own types are not complete
        sentinels = make(
            self._url.nodes,
            sentinel_kwargs={
                "socket_timeout": timeout,
                "socket_connect_timeout": timeout,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "ssl": self._url.tls,
                **self._url.tls_options,
                **self._url.sentinel_options,
            },
        )
        try:
            host, port = sentinels.discover_master(self._url.service)
        finally:
            for sentinel in sentinels.sentinels:
                sentinel.close()
        return str(host), int(port)

    def _read_slots(self) -> list[tuple[int, int, Address]]:
        known = [*self._known, *self._url.nodes]
        failure: Exception = exceptions.ConnectionError("no node of the Cluster answers")
        for address in dict.fromkeys(known):
            server = self._known.get(address) or self._add(address)
            try:
                (reply,) = server.exchange(server.take(), [("CLUSTER", "SLOTS")])
            except DENIALS:
                raise
            except LOSSES as error:
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

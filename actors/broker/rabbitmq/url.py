"""Where a RabbitMQ server is, out of its URL, with RabbitMQ's own names for the URL's parameters.

No error made here repeats the URL: it may hold a password.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec
from pika import ConnectionParameters, PlainCredentials, SSLOptions

from ....messages.errors import UrlInvalid
from ....messages.suggest import did_you_mean

PORTS: Final[Mapping[str, int]] = {"amqp": 5672, "amqps": 5671}
HOST_LIMIT: Final = 253


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is, and how to speak with it. It shows itself without the password.

    Args:
        host: Name or IP address.
        port: TCP port.
        user: Who connects.
        password: The user's.
        vhost: The virtual host.
        tls: Certificates and such; None speaks in the clear.
        server_name: The name that the server's certificate must have; empty: the host.
        heartbeat: Seconds; a connection on which nothing came for a little longer is taken for dead.
        connection_timeout: Seconds that connecting may take, greetings included.
        blocked_connection_timeout: Seconds that the server may keep a publisher waiting before the connection is
            made anew.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    heartbeat: int = 10
    connection_timeout: float = 3.0
    blocked_connection_timeout: float = 30.0

    def __repr__(self) -> str:
        scheme = "amqp" if self.tls is None else "amqps"
        return f"{scheme}://{self.user}@{self.host}:{self.port}/{self.vhost if self.vhost != '/' else ''}"

    def parameters(self, name: str) -> ConnectionParameters:
        """What pika needs to make one connection.

        Args:
            name: What the server's own listings call the connection.
        """
        return ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=PlainCredentials(self.user, self.password, erase_on_connect=False),
            heartbeat=self.heartbeat,
            blocked_connection_timeout=self.blocked_connection_timeout,
            connection_attempts=1,
            socket_timeout=self.connection_timeout,
            stack_timeout=self.connection_timeout,
            client_properties={"connection_name": name},
            ssl_options=None if self.tls is None else SSLOptions(self.tls, self.server_name or self.host),
        )


def parse_url(scheme: str, rest: str) -> Address:
    """Read a URL.

    Args:
        scheme: ``amqp`` or ``amqps``.
        rest: What follows ``//``: ``user:password@host:port/vhost?heartbeat=10``.

    Raises:
        UrlInvalid: It cannot be a server's.
    """
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError as error:
        # The error's own text may quote what stands before the @, so it is not kept as the cause either.
        del error
        raise UrlInvalid("broker: the port or the host of the URL is not valid") from None
    host = parts.hostname or "localhost"
    if len(host) > HOST_LIMIT or any(character.isspace() for character in host):
        raise UrlInvalid("broker: the host of the URL is not valid")
    options = _options(parts)
    return Address(
        host=host,
        port=port if port is not None else PORTS[scheme],
        user=unquote(parts.username) if parts.username is not None else "guest",
        password=unquote(parts.password) if parts.password is not None else "guest",
        vhost=unquote(parts.path[1:]) or "/",
        tls=_tls(options) if scheme == "amqps" else None,
        server_name=options.get("server_name_indication", ""),
        **_numbers(options),
    )


_NUMBERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "heartbeat": int,
    "connection_timeout": float,
    "blocked_connection_timeout": float,
}
_TLS: Final = ("cacertfile", "certfile", "keyfile", "verify", "server_name_indication")


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in (*_NUMBERS, *_TLS):
            hint = did_you_mean(name, (*_NUMBERS, *_TLS))
            raise UrlInvalid(f"broker: the URL has a parameter {name[:32]!r} that there is not{hint}")
        if name in _TLS and parts.scheme != "amqps":
            raise UrlInvalid(f"broker: the URL's parameter {name} is for amqps:// only")
    return options


def _numbers(options: Mapping[str, str]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, convert in _NUMBERS.items():
        if name in options:
            try:
                value = convert(options[name])
            except ValueError:
                value = 0
            if not 1 <= value <= 3600:
                raise UrlInvalid(f"broker: the URL's {name} must be a number of seconds from 1 to 3600")
            numbers[name] = value
    return numbers


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    verify = options.get("verify", "verify_peer")
    if verify not in ("verify_peer", "verify_none"):
        raise UrlInvalid("broker: the URL's verify is neither verify_peer nor verify_none")
    try:
        context = ssl.create_default_context(cafile=options.get("cacertfile"))
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (OSError, ValueError) as error:
        raise UrlInvalid("broker: a certificate or key that the URL names cannot be read", cause=error) from error
    if verify == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

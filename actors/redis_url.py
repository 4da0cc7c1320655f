"""Reading the URLs that name a Redis: one server, a master that Sentinels know, or a Cluster.

    redis://[user[:password]@]host[:port][/database]
    redis+sentinel://[user[:password]@]sentinel[:port],sentinel[:port]/service[/database]
    redis+cluster://[user[:password]@]node[:port],node[:port]

``rediss``, ``rediss+sentinel`` and ``rediss+cluster`` are the same over TLS. After ``?`` there may be:

- ``prefix``: put before every key, so that several programs can share one database;
- ``timeout``: seconds that a request without a deadline may take (3);
- ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``: paths; ``ssl_cert_reqs``: ``required`` (the default) or ``none``;
- ``sentinel_username``, ``sentinel_password``: the Sentinels' own credentials, where they have any.

A ``?`` in a password is written ``%3F``; ``@`` and ``/`` may stand as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from ..messages.errors import UrlInvalid
from ..messages.suggest import did_you_mean

__all__ = ["REDIS_SCHEMES", "RedisUrl"]

Mode = Literal["server", "sentinel", "cluster"]

REDIS_SCHEMES: Final[Mapping[str, tuple[Mode, bool]]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
"""What a scheme means: which kind of Redis, and whether over TLS."""

_PORTS: Final = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_OPTIONS: Final = ("prefix", "timeout", "sentinel_username", "sentinel_password", *_TLS_OPTIONS)
DEFAULT_TIMEOUT: Final = 3.0


class RedisUrl(msgspec.Struct, frozen=True):
    """What a URL says. Its text form hides the credentials.

    Args:
        mode: One server, Sentinels or a Cluster.
        tls: Whether the connections are encrypted.
        nodes: Host and port of the server, the Sentinels or some of the Cluster's nodes.
        database: The database's number.
        service: The name under which the Sentinels know the master.
        username: Empty for the default user.
        password: Empty for none.
        prefix: Put before every key.
        timeout: Seconds that a request without a deadline may take.
        tls_options: redis-py's ``ssl_…`` arguments.
        sentinel_options: redis-py's arguments for the connections to the Sentinels.
    """

    mode: Mode
    tls: bool
    nodes: tuple[tuple[str, int], ...]
    database: int = 0
    service: str = ""
    username: str = ""
    password: str = ""
    prefix: str = ""
    timeout: float = DEFAULT_TIMEOUT
    tls_options: dict[str, Any] = {}
    sentinel_options: dict[str, Any] = {}

    @classmethod
    def of(cls, scheme: str, rest: str, service: str) -> RedisUrl:
        """Read a URL.

        Args:
            scheme: One of `REDIS_SCHEMES`.
            rest: What follows ``//``.
            service: What it is for, for the error's text.

        Raises:
            UrlInvalid: It has another form. The text does not repeat what may be a password.
        """
        try:
            return cls._of(scheme, rest)
        except _Wrong as wrong:
            raise UrlInvalid(f"{service}: {scheme}://: {wrong}") from None

    @classmethod
    def _of(cls, scheme: str, rest: str) -> RedisUrl:
        mode, tls = REDIS_SCHEMES[scheme]
        place, _, query = rest.partition("?")
        # The password may hold what else divides a URL, so what is before the last "@" is taken off first.
        credentials, _, place = place.rpartition("@")
        username, _, password = credentials.partition(":")
        hosts, _, path = place.partition("/")
        parts = [unquote(part) for part in path.split("/")] if path else []
        service = ""
        if mode == "sentinel":
            if not parts or not parts[0]:
                raise _Wrong("the name of the master is missing: write sentinel:26379,sentinel:26379/service")
            service = parts.pop(0)
        if mode == "cluster" and parts:
            raise _Wrong("a Cluster has only one database: leave the path out")
        if len(parts) > 1:
            raise _Wrong("there is more than one path element where the database's number should be")
        nodes = tuple(_node(host, _PORTS[mode]) for host in hosts.split(","))
        if mode == "server" and len(nodes) > 1:
            raise _Wrong("several hosts need redis+sentinel:// or redis+cluster://")
        options = _options(query)
        return cls(
            mode,
            tls,
            nodes,
            _number("the database", parts[0]) if parts and parts[0] else 0,
            service,
            unquote(username),
            unquote(password),
            options.get("prefix", ""),
            _seconds(options["timeout"]) if "timeout" in options else DEFAULT_TIMEOUT,
            _tls_options(options, tls),
            {
                name.removeprefix("sentinel_"): options[name]
                for name in ("sentinel_username", "sentinel_password")
                if name in options
            },
        )

    def __str__(self) -> str:
        scheme = next(name for name, meaning in REDIS_SCHEMES.items() if meaning == (self.mode, self.tls))
        hosts = ",".join(f"{host}:{port}" for host, port in self.nodes)
        path = "/".join(filter(None, (self.service, str(self.database or ""))))
        return f"{scheme}://{hosts}{'/' if path else ''}{path}"


class _Wrong(Exception):
    """What is wrong with a URL, without the URL."""


def _node(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(default_port)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise _Wrong("a host that holds colons stands in brackets; a user and a password stand before an @")
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise _Wrong("the host is missing")
    number = _number("a port", port)
    if not 0 < number < 65536:
        raise _Wrong("a port is a number from 1 to 65535")
    return host, number


def _number(what: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise _Wrong(f"{what} is a number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise _Wrong("timeout is a number of seconds above 0")
    return seconds


def _options(query: str) -> dict[str, str]:
    if "@" in query:
        # Perhaps a password's end: nothing of it may be repeated.
        raise _Wrong("an '@' after the '?': write %40 for it in an option, and %3F for a '?' in a password")
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise _Wrong(f"there is no option {name!r}{did_you_mean(name, _OPTIONS)}")
        found[name] = value
    return found


def _tls_options(options: dict[str, str], tls: bool) -> dict[str, Any]:
    found: dict[str, Any] = {name: options[name] for name in _TLS_OPTIONS if name in options}
    if not tls:
        if found:
            raise _Wrong("an option ssl_… is for connections with TLS: write rediss://")
        return {}
    required = found.get("ssl_cert_reqs", "required")
    if required not in ("required", "none"):
        raise _Wrong("ssl_cert_reqs is 'required' or 'none'")
    # Said for redis-py before 6, which else takes any server's certificate for this one's.
    return {"ssl_check_hostname": required == "required", **found}

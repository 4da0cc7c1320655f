"""Which broker a URL names. A backend is imported when a URL asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..embedded import Embedded
from ..redis_url import REDIS_SCHEMES, RedisUrl
from ..service import Opener, missing_client, open_by_scheme
from .backend import BrokerBackend


def open_backend(url: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
    """Connect to the broker that a URL names.

    Args:
        url: ``memory://``, or ``memory://name`` for another one in the same system;
            ``amqp://user:password@host:port/vhost`` for RabbitMQ, ``amqps://`` for RabbitMQ over TLS;
            or a Redis, as `redis_url` says, for its pub/sub, which loses messages.
        embedded: the system's embedded servers.
        clock: seconds, monotonic.

    Raises:
        UrlInvalid: there is no such broker.
    """
    openers: dict[str, Opener[BrokerBackend]] = {
        "memory": _memory,
        "amqp": partial(_rabbitmq, "amqp"),
        "amqps": partial(_rabbitmq, "amqps"),
    }
    openers.update({scheme: partial(_redis, scheme) for scheme in REDIS_SCHEMES})
    return open_by_scheme(url, openers, embedded, clock, service="broker")


def _memory(name: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
    from .memory import MemoryBroker, MemoryServer

    return MemoryBroker(embedded.server("broker", name, MemoryServer))


def _rabbitmq(scheme: str, rest: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
    try:
        from .rabbitmq.backend import RabbitBroker
        from .rabbitmq.ledger import Ledger
        from .rabbitmq.url import parse_url
    except ImportError as error:
        raise missing_client("broker", scheme, "rabbitmq") from error
    address = parse_url(scheme, rest)
    ledger = embedded.server("broker", f"ledger of {address.host}:{address.port}/{address.vhost}", Ledger)
    return RabbitBroker(address, ledger, clock)


def _redis(scheme: str, rest: str, embedded: Embedded, clock: Callable[[], float]) -> BrokerBackend:
    wanted = RedisUrl.of(scheme, rest, "broker")
    try:
        from .redis_pubsub import RedisBroker, RedisServer
    except ImportError as error:
        raise missing_client("broker", scheme, "redis") from error
    # The queues are the process's, as those of an embedded broker: they outlive the actor.
    server = embedded.server("broker", f"{scheme}://{rest}", lambda: RedisServer(wanted), RedisServer.close)
    return RedisBroker(server)

"""The cache and the lock behind Sentinels, in a Cluster and over TLS; and what URLs of Redis may say."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from understudy import ActorSystem
from understudy.actors.cache.actor import Cache
from understudy.actors.lock.actor import Lock
from understudy.actors.redis_keys import beside
from understudy.actors.redis_link import slot_of
from understudy.actors.redis_url import RedisUrl
from understudy.messages import (
    AcquireLock,
    ActorError,
    CacheAppend,
    CacheDelete,
    CacheError,
    CacheGet,
    CacheItems,
    CacheSet,
    ReleaseLock,
    UrlInvalid,
)

from ...servers.availability import unavailable
from ...servers.private import PrivateRedis
from ...servers.process import free_port, poll

PATIENCE = 60.0
KEYS = [f"key {number}" for number in range(60)] + ["{}", "a}b{", "", "{tag}x", "é\r\n\0"]


def works(cache: Any, lock: Any) -> None:
    """Both do all that they do."""
    futures = [cache.ask(CacheSet(key, key), block=False) for key in KEYS]
    futures += [cache.ask(CacheAppend(f"list {key}", key, item_id="a", expires=60), block=False) for key in KEYS]
    futures += [cache.ask(CacheAppend(f"list {key}", key, item_id="a"), block=False) for key in KEYS]
    assert [future.get(timeout=PATIENCE) for future in futures] == (
        [None] * len(KEYS) + [True] * len(KEYS) + [False] * len(KEYS)
    )
    assert [cache.ask(CacheGet(key)) for key in KEYS] == KEYS
    assert [cache.ask(CacheItems(f"list {key}")) for key in KEYS] == [[key] for key in KEYS]
    assert all(cache.ask(CacheDelete(key)) for key in KEYS)
    for name in filter(None, KEYS):
        lease = lock.ask(AcquireLock(name, "ada"))
        waiting = lock.ask(AcquireLock(name, "bob", wait=10), block=False)
        lock.ask(ReleaseLock(name, lease.token))
        later = waiting.get(timeout=PATIENCE)
        assert later.token > lease.token
        lock.ask(ReleaseLock(name, later.token))


# --- a Cluster ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[PrivateRedis]]:
    if reason := PrivateRedis.missing():
        unavailable(reason)
    with ExitStack() as stack:
        nodes = [stack.enter_context(PrivateRedis(cluster_options())) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis.from_url(node.url)) for node in nodes]
        bounds = [0, 5461, 10923, 16384]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            bus = node.options["cluster-port"]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", str(node.port), bus)
        poll(lambda: all(b"cluster_state:ok" in info(client) for client in clients), "the Cluster")
        poll(lambda: all(b"cluster_known_nodes:3" in info(client) for client in clients), "three nodes")
        yield nodes


def cluster_options() -> dict[str, str]:
    return {"cluster-enabled": "yes", "cluster-port": str(free_port()), "cluster-config-file": "nodes.conf"}


def info(client: Any) -> bytes:
    text = client.execute_command("CLUSTER", "INFO")
    return text if isinstance(text, bytes) else str(text).replace("'", "").replace(" ", "").encode()


def test_a_cluster_keeps_each_key_on_its_node(system: ActorSystem, cluster: list[PrivateRedis]) -> None:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
    cache = system.spawn(Cache, f"redis+cluster://{hosts}?prefix=shop:", name="cache")
    lock = system.spawn(Lock, f"redis+cluster://{hosts}?prefix=shop:", name="lock")
    works(cache, lock)
    counts = []
    for node in cluster:
        with redis.Redis.from_url(node.url) as client:
            counts.append(client.dbsize())
    assert all(counts), "they are spread over the nodes"


def test_a_slot_that_moved_is_found_again(system: ActorSystem, cluster: list[PrivateRedis]) -> None:
    hosts = f"127.0.0.1:{cluster[0].port}"
    cache = system.spawn(Cache, f"redis+cluster://{hosts}", name="cache")
    cache.ask(CacheAppend("moved", 1))
    slot = slot_of(b"moved")
    with ExitStack() as stack:
        clients = [stack.enter_context(redis.Redis.from_url(node.url)) for node in cluster]
        source = next(client for client in clients if client.keys("moved"))
        target = next(client for client in clients if client is not source)
        # An empty slot may change hands in one step.
        keys: list[Any] = list(source.keys("*"))
        for key in keys:
            if slot_of(key) == slot:
                source.delete(key)
        identity = target.execute_command("CLUSTER", "MYID")
        for client in (target, *clients):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", identity)
    assert cache.ask(CacheAppend("moved", 2), timeout=PATIENCE) is True
    assert cache.ask(CacheItems("moved")) == [2]


@pytest.mark.parametrize("key", ["plain", "{tag}x", "x{tag}y", "{}", "{}x", "a}b", "a}b{", "{a", "", "é", "{{a}}"])
def test_what_belongs_to_a_key_lies_in_its_slot(key: str) -> None:
    name = key.encode()
    assert slot_of(beside(name, b"ids", clustered=True)) == slot_of(name)
    assert beside(name, b"ids", clustered=False) == name + b":understudy:ids"


# --- Sentinels ----------------------------------------------------------------------------------------------


class Sentinel(PrivateRedis):
    """A Sentinel that watches one master, and fails it over at once."""

    name = "sentinel"

    def __init__(self, master_port: int) -> None:
        super().__init__()
        self.master_port = master_port

    def prepare(self) -> None:
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor shop 127.0.0.1 {self.master_port} 1\n"
            "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n"
        )

    def command(self) -> list[str]:
        return ["redis-server", f"{self.folder}/sentinel.conf", "--sentinel"]


def test_behind_sentinels_the_next_master_is_found(system: ActorSystem) -> None:
    """What was acknowledged before the replica had it may be lost, as with Redis itself; here it had time."""
    if reason := PrivateRedis.missing():
        unavailable(reason)
    with ExitStack() as stack:
        master = stack.enter_context(PrivateRedis())
        replica = stack.enter_context(PrivateRedis({"replicaof": f"127.0.0.1 {master.port}"}))
        sentinel = stack.enter_context(Sentinel(master.port))
        follower = stack.enter_context(redis.Redis.from_url(replica.url))
        watch = stack.enter_context(redis.Redis(port=sentinel.port))
        poll(lambda: follower.info("replication")["master_link_status"] == "up", "the replica")
        poll(lambda: knows_replica(watch), "the Sentinel")
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/shop"
        cache = system.spawn(Cache, url, name="cache")
        lock = system.spawn(Lock, url, name="lock")
        works(cache, lock)
        cache.ask(CacheSet("kept", 1))
        poll(lambda: follower.get("kept") == b"1", "the copy")
        master.kill()
        poll(lambda: answer_of(cache) == 1, "the next master")
        poll(lambda: follower.info("replication")["role"] == "master", "the failover")
        poll(lambda: appended(cache), "writing to it")
        assert cache.ask(CacheItems("list"))[-1] == 1


def knows_replica(watch: Any) -> bool:
    return bool(watch.execute_command("SENTINEL", "REPLICAS", "shop"))


def answer_of(cache: Any) -> Any:
    try:
        return cache.ask(CacheGet("kept"), timeout=1)
    except ActorError:
        return None


def appended(cache: Any) -> bool:
    try:
        cache.ask(CacheAppend("list", 1, item_id="a"), timeout=2)
    except ActorError:
        return False
    return True


def test_sentinels_that_know_no_such_master_are_said(system: ActorSystem) -> None:
    if reason := PrivateRedis.missing():
        unavailable(reason)
    with Sentinel(free_port()) as sentinel:
        cache = system.spawn(Cache, f"redis+sentinel://127.0.0.1:{sentinel.port}/unknown", name="cache")
        with pytest.raises(CacheError, match="unknown") as caught:
            cache.ask(CacheGet("key"))
        assert caught.value.kind == "cache.unavailable"


# --- TLS ----------------------------------------------------------------------------------------------------


def test_over_tls_the_certificate_counts(system: ActorSystem, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        unavailable("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    try:
        server = PrivateRedis(options)
        server.__enter__()
    except (RuntimeError, TimeoutError) as error:
        unavailable(f"this redis-server has no TLS: {error}")
    try:
        url = f"rediss://127.0.0.1:{port}"
        trusting = system.spawn(Cache, f"{url}?ssl_ca_certs={certificate}", name="trusting")
        lock = system.spawn(Lock, f"{url}?ssl_ca_certs={certificate}", name="lock")
        works(trusting, lock)
        careless = system.spawn(Cache, f"{url}?ssl_cert_reqs=none", name="careless")
        assert careless.ask(CacheGet("key")) is None
        doubting = system.spawn(Cache, url, name="doubting")
        with pytest.raises(CacheError, match="certificate"):
            doubting.ask(CacheGet("key"))
        elsewhere = system.spawn(Cache, f"rediss://localhost:{port}?ssl_ca_certs={certificate}", name="elsewhere")
        with pytest.raises(CacheError, match="certificate"):
            elsewhere.ask(CacheGet("key"))
        started = time.monotonic()
        server.pause()
        with pytest.raises(ActorError):
            trusting.ask(CacheGet("key"), timeout=0.5)
        assert time.monotonic() - started < 1
        server.resume()
    finally:
        server.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("service", "message", "kind"),
    [(Cache, CacheGet("key"), "cache.unavailable"), (Lock, AcquireLock("r", "ada"), "lock.unavailable")],
)
def test_a_server_that_speaks_no_tls_is_said_to_be_unavailable_in_time(
    system: ActorSystem, service: Any, message: Any, kind: str
) -> None:
    """It waits for a command, as a plain Redis does, while the client waits for its part of the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked: Any = system.spawn(service, f"rediss://127.0.0.1:{silent.getsockname()[1]}", name="service")
        with pytest.raises(ActorError) as caught:
            asked.ask(message, timeout=4)
        assert caught.value.kind == kind
        asked.stop()


# --- URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host:6379"),
        ("redis://ada:p%40ss@host:7/2", "redis://host:7/2"),
        ("redis://:p@s/s@[::1]:7", "redis://::1:7"),
        ("rediss+sentinel://u:p@a,b:9/shop/3", "rediss+sentinel://a:26379,b:9/shop/3"),
        ("redis+cluster://a,b", "redis+cluster://a:6379,b:6379"),
    ],
)
def test_a_url_is_read_and_shown_without_its_credentials(url: str, shown: str) -> None:
    scheme, _, rest = url.partition("://")
    assert str(RedisUrl.of(scheme, rest, "cache")) == shown


def test_credentials_may_hold_what_divides_a_url() -> None:
    read = RedisUrl.of("redis", "ada:p@s/s:w%25rd@host/1?prefix=a%20b:&timeout=0.5", "cache")
    assert (read.username, read.password, read.nodes) == ("ada", "p@s/s:w%rd", (("host", 6379),))
    assert (read.database, read.prefix, read.timeout) == (1, "a b:", 0.5)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://user:hunter2@",
        "redis://user:hunter2@host:port",
        "redis://user:hunter2@host:0",
        "redis://user:hunter2@host/x",
        "redis://user:hunter2@host/1/2",
        "redis://user:hunter2@a,b",
        "redis+sentinel://user:hunter2@a",
        "redis+cluster://user:hunter2@a/1",
        "redis://user:hunter2@host?prefx=a",
        "redis://user:hunter2@host?timeout=0",
        "rediss://user:hunter2@host?ssl_cert_reqs=maybe",
        "redis://user:hunter2@host?ssl_cert_reqs=required",
        "redis://user:12?hunter2@host/1",
        "redis://user:12?timeout=1&hunter2@host",
        "redis://user:hunter2?@host",
        "redis://user:hunter2:6379/0",
        "redis+cluster://host:7000,user:hunter2:6379",
    ],
)
def test_a_url_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    scheme, _, rest = url.partition("://")
    with pytest.raises(UrlInvalid) as caught:
        RedisUrl.of(scheme, rest, "cache")
    assert "hunter2" not in str(caught.value)

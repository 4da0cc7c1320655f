"""The engine on a Cluster: each queue in its slot, the lists of all queues and processes in others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from understudy.actors.tasks.engine import ServerInfo, WorkerInfo

from ...servers.private import PrivateRedis
from ..cache.test_redis_kinds import cluster as cluster  # noqa: PLC0414 -- a fixture
from .conftest import NOON, Client, Clock
from .redis_server import open_redis

NAMES = ("one", "two", "three", "four", "five")


@pytest.fixture
def client(cluster: list[PrivateRedis], clock: Clock) -> Iterator[Client]:
    for node in cluster:
        with redis.Redis.from_url(node.url) as connection:
            connection.flushall()
    client = Client(open_redis(f"redis+cluster://127.0.0.1:{cluster[0].port}", clock), clock)
    yield client
    client.engine.close()


def test_tasks_of_many_queues_go_their_ways(client: Client, cluster: list[PrivateRedis]) -> None:
    """Enqueued, dequeued in the order of the queues, ended, at once."""
    outcomes = client.put_all(*((f"{name}{number}", b"", {"queue": name}) for number in range(2) for name in NAMES))
    assert not [each for each in outcomes if isinstance(each, str)]
    assert client.engine.queues() == sorted(NAMES)
    leases = client.take(7, *NAMES)
    assert [lease.message.id for lease in leases] == ["one0", "one1", "two0", "two1", "three0", "three1", "four0"]
    assert client.engine.extend(leases) == leases
    assert all(client.end(lease) for lease in leases)
    assert [client.engine.queue_info(name).processed for name in NAMES] == [2, 2, 2, 1, 0]
    sizes = []
    for node in cluster:
        with redis.Redis.from_url(node.url) as connection:
            sizes.append(connection.dbsize())
    assert all(sizes), "they are spread over the nodes"


def test_everything_else_works_on_a_cluster_as_well(client: Client) -> None:
    """Forwarding, sweeping, waiting, managing, groups, reports, leaders, cancellations."""
    engine = client.engine
    client.put_all(*((f"{name}", b"", {"queue": name, "process_in": 5}) for name in NAMES))
    client.clock.at += 5
    assert not engine.wait(NAMES, 0.0)
    assert engine.forward(NAMES) == 5
    assert engine.wait(NAMES, 0.0)
    assert engine.expired(NAMES) == []
    assert engine.sweep(NAMES, 10) == 0
    engine.pause("one")
    engine.archive("two", "two")
    engine.remove_queue("three", force=True)
    assert engine.queues() == ["five", "four", "one", "two"]
    client.put("a", group="g")
    client.clock.at += 10
    found = engine.gather("default", "g", grace=10.0, max_delay=0.0, max_size=0)
    assert found is not None
    assert engine.drop_set("default", found[0])
    worker = WorkerInfo("t", "echo", "one", b"", NOON, 0.0)
    server = ServerInfo("host:1:a", "host", 1, 10, {"one": 1}, False, "active", NOON, (worker,))
    engine.beat(server, 60.0)
    assert engine.servers() == [server]
    engine.leave(server.id)
    assert engine.servers() == []
    assert engine.lead("x", "me", 60.0)
    engine.resign("x", "me")
    place, _ = engine.cancellations(None, 0.0)
    engine.cancel("t")
    assert engine.cancellations(place, 30.0) == (place, ["t"])


def test_a_queue_is_in_a_slot_of_a_node(client: Client, cluster: list[PrivateRedis]) -> None:
    """Of the one that Redis itself says."""
    for name in NAMES:
        client.put(name, queue=name)
        with redis.Redis.from_url(cluster[0].url) as connection:
            slot = connection.execute_command("CLUSTER", "KEYSLOT", f"asynq:{{{name}}}:pending")
        assert client.engine.cluster_slot(name) == slot
        (master, *_) = client.engine.cluster_nodes(name)
        (node,) = [node for node in cluster if master.endswith(f":{node.port}")]
        with redis.Redis.from_url(node.url) as connection:
            assert connection.exists(f"asynq:{{{name}}}:pending")

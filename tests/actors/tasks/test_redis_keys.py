"""asynq's keys: after each operation plain Redis commands read back what a Go process would find."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from understudy.actors.tasks.engine import EnqueueEvent, SchedulerEntry, ServerInfo, WorkerInfo
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.redis.wire import read_task, write_task
from understudy.messages.tasks import RawTask, TaskState

from .conftest import ENGINES, NOON, Client, Clock
from .redis_server import redis_of_this_run

AT = int(NOON)
NS = str(AT * 10**9).encode()
P = "asynq:{default}:"
DAY = "2023-11-14"


class Keys:
    """What is in the server."""

    def __init__(self) -> None:
        self.redis = redis_of_this_run().look

    def all(self) -> dict[str, Any]:
        """asynq's keys with what they hold, but for the records, which are shown by `record`."""
        return {name.decode(): self.read(name) for name in self.redis.keys("asynq:*")}

    def read(self, name: bytes | str) -> Any:
        match self.redis.type(name):
            case b"string":
                return self.redis.get(name)
            case b"list":
                return [item.decode("utf-8", "replace") for item in self.redis.lrange(name, 0, -1)]
            case b"set":
                return {item.decode() for item in self.redis.smembers(name)}
            case b"zset":
                return {
                    item.decode("utf-8", "replace"): score
                    for item, score in self.redis.zrange(name, 0, -1, withscores=True)
                }
            case b"hash":
                return {field.decode(): value for field, value in self.redis.hgetall(name).items() if field != b"msg"}
        return None

    def record(self, task_id: str) -> Any:
        message = read_task(self.redis.hget(f"{P}t:{task_id}", "msg"), "default", task_id)
        assert message is not None
        return message


@pytest.fixture
def client(clock: Clock, tmp_path: Any) -> Iterator[Client]:
    client = Client(ENGINES["redis"](tmp_path, clock)(), clock)
    yield client
    client.engine.close()


@pytest.fixture
def keys() -> Keys:
    return Keys()


def counted(processed: int, failed: int = 0) -> dict[str, bytes]:
    counters = {f"{P}processed": b"%d" % processed, f"{P}processed:{DAY}": b"%d" % processed}
    if failed:
        counters |= {f"{P}failed": b"%d" % failed, f"{P}failed:{DAY}": b"%d" % failed}
    return counters


QUEUES = {"asynq:queues": {"default"}}


def lock_of(payload: bytes) -> str:
    return f"{P}unique:echo:{hashlib.md5(payload).hexdigest()}"


def test_a_pending_task(client: Client, keys: Keys) -> None:
    """At the head of the list: those before it are served first."""
    client.put("a", b"hi")
    client.put("b")
    assert keys.all() == {
        **QUEUES,
        f"{P}pending": ["b", "a"],
        f"{P}t:a": {"state": b"pending", "pending_since": NS},
        f"{P}t:b": {"state": b"pending", "pending_since": NS},
    }
    assert keys.redis.hget(f"{P}t:a", "msg") == b"\x0a\x04echo\x12\x02hi\x1a\x01a\x22\x07default\x28\x19\x40\x88\x0e"


def test_a_unique_task_holds_a_lock(client: Client, keys: Keys) -> None:
    """Its name ends in the MD5 of the payload; a conflict and a duplicate leave no trace."""
    client.put("a", b"p", unique=60)
    lock = lock_of(b"p")
    expected = {
        **QUEUES,
        f"{P}pending": ["a"],
        f"{P}t:a": {"state": b"pending", "pending_since": NS, "unique_key": lock.encode()},
        lock: b"a",
    }
    assert keys.all() == expected
    assert 30 < keys.redis.ttl(lock) <= 60
    assert keys.record("a").unique_key == lock
    assert client.put("b", b"p", unique=60) == "task.duplicate"
    assert client.put("a", b"other", unique=60) == "task.id.conflict"
    assert keys.all() == expected


def test_a_scheduled_task(client: Client, keys: Keys) -> None:
    """Not before its time, in whole seconds; its lock lasts from then on."""
    client.put("a", b"p", process_in=9.5, unique=60)
    lock = lock_of(b"p")
    assert keys.all() == {
        **QUEUES,
        f"{P}scheduled": {"a": AT + 10},
        f"{P}t:a": {"state": b"scheduled", "unique_key": lock.encode()},
        lock: b"a",
    }
    assert 60 < keys.redis.ttl(lock) <= 70


def test_a_task_of_a_group(client: Client, keys: Keys) -> None:
    """A unique one does not note its lock in the hash."""
    client.put("a", b"p", group="g", unique=60)
    assert keys.all() == {
        **QUEUES,
        f"{P}groups": {"g"},
        f"{P}g:g": {"a": AT},
        f"{P}t:a": {"state": b"aggregating", "group": b"g"},
        lock_of(b"p"): b"a",
    }
    assert keys.record("a").group_key == "g"


def test_an_active_task(client: Client, keys: Keys) -> None:
    """With a lease of 30 seconds, which an extension renews; nothing else is in its hash."""
    client.put("a")
    client.put("b")
    leases = client.take(2)
    active = {
        **QUEUES,
        f"{P}active": ["b", "a"],
        f"{P}t:a": {"state": b"active"},
        f"{P}t:b": {"state": b"active"},
    }
    assert keys.all() == {**active, f"{P}lease": {"a": AT + 30, "b": AT + 30}}
    client.clock.at += 10
    client.engine.extend(leases[:1])
    assert keys.all() == {**active, f"{P}lease": {"a": AT + 40, "b": AT + 30}}
    client.engine.write_result(leases[0], b"half")
    assert keys.read(f"{P}t:a") == {"state": b"active", "result": b"half"}


def test_a_done_task(client: Client, keys: Keys) -> None:
    """Only the counters are left; those of the day for 90 days."""
    client.put("a", b"p", unique=60)
    client.end(client.next())
    assert keys.all() == {**QUEUES, **counted(1)}
    assert 90 * 86_400 - 60 < keys.redis.ttl(f"{P}processed:{DAY}") <= 90 * 86_400
    assert keys.redis.ttl(f"{P}processed") == -1


def test_a_completed_task(client: Client, keys: Keys) -> None:
    """Kept until its retention is over."""
    client.put("a", b"p", unique=60, retention=100)
    client.end(client.next(), result=b"42")
    done = {"state": b"completed", "unique_key": lock_of(b"p").encode(), "result": b"42"}
    assert keys.all() == {**QUEUES, **counted(1), f"{P}completed": {"a": AT + 100}, f"{P}t:a": done}
    assert keys.record("a").completed_at == AT
    client.clock.at += 100
    client.engine.sweep(["default"], 100)
    assert keys.all() == {**QUEUES, **counted(1)}


@pytest.mark.parametrize("failure", [True, False])
def test_a_task_that_is_tried_again(client: Client, keys: Keys, failure: bool) -> None:
    """The lock is kept; what is no failure is not counted, but asynq shows when it was."""
    client.put("a", b"p", unique=60)
    client.end(client.next(), "retry", error="boom", at=NOON + 15, failure=failure)
    lock = lock_of(b"p")
    assert keys.all() == {
        **QUEUES,
        **(counted(1, 1) if failure else {}),
        f"{P}retry": {"a": AT + 15},
        f"{P}t:a": {"state": b"retry", "unique_key": lock.encode()},
        lock: b"a",
    }
    record = keys.record("a")
    assert (record.error_msg, record.retried, record.last_failed_at) == ("boom", int(failure), AT)


def test_an_archived_task(client: Client, keys: Keys) -> None:
    """The attempt counts as a failure, not as a retry."""
    client.put("a")
    client.end(client.next(), "archive", error="boom")
    assert keys.all() == {
        **QUEUES,
        **counted(1, 1),
        f"{P}archived": {"a": AT},
        f"{P}t:a": {"state": b"archived"},
    }
    record = keys.record("a")
    assert (record.error_msg, record.retried, record.last_failed_at) == ("boom", 0, AT)


def test_a_requeued_task(client: Client, keys: Keys) -> None:
    """At the tail of the list, where it is served next."""
    client.put("a")
    client.put("b")
    client.end(client.next(), "requeue")
    pending = {"state": b"pending", "pending_since": NS}
    assert keys.all() == {**QUEUES, f"{P}pending": ["b", "a"], f"{P}t:a": pending, f"{P}t:b": pending}


def test_forwarded_tasks(client: Client, keys: Keys) -> None:
    """To pending, or to their group, which only the record names."""
    client.put("a", process_in=5)
    client.put("b", process_in=5, group="g")
    assert keys.read(f"{P}t:b") == {"state": b"scheduled"}
    client.clock.at += 5
    client.engine.forward(["default"])
    assert keys.all() == {
        **QUEUES,
        f"{P}pending": ["a"],
        f"{P}t:a": {"state": b"pending", "pending_since": str((AT + 5) * 10**9).encode()},
        f"{P}groups": {"g"},
        f"{P}g:g": {"b": AT + 5},
        f"{P}t:b": {"state": b"aggregating", "group": b"g"},
    }


def test_a_set_that_is_aggregated(client: Client, keys: Keys) -> None:
    """Out of the group with a deadline; back into it, name and all; or gone, with what was made of it in its place."""
    client.put("a", b"p", group="g", unique=600)
    client.clock.at += 10
    gather: Any = lambda: client.engine.gather("default", "g", grace=10.0, max_delay=0.0, max_size=0)  # noqa: E731
    set_id, _ = gather()
    own = {f"{P}t:a": {"state": b"aggregating", "group": b"g"}, lock_of(b"p"): b"a"}
    assert set_id.startswith(f"{P}g:g:")
    assert keys.all() == {**QUEUES, **own, set_id: {"a": AT}, f"{P}aggregation_sets": {set_id: AT + 130}}
    client.clock.at += 120
    client.engine.reclaim(["default"])
    assert keys.all() == {**QUEUES, **own, f"{P}g:g": {"a": AT}, f"{P}groups": {"g"}}
    set_id, _ = gather()
    client.engine.drop_set("default", set_id, plan(RawTask("batch"), {"task_id": "m"}, client.clock.at))
    made = {"state": b"pending", "pending_since": str((AT + 130) * 10**9).encode()}
    assert keys.all() == {**QUEUES, f"{P}pending": ["m"], f"{P}t:m": made}


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.SCHEDULED, TaskState.AGGREGATING])
def test_a_task_that_is_managed(client: Client, keys: Keys, state: TaskState) -> None:
    """Archived, run, deleted: no list knows it twice, and nothing is left."""
    options: dict[TaskState, dict[str, Any]] = {
        TaskState.PENDING: {},
        TaskState.SCHEDULED: {"process_in": 60},
        TaskState.AGGREGATING: {"group": "g"},
    }
    client.put("a", b"p", unique=600, **options[state])
    hash_of_a = keys.read(f"{P}t:a")
    client.engine.archive("default", "a")
    rest = {name: hash_of_a[name] for name in ("unique_key", "group") if name in hash_of_a}
    lock = {lock_of(b"p"): b"a"}
    archived = {f"{P}archived": {"a": AT}, f"{P}t:a": {"state": b"archived", **rest}}
    assert keys.all() == {**QUEUES, **lock, **archived}
    client.engine.run("default", "a")
    pending = {f"{P}pending": ["a"], f"{P}t:a": {"state": b"pending", "pending_since": NS, **rest}}
    assert keys.all() == {**QUEUES, **lock, **pending}
    client.engine.delete("default", "a")
    assert keys.all() == QUEUES


def test_a_payload_that_is_replaced(client: Client, keys: Keys) -> None:
    """Only the record changes."""
    client.put("a", b"old", process_in=60)
    before = keys.record("a")
    client.engine.update_payload("default", "a", b"new")
    assert keys.redis.hget(f"{P}t:a", "msg") == write_task(before).replace(b"\x03old", b"\x03new")


def test_a_queue_that_is_paused_and_removed(client: Client, keys: Keys) -> None:
    """A pause is a key that is there; nothing is left of a queue that was removed."""
    client.put("a", b"p", unique=60)
    client.end(client.next(), "archive")
    client.engine.pause("default")
    assert keys.read(f"{P}paused") == str(AT).encode()
    client.engine.unpause("default")
    assert keys.read(f"{P}paused") is None
    client.engine.pause("default")
    client.engine.remove_queue("default", force=True)
    assert keys.all() == {}


def test_the_totals_begin_anew_past_the_greatest_number(client: Client, keys: Keys) -> None:
    """Both of them, as asynq's do."""
    client.put_all(("a", b"", {}), ("b", b"", {}))
    keys.redis.mset({f"{P}processed": 2**63 - 1, f"{P}failed": 7})
    client.end(client.next(), "archive")
    assert (keys.read(f"{P}processed"), keys.read(f"{P}failed")) == (b"1", b"1")


def test_what_processes_report(client: Client, keys: Keys) -> None:
    """For as long as they say; the braces are a part of the names."""
    worker = WorkerInfo("t", "echo", "default", b"", NOON, 0.0)
    server = ServerInfo("host:1:a", "host", 1, 10, {"default": 1}, False, "active", NOON, (worker,))
    client.engine.beat(server, 10.0)
    client.engine.report_schedule("host:1:b", [SchedulerEntry("e", "@daily", "echo", b"", (), NOON, 0.0)], 20.0)
    client.engine.note_enqueued("e", EnqueueEvent("t", NOON))
    found = keys.all()
    assert {name: keys.redis.type(name) for name in found} == {
        "asynq:servers": b"zset",
        "asynq:workers": b"zset",
        "asynq:schedulers": b"zset",
        "asynq:servers:{host:1:a}": b"string",
        "asynq:workers:{host:1:a}": b"hash",
        "asynq:schedulers:{host:1:b}": b"list",
        "asynq:scheduler_history:e": b"zset",
    }
    assert found["asynq:servers"] == {"asynq:servers:{host:1:a}": AT + 10}
    assert found["asynq:workers"] == {"asynq:workers:{host:1:a}": AT + 10}
    assert found["asynq:schedulers"] == {"asynq:schedulers:{host:1:b}": AT + 20}
    assert list(found["asynq:workers:{host:1:a}"]) == ["t"]
    assert list(found["asynq:scheduler_history:e"].values()) == [AT]
    assert 0 < keys.redis.ttl("asynq:servers:{host:1:a}") <= 10
    assert 0 < keys.redis.ttl("asynq:workers:{host:1:a}") <= 10
    assert 10 < keys.redis.ttl("asynq:schedulers:{host:1:b}") <= 20
    client.engine.leave("host:1:a")
    client.engine.report_schedule("host:1:b", [], 0.0)
    assert set(keys.all()) == {"asynq:scheduler_history:e"}


def test_a_cancellation_is_told_on_asynqs_channel(client: Client, keys: Keys) -> None:
    """With the id alone."""
    with keys.redis.pubsub() as listener:
        listener.subscribe("asynq:cancel")
        assert listener.get_message(timeout=30.0)["type"] == "subscribe"
        client.engine.cancel("a")
        assert listener.get_message(timeout=30.0)["data"] == b"a"


@pytest.mark.parametrize("broken", ["corrupt", "no record", "no hash"])
def test_a_task_of_a_group_that_cannot_be_read_is_archived(
    client: Client, clock: Clock, keys: Keys, broken: str
) -> None:
    """The others of its group are made into a task without it; of none, nothing is made."""
    for task_id in ("a", "b") if broken == "corrupt" else ("a",):
        client.put(task_id, group="g")
    if broken == "corrupt":
        keys.redis.hset(f"{P}t:a", "msg", b"\xff")
    elif broken == "no record":
        keys.redis.hdel(f"{P}t:a", "msg")
    else:
        keys.redis.set(f"{P}t:a", b"?")
    clock.at += 10
    found = client.engine.gather("default", "g", grace=10.0, max_delay=0.0, max_size=0)
    if broken == "corrupt":
        assert found is not None
        assert [message.id for message in found[1]] == ["b"]
        assert client.engine.drop_set("default", found[0])
    else:
        assert found is None
    assert client.state("b") == "gone"
    assert client.state("a") == "archived"
    assert "task.record.invalid" in client.engine.task("default", "a").message.error_msg
    assert not keys.redis.exists(f"{P}aggregation_sets")


@pytest.mark.parametrize("state", ["scheduled", "retry"])
def test_what_is_no_task_holds_up_no_other_that_is_due(client: Client, clock: Clock, keys: Keys, state: str) -> None:
    """It becomes pending as well, and whoever dequeues it archives it."""
    client.put("a", process_in=5)
    client.put("b", process_in=5)
    if state == "retry":
        keys.redis.rename(f"{P}scheduled", f"{P}retry")
    keys.redis.delete(f"{P}t:a")
    keys.redis.set(f"{P}t:a", b"?")
    clock.at += 5
    assert client.engine.forward(["default"]) == 2
    assert client.take_ids(2) == ["b"]
    assert client.state("a") == "archived"

"""What only the Redis engine can do wrong: lost replies, other processes' tasks, damage, a server that is away."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.redis_link import ServerLost
from understudy.actors.tasks.engine import Ending, EnqueueEvent, ServerInfo
from understudy.actors.tasks.opening import open_engine
from understudy.actors.tasks.options import plan
from understudy.actors.tasks.redis.engine import RedisEngine
from understudy.actors.tasks.redis.wire import write_task
from understudy.actors.tasks.router import TaskRouter
from understudy.messages.errors import StorageError, TaskRefused, UrlInvalid
from understudy.messages.tasks import RawTask, TaskMessage, TaskState

from ...servers.process import free_port
from .conftest import ENGINES, NOON, Client, Clock
from .redis_server import open_redis, redis_of_this_run
from .stage import PATIENCE, eventually, staged

P = "asynq:{default}:"


@pytest.fixture
def client(clock: Clock, tmp_path: Path) -> Iterator[Client]:
    client = Client(ENGINES["redis"](tmp_path, clock)(), clock)
    yield client
    client.engine.close()


@pytest.fixture
def look() -> Any:
    """A plain client."""
    return redis_of_this_run().look


def put_by_go(look: Any, task_id: str, **fields: Any) -> None:
    """What asynq does for an enqueue."""
    look.sadd("asynq:queues", "default")
    look.hset(f"{P}t:{task_id}", mapping={"msg": record(task_id), "state": "pending", "pending_since": 1, **fields})
    look.lpush(f"{P}pending", task_id)


def record(task_id: str) -> bytes:
    return write_task(TaskMessage("echo", b"go", task_id, timeout=1800))


def take_by_go(look: Any, until: float) -> None:
    """What asynq's script for a dequeue does."""
    task_id = look.rpoplpush(f"{P}pending", f"{P}active").decode()
    look.hset(f"{P}t:{task_id}", "state", "active")
    look.hdel(f"{P}t:{task_id}", "pending_since")
    look.zadd(f"{P}lease", {task_id: until})


# --- lost replies -------------------------------------------------------------------------------------------


def lose_next_reply(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The next script is carried out, and its reply lost; the list gets an entry when it is."""
    assert isinstance(client.engine, RedisEngine)
    link, lost = client.engine._link, list[int]()
    run = link.run

    def lossy(commands: Any, until: float, slot: int = 0) -> list[Any]:
        replies = run(commands, until, slot)
        if not lost and any(command[0] == "EVALSHA" for command in commands):
            lost.append(1)
            raise ServerLost("the reply was lost", reached=True)
        return replies

    monkeypatch.setattr(link, "run", lossy)
    return lost


def test_an_enqueue_whose_reply_was_lost_is_done_once(
    client: Client, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no conflict with itself; what was a conflict stays one."""
    client.put("taken")
    lost = lose_next_reply(client, monkeypatch)
    outcomes = client.put_all(("a", b"", {"unique": 60}), ("taken", b"", {}))
    assert lost
    assert [each if isinstance(each, str) else each.id for each in outcomes] == ["a", "task.id.conflict"]
    assert look.lrange(f"{P}pending", 0, -1) == [b"a", b"taken"]


def test_a_dequeue_whose_reply_was_lost_begins_the_same_attempts(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task waits for a lease to run out that nobody knows of."""
    client.put_all(*((name, b"", {}) for name in "abc"))
    lost = lose_next_reply(client, monkeypatch)
    leases = client.take(2)
    assert lost
    assert sorted(lease.message.id for lease in leases) == ["a", "b"]
    assert client.engine.queue_info("default").sizes[TaskState.ACTIVE] == 2
    assert all(client.end(lease) for lease in leases)


def test_an_end_whose_reply_was_lost_is_accepted_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And counted once."""
    client.put("a")
    lease = client.next()
    lost = lose_next_reply(client, monkeypatch)
    assert client.end(lease)
    assert lost
    assert client.engine.queue_info("default").processed_total == 1
    assert not client.end(lease)


def test_a_turn_whose_reply_was_lost_ends_and_begins_the_same_attempts(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both scripts are sent again, and both are told what they came to."""
    client.put_all(("a", b"", {}), ("b", b"", {}), ("c", b"", {}))
    first = client.next()
    lost = lose_next_reply(client, monkeypatch)
    accepted, leases = client.engine.turn([Ending(first, "done")], ["default"], 1)
    assert lost
    assert accepted == [True]
    assert [lease.message.id for lease in leases] == ["b"]
    assert client.end(leases[0])
    assert client.take_ids(5) == ["c"]


@pytest.mark.parametrize("what", ["run", "archive", "delete"])
def test_a_task_is_managed_once_though_the_reply_was_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It is not refused as done already."""
    client.put("a", process_in=60)
    lost = lose_next_reply(client, monkeypatch)
    getattr(client.engine, what)("default", "a")
    assert lost
    assert client.state("a") == {"run": "pending", "archive": "archived", "delete": "gone"}[what]


def test_a_set_whose_gathering_was_not_heard_of_is_gathered_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tasks, in the same set."""
    client.put("a", group="g")
    client.clock.at += 10
    lost = lose_next_reply(client, monkeypatch)
    found = client.engine.gather("default", "g", grace=10.0, max_delay=0.0, max_size=0)
    assert lost
    assert found is not None
    assert [message.id for message in found[1]] == ["a"]
    assert client.engine.drop_set("default", found[0])


def test_a_call_that_comes_after_a_later_one_is_refused(client: Client, look: Any) -> None:
    """A network may keep it for a while."""
    assert isinstance(client.engine, RedisEngine)
    client.put("a")
    (memo,) = [key for key in look.keys("understudy:tasks:calls:*") if look.get(key)]
    number, _, codes = look.get(memo).partition(b":")
    look.set(memo, b"%d:%b" % (int(number) + 1_000, codes))
    with pytest.raises(StorageError, match="a later call") as caught:
        client.put("b")
    assert caught.value.kind == "storage.redis.failed"
    assert client.state("b") == "gone"


# --- beside Go processes ------------------------------------------------------------------------------------


def test_a_task_that_a_go_process_enqueued_is_served(client: Client, look: Any) -> None:
    """In its turn."""
    client.put("ours")
    put_by_go(look, "theirs")
    leases = client.take(2)
    assert [(lease.message.id, lease.message.payload) for lease in leases] == [("ours", b""), ("theirs", b"go")]
    assert all(client.end(lease) for lease in leases)


def test_an_attempt_is_over_when_a_go_process_has_begun_another_one(client: Client, look: Any) -> None:
    """It set another lease; what the first attempt still says is refused."""
    client.put("a")
    stale = client.next()
    client.clock.at += 31
    look.lrem(f"{P}active", 0, "a")  # asynq's recoverer and forwarder
    look.zrem(f"{P}lease", "a")
    look.lpush(f"{P}pending", "a")
    take_by_go(look, client.clock.at + 30)
    assert not client.end(stale)
    assert client.engine.extend([stale]) == [None]
    assert not client.engine.write_result(stale, b"x")
    assert client.engine.expired(["default"]) == []
    assert client.state("a") == "active"


def test_what_is_noted_of_attempts_goes_when_others_have_ended_them(client: Client, look: Any) -> None:
    """The janitor sees to it."""
    client.put_all(("a", b"", {}), ("b", b"", {}))
    client.take(2)
    look.zrem(f"{P}lease", "a")
    client.engine.sweep(["default"], 100)
    assert look.hkeys("understudy:{default}:attempts") == [b"b"]


def test_a_go_processes_attempt_is_recovered_when_its_lease_has_ended(client: Client, look: Any) -> None:
    """As asynq's own recoverer does."""
    put_by_go(look, "a")
    take_by_go(look, NOON + 30)
    assert client.engine.expired(["default"]) == []
    client.clock.at += 30
    (lease,) = client.engine.expired(["default"])
    assert client.engine.finish([Ending(lease, "retry", at=client.clock.at)], recovering=True) == [True]
    assert client.state("a") == "retry"


def test_an_id_that_is_active_without_a_lease_is_recovered(client: Client, look: Any) -> None:
    """asynq's recoverer looks at leases only, and never finds it."""
    put_by_go(look, "a")
    take_by_go(look, NOON + 30)
    look.zrem(f"{P}lease", "a")
    (lease,) = client.engine.expired(["default"])
    assert client.engine.task("default", "a").orphaned
    assert client.engine.finish([Ending(lease, "retry", at=NOON)], recovering=True) == [True]
    client.engine.forward(["default"])
    assert client.take_ids() == ["a"]


def test_what_a_go_process_left_without_a_record_is_archived(client: Client, look: Any) -> None:
    """A hash of a state and nothing else, in `active` for ever: it is shown with a code, and can be deleted."""
    look.sadd("asynq:queues", "default")
    look.hset(f"{P}t:a", "state", "active")
    look.lpush(f"{P}active", "a")
    look.zadd(f"{P}lease", {"a": NOON - 1})
    (lease,) = client.engine.expired(["default"])
    assert lease.message.type == ""
    error = "0xFFF6 task.record.invalid: the record cannot be read"
    assert client.engine.finish([Ending(lease, "archive", error=error)], recovering=True) == [True]
    (info,) = client.engine.tasks("default", TaskState.ARCHIVED)
    assert (info.id, info.message.error_msg) == ("a", error)
    client.engine.delete("default", "a")
    assert client.engine.queue_info("default").size == 0


def test_a_set_of_a_go_process_is_given_back_with_its_groups_name(client: Client, look: Any) -> None:
    """asynq does not note the name again, and then nobody looks at the group."""
    put_by_go(look, "a", group="g:h")
    look.zadd(f"{P}g:g:h:5f1c", {"a": NOON - 200})
    look.zadd(f"{P}aggregation_sets", {f"{P}g:g:h:5f1c": NOON - 80})
    assert client.engine.reclaim(["default"]) == 1
    assert client.engine.groups("default") == ["g:h"]


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["no record", "no hash", "damaged record", "another record", "no hash at all"])
def test_a_task_without_a_record_is_archived_and_holds_up_nobody(client: Client, look: Any, damage: str) -> None:
    """With a code, and with what its record was as its payload."""
    client.put_all(("bad", b"", {}), ("good", b"", {}))
    key, blob = f"{P}t:bad", b""
    match damage:
        case "no record":
            look.hdel(key, "msg")
        case "no hash":
            look.delete(key)
        case "damaged record":
            blob = b"\xff\x00"
            look.hset(key, "msg", blob)
        case "another record":
            blob = record("good")
            look.hset(key, "msg", blob)
        case _:
            look.delete(key)
            look.set(key, "a text")
    assert client.take_ids(2) == ["good"]
    (info,) = client.engine.tasks("default", TaskState.ARCHIVED)
    assert (info.id, info.message.payload) == ("bad", blob)
    assert info.message.error_msg.startswith("0xFFF6 task.record.invalid: ")
    client.engine.delete("default", "bad")
    assert client.state("bad") == "gone"


def test_a_state_that_is_none_can_only_be_deleted(client: Client, look: Any) -> None:
    """Whoever wrote it."""
    client.put("a")
    look.hset(f"{P}t:a", "state", "lost")
    for operation in (client.engine.task, client.engine.run, client.engine.archive):
        with pytest.raises(TaskRefused, match="can only be deleted"):
            operation("default", "a")
    client.engine.delete("default", "a")
    assert client.state("a") == "gone"


def test_a_key_of_another_type_is_an_error_with_a_code(client: Client, look: Any) -> None:
    """Nothing is lost, and work goes on when it is gone."""
    client.put("a")
    look.rename(f"{P}pending", "aside")
    look.set(f"{P}pending", "a text")
    for operation in (lambda: client.take(1), lambda: client.put("b"), lambda: client.engine.queue_info("default")):
        with pytest.raises(StorageError) as caught:
            operation()
        assert caught.value.kind == "storage.redis.failed"
    look.rename("aside", f"{P}pending")
    assert client.take_ids() == ["a"]


@pytest.mark.parametrize("how", ["retry", "archive", "requeue", "done"])
def test_an_attempt_whose_key_is_no_hash_any_more_ends_like_the_others_of_its_batch(
    client: Client, look: Any, how: Any
) -> None:
    """Its record is known from the attempt, but where it is requeued: then it is archived when it is next taken."""
    for task_id in "abc":
        client.put(task_id)
    leases = client.take(3)
    look.delete(f"{P}t:b")
    look.set(f"{P}t:b", "a text")
    endings = [Ending(lease, how, error="x", at=client.clock.at) for lease in leases]
    assert client.engine.finish(endings) == [True, True, True]
    assert client.engine.queue_info("default").sizes[TaskState.ACTIVE] == 0
    state = {"retry": "retry", "archive": "archived", "requeue": "pending", "done": "gone"}[how]
    assert {client.state(task_id) for task_id in "abc"} == {state}


@pytest.mark.parametrize("state", ["pending", "scheduled"])
def test_what_is_no_hash_in_the_place_of_a_task_can_be_deleted_alone_and_with_all(
    client: Client, look: Any, state: str
) -> None:
    """And looked at, as what can only be deleted."""
    options: dict[str, Any] = {} if state == "pending" else {"process_in": 100}
    for task_id in "abc":
        client.put(task_id, **options)
    for task_id in "ab":
        look.delete(f"{P}t:{task_id}")
        look.set(f"{P}t:{task_id}", "a text")
    with pytest.raises(TaskRefused, match="can only be deleted"):
        client.engine.task("default", "a")
    with pytest.raises(TaskRefused, match="can only be deleted"):
        client.engine.run("default", "a")
    client.engine.delete("default", "a")
    assert client.engine.queue_info("default").sizes[TaskState(state)] == 2
    assert client.engine.delete_all("default", TaskState(state)) == 2
    assert client.engine.queue_info("default").size == 0
    assert look.keys(f"{P}t:*") == []


@pytest.mark.parametrize("what", ["run_all", "archive_all", "delete_all"])
def test_an_id_of_a_group_whose_hash_is_gone_is_managed_with_its_group(client: Client, look: Any, what: str) -> None:
    """It is in one place afterwards, and the queue can be removed."""
    for task_id in "ab":
        client.put(task_id, group="g")
    look.delete(f"{P}t:a")
    assert getattr(client.engine, what)("default", TaskState.AGGREGATING) == 2
    assert client.engine.queue_info("default").sizes[TaskState.AGGREGATING] == 0
    assert look.exists(f"{P}g:g", f"{P}groups") == 0
    client.engine.remove_queue("default", force=True)
    assert look.smembers("asynq:queues") == set()


def test_reports_whose_time_is_up_are_dropped_when_they_are_listed(client: Client, look: Any) -> None:
    """By who may write; who may only read sees the others all the same."""
    client.engine.beat(ServerInfo("h:1:u", "h", 1, 1, {"default": 1}, False, "active", client.clock.at, ()), 10.0)
    assert len(client.engine.servers()) == 1
    client.clock.at += 11
    assert client.engine.servers() == []
    assert look.zcard("asynq:servers") == 0


def test_the_history_of_a_schedule_that_is_no_more_goes_in_time(client: Client, look: Any) -> None:
    client.engine.note_enqueued("an-entry", EnqueueEvent("t", client.clock.at))
    (key,) = look.keys("asynq:scheduler_history:*")
    assert 29 * 86_400 < look.ttl(key) <= 30 * 86_400


# --- waiting ------------------------------------------------------------------------------------------------


def test_an_enqueue_wakes_the_processor_and_a_go_processes_one_is_found_soon() -> None:
    """Ours is told; asynq's is not, so its queue is looked at again and again."""
    server = redis_of_this_run()
    server.empty()
    handled = threading.Semaphore(0)
    router = TaskRouter()
    router.add("echo", lambda _task: handled.release())
    with staged(server.url, router) as stage:
        stage.put("ours", "echo")
        assert handled.acquire(timeout=PATIENCE)
        put_by_go(server.look, "theirs")
        assert handled.acquire(timeout=PATIENCE)
        assert stage.ends("theirs", "gone")


@pytest.mark.parametrize("how", ["forward", "run", "requeue", "unpause"])
def test_what_becomes_pending_in_any_way_wakes_those_who_wait(
    client: Client, look: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told by name of the queue."""
    client.put("a", process_in=5)
    if how in ("requeue", "unpause"):
        client.engine.run("default", "a")
    if how == "unpause":
        client.engine.pause("default")
    lease = client.next() if how == "requeue" else None
    acts: dict[str, Callable[[], Any]] = {
        "forward": lambda: client.engine.forward(["default"]),
        "run": lambda: client.engine.run("default", "a"),
        "requeue": lambda: client.engine.finish([Ending(lease, "requeue")]) if lease else None,
        "unpause": lambda: client.engine.unpause("default"),
    }
    with look.pubsub() as listener:
        listener.subscribe("understudy:tasks:pending")
        assert listener.get_message(timeout=30.0)["type"] == "subscribe"
        if how == "forward":
            client.clock.at += 5
        acts[how]()
        assert listener.get_message(timeout=30.0)["data"] == P.encode()


def test_who_waits_is_told_once_of_many(client: Client, look: Any) -> None:
    """Where tasks wait already nobody is idle."""
    with look.pubsub() as listener:
        listener.subscribe("understudy:tasks:pending")
        assert listener.get_message(timeout=30.0)["type"] == "subscribe"
        client.put_all(*((str(number), b"", {}) for number in range(5)))
        client.put("more")
        client.engine.cancel("a")
        listener.subscribe("asynq:cancel")
        kinds = [listener.get_message(timeout=30.0)["type"] for _ in range(2)]
        assert kinds == ["message", "subscribe"]


# --- the server ---------------------------------------------------------------------------------------------


def test_a_server_that_is_away_is_an_error_in_time_and_everything_goes_on_after_it() -> None:
    """No task is lost; a subscriber listens again."""
    server = redis_of_this_run()
    server.empty()
    port = free_port()
    engine = open_redis(f"redis://127.0.0.1:{port}/0?timeout=0.5", time.time)
    with pytest.raises(StorageError) as caught:
        engine.check()
    assert caught.value.kind == "storage.redis.unavailable"
    began = time.monotonic()
    for operation in (lambda: engine.dequeue(["default"], 1), lambda: engine.cancellations(None, 0.0), engine.queues):
        with pytest.raises(StorageError) as caught:
            operation()
        assert caught.value.kind == "storage.redis.unavailable"
        assert caught.value.response.retryable
    assert time.monotonic() - began < 30.0
    engine.close()


def test_a_subscriber_listens_again_after_a_loss(client: Client, look: Any) -> None:
    """It gets a code for what it may have missed."""
    place, _ = client.engine.cancellations(None, 0.0)
    look.client_kill_filter(_type="pubsub")
    with pytest.raises(StorageError) as caught:
        client.engine.cancellations(place, 30.0)
    assert caught.value.kind == "storage.redis.unavailable"
    client.engine.cancellations(place, 0.0)
    client.engine.cancel("a")
    assert client.engine.cancellations(place, 30.0) == (place, ["a"])


def test_a_user_that_may_not_is_told_so(look: Any) -> None:
    """Trying again does not help."""
    server = redis_of_this_run()
    server.empty()
    look.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@read", "+@connection"])
    engine = open_redis(server.url.replace("//", "//reader:secret@"), time.time)
    with pytest.raises(StorageError) as caught:
        engine.enqueue([plan(RawTask("echo"), {}, time.time())])
    assert caught.value.kind == "storage.redis.denied"
    assert "secret" not in str(caught.value)
    engine.close()
    look.acl_deluser("reader")


def test_a_closed_engine_says_so(client: Client) -> None:
    """Every operation, with a code; who waits is let go."""
    ended = threading.Event()

    def wait() -> None:
        try:
            client.engine.wait(["default"], 60.0)
        except StorageError:
            pass
        finally:
            ended.set()

    threading.Thread(target=wait).start()
    client.engine.close()
    client.engine.close()
    assert ended.wait(PATIENCE)
    with pytest.raises(StorageError, match="closed") as caught:
        client.engine.queues()
    assert caught.value.kind == "storage.redis.unavailable"


def test_a_url_names_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that name a Redis; nothing is connected yet. There is no prefix, for asynq knows none."""
    for url in (
        "redis://127.0.0.1:1/3",
        "rediss://127.0.0.1:1",
        "redis+sentinel://127.0.0.1:1/shop",
        "redis+cluster://127.0.0.1:1,127.0.0.1:2",
    ):
        engine = open_engine(url)
        assert isinstance(engine, RedisEngine)
        engine.close()
    for wrong in ("redis://", "redis://host/0?prefix=x", "redis+cluster://host/1"):
        with pytest.raises(UrlInvalid):
            open_engine(wrong)
    for name in [name for name in sys.modules if name.startswith("understudy.actors.tasks.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(UrlInvalid, match=r"understudy\[tasks\]"):
        open_engine("redis://127.0.0.1:1")


def test_a_report_that_cannot_be_read_is_left_out(client: Client, look: Any) -> None:
    """Of a server, a worker or a periodic task."""
    look.zadd("asynq:servers", {"asynq:servers:{x:1:a}": NOON + 10})
    look.set("asynq:servers:{x:1:a}", b"\xff")
    look.hset("asynq:workers:{x:1:a}", "t", b"\xff")
    look.zadd("asynq:schedulers", {"asynq:schedulers:{x:1:a}": NOON + 10})
    look.rpush("asynq:schedulers:{x:1:a}", b"\xff")
    assert client.engine.servers() == []
    assert client.engine.schedule() == []


def test_a_processor_outlives_damage_in_every_list() -> None:
    """What cannot be processed ends up in the archive, with a code, and the rest is done."""
    server = redis_of_this_run()
    server.empty()
    handled = threading.Event()
    router = TaskRouter()
    router.add("echo", lambda _task: handled.set())
    now = time.time()
    look = server.look
    look.sadd("asynq:queues", "default")
    look.lpush(f"{P}pending", "gone")
    look.hset(f"{P}t:empty", "state", "active")
    look.lpush(f"{P}active", "empty")
    look.hset(f"{P}t:late", mapping={"msg": b"\xff", "state": "scheduled"})
    look.zadd(f"{P}scheduled", {"late": now - 1})
    with staged(server.url, router, recover=0.05) as stage:
        for name in ("gone", "empty", "late"):
            assert stage.ends(name, "archived")
            assert "task.record.invalid" in stage.error_of(name)
        put_by_go(look, "good")
        assert handled.wait(PATIENCE)
        assert eventually(lambda: stage.state("good") == "gone")

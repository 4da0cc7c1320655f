"""What processes tell each other through an engine. The same for every engine."""

from __future__ import annotations

from collections.abc import Callable

from understudy.actors.tasks.engine import EnqueueEvent, SchedulerEntry, ServerInfo, WorkerInfo

from .conftest import NOON, Client, Clock

WORKER = WorkerInfo("t", "echo", "default", b"hi", NOON, 0.0)
SERVER = ServerInfo("host:1:a", "host", 1, 10, {"default": 1}, False, "active", NOON, (WORKER,))


def test_a_processor_is_shown_while_it_reports_itself(connect: Callable[[], Client], clock: Clock) -> None:
    """With what it works on."""
    here, there = connect(), connect()
    here.engine.beat(SERVER, 10.0)
    assert there.engine.servers() == [SERVER]
    clock.at += 10
    assert there.engine.servers() == []
    here.engine.beat(SERVER, 10.0)
    here.engine.leave(SERVER.id)
    assert there.engine.servers() == []


def test_there_is_one_leader_at_a_time(connect: Callable[[], Client], clock: Clock) -> None:
    """Until it resigns or its time is up."""
    here, there = connect().engine, connect().engine
    assert here.lead("cron", "a", 20.0)
    assert not there.lead("cron", "b", 20.0)
    clock.at += 19
    assert here.lead("cron", "a", 20.0)
    clock.at += 19
    assert not there.lead("cron", "b", 20.0)
    clock.at += 1
    assert there.lead("cron", "b", 20.0)
    assert not here.lead("cron", "a", 20.0)
    there.resign("cron", "b")
    here.resign("cron", "b")
    assert here.lead("cron", "a", 20.0)
    assert there.lead("other", "b", 20.0)


def test_a_cancellation_reaches_every_process_that_listens(connect: Callable[[], Client]) -> None:
    """From when it began to listen; each sees it once."""
    teller, one, two = connect().engine, connect().engine, connect().engine
    teller.cancel("before")
    places = [one.cancellations(None, 0.0)[0], two.cancellations(None, 0.0)[0]]
    teller.cancel("x")
    teller.cancel("y")
    for listener, place in zip((one, two), places, strict=True):
        after, ids = listener.cancellations(place, 10.0)
        assert ids == ["x", "y"]
        assert listener.cancellations(after, 0.0) == (after, [])


def test_periodic_tasks_are_shown_while_their_scheduler_reports_them(client: Client, clock: Clock) -> None:
    """And when they were enqueued, the latest first, not more than a thousand."""
    entry = SchedulerEntry("e", "@every 1m", "echo", b"", ('Queue("q")',), NOON + 60, 0.0)
    client.engine.report_schedule("host:1:a", [entry], 20.0)
    assert client.engine.schedule() == [entry]
    clock.at += 20
    assert client.engine.schedule() == []
    for number in range(1_003):
        client.engine.note_enqueued("e", EnqueueEvent(str(number), NOON + number))
    assert [event.task_id for event in client.engine.enqueued("e", 1, 2)] == ["1002", "1001"]
    assert len(client.engine.enqueued("e", 1, 5_000)) == 1_000

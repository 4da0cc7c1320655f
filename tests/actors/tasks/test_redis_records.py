"""asynq's records: what is written is what Go writes, byte for byte, and what cannot be read is said so."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from understudy.actors.tasks import redis as package
from understudy.actors.tasks.engine import EnqueueEvent, SchedulerEntry, ServerInfo, WorkerInfo
from understudy.actors.tasks.redis import wire
from understudy.actors.tasks.redis.records import RECORDS
from understudy.messages.tasks import TaskMessage, TaskState

OBSERVED = b"\x0a\x04echo\x12\x02hi\x1a\x02t1\x22\x07default\x28\x19\x40\x88\x0e\x60\x90\x1c\x7a\x06\x0a\x01a\x12\x01b"
"""What a Go process wrote for type echo, payload hi, id t1, one hour of retention, header a=b."""

FULL = TaskMessage(
    "t", b"\x00\xff", "id", "q", 3, 2, "boom", 20, 1_700_000_000, "unique:t:x", 5, 6, 7, "g", {"b": "ä", "a": ""}
)  # fmt: skip


def test_a_record_is_what_a_go_process_writes() -> None:
    """Read off its Redis."""
    message = TaskMessage("echo", b"hi", "t1", timeout=1800, retention=3600, headers={"a": "b"})
    assert wire.write_task(message) == OBSERVED
    assert wire.read_task(OBSERVED, "default", "t1") == message


def test_every_field_has_its_number() -> None:
    """1 to 15 in this order; text, bytes and map as length-delimited, numbers as varints."""
    blob = wire.write_task(FULL)
    assert wire.read_task(blob, "q", "id") == FULL
    tags: list[tuple[int, int]] = []
    at = 0
    while at < len(blob):
        tags.append((blob[at] >> 3, blob[at] & 7))
        at += 1
        value = shift = 0
        while True:
            byte = blob[at]
            value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                break
        at += value if tags[-1][1] == 2 else 0
    numbers = {5, 6, 8, 9, 11, 12, 13}
    assert tags == [(number, 0 if number in numbers else 2) for number in [*range(1, 16), 15]]


def test_the_schema_file_says_what_is_built() -> None:
    """Names, types and numbers; the file is for those who read a queue in another language."""
    text = Path(package.__file__).with_name("asynq.proto").read_text()
    declared: dict[str, tuple[tuple[str, str], ...]] = {}
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        fields = re.findall(r"^  (\S.*?) (\w+) = (\d+);", body, re.MULTILINE)
        assert [int(number) for _, _, number in fields] == list(range(1, len(fields) + 1))
        declared[name] = tuple((kind, field) for kind, field, _ in fields)
    assert declared == dict(RECORDS)


@pytest.mark.parametrize(
    "blob",
    [b"", b"\xff", OBSERVED[:-1], OBSERVED + b"\x0f", b"\x0a\x01\xff", OBSERVED.replace(b"echo", b"\xff\xff\xff\xff")],
    ids=["empty", "no tag", "cut off", "unknown wire type", "no text", "type is no UTF-8"],
)
def test_a_damaged_record_is_none(blob: bytes) -> None:
    """It is shown with what it holds."""
    assert wire.read_task(blob, "default", "t1") is None
    info = wire.show("default", "t1", TaskState.PENDING, None, blob, b"", 0.0)
    assert (info.id, info.type, info.message.payload) == ("t1", "", blob)
    assert "task.record.invalid" in info.message.error_msg


def test_the_record_of_another_task_is_none() -> None:
    """Whatever was done to it would be done to the other one."""
    assert wire.read_task(OBSERVED, "default", "t2") is None
    assert wire.read_task(OBSERVED, "other", "t1") is None
    assert wire.read_task(wire.write_task(TaskMessage("", b"", "t1")), "default", "t1") is None


def test_a_field_of_a_newer_asynq_is_left_alone() -> None:
    """Unknown numbers do not make a record unreadable."""
    assert wire.read_task(OBSERVED + b"\xa0\x06\x01", "default", "t1") is not None


def test_an_errors_text_that_is_no_utf8_is_written_as_well_as_can_be() -> None:
    """Else its task could not be ended."""
    message = TaskMessage("t", b"", "id", error_msg="a\udcffb")
    read = wire.read_task(wire.write_task(message), "default", "id")
    assert read is not None
    assert read.error_msg == "a?b"


def test_what_processes_say_about_themselves_comes_back() -> None:
    """An instant that there is not is Go's zero time."""
    worker = WorkerInfo("t", "echo", "default", b"hi", 1_700_000_000.25, 0.0)
    server = ServerInfo("host:1:a", "host", 1, 10, {"default": 1, "low": 2}, True, "active", 1_700_000_000.5, (worker,))
    assert wire.read_worker(wire.write_worker(server, worker)) == worker
    assert wire.read_server(wire.write_server(server), (worker,)) == server
    entry = SchedulerEntry("e", "@every 1m", "echo", b"", ('Queue("q")', "MaxRetry(3)"), 1_700_000_000.0, 0.0)
    assert wire.read_entry(wire.write_entry(entry)) == entry
    never = b"\x3a\x0b\x08\x80\x92\xb8\xc3\x98\xfe\xff\xff\xff\x01"  # field 7, seconds −62135596800
    assert wire.write_entry(entry).endswith(never)
    event = EnqueueEvent("t", 1_700_000_000.0)
    assert wire.read_event(wire.write_event(event)) == event
    for read in (wire.read_worker, wire.read_entry, wire.read_event):
        assert read(b"\xff") is None


def test_no_descriptor_gets_into_the_way_of_a_programs_own() -> None:
    """A program may have asynq's classes loaded as well: the default pool knows none of ours."""
    from google.protobuf import descriptor_pool

    assert "google.protobuf" in sys.modules
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("understudy.tasks.TaskMessage")

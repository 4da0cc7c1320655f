"""The error log: every error is a line and a notification, or is counted and reported; it never feeds itself."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy import (
    Actor,
    ActorError,
    ActorSystem,
    BindQueue,
    Broker,
    Child,
    CountErrors,
    CountQueue,
    DeclareExchange,
    DeclareQueue,
    Delivered,
    ErrorCounts,
    ErrorKind,
    ErrorLog,
    ErrorResponse,
    FileError,
    Mailbox,
    Message,
    NotifData,
    ProduceNotif,
    Published,
    StartFailed,
    Subscribe,
    Supervisor,
    handles,
)
from understudy.actors.errorlog.actor import EXCHANGE, REPORT_AFTER, WAITING
from understudy.actors.errorlog.sink import FileSink
from understudy.actors.events import ActorCrashed
from understudy.messages.codec import decode
from understudy.testing import SimulatedDispatcher

from ...servers.process import poll

NO_BROKER: dict[str, Any] = {}
PUBLISHING = {"broker": "broker"}


class Crash(Message[None]):
    """Raise an error of this text."""

    text: str


class Worker(Actor):
    @handles
    def crash(self, message: Crash) -> None:
        raise RuntimeError(message.text)


class Reader(Actor):
    """Keeps the notifications that it reads from a queue."""

    def __init__(self, kept: list[NotifData]) -> None:
        super().__init__()
        self.kept = kept

    @handles
    def read(self, message: Delivered) -> None:
        self.kept.append(decode(message.body, NotifData))


class CrashingBroker(Actor):
    """Cannot take a notification without falling."""

    @handles
    def produce(self, message: ProduceNotif) -> Published:
        raise RuntimeError("the broker fell")


class SilentBroker(Actor):
    """Never answers, unless it is told to let go."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []

    @handles
    def produce(self, message: ProduceNotif) -> Published:
        self.waiting.append(self.defer_reply())
        return Published(message.notif_data.id, "", "")


class Full:
    """A text stream that has no room until it is given some."""

    name = "a full disk"

    def __init__(self) -> None:
        self.room = False
        self.text = ""

    def write(self, text: str) -> None:
        if not self.room:
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self) -> None:
        """Everything is there at once."""


class Stage:
    """A system in virtual time with a worker that crashes as told, and what its error log wrote."""

    def __init__(
        self, to: Any, options: dict[str, Any], broker: type[Actor] = Broker, mailbox: Mailbox | None = None
    ) -> None:
        self.to = to
        self.simulation = SimulatedDispatcher(0)
        self.read: list[NotifData] = []
        children = [
            Child(broker, name="broker", args=("memory://",) if broker is Broker else ()),
            Child(Worker, name="worker"),
            Child(Reader, name="reader", args=(self.read,)),
            Child(ErrorLog, name="log", args=(to,), kwargs=options, mailbox=mailbox),
        ]
        tree = Supervisor("shop", intensity=100_000, children=children)
        self.system = ActorSystem("town", tree, dispatcher=self.simulation)

    def listen(self) -> None:
        """Have the reader get what is published."""
        self.system.ask("shop/broker", DeclareExchange(EXCHANGE, "fanout"))
        self.system.ask("shop/broker", DeclareQueue("errors"))
        self.system.ask("shop/broker", BindQueue("errors", EXCHANGE))
        self.system.ask("shop/broker", Subscribe("errors", "shop/reader"))

    def crash(self, *texts: str) -> None:
        for text in texts:
            self.system.tell("shop/worker", Crash(text))
        self.simulation.run_until_idle()

    def counts(self) -> ErrorCounts:
        return self.system.ask("shop/log", CountErrors(), timeout=None)

    def lines(self) -> list[dict[str, Any]]:
        text = self.to.read_text() if isinstance(self.to, Path) else getattr(self.to, "text", "")
        text = self.to.getvalue() if isinstance(self.to, io.StringIO) else text
        return [json.loads(line) for line in text.splitlines()]

    def sources(self) -> list[str]:
        return [line["source"] for line in self.lines()]


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Callable[..., Stage]:
    def new(to: Any, options: dict[str, Any] = NO_BROKER, **others: Any) -> Stage:
        made = Stage(to, options, **others)
        request.addfinalizer(made.system.stop)
        return made

    return new


# --- the file and the stream -----------------------------------------------------------------------------------


def test_a_crash_becomes_one_line_that_says_who_and_what(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl")
    running.crash("one", "password=hidden")
    first, second = running.lines()
    assert first["code"] == "0xFFF9"
    assert (first["source"], first["actor"], first["incarnation"]) == ("RuntimeError: one", "shop/worker", 1)
    assert first["message_type"] == "Crash"
    assert second["source"] == "RuntimeError: password=***"
    assert running.counts() == ErrorCounts(written=2, published=0, unwritten=0, unpublished=0, missed=0)


def test_an_error_that_it_is_sent_is_answered_when_its_line_is_written(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:  # fmt: skip
    running = stage(tmp_path / "errors.jsonl")
    error = FileError("it is gone", kind=ErrorKind.FILE_UNREADABLE).response
    running.system.ask("shop/log", error, timeout=None)
    assert running.sources() == ["it is gone"]


def test_an_error_made_by_hand_of_anything_costs_only_itself(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", PUBLISHING)
    running.listen()
    wrong: Any = object()
    for error in (
        ErrorResponse(wrong, wrong, at=wrong),
        ErrorResponse(1, "a.b", at=float("nan"), actor="\ud800"),
        ErrorResponse(1, "a.b", source=wrong),
        ErrorResponse(1, "a.b", source="good"),
    ):
        running.system.tell("shop/log", error)
    running.simulation.run_until_idle()
    assert len(running.lines()) == len(running.read) == 4
    assert running.sources()[-1] == "good"


def test_a_file_is_appended_to_and_a_stream_is_left_open(stage: Callable[..., Stage], tmp_path: Path) -> None:
    path, stream = tmp_path / "errors.jsonl", io.StringIO()
    path.write_text('{"source": "of yesterday"}\n')
    running = stage(path)
    running.crash("one")
    assert running.sources() == ["of yesterday", "RuntimeError: one"]
    running = stage(stream)
    running.crash("two")
    running.system.stop()
    assert running.sources() == ["RuntimeError: two"]


def test_standard_error_is_where_it_writes_unless_told(
    stage: Callable[..., Stage], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    stage(None).crash("one")
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["source"] == "RuntimeError: one"


def test_a_file_that_cannot_be_opened_is_told_at_the_start(stage: Callable[..., Stage], tmp_path: Path) -> None:
    with pytest.raises(StartFailed) as caught:
        stage(tmp_path / "no such folder" / "errors.jsonl")
    below = caught.value.response.cause
    while below is not None and below.kind != ErrorKind.FILE_UNWRITABLE:
        below = below.cause
    assert below is not None
    assert "No such file or directory" in below.source


def test_what_cannot_be_written_is_counted_and_reported_when_there_is_room(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    full = Full()
    running = stage(full)
    running.crash("one", "two")
    with pytest.raises(FileError, match="a full disk: No space left on device"):
        running.system.ask("shop/log", FileError("three").response, timeout=None)
    assert running.counts() == ErrorCounts(written=0, published=0, unwritten=3, unpublished=0, missed=0)
    running.simulation.advance(REPORT_AFTER)
    assert [record.name for record in caplog.records].count("understudy.errorlog") == 1
    full.room = True
    running.simulation.advance(REPORT_AFTER)
    (report,) = running.lines()
    assert report["kind"] == "errorlog.incomplete"
    assert "3 not written, 0 not published, 0 that" in report["source"]
    assert "No space left" in report["cause"]["source"]
    running.simulation.advance(10 * REPORT_AFTER)
    assert len(running.lines()) == 1
    running.crash("four")
    assert running.sources()[1:] == ["RuntimeError: four"]


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a line."""
    sink, write = FileSink(tmp_path / "errors.jsonl"), os.write

    def cut(file: int, data: bytes) -> int:
        if len(data) > 4:
            return write(file, data[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("understudy.actors.errorlog.sink.os.write", cut)
    with pytest.raises(FileError, match="No space left"):
        sink.write(b'"one"\n')
    monkeypatch.undo()
    sink.write(b'"two"\n')
    sink.close()
    assert (tmp_path / "errors.jsonl").read_text().splitlines() == ['"one', '"two"']


# --- the broker ------------------------------------------------------------------------------------------------


def test_errors_are_published_as_notifications(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", PUBLISHING)
    running.listen()
    running.crash("one", "two")
    first, second = running.read
    assert (first.action_type, first.actioner_info) == ("Zerlog", "shop/worker")
    assert [first.action_data, second.action_data] == running.lines()
    assert first.id != second.id
    assert running.counts() == ErrorCounts(written=2, published=2, unwritten=0, unpublished=0, missed=0)


def test_what_nobody_is_there_to_read_is_unpublished_and_reported(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", PUBLISHING)
    running.crash("one")
    running.simulation.advance(REPORT_AFTER)
    report = running.lines()[1]
    assert "0 not written, 1 not published" in report["source"]
    assert report["cause"]["kind"] == "broker.unroutable"


def test_a_broker_that_falls_over_an_error_does_not_start_a_loop(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", PUBLISHING, broker=CrashingBroker)
    running.crash("one")
    running.simulation.advance(20 * REPORT_AFTER)
    assert running.sources()[:2] == ["RuntimeError: one", "RuntimeError: the broker fell"]
    assert "1 not published" in running.sources()[2]
    assert len(running.lines()) == 3


def test_a_broker_that_does_not_answer_costs_a_bounded_number_of_waits(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:  # fmt: skip
    running = stage(tmp_path / "errors.jsonl", PUBLISHING, broker=SilentBroker)
    for number in range(WAITING + 5):
        running.system.tell("shop/log", FileError(f"{number}").response)
    running.simulation.run_until_idle()
    assert running.counts() == ErrorCounts(WAITING + 5, published=0, unwritten=0, unpublished=5, missed=0)
    running.simulation.advance(60)
    assert running.counts() == ErrorCounts(WAITING + 5, 0, 0, unpublished=WAITING + 5, missed=0)


def test_a_broker_that_does_not_exist_is_a_line_in_the_file(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", {"broker": "brokre"})
    running.crash("one")
    running.simulation.advance(REPORT_AFTER)
    assert running.lines()[1]["cause"]["kind"] == "actor.name.unknown"


# --- bounds and ends -------------------------------------------------------------------------------------------


def test_what_the_mailbox_has_no_room_for_is_counted(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", mailbox=Mailbox(capacity=3))
    listener = running.system.lookup("shop/log")._cell.needs.handed_on["listener"]
    running.simulation.run_until_idle()
    error = FileError("it is gone")
    for _ in range(10):
        running.system.events.publish(
            ActorCrashed(path="shop/worker", incarnation=1, error=error, traceback="", message_type="")
        )
    assert listener.missed == 7
    running.simulation.advance(REPORT_AFTER)
    assert running.counts() == ErrorCounts(written=3, published=0, unwritten=0, unpublished=0, missed=7)
    assert "7 that the log's mailbox had no room for" in running.sources()[-1]


def test_its_own_crash_is_not_its_own_to_log_and_the_counts_outlive_it(
    stage: Callable[..., Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = stage(tmp_path / "errors.jsonl")
    running.crash("one")
    with monkeypatch.context() as patch:
        patch.setattr("understudy.actors.errorlog.actor.FileError", None)
        patch.setattr(FileSink, "write", None)
        with pytest.raises(ActorError):
            running.system.ask("shop/log", FileError("two").response, timeout=None)
        running.simulation.run_until_idle()
    running.crash("three")
    assert running.sources() == ["RuntimeError: one", "RuntimeError: three"]
    assert running.counts().written == 2


def test_errors_that_wait_when_the_system_stops_are_reported(stage: Callable[..., Stage], tmp_path: Path) -> None:
    running = stage(tmp_path / "errors.jsonl", PUBLISHING, broker=SilentBroker)
    running.crash("one")
    running.system.stop()
    assert "0 not written, 1 not published" in running.sources()[-1]


@pytest.mark.parametrize("broker", ["memory", "amqp_url"])
def test_on_real_threads_every_error_is_a_line_and_a_notification(
    tmp_path: Path, broker: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "errors.jsonl"
    url = "memory://" if broker == "memory" else request.getfixturevalue(broker)
    tree = Supervisor(
        "shop",
        intensity=1000,
        children=[
            Child(Broker, name="broker", args=(url,)),
            Child(ErrorLog, name="log", args=(path,), kwargs=PUBLISHING),
            Child(Worker, name="worker"),
        ],
    )
    with ActorSystem("town", tree) as system:
        system.ask("shop/broker", DeclareExchange(EXCHANGE, "fanout"))
        system.ask("shop/broker", DeclareQueue("errors"))
        system.ask("shop/broker", BindQueue("errors", EXCHANGE))
        for number in range(100):
            with pytest.raises(ActorError):
                system.ask("shop/worker", Crash(str(number)), timeout=90)
        system.ask("shop/log", FileError("the last").response, timeout=90)
        poll(lambda: system.ask("shop/log", CountErrors(), timeout=90).published == 101, "the broker's answers")
        assert system.ask("shop/broker", CountQueue("errors"), timeout=90).ready == 101
    sources = [json.loads(line)["source"] for line in path.read_text().splitlines()]
    assert sorted(sources) == sorted([*(f"RuntimeError: {number}" for number in range(100)), "the last"])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

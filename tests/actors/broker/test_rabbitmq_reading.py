"""What the RabbitMQ backend takes out of what it reads, and what it leaves to pika."""

from itertools import combinations
from typing import Any

import pytest
from pika import BasicProperties, frame, spec

from understudy.actors.broker.rabbitmq.reading import Intake
from understudy.actors.broker.rabbitmq.wire import Plain, plain_publication, publication_of

CHANNEL = 3
HEARTBEAT = frame.Heartbeat().marshal()
FIELDS = {
    "content_type": "text/plain",
    "delivery_mode": 2,
    "correlation_id": "c-1",
    "reply_to": "amq.rabbitmq.reply-to",
    "message_id": "größer",
}


def method(tag: int = 1, *, redelivered: bool = False, consumer: str = "reader", key: str = "key") -> bytes:
    deliver = spec.Basic.Deliver(consumer, tag, redelivered, "exchange", key)
    return bytes(frame.Method(CHANNEL, deliver).marshal())


def header(size: int, channel: int = CHANNEL, **properties: Any) -> bytes:
    return bytes(frame.Header(channel, size, BasicProperties(**properties)).marshal())


def body(content: bytes) -> bytes:
    return bytes(frame.Body(CHANNEL, content).marshal())


def delivery(tag: int, content: bytes, *, key: str = "key", **properties: Any) -> list[bytes]:
    parts = [method(tag, key=key), header(len(content), **properties)]
    return [*parts, body(content)] if content else parts


class Reading:
    """An intake with one consumer: what was taken, and the frames that pika got."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, bool, str, str, Any, bytes]] = []
        self.left: list[bytes] = []
        self.intake = Intake(self.left.append)
        self.intake.takers[CHANNEL, b"reader"] = self._take

    def _take(self, tag: int, redelivered: bool, route: Any, properties: Any, content: bytes) -> None:
        self.taken.append((tag, redelivered, route.exchange, route.routing_key, properties, content))


@pytest.mark.parametrize("portion", [1, 2, 7, 8, 19, 64, 10_000])
def test_however_the_bytes_come_deliveries_are_whole_and_all_else_is_pikas(portion: int) -> None:
    reading = Reading()
    foreign = [method(9, consumer="another"), header(2), body(b"it")]
    frames = [
        *delivery(1, b"first", message_id="1"),
        HEARTBEAT,
        *delivery(2, b"", message_id="2"),
        *foreign,
        *delivery(3, b"x" * 500, key="other", headers={"a": 1}),
    ]
    data = b"".join(frames)
    unknown = sum(reading.intake.feed(data[at : at + portion]) for at in range(0, len(data), portion))
    assert [(tag, key, content) for tag, _, _, key, _, content in reading.taken] == [
        (1, "key", b"first"),
        (2, "key", b""),
        (3, "other", b"x" * 500),
    ]
    assert reading.left == [HEARTBEAT, *foreign], "a frame each time, in order"
    assert unknown == len(data) - len(b"".join(reading.left)), "the heartbeat has to know of every byte"


@pytest.mark.parametrize("redelivered", [False, True])
def test_a_redelivery_is_one(redelivered: bool) -> None:
    reading = Reading()
    reading.intake.feed(method(2**40, redelivered=redelivered) + header(0))
    assert [taken[:3] for taken in reading.taken] == [(2**40, redelivered, "exchange")]


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([method(), header(6), body(b"two"), body(b"two")], id="a body in two frames"),
        pytest.param([method(), HEARTBEAT, header(3), body(b"one")], id="a heartbeat in between"),
        pytest.param([method(), header(3), HEARTBEAT, body(b"one")], id="a heartbeat before the body"),
        pytest.param([method(), header(3, channel=4), body(b"one")], id="another channel's content"),
        pytest.param([method(consumer="gone"), header(3), body(b"one")], id="nobody's delivery"),
    ],
)
def test_what_is_not_as_most_are_is_pikas_from_its_first_frame(frames: list[bytes]) -> None:
    reading = Reading()
    assert reading.intake.feed(b"".join(frames)) == 0
    assert (reading.left, reading.taken) == (frames, [])
    reading.intake.feed(b"".join(delivery(2, b"next")))
    assert [taken[0] for taken in reading.taken] == [2]


def test_properties_that_are_cut_off_are_pikas_to_refuse() -> None:
    reading = Reading()
    whole = header(0, message_id="cut")
    payload = whole[7:-3]
    cut = whole[:3] + len(payload).to_bytes(4, "big") + payload + whole[-1:]
    reading.intake.feed(method() + cut)
    assert (reading.left, reading.taken) == ([method(), cut], [])


@pytest.mark.parametrize("wrong", [b"HTTP/1.1 400 Bad Request\r\n", b"AMQP\x00\x00\x09\x01", method()[:-1] + b"\x00"])
def test_what_is_no_frame_is_given_to_pika_with_all_that_follows(wrong: bytes) -> None:
    reading = Reading()
    reading.intake.feed(HEARTBEAT + wrong)
    reading.intake.feed(b"more")
    assert reading.left == [HEARTBEAT, wrong, b"more"]


@pytest.mark.parametrize(
    "properties",
    [{name: FIELDS[name] for name in names} for size in range(6) for names in combinations(FIELDS, size)],
    ids=lambda properties: "+".join(properties) or "none",
)
def test_a_publication_is_what_pika_would_have_made_of_it(properties: dict[str, Any]) -> None:
    reading = Reading()
    reading.intake.feed(b"".join(delivery(1, b"body", **properties)))
    [(_, _, exchange, key, plain, content)] = reading.taken
    route = spec.Basic.Deliver("reader", 1, False, exchange, key)
    assert type(plain) is Plain
    assert plain_publication(route, plain, content) == publication_of(route, BasicProperties(**properties), b"body")


@pytest.mark.parametrize(
    "properties",
    [{"headers": {"a": 1}}, {"priority": 3}, {"timestamp": 5, "message_id": "m"}, {"app_id": "a"}],
    ids=lambda properties: next(iter(properties)),
)
def test_other_properties_are_taken_as_pika_reads_them(properties: dict[str, Any]) -> None:
    reading = Reading()
    reading.intake.feed(b"".join(delivery(1, b"body", **properties)))
    assert [taken[4] for taken in reading.taken] == [BasicProperties(**properties)]


def test_an_id_that_is_not_utf8_is_pikas_to_read() -> None:
    reading = Reading()
    frames = [part.replace(b"###", b"\xff\xfe\xfd") for part in delivery(1, b"body", message_id="###")]
    reading.intake.feed(b"".join(frames))
    assert (reading.left, reading.taken) == (frames, [])

"""Hostile input to the RabbitMQ backend: a code for each, no dead connection, and no secret anywhere."""

import logging
import random
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.broker.actor import Broker
from understudy.actors.broker.backend import Delivery, Publication, Subscription
from understudy.actors.broker.rabbitmq.operations import Steps
from understudy.actors.broker.rabbitmq.url import parse_url
from understudy.actors.broker.topology import Exchange, Queue
from understudy.messages import BrokerError, DeclareQueue, ErrorKind, Publish, UrlInvalid
from understudy.supervisors.system import ActorSystem

from ...servers.availability import unavailable
from ...servers.private import PrivateRabbitMQ
from ...servers.process import free_port
from .conftest import PATIENCE
from .rabbit import Collector, Outcomes, connected, numbered

pytestmark = pytest.mark.timeout(600)  # servers are started here; seconds, but for a slow machine

SECRET = "hunter2-very-secret"


def test_ten_thousand_fuzzed_bodies_and_headers_arrive_as_they_were_sent(amqp_url: str) -> None:
    """CR, LF and NUL in header names and values included."""
    chance = random.Random(3)
    texts = ["", "\r\n", "a\0b", "\x7f", "é" * 100, "x" * 5_000, "'; DROP TABLE", "\U0001f41d", "{}", "amq.\r\n.x"]
    values = [*texts, 0, -(2**63), 2**63 - 1, 2**31, 1.5, True, False, None]
    sent = [
        Publication(
            "",
            "fuzz",
            chance.randbytes(chance.choice([0, 1, 10, 100, 1_000])),
            str(number),
            {f"h{chance.choice(texts)[:40]}{i}": chance.choice(values) for i in range(chance.randrange(5))},
            content_type=chance.choice(["application/json", "", "a\r\nb"]),
        )
        for number in range(10_000)
    ]
    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("fuzz"))
        outcomes = Outcomes()
        broker.publish(sent, outcomes.reporter())
        outcomes.wait(len(sent), 4 * PATIENCE)
        assert set(outcomes.kinds.values()) == {"confirmed"}
        got: dict[str, Publication] = {}
        done = threading.Event()

        def keep(delivery: Delivery) -> None:
            got[delivery.publication.message_id] = delivery.publication
            broker.ack(delivery)
            if len(got) == len(sent):
                done.set()

        broker.consume(Subscription("fuzz", "keeper", 500, keep, lambda error: None))
        assert done.wait(4 * PATIENCE)
        assert [(got[each.message_id], each) for each in sent if got[each.message_id] != each] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"n": 2**63},
        {"n": -(2**63) - 1},
        {"n" * 300: 1},
        {"n": "\ud800"},
        {"\ud800": 1},
        {"n": object()},
    ],
    ids=["too large", "too small", "long name", "surrogate", "surrogate name", "object"],
)
def test_headers_that_amqp_cannot_say_are_refused_and_hurt_nobody_else(amqp_url: str, headers: Any) -> None:
    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("q"))
        outcomes = Outcomes()
        bad = Publication("", "q", b"bad", "bad", headers)
        broker.publish([*numbered("q", [0]), bad, *numbered("q", [2])], outcomes.reporter())
        outcomes.wait(3)
        assert outcomes.kinds == {0: "confirmed", 1: "broker.message.invalid", 2: "confirmed"}
        long_type = Publication("", "q", b"", "t", content_type="x" * 300)
        broker.publish([long_type], outcomes.reporter(3))
        outcomes.wait(4)
        assert outcomes.kinds[3] == "broker.message.invalid"


def test_a_publish_that_closes_the_channel_fails_alone(private_rabbitmq: Any) -> None:
    """The server says only that something was wrong: it is found by sending what was under way one by one."""
    with connected(private_rabbitmq.url) as broker, connected(private_rabbitmq.url) as other:
        broker.declare_queue(Queue("alone"))
        # Known to be there, and then deleted behind our back; it is another's, so nobody here declares it again.
        other.declare_exchange(Exchange("doomed", "fanout"))
        first = Outcomes()
        broker.publish([Publication("doomed", "", b"", "0")], first.reporter())
        first.wait(1)
        assert first.kinds == {0: "broker.unroutable"}
        private_rabbitmq.control(
            "eval", 'rabbit_exchange:delete({resource, <<"/">>, exchange, <<"doomed">>}, false, <<"tests">>).'
        )
        mixed = [
            *numbered("alone", range(50)),
            Publication("doomed", "", b"", "bad"),
            *numbered("alone", range(51, 100)),
        ]
        outcomes = Outcomes()
        broker.publish(mixed, outcomes.reporter())
        outcomes.wait(100)
        assert outcomes.kinds[50] == "broker.exchange.unknown"
        assert len(outcomes.confirmed) == 99
        Collector(broker, "alone").wait_for(str(number) for number in range(100) if number != 50)


def test_a_request_that_cannot_even_be_taken_back_ends_with_its_error(amqp_url: str) -> None:
    """pika cannot write the tag, neither to begin to consume nor to end it; nobody waits for that."""

    def consuming() -> Steps[None]:
        yield lambda channel, then: channel.basic_consume("q", print, consumer_tag="\ud800", callback=then)

    with connected(amqp_url) as broker:
        broker.declare_queue(Queue("q"))
        with pytest.raises(BrokerError) as caught:
            broker._operations.perform("consume", consuming)
        assert caught.value.kind == "broker.message.invalid"
        assert broker.counts("q").consumers == 0


def test_names_of_three_hundred_bytes_and_other_mistakes_have_codes_and_leave_the_actor_alive(amqp_url: str) -> None:
    with ActorSystem("shop") as system:
        broker = system.spawn(Broker, amqp_url, name="broker")
        wrong = [
            (DeclareQueue("q" * 300), "broker.declaration.invalid"),
            (DeclareQueue("q\ud800"), "broker.declaration.invalid"),
            (DeclareQueue("two\r\nlines"), "broker.declaration.invalid"),
            (DeclareQueue("q", durable=False), "broker.declaration.invalid"),
            (Publish("x" * 300, "", b""), "broker.declaration.invalid"),
            (Publish("", "k" * 300, b""), "broker.declaration.invalid"),
            (Publish("nowhere\r\n\0", "", b""), "broker.exchange.unknown"),
            (Publish("", "nowhere\0", b""), "broker.unroutable"),
            (Publish("", "q", b"", headers={"n": 2**70}), "broker.message.invalid"),
        ]
        for message, kind in wrong:
            with pytest.raises(BrokerError) as caught:
                broker.ask(message, timeout=PATIENCE)
            assert caught.value.kind == kind
        broker.ask(DeclareQueue("still here\0"), timeout=PATIENCE)
        broker.ask(Publish("", "still here\0", b""), timeout=PATIENCE)
        assert broker.incarnation == 1


def test_a_queue_that_somebody_declared_in_another_way_is_refused_by_the_argument_that_differs(amqp_url: str) -> None:
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(amqp_url.partition("?")[0]))
    connection.channel().queue_declare("theirs", durable=True)
    connection.close()
    with connected(amqp_url) as broker:
        with pytest.raises(BrokerError, match="'theirs' exists with another x-") as caught:
            broker.declare_queue(Queue("theirs"))
        assert caught.value.kind == "broker.queue.mismatch"
        broker.declare_queue(Queue("ours"))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda url: url.replace("guest:guest", f"guest:{SECRET}"), "broker.refused"),
        (lambda url: url.replace("guest:guest", f"nobody:{SECRET}"), "broker.refused"),
        (lambda url: url.replace("guest:guest", f"guest:{SECRET}").replace("5672", "1"), "broker.unavailable"),
        (lambda url: url.rpartition("/")[0] + "/nosuch", "broker.refused"),
    ],
    ids=["wrong password", "wrong user", "wrong port", "wrong virtual host"],
)
def test_what_cannot_connect_has_a_code_and_no_secret_is_ever_shown(
    amqp_url: str, change: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ActorSystem("shop") as system:
        broker = system.spawn(Broker, change(amqp_url), name="broker")
        for message in (DeclareQueue("q"), Publish("", "q", b"")):
            with pytest.raises(BrokerError) as caught:
                broker.ask(message, timeout=5)
            assert caught.value.kind == kind
            shown = f"{caught.value!r} {caught.value} {caught.value.response.to_json().decode()}"
            assert SECRET not in shown
        assert broker.incarnation == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "rest",
    [
        f"guest:{SECRET}@host:notaport/",
        f"guest:{SECRET}@host:99999/",
        f"guest:{SECRET}@[::1/",
        f"guest:{SECRET}@host/?hartbeat=1",
        f"guest:{SECRET}@host/?heartbeat=soon",
        f"guest:{SECRET}@host/?heartbeat=0",
        f"guest:{SECRET}@host/?connection_timeout=nan",
        f"guest:{SECRET}@host/?cacertfile=/x",
        f"guest:{SECRET}@{'h' * 300}/",
    ],
)
def test_urls_that_cannot_be_are_refused_without_being_repeated(rest: str) -> None:
    with pytest.raises(UrlInvalid) as caught:
        parse_url("amqp", rest)
    assert caught.value.kind == ErrorKind.URL_INVALID
    assert SECRET not in f"{caught.value!r} {caught.value.response.to_json().decode()}"


def test_an_address_does_not_show_its_password() -> None:
    address = parse_url("amqp", f"guest:{SECRET}@host:1234/v%2Fh?heartbeat=30")
    assert (address.password, address.vhost, address.port, address.heartbeat) == (SECRET, "v/h", 1234, 30)
    assert SECRET not in repr(address) + str(address) + repr(address.parameters("x"))


# --- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key beside it."""
    if shutil.which("openssl") is None:
        unavailable("no openssl here to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def tls_url(certificate: Path) -> Iterator[str]:
    """A RabbitMQ that speaks TLS."""
    if reason := PrivateRabbitMQ.missing():
        unavailable(reason)
    port = free_port()
    options = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": str(certificate),
        "ssl_options.certfile": str(certificate),
        "ssl_options.keyfile": str(certificate.with_name("key.pem")),
        "ssl_options.verify": "verify_none",
    }
    with PrivateRabbitMQ(options):
        yield f"amqps://guest:guest@127.0.0.1:{port}/"


def test_tls_checks_the_servers_certificate(tls_url: str, certificate: Path) -> None:
    for good in (f"?cacertfile={certificate}", "?verify=verify_none"):
        with connected(tls_url + good) as broker:
            broker.declare_queue(Queue("tls"))
            outcomes = Outcomes()
            broker.publish(numbered("tls", range(100), 1_000), outcomes.reporter())
            outcomes.wait(100, PATIENCE)
            assert set(outcomes.kinds.values()) == {"confirmed"}
    with connected(tls_url) as broker:
        with pytest.raises(BrokerError, match="certificate") as caught:
            broker.declare_queue(Queue("tls"))
        assert caught.value.kind == "broker.unavailable"
    assert parse_url("amqps", "host/").tls is not None
    assert isinstance(parse_url("amqps", "host/").tls, ssl.SSLContext)
    with pytest.raises(UrlInvalid):
        parse_url("amqps", "host/?cacertfile=/nowhere/at/all")

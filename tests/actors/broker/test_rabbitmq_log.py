"""What an outage of RabbitMQ leaves in the log: that it began, each attempt of the tree, and that it is over."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from understudy.actors.broker.actor import Broker
from understudy.actors.broker.rabbitmq import hush
from understudy.actors.events import ActorRestarted, ChildStartFailed
from understudy.messages import CountQueue, DeclareQueue
from understudy.supervisors.child import Child
from understudy.supervisors.supervisor import Supervisor
from understudy.supervisors.system import ActorSystem

from .conftest import PATIENCE, eventually
from .rabbit import connected


@pytest.fixture
def switch() -> Iterator[logging.Logger]:
    logger = logging.getLogger(hush.SWITCH)
    yield logger
    logger.setLevel(logging.NOTSET)


def test_an_outage_is_a_line_for_each_attempt_and_no_word_of_pikas(
    amqp_url: str, new_proxy: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor a traceback: the lines say which server it is and what is wrong with it."""
    proxy = new_proxy(amqp_url)
    tree = Supervisor("top", children=[Child(Broker, name="broker", args=(proxy.url,))])
    with ActorSystem("shop", tree) as system:
        system.ask("top/broker", DeclareQueue("q"), timeout=PATIENCE)
        restarted: list[str] = []
        system.events.subscribe(ActorRestarted, lambda event: restarted.append(event.path))
        tries: list[str] = []
        system.events.subscribe(ChildStartFailed, lambda event: tries.append(event.path))
        proxy.refuse()
        proxy.reset()
        eventually(lambda: len(tries) >= 2)
        proxy.heal()
        eventually(lambda: restarted == ["top/broker/connection"])
        system.ask("top/broker", CountQueue("q"), timeout=PATIENCE)
    assert [record for record in caplog.records if record.name.startswith("pika")] == []
    errors = [record for record in caplog.records if record.name == "understudy.errors"]
    assert len(errors) >= 3
    assert all("broker.unavailable" in record.getMessage() for record in errors)
    assert [record for record in errors if record.exc_info or record.exc_text] == []


def test_what_pika_says_is_heard_when_it_is_asked_for(
    amqp_url: str, new_proxy: Callable[[str], Any], caplog: pytest.LogCaptureFixture, switch: logging.Logger
) -> None:
    """By giving a logger of ours a level."""
    switch.setLevel(logging.ERROR)
    proxy = new_proxy(amqp_url)
    with connected(proxy.url) as broker:
        eventually(lambda: broker._consuming.connection is not None)
        proxy.refuse()
        proxy.reset()
        eventually(lambda: any(record.name.startswith("pika") for record in caplog.records))
        proxy.heal()
    assert {record.levelno for record in caplog.records if record.name.startswith("pika")} == {logging.ERROR}


def test_what_pika_says_of_other_connections_is_left_alone(amqp_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with connected(amqp_url):
        logging.getLogger("pika.channel").error("somebody else's")
    assert "somebody else's" in caplog.text

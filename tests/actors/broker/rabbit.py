"""What the tests of the RabbitMQ backend have in common beyond the contract's words."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from understudy.actors.broker.backend import Delivery, Publication, Subscription
from understudy.actors.broker.rabbitmq.backend import RabbitBroker
from understudy.actors.broker.rabbitmq.ledger import Ledger
from understudy.actors.broker.rabbitmq.url import parse_url
from understudy.messages.errors import BrokerError

from ...servers.shared import with_options
from .conftest import PATIENCE


@contextmanager
def connected(url: str, ledger: Ledger | None = None) -> Iterator[RabbitBroker]:
    """A client of the server at ``url``; in the end it is gone, with its thread, however the server is."""
    scheme, _, rest = with_options(url).partition("://")
    broker = RabbitBroker(parse_url(scheme, rest), ledger)
    try:
        yield broker
    finally:
        broker.close()
    broker._loop._thread.join(PATIENCE)
    assert not broker._loop._thread.is_alive(), "it was closed, and lives on"


class Outcomes:
    """What became of publications, by their position: 'confirmed', or the kind of the error."""

    def __init__(self) -> None:
        self.kinds: dict[int, str] = {}
        self.errors: list[BrokerError] = []
        self._change = threading.Condition()

    def reporter(self, offset: int = 0) -> Callable[[int, BrokerError | None], None]:
        def report(position: int, error: BrokerError | None) -> None:
            with self._change:
                assert offset + position not in self.kinds, "a publication was reported twice"
                self.kinds[offset + position] = "confirmed" if error is None else str(error.kind)
                if error is not None:
                    self.errors.append(error)
                self._change.notify_all()

        return report

    def wait(self, number: int, timeout: float = PATIENCE) -> None:
        """Until as many are reported."""
        with self._change:
            assert self._change.wait_for(lambda: len(self.kinds) >= number, timeout), f"only {len(self.kinds)} reported"

    @property
    def confirmed(self) -> list[int]:
        return [position for position, kind in self.kinds.items() if kind == "confirmed"]


class Collector:
    """A consumer that acknowledges everything, and counts what it saw."""

    def __init__(self, backend: Any, queue: str, tag: str = "collector", prefetch: int = 500) -> None:
        self.seen: dict[str, int] = {}
        self.cancelled: list[BrokerError] = []
        self._backend = backend
        self._change = threading.Condition()
        self.subscription = Subscription(queue, tag, prefetch, self._take, self._lose)
        backend.consume(self.subscription)

    def _take(self, delivery: Delivery) -> None:
        with self._change:
            message_id = delivery.publication.message_id
            self.seen[message_id] = self.seen.get(message_id, 0) + 1
            self._change.notify_all()
        self._backend.ack(delivery)

    def _lose(self, error: BrokerError) -> None:
        with self._change:
            self.cancelled.append(error)
            self._change.notify_all()

    def wait_for(self, ids: Iterable[str], timeout: float = PATIENCE) -> None:
        """Until all of these were seen."""
        wanted = set(ids)
        with self._change:
            done = self._change.wait_for(lambda: wanted <= self.seen.keys(), timeout)
            assert done, f"{len(wanted - self.seen.keys())} of {len(wanted)} never came"

    def wait_cancelled(self, timeout: float = PATIENCE) -> BrokerError:
        with self._change:
            assert self._change.wait_for(lambda: bool(self.cancelled), timeout), "it was never cancelled"
            return self.cancelled[0]


def numbered(queue: str, numbers: Iterable[int], size: int = 0) -> list[Publication]:
    """Publications straight into a queue, whose ids are their numbers."""
    return [Publication("", queue, str(number).encode().ljust(size, b"."), str(number)) for number in numbers]

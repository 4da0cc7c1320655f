"""The in-memory broker beyond the contract: threads, and any order of calls against a model."""

import threading
from collections import Counter

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from understudy.actors.broker.backend import Delivery, Publication, Subscription
from understudy.actors.broker.memory import MemoryBroker, MemoryServer
from understudy.actors.broker.topology import Queue
from understudy.messages.broker import QueueCounts
from understudy.messages.errors import BrokerError


def ignore(*_: object) -> None:
    pass


def test_dead_letters_keep_their_place_in_a_bounded_queue() -> None:
    backend, kinds = MemoryBroker(), list[str | None]()

    def report(_: int, error: BrokerError | None) -> None:
        kinds.append(None if error is None else error.kind)

    def publish(*bodies: bytes) -> list[str | None]:
        kinds.clear()
        backend.publish([Publication("", "letters", body) for body in bodies], report)
        return kinds

    backend.declare_queue(Queue("letters", max_length=2))
    assert publish(b"a", b"b", b"c") == [None, None, "broker.publish.nacked"]
    backend.consume(Subscription("letters", "tag", 2, backend.reject, ignore))
    assert publish(b"c") == ["broker.publish.nacked"]
    backend.purge_dead_letters("letters", None)
    assert publish(b"c") == [None]


def test_many_threads_lose_nothing_and_never_call_one_consumer_twice_at_a_time() -> None:
    server, publishers, each = MemoryServer(), 4, 500
    main = MemoryBroker(server)
    main.declare_queue(Queue("letters"))
    done, received = threading.Event(), Counter[bytes]()
    inside = [threading.Lock(), threading.Lock()]

    def consumer(number: int) -> None:
        backend = MemoryBroker(server)

        def work(delivery: Delivery) -> None:
            assert inside[number].acquire(blocking=False), "a consumer was called twice at a time"
            if delivery.attempt == 1 and delivery.publication.body.endswith(b"7"):
                backend.requeue(delivery)
            else:
                received[delivery.publication.body] += 1
                backend.ack(delivery)
            inside[number].release()
            if received.total() == publishers * each:
                done.set()

        backend.consume(Subscription("letters", f"consumer {number}", 3, work, ignore))

    def publish(number: int) -> None:
        backend = MemoryBroker(server)
        for position in range(each):
            backend.publish([Publication("", "letters", b"%d-%d" % (number, position))], ignore)

    consumer(0)
    consumer(1)
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.wait(10)
    assert set(received.values()) == {1}
    assert main.counts("letters") == QueueCounts(ready=0, unsettled=0, dead=0, consumers=2)


class QueueAgainstModel(RuleBasedStateMachine):
    """One bounded queue, one consumer at a time; the model is three lists and the rule for coming back."""

    LIMIT, LENGTH, PREFETCH = 2, 6, 3

    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBroker()
        self.backend.declare_queue(Queue("q", delivery_limit=self.LIMIT, max_length=self.LENGTH))
        self.ready: list[int] = []
        self.dead: list[int] = []
        self.failures: Counter[int] = Counter()
        self.unsettled: list[int] = []
        self.held: dict[int, Delivery] = {}
        self.published = 0
        self.consuming = False

    def deliver(self, delivery: Delivery) -> None:
        number = int(delivery.publication.body)
        assert delivery.attempt == self.failures[number] + 1
        self.held[number] = delivery

    def flow(self) -> None:
        """What the model says is so after each step: the oldest are out, as far as prefetch goes."""
        while self.consuming and self.ready and len(self.unsettled) < self.PREFETCH:
            self.unsettled.append(self.ready.pop(0))

    @rule()
    def publish(self) -> None:
        full = len(self.ready) + len(self.unsettled) + len(self.dead) >= self.LENGTH
        kinds: list[str | None] = []
        body = str(self.published).encode()
        self.backend.publish(
            [Publication("", "q", body, body.decode())],
            lambda _, error: kinds.append(None if error is None else error.kind),
        )
        assert kinds == ["broker.publish.nacked" if full else None]
        if not full:
            self.ready.append(self.published)
            self.published += 1
        self.flow()

    @precondition(lambda self: not self.consuming)
    @rule()
    def consume(self) -> None:
        self.backend.consume(Subscription("q", "tag", self.PREFETCH, self.deliver, ignore))
        self.consuming = True
        self.flow()

    @precondition(lambda self: self.consuming)
    @rule()
    def cancel(self) -> None:
        assert self.backend.cancel("tag")
        self.consuming = False
        self.ready = sorted(self.ready + self.unsettled)
        self.unsettled.clear()
        assert not any(self.backend.ack(delivery) for delivery in self.held.values())
        self.held.clear()

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data(), how=st.sampled_from(["ack", "requeue", "reject"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(self.unsettled))
        self.unsettled.remove(number)
        delivery = self.held.pop(number)
        if how != "ack":
            self.failures[number] += 1
        if how == "reject" or self.failures[number] > self.LIMIT:
            self.dead.append(number)
        elif how == "requeue":
            self.ready = sorted([*self.ready, number])
        assert getattr(self.backend, how)(delivery) is True
        self.flow()

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.dead))
        self.dead.remove(number)
        assert self.backend.purge_dead_letters("q", [str(number)]) == 1

    @invariant()
    def agrees(self) -> None:
        assert self.backend.counts("q") == QueueCounts(
            len(self.ready), len(self.unsettled), len(self.dead), int(self.consuming)
        )
        assert sorted(self.held) == sorted(self.unsettled)
        assert [int(letter.body) for letter in self.backend.dead_letters("q", 99)] == self.dead


TestQueueAgainstModel = QueueAgainstModel.TestCase

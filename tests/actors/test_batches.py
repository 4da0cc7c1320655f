"""`@handles_batch`: everything of one type that waits, at once; every request is answered, one way or the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy import (
    Actor,
    ActorRef,
    ActorSystem,
    ErrorKind,
    Mailbox,
    Message,
    Refusal,
    Request,
    handles,
    handles_batch,
)
from understudy.actors.events import DeadLetter
from understudy.messages.errors import HandlerFailed, IncarnationFenced

from .core_stage import PATIENCE, kind_of, wait


class Row(Message[Any]):
    number: int


class Mark(Message[int]):
    number: int


class Hold(Message[None]):
    """Keep the actor in its handler until `leave` is set."""

    entered: threading.Event
    leave: threading.Event


class Store(Actor):
    """Answers each row with ten times its number, and notes what it was given together."""

    def __init__(self, work: Callable[[list[Request[Row]]], Any] | None = None) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.work = work

    @handles
    def hold(self, message: Hold) -> None:
        message.entered.set()
        wait(message.leave)

    @handles
    def mark(self, message: Mark) -> int:
        self.log.append(-message.number)
        return len(self.log)

    @handles_batch(max_size=100)
    def store(self, requests: list[Request[Row]]) -> Any:
        self.log.append([request.message.number for request in requests])
        if self.work is not None:
            return self.work(requests)
        for request in requests:
            request.reply(request.message.number * 10)
        return None


class LoopStore(Store):
    @handles_batch(max_size=100)
    async def store(self, requests: list[Request[Row]]) -> Any:
        return Store.__dict__["store"](self, requests)


STORES = pytest.mark.parametrize("kind", [Store, LoopStore])


class Held:
    """A store that is kept busy, so that what it is sent comes in one go once it is let go."""

    def __init__(self, system: ActorSystem, kind: type[Store] = Store, work: Any = None, **options: Any) -> None:
        self.ref: ActorRef[Any] = system.spawn(kind, work, **options)
        self.leave = threading.Event()
        entered = threading.Event()
        self.ref.tell(Hold(entered, self.leave))
        wait(entered)

    def log(self) -> list[Any]:
        self.ref.ask(Mark(0), timeout=PATIENCE)
        return list(self.ref._cell.actor.log)


@STORES
def test_what_waits_is_handled_together_in_order_and_each_gets_its_own_answer(
    system: ActorSystem, kind: type[Store]
) -> None:
    held = Held(system, kind)
    futures = [held.ref.ask(Row(number), block=False) for number in range(10)]
    held.leave.set()
    assert [future.get(timeout=PATIENCE) for future in futures] == [number * 10 for number in range(10)]
    assert held.log()[0] == list(range(10))


@STORES
def test_a_batch_has_at_most_its_size(system: ActorSystem, kind: type[Store]) -> None:
    held = Held(system, kind)
    futures = [held.ref.ask(Row(number), block=False) for number in range(250)]
    held.leave.set()
    assert [future.get(timeout=PATIENCE) for future in futures] == [number * 10 for number in range(250)]
    assert [len(batch) for batch in held.log()[:3]] == [100, 100, 50]


def test_a_single_message_is_a_batch_of_one(system: ActorSystem) -> None:
    ref = system.spawn(Store)
    assert [ref.ask(Row(number), timeout=PATIENCE) for number in range(5)] == [0, 10, 20, 30, 40]
    assert ref._cell.actor.log == [[number] for number in range(5)]


def test_tells_and_asks_come_together_and_a_tell_needs_no_answer(system: ActorSystem) -> None:
    held = Held(system)
    held.ref.tell(Row(1))
    future = held.ref.ask(Row(2), block=False)
    held.ref.tell(Row(3))
    held.leave.set()
    assert future.get(timeout=PATIENCE) == 20
    assert held.log()[0] == [1, 2, 3]
    assert system.dead_letters == 0


def test_messages_of_other_types_keep_their_order_and_come_after_the_batch(system: ActorSystem) -> None:
    held = Held(system)
    for number in range(1, 5):
        held.ref.tell(Row(number))
        held.ref.tell(Mark(number))
    held.leave.set()
    assert held.log()[:5] == [[1, 2, 3, 4], -1, -2, -3, -4]


def test_a_full_mailbox_has_room_again_for_as_many_as_were_taken(system: ActorSystem) -> None:
    held = Held(system, mailbox=Mailbox(capacity=10, overflow="block"))
    for number in range(10):
        held.ref.tell(Row(number))
    tellers = [threading.Thread(target=held.ref.tell, args=(Row(number),), daemon=True) for number in range(10, 20)]
    for teller in tellers:
        teller.start()
    held.leave.set()
    for teller in tellers:
        teller.join(PATIENCE)
        assert not teller.is_alive()
    rows = [number for batch in held.log() if isinstance(batch, list) for number in batch]
    assert sorted(rows) == list(range(20))


def test_an_expired_request_is_not_in_the_batch(system: ActorSystem) -> None:
    held = Held(system)
    held.ref.tell(Row(1))
    assert kind_of(lambda: held.ref.ask(Row(2), timeout=0.01)) == ErrorKind.MAILBOX_TIMEOUT
    held.ref.tell(Row(3))
    held.leave.set()
    assert held.log()[0] == [1, 3]


# --- who is not answered by the handler --------------------------------------------------------------------


@STORES
def test_a_request_that_was_forgotten_is_answered_as_such(system: ActorSystem, kind: type[Store]) -> None:
    held = Held(system, kind, lambda requests: requests[0].reply(7))
    first, second = held.ref.ask(Row(1), block=False), held.ref.ask(Row(2), block=False)
    held.leave.set()
    assert first.get(timeout=PATIENCE) == 7
    assert kind_of(lambda: second.get(timeout=PATIENCE)) == ErrorKind.REPLY_MISSING
    assert held.ref.incarnation == 1


@STORES
def test_a_crash_answers_whoever_was_not_answered_yet(system: ActorSystem, kind: type[Store]) -> None:
    letters: list[Any] = []
    system.events.subscribe(DeadLetter, lambda event: letters.append((event.message, event.reason)))

    def work(requests: list[Request[Row]]) -> None:
        requests[1].reply("done")
        raise ValueError("meant to")

    held = Held(system, kind, work)
    futures = [held.ref.ask(Row(number), block=False) for number in range(3)]
    held.ref.tell(Row(3))
    held.ref.tell(Mark(1))
    held.leave.set()
    assert futures[1].get(timeout=PATIENCE) == "done"
    for future in (futures[0], futures[2]):
        with pytest.raises(HandlerFailed) as caught:
            future.get(timeout=PATIENCE)
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.message_type == "Row"
    assert held.log() == [-1, 0]
    assert letters == [(Row(3), "crashed")]
    assert held.ref.incarnation == 2


def test_a_refused_batch_is_answered_and_harms_nobody(system: ActorSystem) -> None:
    def work(_requests: list[Request[Row]]) -> None:
        raise Refusal("no disk")

    held = Held(system, Store, work)
    futures = [held.ref.ask(Row(number), block=False) for number in range(3)]
    held.leave.set()
    assert {kind_of(lambda future=future: future.get(timeout=PATIENCE)) for future in futures} == {  # type: ignore[misc]
        ErrorKind.HANDLER_REFUSED
    }
    assert held.ref.incarnation == 1


def test_one_request_may_be_failed_by_itself(system: ActorSystem) -> None:
    def work(requests: list[Request[Row]]) -> None:
        requests[0].fail(Refusal("not you"))
        requests[1].reply("you")

    held = Held(system, Store, work)
    first, second = held.ref.ask(Row(1), block=False), held.ref.ask(Row(2), block=False)
    held.leave.set()
    with pytest.raises(Refusal) as raised:
        first.get(timeout=PATIENCE)
    assert (raised.value.kind, raised.value.actor) == (ErrorKind.HANDLER_REFUSED, held.ref.path)
    assert (raised.value.incarnation, raised.value.message_type) == (1, "Row")
    assert second.get(timeout=PATIENCE) == "you"


def test_a_request_may_be_kept_and_answered_later(system: ActorSystem) -> None:
    kept: list[Request[Row]] = []
    held = Held(system, Store, lambda requests: kept.extend(request.defer() for request in requests))
    future = held.ref.ask(Row(1), block=False)
    held.leave.set()
    held.log()
    assert not future.done
    assert kept[0].reply("later") is True
    assert kept[0].reply("again") is False
    assert future.get(timeout=PATIENCE) == "later"


def test_what_was_kept_is_answered_when_the_incarnation_ends_and_can_be_answered_no_more(
    system: ActorSystem,
) -> None:
    kept: list[Request[Row]] = []
    held = Held(system, Store, lambda requests: kept.extend(request.defer() for request in requests))
    future = held.ref.ask(Row(1), block=False)
    held.leave.set()
    held.log()
    held.ref.stop()
    assert kind_of(lambda: future.get(timeout=PATIENCE)) == ErrorKind.REPLY_MISSING
    with pytest.raises(IncarnationFenced):
        kept[0].reply("too late")


def test_a_batch_is_never_run_on_the_asking_thread(system: ActorSystem) -> None:
    threads: list[int] = []

    def work(requests: list[Request[Row]]) -> None:
        threads.append(threading.get_ident())
        requests[0].reply(1)

    ref = system.spawn(Store, work)
    for _ in range(5):
        ref.ask(Row(1), timeout=PATIENCE)
    assert threading.get_ident() not in threads


def test_an_actor_without_a_supervisor_takes_batches_too() -> None:
    ref = Store.start()
    try:
        assert ref.ask(Row(4), timeout=PATIENCE) == 40
    finally:
        ref.stop()


class Ledger(Actor):
    """Takes rows and marks together."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    @handles
    def hold(self, message: Hold) -> None:
        message.entered.set()
        wait(message.leave)

    @handles_batch
    def note(self, requests: list[Request[Row | Mark]]) -> None:
        self.log.append([(type(request.message).__name__, request.message.number) for request in requests])
        for request in requests:
            request.reply(len(self.log))


def test_a_batch_of_several_types_keeps_their_order(system: ActorSystem) -> None:
    ref = system.spawn(Ledger)
    entered, leave = threading.Event(), threading.Event()
    ref.tell(Hold(entered, leave))
    wait(entered)
    futures = [ref.ask(kind(number), block=False) for number, kind in enumerate([Row, Mark, Mark, Row])]
    leave.set()
    assert [future.get(timeout=PATIENCE) for future in futures] == [1, 1, 1, 1]
    assert ref._cell.actor.log == [[("Row", 0), ("Mark", 1), ("Mark", 2), ("Row", 3)]]


class RedRow(Row):
    """One of the rows."""


class BigMark(Mark):
    """One of the marks."""


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize(
    "order", [[Row, BigMark, Mark, RedRow], [BigMark, RedRow, Row, Mark], [RedRow, BigMark, RedRow, Row]]
)
def test_derived_types_come_in_the_order_in_which_they_were_sent(
    system: ActorSystem, order: list[Any], seen_before: bool
) -> None:
    """Whichever member of the union they are derived from, and whether or not the actor has had one before."""
    ref: ActorRef[Any] = system.spawn(type("Fresh", (Ledger,), {}))
    if seen_before:
        for kind in set(order):
            ref.ask(kind(0), timeout=PATIENCE)
    ref._cell.actor.log.clear()
    entered, leave = threading.Event(), threading.Event()
    ref.tell(Hold(entered, leave))
    wait(entered)
    for number, kind in enumerate(order[:-1]):
        ref.tell(kind(number))
    last = ref.ask(order[-1](len(order) - 1), block=False)
    leave.set()
    last.get(timeout=PATIENCE)
    assert ref._cell.actor.log == [[(kind.__name__, number) for number, kind in enumerate(order)]]

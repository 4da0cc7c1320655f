"""The mailbox: its bound, its four overflow policies, the control lane, and what becomes of what nobody handles."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from understudy import ActorError, ActorRef, ActorSystem, ErrorCode, ErrorKind, Mailbox, Refusal, Terminated, handles
from understudy.actors.events import DeadLetter
from understudy.actors.ref import stopped_event
from understudy.messages.errors import AskCycle

from .core_stage import PATIENCE, Do, LoopPlayer, Note, Player, ThreadPlayer, in_thread, kind_of, seen, stuck, wait

EVERY_DISPATCHER = pytest.mark.parametrize("player", [Player, ThreadPlayer, LoopPlayer])


@pytest.fixture
def letters(system: ActorSystem) -> Iterator[list[tuple[Any, str]]]:
    """What went to the dead letters: each message with the reason."""
    found: list[tuple[Any, str]] = []
    unsubscribe = system.events.subscribe(DeadLetter, lambda event: found.append((event.message, event.reason)))
    yield found
    unsubscribe()


def fill(ref: ActorRef[Any], number: int) -> None:
    for value in range(number):
        ref.tell(Note(value))


# --- the bound ---------------------------------------------------------------------------------------------


@EVERY_DISPATCHER
@pytest.mark.parametrize("capacity", [1, 2, 100])
def test_a_mailbox_holds_exactly_what_it_may(system: ActorSystem, player: type[Player], capacity: int) -> None:
    ref = system.spawn(player, mailbox=Mailbox(capacity=capacity))
    with stuck(ref):
        fill(ref, capacity)
        assert kind_of(lambda: ref.tell(Note(-1))) == ErrorKind.MAILBOX_FULL
        assert kind_of(lambda: ref.ask(Note(-1))) == ErrorKind.MAILBOX_FULL
        assert kind_of(lambda: ref.ask(Note(-1), block=False).get()) == ErrorKind.MAILBOX_FULL
    assert seen(ref) == list(range(capacity))


def test_there_is_room_again_after_a_message_was_taken(system: ActorSystem) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1))
    with stuck(ref):
        ref.tell(Note(0))
    assert seen(ref) == [0]
    ref.tell(Note(1))
    assert seen(ref) == [0, 1]


def test_an_unbounded_mailbox_takes_everything(system: ActorSystem) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=None))
    with stuck(ref):
        fill(ref, 20_000)
    assert len(seen(ref)) == 20_000


def test_a_mailbox_holds_10_000_unless_said(system: ActorSystem) -> None:
    ref = system.spawn(Player)
    with stuck(ref):
        fill(ref, 10_000)
        assert kind_of(lambda: ref.tell(Note(-1))) == ErrorKind.MAILBOX_FULL


def test_the_bound_of_a_class_is_overruled_by_the_spec(system: ActorSystem) -> None:
    class Small(Player):
        mailbox = Mailbox(capacity=1)

    ref, roomy = system.spawn(Small), system.spawn(Small, mailbox=Mailbox(capacity=2))
    with stuck(ref), stuck(roomy):
        for each, capacity in ((ref, 1), (roomy, 2)):
            fill(each, capacity)
            assert kind_of(lambda each=each: each.tell(Note(-1))) == ErrorKind.MAILBOX_FULL  # type: ignore[misc]


def test_an_actor_without_a_supervisor_has_no_bound_unless_its_class_says_so() -> None:
    class Small(Player):
        mailbox = Mailbox(capacity=1)

    free, small = Player.start(), Small.start()
    try:
        with stuck(free), stuck(small):
            fill(free, 20_000)
            fill(small, 1)
            assert kind_of(lambda: small.tell(Note(-1))) == ErrorKind.MAILBOX_FULL
    finally:
        free.stop()
        small.stop()


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, "10"])
def test_a_capacity_that_is_none_is_refused(capacity: Any) -> None:
    assert kind_of(lambda: Mailbox(capacity=capacity)) == ErrorKind.MAILBOX_INVALID


@pytest.mark.parametrize("overflow", ["", "drop", None, "Reject"])
def test_an_overflow_policy_that_is_none_is_refused_with_those_that_are(overflow: Any) -> None:
    with pytest.raises(ActorError, match="reject, block, drop_oldest, drop_newest") as caught:
        Mailbox(overflow=overflow)
    assert caught.value.kind == ErrorKind.MAILBOX_INVALID


# --- reject ------------------------------------------------------------------------------------------------


def test_a_refusal_tells_the_sender_who_where_and_what(system: ActorSystem) -> None:
    ref = system.spawn(Player, name="narrow", mailbox=Mailbox(capacity=1))

    def register_note() -> None:
        ref.tell(Note(1))

    with stuck(ref):
        register_note()
        with pytest.raises(ActorError) as caught:
            register_note()
    response = caught.value.response
    assert (response.code, response.kind) == (ErrorCode.MAILBOX_CHANNEL, ErrorKind.MAILBOX_FULL)
    assert response.code == 0xFFFD
    assert response.method == "register_note.narrow.tell"
    assert (response.actor, response.message_type, response.retryable) == ("narrow", "Note", True)


# --- drop_oldest, drop_newest ------------------------------------------------------------------------------


@EVERY_DISPATCHER
def test_drop_oldest_keeps_the_newest(
    system: ActorSystem, player: type[Player], letters: list[tuple[Any, str]]
) -> None:
    ref = system.spawn(player, mailbox=Mailbox(capacity=3, overflow="drop_oldest"))
    with stuck(ref):
        fill(ref, 10)
    assert seen(ref) == [7, 8, 9]
    assert letters == [(Note(value), "dropped") for value in range(7)]
    assert system.dead_letters == 7


@EVERY_DISPATCHER
def test_drop_newest_keeps_the_oldest(
    system: ActorSystem, player: type[Player], letters: list[tuple[Any, str]]
) -> None:
    ref = system.spawn(player, mailbox=Mailbox(capacity=3, overflow="drop_newest"))
    with stuck(ref):
        fill(ref, 10)
    assert seen(ref) == [0, 1, 2]
    assert letters == [(Note(value), "dropped") for value in range(3, 10)]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_dropped_ask_is_answered(system: ActorSystem, overflow: Any) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow=overflow))
    with stuck(ref):
        first, second = ref.ask(Note(1), block=False), ref.ask(Note(2), block=False)
        dropped = first if overflow == "drop_oldest" else second
        with pytest.raises(ActorError) as caught:
            dropped.get(timeout=PATIENCE)
    assert caught.value.kind == ErrorKind.MAILBOX_DROPPED
    assert (second if dropped is first else first).get(timeout=PATIENCE) == 1


@EVERY_DISPATCHER
def test_drop_oldest_keeps_what_an_actor_tells_itself_and_drops_what_was_sent(
    system: ActorSystem, player: type[Player], letters: list[tuple[Any, str]]
) -> None:
    gone: ActorRef[Any] = system.spawn(Player)
    found: list[Any] = []

    class Forgetful(player):  # type: ignore[misc, valid-type]
        mailbox = Mailbox(capacity=2, overflow="drop_oldest")

        @handles
        def terminated(self, message: Terminated) -> None:
            found.append(message.ref)

    ref = system.spawn(Forgetful)
    ref.ask(Do(lambda actor: actor.watch(gone)), timeout=PATIENCE)
    entered, leave = threading.Event(), threading.Event()

    def hold(actor: Any) -> None:
        actor.continue_with(Note(-2))
        actor.continue_with(Note(-1))
        entered.set()
        wait(leave)

    ref.tell(Do(hold))
    wait(entered)
    gone.stop(timeout=PATIENCE)
    fill(ref, 5)
    leave.set()
    assert seen(ref)[:2] == [-1, -2]
    assert seen(ref)[-1] == 4
    assert found == [gone]
    dropped = [message.value for message, _ in letters]
    assert dropped + seen(ref)[2:] == list(range(5))


def test_what_drop_oldest_kept_is_a_dead_letter_when_nobody_comes_to_handle_it(
    system: ActorSystem, letters: list[tuple[Any, str]]
) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="drop_oldest"), restart="temporary")

    def leave(actor: Any) -> None:
        actor.continue_with(Note(7))
        actor.stop()

    ref.tell(Do(leave))
    assert stopped_event(ref._cell).wait(PATIENCE)
    assert letters == [(Note(7), "closed")]


def test_dropping_never_drops_an_order_to_stop() -> None:
    """An actor started pykka's way finds that order in its mailbox, behind what came before it."""

    class Forgetful(Player):
        mailbox = Mailbox(capacity=2, overflow="drop_oldest")

    ref = Forgetful.start()
    with stuck(ref):
        stopped = ref.stop(block=False)
        fill(ref, 10)
    assert stopped.get(timeout=PATIENCE) is True
    assert not ref.is_alive()


# --- block -------------------------------------------------------------------------------------------------


@EVERY_DISPATCHER
def test_a_blocked_sender_goes_on_when_there_is_room(system: ActorSystem, player: type[Player]) -> None:
    ref = system.spawn(player, mailbox=Mailbox(capacity=2, overflow="block"))
    with stuck(ref):
        sent = in_thread(lambda: fill(ref, 100))
    sent()
    assert seen(ref) == list(range(100))


def test_many_blocked_senders_lose_nothing(system: ActorSystem) -> None:
    """A sender that finds room at once leaves nothing behind that would swallow another one's turn."""
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="block"))
    senders = [in_thread(lambda: fill(ref, 500)) for _ in range(8)]
    for sender in senders:
        sender()
    assert sorted(seen(ref)) == sorted(list(range(500)) * 8)


def test_a_sender_that_finds_room_at_once_does_not_stay_in_line(system: ActorSystem) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=2, overflow="block"))
    with stuck(ref):
        ref._cell.offer(Note(0))  # as if the mailbox had been full a moment ago
        assert not ref._cell.room_waiters
    assert seen(ref) == [0]


def test_a_sender_that_gives_up_passes_its_turn_on(system: ActorSystem) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="block"))
    with stuck(ref):
        ref.tell(Note(0))
        assert kind_of(lambda: ref.ask(Note(-1), timeout=0.01)) == ErrorKind.MAILBOX_TIMEOUT
        patient = in_thread(lambda: ref.tell(Note(1)))
    patient()
    assert seen(ref) == [0, 1]


def test_blocked_actors_do_not_use_the_pool_up(system: ActorSystem) -> None:
    """More pooled actors than the pool has threads wait for room; the one that makes it still gets a thread."""
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="block"))
    tellers = [system.spawn(Player) for _ in range(20)]
    with stuck(ref):
        told = [teller.ask(Do(lambda _, value=value: ref.tell(Note(value))), block=False)  # type: ignore[misc]
                for value, teller in enumerate(tellers)]  # fmt: skip
    for each in told:
        each.get(timeout=PATIENCE)
    assert sorted(seen(ref)) == list(range(20))


def test_an_actor_that_would_wait_for_its_own_room_is_refused(system: ActorSystem) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="block"))

    def tell_oneself(actor: Player) -> ErrorKind:
        ref.tell(Note(1))
        return kind_of(lambda: ref.tell(Note(2)))

    assert ref.ask(Do(tell_oneself), timeout=PATIENCE) == ErrorKind.MAILBOX_FULL


def test_two_actors_that_would_wait_for_room_in_each_other_are_told(system: ActorSystem) -> None:
    policy = Mailbox(capacity=1, overflow="block")
    left, right = system.spawn(Player, mailbox=policy), system.spawn(Player, mailbox=policy)
    both_busy, both_full = threading.Barrier(2), threading.Barrier(2)

    def flood(other: ActorRef[Any]) -> Do:
        def work(_actor: Player) -> None:
            both_busy.wait(PATIENCE)
            other.tell(Note(1))
            both_full.wait(PATIENCE)
            other.tell(Note(2))

        return Do(work)

    causes = []
    for future in [left.ask(flood(right), block=False), right.ask(flood(left), block=False)]:
        try:
            future.get(timeout=PATIENCE)
        except ActorError as error:
            causes.append(error.__cause__)
    assert {type(cause) for cause in causes} == {AskCycle}


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_blocked_senders_are_told_when_the_actor_is_gone(system: ActorSystem, how: str) -> None:
    ref = system.spawn(Player, mailbox=Mailbox(capacity=1, overflow="block"), restart="temporary")
    entered, leave = threading.Event(), threading.Event()

    def hold(_actor: Player) -> None:
        entered.set()
        wait(leave)
        if how == "crash":
            raise ValueError("meant to")

    ref.tell(Do(hold))
    wait(entered)
    ref.tell(Note(0))
    blocked = in_thread(lambda: kind_of(lambda: ref.tell(Note(1))))
    while not ref._cell.room_waiters:
        assert ref.is_alive()
    stopping = ref.stop(block=False) if how == "stop" else None
    leave.set()
    if stopping is not None:
        stopping.get(timeout=PATIENCE)
    assert blocked() == ErrorKind.MAILBOX_CLOSED


# --- the control lane, and what is never handled -----------------------------------------------------------


@EVERY_DISPATCHER
def test_a_stop_overtakes_the_backlog(
    system: ActorSystem, player: type[Player], letters: list[tuple[Any, str]]
) -> None:
    ref = system.spawn(player)
    with stuck(ref):
        fill(ref, 1_000)
        asked = ref.ask(Note(-1), block=False)
        stopping = ref.stop(block=False)
    assert stopping.get(timeout=PATIENCE) is True
    assert kind_of(lambda: asked.get(timeout=PATIENCE)) == ErrorKind.MAILBOX_CLOSED
    assert letters == [(Note(value), "closed") for value in range(1_000)]
    assert kind_of(lambda: ref.tell(Note(0))) == ErrorKind.MAILBOX_CLOSED


def test_an_ask_that_expired_while_it_waited_is_dropped_unhandled(
    system: ActorSystem, letters: list[tuple[Any, str]]
) -> None:
    ref = system.spawn(Player)
    with stuck(ref):
        assert kind_of(lambda: ref.ask(Note(1), timeout=0.01)) == ErrorKind.MAILBOX_TIMEOUT
    assert seen(ref) == []
    assert letters == [(Note(1), "expired")]


def test_what_no_handler_takes_is_refused_and_harms_nobody(system: ActorSystem, letters: list[tuple[Any, str]]) -> None:
    ref = system.spawn(Player)
    assert kind_of(lambda: ref.ask("hello", timeout=PATIENCE)) == ErrorKind.MESSAGE_UNHANDLED
    ref.tell("hello")
    assert seen(ref) == []
    assert letters == [("hello", "unhandled")]
    assert ref.incarnation == 1


def test_a_refusal_harms_nobody(system: ActorSystem, letters: list[tuple[Any, str]]) -> None:
    ref = system.spawn(Player)

    def refuse(_actor: Player) -> None:
        raise Refusal("not today")

    assert kind_of(lambda: ref.ask(Do(refuse), timeout=PATIENCE)) == ErrorKind.HANDLER_REFUSED
    ref.tell(Do(refuse))
    assert ref.ask(Note(1), timeout=PATIENCE) == 1
    assert letters == [(Do(refuse), "refused")]
    assert ref.incarnation == 1


def test_a_message_that_crashed_the_actor_is_a_dead_letter_and_the_others_wait(
    system: ActorSystem, letters: list[tuple[Any, str]]
) -> None:
    ref = system.spawn(Player)

    def crash(_actor: Player) -> None:
        raise ValueError("meant to")

    with stuck(ref):
        ref.tell(Do(crash))
        ref.tell(Note(1))
    assert seen(ref) == [1]
    assert letters == [(Do(crash), "crashed")]
    assert ref.incarnation == 2


@pytest.mark.parametrize("kind", [Player, LoopPlayer])
def test_a_message_that_was_handled_is_no_dead_letter_though_its_actor_crashes_after_it(
    system: ActorSystem, letters: list[tuple[Any, str]], kind: type[Player]
) -> None:
    def on_signal(_self: Player, _signal: Any) -> None:
        raise ValueError("meant to")

    ref: ActorRef[Any] = system.spawn(type("Sore", (kind,), {"on_signal": on_signal, "__module__": __name__}))
    with stuck(ref):
        ref.tell(Note(1))
    assert seen(ref) == [1]
    ref._cell.signal("something")
    while ref.incarnation == 1:
        assert ref.is_alive()
    assert ref.ask(Note(2), timeout=PATIENCE) == 1
    assert letters == []

"""The log: a line for every event, errors as one JSON object each; and the catalogue of events that it reads."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from understudy import Actor, ActorSystem, Child, Event, Message, Supervisor, handles
from understudy.actors import events
from understudy.actors.events import ActorCrashed, ActorStarted, ChildStartFailed, DeadLetter, EventStream, catalogue
from understudy.actors.events_page import render
from understudy.messages.errors import HandlerFailed, StartFailed
from understudy.testing import SimulatedDispatcher

from .bank import Account, Balance, Decline, Deposit, Rob

OUR_OWN = [event_type for event_type in catalogue() if event_type.__module__ == events.__name__]

FIELDS: dict[str, Any] = {
    "actor_class": "Account",
    "incarnation": 2,
    "reason": "error(RuntimeError: robbed)",
    "error": RuntimeError("robbed"),
    "traceback": "Traceback …",
    "message_type": "Rob",
    "message_id": "1b4e28ba-2fa1-4d2b-883f-0016d3cca427",
    "thread_id": 7,
    "work": "count",
    "child": "bank/account",
    "delay": 0.5,
    "intensity": 3,
    "period": 5.0,
    "message": Rob(),
    "cause": "the shop closes",
    "abandoned": 0,
}


def example(event_type: type[Event]) -> Event:
    """An event of that type."""
    names = {field.name for field in msgspec.structs.fields(event_type)} - {"path", "at"}
    return event_type(path="bank/account", **{name: FIELDS[name] for name in names})


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """The log as (logger, level, message)."""
    return [(record.name, record.levelno, record.getMessage()) for record in caplog.records]


@pytest.fixture(name="logged")
def new_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, everything of it."""
    caplog.set_level(logging.DEBUG, "understudy")
    return caplog


# --- the catalogue ------------------------------------------------------------------------------------------


def test_one_module_is_the_catalogue() -> None:
    """It shows what it defines, and nothing defines events elsewhere."""
    assert [event_type.__name__ for event_type in OUR_OWN] == [
        name
        for name, value in vars(events).items()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    ]
    shown = set(events.__all__)
    assert {event_type.__name__ for event_type in OUR_OWN} <= shown


@pytest.mark.parametrize("event_type", OUR_OWN, ids=lambda event_type: event_type.__name__)
def test_every_event_says_what_it_means(event_type: type[Event]) -> None:
    """A docstring, a level, one line of text of its own."""
    assert event_type.__doc__
    assert event_type.level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    assert event_type.text is not Event.text
    text = example(event_type).text()
    assert text
    assert "\n" not in text
    assert "bank/account:" not in text


@pytest.mark.parametrize("event_type", OUR_OWN, ids=lambda event_type: event_type.__name__)
def test_every_event_is_logged_once(event_type: type[Event], logged: pytest.LogCaptureFixture) -> None:
    """On its level, with the event on the record; errors as JSON with their traceback."""
    with ActorSystem("bank", dispatcher=SimulatedDispatcher(1)) as system:
        logged.clear()
        event = example(event_type)
        system.events.publish(event)
        (record,) = logged.records
        assert record.levelno == event_type.level
        assert vars(record)["event"] is event
        if "error" in event_type.__struct_fields__:
            assert record.name == "understudy.errors"
            assert json.loads(record.getMessage())["actor"] == "bank/account"
            assert record.exc_info is not None
        else:
            assert (record.name, record.exc_info) == ("understudy", None)
            assert record.getMessage() == f"bank/account: {event.text()}"


def test_every_event_is_documented() -> None:
    """The page is the one that ``make docs`` writes."""
    page = Path(__file__).parents[2] / "docs" / "events.md"
    assert page.read_text(encoding="utf-8") == render(OUR_OWN)
    assert [event_type for event_type in OUR_OWN if f"`{event_type.__name__}`" not in render()] == []


def test_an_application_may_have_events_of_its_own(logged: pytest.LogCaptureFixture) -> None:
    """They are on the same stream, and in the same log."""

    class Restocked(Event, frozen=True, kw_only=True):
        level = logging.WARNING
        items: int

        def text(self) -> str:
            return f"{self.items} items came in"

    assert Restocked in catalogue()
    with ActorSystem("shop") as system:
        seen: list[Restocked] = []
        system.events.subscribe(Restocked, seen.append)
        system.events.publish(Restocked(path="shop/shelf", items=5))
    assert [event.items for event in seen] == [5]
    assert ("understudy", logging.WARNING, "shop/shelf: 5 items came in") in records(logged)


# --- errors -------------------------------------------------------------------------------------------------


def test_a_crash_is_one_line_of_json_with_its_traceback_behind_it(
    logged: pytest.LogCaptureFixture, simulated: ActorSystem
) -> None:
    """Who, which life, during which message, why."""
    account = simulated.spawn(Account, name="account")
    with pytest.raises(HandlerFailed, match="robbed"):
        account.ask(Rob())
    (record,) = [record for record in logged.records if record.name == "understudy.errors"]
    line = record.getMessage()
    assert "\n" not in line
    shown = json.loads(line)
    assert (shown["code"], shown["kind"]) == ("0xFFF9", "actor.handler.failed")
    assert (shown["actor"], shown["incarnation"], shown["message_type"]) == ("account", 1, "Rob")
    assert shown["source"] == "RuntimeError: robbed"
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert record.exc_info[1].__traceback__ is not None


def test_a_crash_event_has_the_traceback_and_the_last_messages_type(simulated: ActorSystem) -> None:
    """For whoever reads the stream."""
    crashes: list[ActorCrashed] = []
    simulated.events.subscribe(ActorCrashed, crashes.append)
    account = simulated.spawn(Account, name="account")
    account.tell(Deposit(1))
    account.tell(Rob())
    assert account.ask(Balance()) == 0
    (crash,) = crashes
    assert (crash.path, crash.incarnation, crash.message_type) == ("account", 1, "Rob")
    assert isinstance(crash.error, RuntimeError)
    assert 'raise RuntimeError("robbed")' in crash.traceback
    assert crash.traceback.endswith("RuntimeError: robbed\n")


def test_what_did_not_start_is_logged_by_its_path(logged: pytest.LogCaptureFixture) -> None:
    """By each supervisor on the way up, the cause at the bottom of each line."""

    class Broke(Actor):
        def on_start(self) -> None:
            raise ValueError("no money")

    tree = Supervisor("tree", children=[Supervisor("inner", children=[Child(Broke, name="broke")])])
    with pytest.raises(StartFailed):
        ActorSystem("bank", tree, dispatcher=SimulatedDispatcher(1))
    failed = [vars(record)["event"] for record in logged.records if record.name == "understudy.errors"]
    assert [(type(event), event.path, event.child) for event in failed] == [
        (ChildStartFailed, "tree/inner", "tree/inner/broke"),
        (ChildStartFailed, "tree", "tree/inner"),
        (ChildStartFailed, "", "tree"),
    ]
    lines = [json.loads(record.getMessage()) for record in logged.records if record.name == "understudy.errors"]
    for line in lines:
        while line["cause"]:
            line = line["cause"]  # noqa: PLW2901  # down to the lowest
        assert line["source"] == "ValueError: no money"


def test_an_error_that_cannot_be_shown_is_logged_all_the_same(logged: pytest.LogCaptureFixture) -> None:
    """Its text raises, and holds a password."""

    class Unshowable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Fail(Message[None]):
        how: str

    class Failing(Actor):
        @handles
        def fail(self, message: Fail) -> None:
            raise Unshowable if message.how == "unshowable" else OSError("amqp://user:secret@host/ is down")

    simulation = SimulatedDispatcher(1)
    with ActorSystem("bank", dispatcher=simulation) as system:
        failing = system.spawn(Failing)
        failing.tell(Fail("unshowable"))
        failing.tell(Fail("password"))
        simulation.run_until_idle()
    lines = [record.getMessage() for record in logged.records if record.name == "understudy.errors"]
    assert len(lines) == 2
    whole = "\n".join(logging.Formatter().format(record) for record in logged.records)
    assert "secret" not in whole
    assert "OSError: amqp://user:***@host/ is down" in whole
    assert "restarted as incarnation 3" in whole


# --- levels -------------------------------------------------------------------------------------------------


def test_what_is_not_logged_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    """The levels that are enabled when the system starts decide: a million starts cost no events."""
    caplog.set_level(logging.WARNING, "understudy")
    with ActorSystem("bank", dispatcher=SimulatedDispatcher(1)) as system:
        assert not system.events.wanted(ActorStarted)
        assert not system.events.wanted(DeadLetter)
        assert system.events.wanted(ActorCrashed)
        system.spawn(Account)
    assert records(caplog) == []


def test_the_life_of_a_system_as_the_log_tells_it(logged: pytest.LogCaptureFixture) -> None:
    """The paths are those of the actors; where there is none stands the system's name."""
    tree = Supervisor("tree", children=[Child(Account, name="account")])
    with ActorSystem("bank", tree, dispatcher=SimulatedDispatcher(1)) as system:
        system.tell("tree/account", Decline())
        system.ask("tree/account", Balance())
    assert [(level, message) for _, level, message in records(logged)] == [
        (logging.DEBUG, "tree/account: started (Account)"),
        (logging.DEBUG, "tree: started (StaticSupervisor)"),
        (logging.DEBUG, "tree/account: dead letter (refused): Decline"),
        (logging.INFO, "bank: stopping: stop() was called"),
        (logging.DEBUG, "tree/account: stopped: shutdown"),
        (logging.DEBUG, "tree: stopped: shutdown"),
        (logging.DEBUG, "bank: stopped: shutdown"),
        (logging.INFO, "bank: stopped; 0 ended by force"),
    ]


def test_the_log_of_a_system_ends_with_it(logged: pytest.LogCaptureFixture) -> None:
    """What is published later has no reader."""
    system = ActorSystem("bank", dispatcher=SimulatedDispatcher(1))
    system.stop()
    logged.clear()
    system.events.publish(example(ActorCrashed))
    assert logged.records == []


# --- the stream ---------------------------------------------------------------------------------------------


def test_a_subscription_is_to_a_type_or_to_all() -> None:
    """And ends when its function is called; ending it twice does nothing."""
    stream = EventStream()
    crashes: list[Event] = []
    everything: list[Event] = []
    stop = stream.subscribe(ActorCrashed, crashes.append)
    stream.subscribe(Event, everything.append)
    crash, start = example(ActorCrashed), example(ActorStarted)
    stream.publish(crash)
    stream.publish(start)
    stop()
    stop()
    stream.publish(crash)
    assert crashes == [crash]
    assert everything == [crash, start, crash]


def test_who_subscribes_twice_is_told_twice_and_may_end_one_of_both() -> None:
    """Each subscription is one of its own."""
    stream = EventStream()
    seen: list[Event] = []
    callback = seen.append
    stop = stream.subscribe(ActorCrashed, callback)
    stream.subscribe(ActorCrashed, callback)
    stream.publish(example(ActorCrashed))
    stop()
    stop()
    stream.publish(example(ActorCrashed))
    assert len(seen) == 3


def test_a_subscriber_that_raises_harms_nobody(logged: pytest.LogCaptureFixture) -> None:
    """It is logged; the others are told."""

    def fail(_event: Event) -> None:
        raise OSError("the disk is full")

    stream = EventStream()
    seen: list[Event] = []
    stream.subscribe(ActorCrashed, fail)
    stream.subscribe(ActorCrashed, seen.append)
    stream.publish(example(ActorCrashed))
    assert len(seen) == 1
    ((logger, level, message),) = records(logged)
    assert (logger, level) == ("understudy.events", logging.ERROR)
    assert "ActorCrashed" in message


def test_nobody_subscribes_in_vain_while_others_do_the_same() -> None:
    """Subscribing is safe on any thread."""
    import threading

    stream = EventStream()
    barrier = threading.Barrier(8)
    seen: list[Event] = []

    def subscribe() -> None:
        barrier.wait(60)
        for _ in range(200):
            stream.subscribe(ActorCrashed, seen.append)
            stream.subscribe(ActorStarted, seen.append)()

    threads = [threading.Thread(target=subscribe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stream.publish(example(ActorCrashed))
    stream.publish(example(ActorStarted))
    assert len(seen) == 1600


def test_an_event_knows_when_it_happened() -> None:
    """Unix time."""
    assert example(ActorStarted).at > 1_700_000_000

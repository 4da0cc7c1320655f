"""The exceptions: what they carry, what else they are, and how little they cost."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable

import pykka
import pytest

from understudy.messages import (
    ActorError,
    AskTimeout,
    BrokerError,
    CodecError,
    ConfigError,
    ErrorCode,
    ErrorKind,
    ErrorResponse,
    HandlerDeclarationError,
    HandlerFailed,
    MailboxClosed,
    MailboxFull,
    NameTaken,
    Refusal,
    SpecInvalid,
    SystemStopped,
    TaskTimeout,
    UnknownActor,
    errors,
)
from understudy.messages.caller import wall_clock

ALL_ERRORS = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, ActorError)]


def register_notif() -> ActorError:
    """A function that calls the broker, in vain."""
    return MailboxFull("no room", target="notifications/broker", verb="ask")


class Notifier:
    """Somebody whose method calls the broker."""

    def register_notif(self) -> ActorError:
        """Call it from a method."""
        return MailboxFull("no room", target="broker", verb="tell")


@pytest.mark.parametrize("source", ["", "ExampleActor (urn:uuid:1) not found", "é\ud800", "%s {0}"])
def test_the_text_of_an_error_is_its_source_exactly(source: str) -> None:
    """Programs written for pykka compare it."""
    assert str(MailboxClosed(source)) == source
    assert MailboxClosed(source=source).source == source


@pytest.mark.parametrize("error_type", ALL_ERRORS)
def test_every_error_can_be_made_of_its_text_alone(error_type: type[ActorError]) -> None:
    """It then has the kind and the code of its class."""
    error = error_type("text")
    assert str(error) == "text"
    assert error.kind is error_type.default_kind
    assert isinstance(error.code, ErrorCode)
    assert error.response.code == error.code


def test_an_error_may_be_of_another_kind_of_its_class() -> None:
    """Expired in the mailbox and not answered in time are both a timeout."""
    error = AskTimeout("late", kind=ErrorKind.MAILBOX_EXPIRED)
    assert error.kind is ErrorKind.MAILBOX_EXPIRED
    assert error.response.kind == "actor.mailbox.expired"


@pytest.mark.parametrize(
    ("error_type", "also"),
    [
        (MailboxClosed, pykka.ActorDeadError),
        (UnknownActor, pykka.ActorDeadError),
        (SystemStopped, pykka.ActorDeadError),
        (AskTimeout, pykka.Timeout),
        (TaskTimeout, pykka.Timeout),
        (ConfigError, ValueError),
        (HandlerDeclarationError, TypeError),
        (HandlerDeclarationError, ConfigError),
    ],
)
def test_an_error_is_also_what_others_would_catch(error_type: type[ActorError], also: type[Exception]) -> None:
    """A program written for pykka, or for Python's own errors, goes on working."""
    assert issubclass(error_type, also)
    with pytest.raises(also):
        raise error_type("text")


def test_every_error_of_the_room_is_drawn_at_the_top_of_its_file() -> None:
    """The tree in the module's description is complete, and nothing is left in it that is gone."""
    drawn = {
        word
        for line in (errors.__doc__ or "").splitlines()
        if "──" in line or line.strip() == "ActorError"
        for word in line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()[:1]
    }
    assert drawn == {error.__name__ for error in ALL_ERRORS}


# --- the method's name --------------------------------------------------------------------------------------


def test_the_method_names_caller_target_and_verb() -> None:
    """Read off the calling frame."""
    assert register_notif().method == "register_notif.notifications/broker.ask"
    assert Notifier().register_notif().method == "register_notif.broker.tell"


def test_a_caller_may_name_the_method() -> None:
    """Then nothing is looked up."""
    error = MailboxFull("", method="register_notif.producer_actor.notif_actor.send", target="x", verb="y")
    assert error.method == "register_notif.producer_actor.notif_actor.send"
    assert MailboxFull("", method="", target="x").method == ""


def test_a_function_without_a_name_is_called_by_the_one_around_it() -> None:
    """A lambda or a comprehension says nothing to somebody who reads a log."""
    make: Callable[[], ActorError] = lambda: MailboxFull("", target="broker", verb="ask")  # noqa: E731 - the point
    name = "test_a_function_without_a_name_is_called_by_the_one_around_it"
    assert make().method == f"{name}.broker.ask"
    (listed,) = [MailboxFull("", target="broker", verb="ask") for _ in range(1)]
    assert listed.method == f"{name}.broker.ask"


def test_an_inner_function_has_its_own_name() -> None:
    """The innermost named one."""

    def inner() -> ActorError:
        return MailboxFull("", target="broker", verb="ask")

    assert inner().method == "inner.broker.ask"


def test_a_script_is_named_by_its_module() -> None:
    """Outside of any function."""
    namespace = {"__name__": "shop.main", "MailboxFull": MailboxFull}
    exec("error = MailboxFull('', target='broker', verb='tell')", namespace)
    error = namespace["error"]
    assert isinstance(error, MailboxFull)
    assert error.method == "main.broker.tell"


def called_from(module: str) -> ActorError:
    """Make an error in a function of this module, called by a function of a user's module."""
    inner = {"__name__": module, "MailboxFull": MailboxFull}
    exec("def inside(): return MailboxFull('', target='broker', verb='tell')", inner)
    outer = {"__name__": "shop.orders", "inside": inner["inside"]}
    exec("def outside(): return inside()", outer)
    error = outer["outside"]()  # type: ignore[operator]
    assert isinstance(error, MailboxFull)
    return error


@pytest.mark.parametrize(
    "module",
    [
        "understudy.actors.ref",
        "understudy.actors",
        "understudy.actors.dispatch.pool",
        "understudy.supervisors.system",
        "understudy.messages.codec",
        "understudy.testing.simulated",
        "pykka._ref",
        "pykka",
        "threading",
        "asyncio.events",
        "concurrent.futures.thread",
        "contextlib",
    ],
)
def test_the_runtime_is_never_the_caller(module: str) -> None:
    """Who asked is whoever called into it."""
    assert called_from(module).method == "outside.broker.tell"


@pytest.mark.parametrize(
    "module",
    ["understudy.actors.broker.actor", "understudy.console.cli", "pykka_shop.main", "shop", "understudy_shop.x"],
)
def test_services_and_users_are_callers(module: str) -> None:
    """The five services are written like any user's actor."""
    assert called_from(module).method == "inside.broker.tell"


def test_without_a_caller_the_runtime_is_named() -> None:
    """As in a message that a timer sends: nobody's function is on the stack."""
    made: list[ActorError] = []
    namespace = {"__name__": "understudy.actors.timers", "MailboxFull": MailboxFull, "made": made}
    exec("def tick(): made.append(MailboxFull('', target='broker', verb='tell'))", namespace)
    thread = threading.Thread(target=namespace["tick"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thread.start()
    thread.join()
    assert made[0].method == "runtime.broker.tell"


def test_an_error_from_another_thread_is_given_the_caller_who_gets_it() -> None:
    """It was made where nobody knew who had asked."""
    made: list[ActorError] = []
    namespace = {"__name__": "understudy.actors.cell", "MailboxClosed": MailboxClosed, "made": made}
    exec("def drain(): made.append(MailboxClosed('stopped'))", namespace)
    thread = threading.Thread(target=namespace["drain"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thread.start()
    thread.join()
    (error,) = made
    assert error.response.method == "runtime"
    error.note_call(None, "broker", "ask")
    name = "test_an_error_from_another_thread_is_given_the_caller_who_gets_it"
    assert error.method == error.response.method == f"{name}.broker.ask"
    error.note_call("other.name", "x", "tell")
    assert error.method == f"{name}.broker.ask"


def test_a_name_that_the_caller_gave_is_noted_too() -> None:
    """And one that is known already is kept."""
    error = HandlerFailed("boom", method="first.name")
    error.note_call("second.name", "broker", "ask")
    assert error.method == "first.name"
    refused = Refusal("no")
    refused.note_call("second.name", "broker", "ask")
    assert refused.method == "second.name"


def test_the_answer_of_a_handler_is_given_the_caller_who_asked() -> None:
    """An error that a service made has the service's function as its caller, until the asker gets it."""
    made: list[ActorError] = []
    namespace = {"__name__": "understudy.actors.broker.memory", "BrokerError": BrokerError, "made": made}
    exec("def accept(): made.append(BrokerError('no queue'))", namespace)
    namespace["accept"]()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    (error,) = made
    assert error.method == "accept"
    error.note_call(None, "broker", "ask")
    assert error.method == "test_the_answer_of_a_handler_is_given_the_caller_who_asked.broker.ask"


def test_the_place_is_filled_in_where_it_is_not_known() -> None:
    """A backend does not know which actor it works for; its actor does."""
    error = BrokerError("no queue", message_id="m1")
    assert error.response.actor == ""
    error.note_place("shop/broker", 2, "Publish")
    assert (error.actor, error.incarnation, error.message_type, error.message_id) == ("shop/broker", 2, "Publish", "m1")
    assert error.response.actor == "shop/broker"
    error.note_place("another", 3, "Other")
    assert error.actor == "shop/broker"


# --- what it carries ----------------------------------------------------------------------------------------


def test_where_and_what_is_carried_into_the_response() -> None:
    """Which actor, which of its lives, which message."""
    error = HandlerFailed("boom", actor="bank/ada", incarnation=3, message_type="Deposit", message_id="m1")
    assert (error.actor, error.incarnation, error.message_type, error.message_id) == ("bank/ada", 3, "Deposit", "m1")
    response = error.response
    assert (response.actor, response.incarnation) == ("bank/ada", 3)
    assert (response.message_type, response.message_id) == ("Deposit", "m1")


def test_the_response_is_made_once() -> None:
    """Whoever logs it, answers with it and publishes it sees the same one."""
    error = MailboxFull("full")
    assert error.response is error.response


def test_the_time_is_that_of_the_failure_by_the_clock_in_force() -> None:
    """In a simulation, virtual time."""
    token = wall_clock.set(lambda: 1714316645.5)
    try:
        error = MailboxFull("full")
    finally:
        wall_clock.reset(token)
    assert error.at == error.response.at == 1714316645.5


def test_a_cause_is_shown_in_tracebacks_and_in_the_response() -> None:
    """Given as an argument or by `raise … from`."""
    below = ZeroDivisionError("division by zero")
    given = HandlerFailed("boom", cause=below)
    assert given.__cause__ is below
    with pytest.raises(HandlerFailed) as caught:
        raise HandlerFailed("boom") from below
    for error in (given, caught.value):
        assert error.response.cause is not None
        assert error.response.cause.source == "ZeroDivisionError: division by zero"


def test_a_response_may_be_the_cause() -> None:
    """One that came from another process."""
    remote = ErrorResponse(code=0xFFFF, kind="storage.postgres.unavailable", source="down")
    error = HandlerFailed("boom", cause=remote)
    assert error.__cause__ is None
    assert error.response.cause == remote


def test_errors_with_an_argument_of_their_own_keep_it() -> None:
    """The holder of a taken name, the field and value of a wrong declaration, the field of a body."""
    holder = object()
    assert NameTaken("taken", ref=holder).ref is holder
    wrong = SpecInvalid("restart: 'alwys'", field="restart", value="alwys", kind=ErrorKind.CHILD_SPEC_INVALID)
    assert (wrong.field, wrong.value) == ("restart", "alwys")
    assert CodecError("amount: expected int", field="amount").field == "amount"


def test_an_error_can_be_copied_and_pickled() -> None:
    """It crosses from process to process in tools that users have, such as pytest-xdist."""
    error = CodecError("amount", field="amount", kind=ErrorKind.FIELD_INVALID, actor="bank", incarnation=2)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is CodecError
        assert (str(twin), twin.kind, twin.field, twin.method, twin.at) == (
            "amount",
            ErrorKind.FIELD_INVALID,
            "amount",
            error.method,
            error.at,
        )
        assert twin.response == error.response


def test_a_subclass_that_forgets_its_base_is_still_an_error() -> None:
    """A user's own refusal, with a constructor that calls nobody."""

    class Overdrawn(Refusal):
        def __init__(self, missing: int) -> None:
            self.missing = missing

    error = Overdrawn(5)
    assert error.kind is ErrorKind.HANDLER_REFUSED
    assert error.response.source == "5"
    assert error.response.to_json()


def test_an_error_shows_code_kind_and_text() -> None:
    """As in a debugger or a list of errors."""
    assert repr(MailboxFull("no room")) == "MailboxFull(0xFFFD actor.mailbox.full, 'no room')"


def test_making_an_error_builds_no_response() -> None:
    """A refused tell may happen a million times: whatever is not read is not made."""
    error = MailboxFull("full", target="broker", verb="tell")
    assert "_response" not in vars(error)
    assert error.response
    assert "_response" in vars(error)

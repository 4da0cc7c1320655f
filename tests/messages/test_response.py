"""Error responses: always to be had, safe to show, and the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.messages import (
    ActorError,
    ErrorCode,
    ErrorKind,
    ErrorResponse,
    HandlerFailed,
    MailboxFull,
    StorageError,
    decode,
    encode,
    entry_of,
)
from understudy.messages.caller import wall_clock
from understudy.messages.redact import MAX_TEXT
from understudy.messages.response import MAX_CAUSES


def raised(action: Callable[[], object]) -> BaseException:
    """What it raises."""
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def read_row() -> NoReturn:
    """Fail for a reason."""
    try:
        raise KeyError("pid")
    except KeyError as error:
        raise StorageError("row 7", kind=ErrorKind.ROW_INVALID) from error


def endless() -> NoReturn:
    """Fail in the depths of the stack."""
    endless()


def test_a_response_says_what_where_and_when() -> None:
    """All that the error knew, and what the catalogue knows about its kind."""
    token = wall_clock.set(lambda: 1714316645.0)
    try:
        response = MailboxFull(
            "10,000 messages are waiting",
            method="register_notif.producer_actor.notif_actor.send",
            actor="notifications/broker",
            incarnation=2,
            message_type="ProduceNotif",
            message_id="unqie-id0",
        ).response
    finally:
        wall_clock.reset(token)
    assert response == ErrorResponse(
        code=ErrorCode.MAILBOX_CHANNEL,
        kind="actor.mailbox.full",
        method="register_notif.producer_actor.notif_actor.send",
        source="10,000 messages are waiting",
        actor="notifications/broker",
        incarnation=2,
        message_type="ProduceNotif",
        message_id="unqie-id0",
        at=1714316645.0,
        retryable=True,
    )


def test_it_is_logged_as_one_line_with_the_code_in_hex() -> None:
    """And the time as people write it."""
    line = ErrorResponse(code=0xFFFD, kind="actor.mailbox.full", source="a\nb", at=1714316645.25).to_json()
    assert b"\n" not in line
    assert json.loads(line) == {
        "code": "0xFFFD",
        "kind": "actor.mailbox.full",
        "method": "",
        "source": "a\nb",
        "actor": "",
        "incarnation": 0,
        "message_type": "",
        "message_id": "",
        "at": "2024-04-28T15:04:05.250Z",
        "retryable": False,
        "cause": None,
    }


def test_it_reads_as_code_kind_method_and_source() -> None:
    """On one line, for people."""
    error = MailboxFull("no room", method="register_notif.broker.ask")
    assert str(error.response) == "0xFFFD actor.mailbox.full in register_notif.broker.ask: no room"
    assert str(ErrorResponse(code=0x00AB, kind="x.y", source="z")) == "0x00AB x.y: z"


def test_it_is_a_problem_document_for_http() -> None:
    """RFC 9457's members, and ours beside them: nothing is hidden that the caller needs."""
    problem = MailboxFull("no room", method="register_notif.broker.ask", actor="broker").response.to_problem()
    assert problem["type"] == "urn:understudy:error:actor.mailbox.full"
    assert problem["title"] == "The mailbox is full."
    assert problem["status"] == 503
    assert problem["detail"] == "no room"
    assert problem["code"] == "0xFFFD"
    assert problem["kind"] == "actor.mailbox.full"
    assert problem["method"] == "register_notif.broker.ask"
    assert problem["actor"] == "broker"
    assert problem["retryable"] is True
    assert json.loads(json.dumps(problem)) == problem


def test_a_kind_that_is_not_in_our_catalogue_is_still_a_problem_document() -> None:
    """A newer peer may know more kinds."""
    problem = ErrorResponse(code=0xFFFF, kind="storage.future.thing").to_problem()
    assert (problem["status"], problem["kind"]) == (500, "storage.future.thing")


def test_it_crosses_a_wire_as_any_message() -> None:
    """With its causes, and the code as a number."""
    response = HandlerFailed("boom", cause=StorageError("disk full", cause=OSError(28, "No space"))).response
    assert decode(encode(response), ErrorResponse) == response
    assert json.loads(encode(response))["code"] == 0xFFF9


# --- any exception ------------------------------------------------------------------------------------------


def test_an_exception_that_is_not_ours_gets_the_kind_that_is_named() -> None:
    """With its type in the text."""
    response = ErrorResponse.from_exception(
        KeyError("pid"), kind=ErrorKind.TASK_CRASHED, method="run.task.start", actor="tasks/1", message_id="m"
    )
    assert (response.code, response.kind) == (0xFFF8, "supervisor.task.crashed")
    assert response.source == "KeyError: 'pid'"
    assert (response.method, response.actor, response.message_id) == ("run.task.start", "tasks/1", "m")
    assert response.retryable


def test_our_own_error_keeps_its_kind_and_what_it_knows() -> None:
    """Only what it did not know is filled in."""
    response = ErrorResponse.from_exception(
        MailboxFull("full", method="a.b.c", actor="known"), kind=ErrorKind.TASK_CRASHED, actor="other", message_id="m"
    )
    assert (response.kind, response.method, response.actor, response.message_id) == (
        "actor.mailbox.full",
        "a.b.c",
        "known",
        "m",
    )


def test_causes_are_listed_downwards() -> None:
    """Ours by their kind, others as python.<type>, in the family of the error above."""
    response = HandlerFailed("boom", cause=raised(read_row)).response
    assert response.cause is not None
    assert (response.cause.kind, response.cause.code) == ("storage.row.invalid", ErrorCode.STORAGE_IO)
    assert response.cause.cause is not None
    assert (response.cause.cause.kind, response.cause.cause.source) == ("python.KeyError", "KeyError: 'pid'")
    assert response.cause.cause.cause is None


def test_what_was_being_handled_is_a_cause_unless_it_is_suppressed() -> None:
    """`raise X` inside `except` tells; `raise X from None` does not."""

    def told() -> NoReturn:
        try:
            raise KeyError("pid")
        except KeyError:
            raise ValueError("bad")  # noqa: B904 - the point of the test

    def silent() -> NoReturn:
        try:
            raise KeyError("pid")
        except KeyError:
            raise ValueError("bad") from None

    response = ErrorResponse.from_exception(raised(told))
    assert response.cause is not None
    assert response.cause.source == "KeyError: 'pid'"
    assert ErrorResponse.from_exception(raised(silent)).cause is None


def test_a_group_of_exceptions_has_its_first_as_the_cause() -> None:
    """As a TaskGroup raises it."""
    group = ExceptionGroup("two failed", [ValueError("one"), KeyError("two")])
    response = ErrorResponse.from_exception(group)
    assert response.source == "ExceptionGroup: two failed (2 sub-exceptions)"
    assert response.cause is not None
    assert response.cause.source == "ValueError: one"


def test_an_error_without_a_cause_has_none() -> None:
    """Nothing is unwrapped that is not there."""
    assert ErrorResponse.from_exception(ValueError("x")).cause is None
    assert MailboxFull("x").response.cause is None


def test_causes_in_a_circle_end() -> None:
    """Each is listed once."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    response = ErrorResponse.from_exception(first)
    assert response.cause is not None
    assert response.cause.source == "ValueError: second"
    assert response.cause.cause is None
    itself = HandlerFailed("x")
    itself.__cause__ = itself
    assert itself.response.cause is None


def test_a_long_chain_of_causes_is_cut() -> None:
    """The uppermost are kept."""
    error = ValueError("0")
    for number in range(1, 100_000):
        above = ValueError(str(number))
        above.__cause__ = error
        error = above
    response: ErrorResponse | None = ErrorResponse.from_exception(error)
    texts = []
    while response is not None:
        texts.append(response.source)
        response = response.cause
    assert texts == [f"ValueError: {99_999 - number}" for number in range(MAX_CAUSES + 1)]


def test_a_longer_chain_from_a_peer_is_shown_cut() -> None:
    """Its JSON is as long as one of ours."""
    response: ErrorResponse | None = None
    for number in range(100_000):
        response = ErrorResponse(code=1, kind="x", source=str(number), cause=response)
    assert response is not None
    shown = json.loads(response.to_json())
    depth = 0
    while shown:
        depth, shown = depth + 1, shown["cause"]
    assert depth == MAX_CAUSES + 1


class Hostile(Exception):
    """Nothing about it works."""

    def __str__(self) -> str:
        raise SystemExit("no text for you")

    __repr__ = __str__


class HostileCause(Exception):
    """Asked for its cause, it fails."""

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError("no cause for you")


class NoText(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return len("text")  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


class HostileError(ActorError):
    """One of ours, made unusable."""

    @property
    def method(self) -> NoReturn:
        raise RuntimeError("no method for you")

    def __str__(self) -> str:
        raise RecursionError


@pytest.mark.parametrize(
    "error",
    [
        Hostile(),
        HostileCause("x"),
        NoText(),
        HostileError(),
        HandlerFailed("x", cause=Hostile()),
        HandlerFailed("x", cause=HostileCause()),
        ValueError(),
        ValueError(None),
        ValueError("\ud800"),
        ValueError(b"\xff"),
        ValueError("x" * 10_000_000),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        KeyboardInterrupt(),
        SystemExit(3),
        StopIteration(5),
        MailboxFull("\udcff", actor="\ud800", message_id="\udfff", method="\ud800"),
        raised(lambda: 1 / 0),
        raised(endless),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_response_can_always_be_had(error: BaseException) -> None:
    """Whatever failed: built, shown in every form, and sent."""
    response = ErrorResponse.from_exception(error, actor="\ud800" if isinstance(error, Hostile) else "a")
    assert str(response)
    assert json.loads(response.to_json())["kind"] == response.kind
    assert json.dumps(response.to_problem())
    if not isinstance(error, HostileError):
        assert len(encode(response)) < 4 * MAX_TEXT
    assert entry_of(response.kind) is not None


@given(st.builds(ErrorResponse, code=st.integers(0, 0xFFFF), kind=st.text(), method=st.text(), source=st.text(),
                 actor=st.text(), incarnation=st.integers(-(2**63), 2**63), message_type=st.text(),
                 message_id=st.text(), at=st.floats(), retryable=st.booleans()))  # fmt: skip
def test_any_response_can_be_shown(response: ErrorResponse) -> None:
    """Made by hand or by a peer: with half surrogates and times that are none."""
    assert json.loads(response.to_json())["code"] == f"0x{response.code:04X}"
    assert json.dumps(response.to_problem())


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1e300])
def test_a_time_that_is_none_is_null(at: float) -> None:
    """Rather than an error while an error is logged."""
    assert json.loads(ErrorResponse(code=1, kind="x", at=at).to_json())["at"] is None


# --- what is not shown --------------------------------------------------------------------------------------


def test_credentials_are_in_no_form_of_a_response() -> None:
    """Neither at the top nor in causes, in whichever form it is shown."""
    below = ConnectionError("amqp://guest:hunter2@rabbit:5672/ refused, password='hunter2'")
    response = StorageError("cannot reach postgresql://app:hunter2@db/shop", cause=below).response
    forms: list[Any] = [str(response), response.to_json(), response.to_problem(), encode(response), repr(response)]
    assert "hunter2" not in str(forms)
    assert "amqp://guest:***@rabbit:5672/" in str(forms)


def test_credentials_in_a_response_from_elsewhere_are_not_shown() -> None:
    """It may have been made by hand."""
    response = ErrorResponse(code=1, kind="x", source="redis://:hunter2@cache/0")
    assert "hunter2" not in str([response.to_json(), response.to_problem()])


def test_long_text_is_cut_with_a_note() -> None:
    """A log line has its limits."""
    response = ErrorResponse.from_exception(ValueError("x" * 1_000_000))
    assert len(response.source) < MAX_TEXT + 40
    assert response.source.endswith("more characters)")

"""A payload and its options become a stored task; what cannot be is refused with the option's name."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from understudy.actors.tasks.options import plan, unique_key
from understudy.messages.errors import CodecError, TaskError
from understudy.messages.tasks import RawTask, TaskOptions, TaskPayload

NOW = 1_700_000_000.0


class Mail(TaskPayload[None]):
    task_type = "task:mail"
    task_options: ClassVar[TaskOptions] = {"queue": "mail", "max_retry": 3}

    to: str


def test_a_task_without_options_gets_asynqs_defaults() -> None:
    """25 retries, the default queue, 30 minutes, no retention, an id of its own."""
    message, process_at, unique_for, once_for = plan(RawTask("echo", b"hi"), {}, NOW)
    assert (message.type, message.payload, message.queue) == ("echo", b"hi", "default")
    assert (message.max_retry, message.timeout, message.deadline, message.retention) == (25, 1800, 0, 0)
    assert (process_at, unique_for, message.unique_key, once_for) == (0, 0, "", 0)
    assert len(message.id) == 36
    assert message.id != plan(RawTask("echo"), {}, NOW).message.id


def test_what_is_given_goes_before_what_the_payloads_class_says() -> None:
    """As enqueue-time options go before those of the task."""
    message = plan(Mail("ada"), {"max_retry": 10}, NOW).message
    assert (message.type, message.payload) == ("task:mail", b'{"to":"ada"}')
    assert (message.queue, message.max_retry) == ("mail", 10)


def test_a_deadline_alone_sets_no_timeout() -> None:
    """The 30 minutes hold only where neither is given."""
    assert plan(RawTask("echo"), {"deadline": NOW + 5}, NOW).message.timeout == 0
    assert plan(RawTask("echo"), {"timeout": 0.5}, NOW).message.timeout == 1


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"process_in": 5}, NOW + 5),
        ({"process_in": timedelta(minutes=1)}, NOW + 60),
        ({"process_at": NOW + 7}, NOW + 7),
        ({"process_at": datetime(2030, 1, 1, tzinfo=UTC)}, 1893456000.0),
    ],
)
def test_the_time_may_be_given_in_every_usual_form(options: dict[str, Any], at: float) -> None:
    """Seconds, a timedelta, unix seconds, a datetime."""
    assert plan(RawTask("echo"), options, NOW).process_at == at


def test_a_negative_max_retry_counts_as_none() -> None:
    """As asynq takes it."""
    assert plan(RawTask("echo"), {"max_retry": -4}, NOW).message.max_retry == 0


def test_the_lock_of_a_unique_task_is_named_as_asynq_names_it() -> None:
    """Queue, type and the payload's MD5; a payload that is nil ends the name."""
    digest = hashlib.md5(b"hi", usedforsecurity=False).hexdigest()
    assert (
        plan(RawTask("echo", b"hi"), {"unique": 60}, NOW).message.unique_key
        == f"asynq:{{default}}:unique:echo:{digest}"
    )
    assert unique_key("q", "echo", None) == "asynq:{q}:unique:echo:"


@pytest.mark.parametrize(
    "options",
    [
        {"queue": " "},
        {"queue": 3},
        {"queue": "\ud800"},
        {"task_id": ""},
        {"group": "\t"},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": True},
        {"timeout": "5"},
        {"deadline": datetime(2030, 1, 1)},  # noqa: DTZ001 -- that it has no zone is the point
        {"deadline": 1e300},
        {"unique": 0.5},
        {"unique": 0},
        {"retention": timedelta(seconds=-1)},
        {"process_in": 1, "process_at": NOW},
        {"max_retry": 2**31},
        {"max_retry": 1.5},
        {"headers": {"a": 1}},
        {"headers": 5},
        {"max_retries": 5},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any]) -> None:
    """Before anything is stored."""
    with pytest.raises(TaskError) as caught:
        plan(RawTask("echo"), options, NOW)
    assert caught.value.kind == "task.option.invalid"
    assert next(iter(options)) in str(caught.value)


def test_a_misspelled_option_is_told_what_it_may_have_meant() -> None:
    """The nearest name is suggested."""
    with pytest.raises(TaskError, match="max_retry"):
        plan(RawTask("echo"), {"max_rety": 5}, NOW)


def test_what_has_no_task_type_is_no_payload() -> None:
    """A class that forgot it, a blank one, and what is no payload at all."""

    class Untyped(TaskPayload[None]):
        pass

    for wrong in (Untyped(), RawTask("  "), "task:mail"):
        with pytest.raises(TaskError) as caught:
            plan(wrong, {}, NOW)  # type: ignore[arg-type]  # that is the point
        assert caught.value.kind == "task.type.invalid"


def test_a_payload_of_ten_mebibytes_is_refused_where_it_is_distributed() -> None:
    """The codec's limit holds."""
    with pytest.raises(CodecError) as caught:
        plan(Mail("x" * 10 * 2**20), {}, NOW)
    assert caught.value.kind == "codec.body.too_large"

"""A payload and its options become a task that an engine can store. All options are checked here, and only here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from ...messages.codec import encode
from ...messages.errors import ErrorKind, TaskError
from ...messages.suggest import did_you_mean
from ...messages.tasks import (
    DEFAULT_MAX_RETRY,
    DEFAULT_QUEUE,
    DEFAULT_TIMEOUT,
    NO_PAYLOAD,
    RawTask,
    TaskMessage,
    TaskOptions,
    TaskPayload,
)
from ..ids import new_uuid
from .following import FOLLOWING, MAX_STEPS, OURS, FollowUp, Previous, headers_with, step_of, with_previous

__all__ = ["NewTask", "check_name", "new_task", "once_key", "plan", "seconds_of", "unique_key"]

_NAMES: Final = frozenset(TaskOptions.__annotations__)
_FOLLOWING: Final = frozenset(FOLLOWING)
MAX_RETRY_LIMIT: Final = 2**31 - 1
MIN_UNIQUE: Final = 1.0
MAX_SECONDS: Final = 2.0**53
FOLLOWED_ONCE: Final = 86_400.0
"""Seconds for which the id of what followed a task stays taken, for engines that cannot store both in one step."""


class NewTask(NamedTuple):
    """A task that is to be stored.

    Attributes:
        message: the task.
        process_at: unix seconds before which it is not processed; 0: at once.
        unique_for: seconds for which its lock is held once it may be processed; 0: it is not unique.
        once_for: seconds from now for which its id is taken, even when the task has been done and deleted by then;
            0: as long as the task is there.
    """

    message: TaskMessage
    process_at: float = 0.0
    unique_for: float = 0.0
    once_for: float = 0.0


def plan(payload: TaskPayload[Any] | RawTask, options: Mapping[str, Any], now: float) -> NewTask:
    """Make the task that distributing ``payload`` with ``options`` stores.

    Args:
        payload: what it is about.
        options: see ``TaskOptions``; those of the payload's class hold where these say nothing.
        now: unix seconds.

    Raises:
        TaskError: ``task.option.invalid``, ``task.type.invalid``.
        CodecError: the payload cannot be written as JSON, or is too large.
    """
    task, then, _ = _plan(payload, options, now, steps=1)
    if not then:
        return task
    headers = headers_with(task.message.headers, then)
    return task._replace(message=msgspec.structs.replace(task.message, headers=headers))


def new_task(follow_up: FollowUp, before: Previous, now: float) -> NewTask:
    """The task that is stored when the one before it has ended.

    Args:
        follow_up: what follows.
        before: the one before.
        now: unix seconds.
    """
    at = now + follow_up.wait if follow_up.wait else follow_up.process_at
    message = with_previous(follow_up.message, before, follow_up.then)
    return NewTask(message, at, follow_up.unique_for, FOLLOWED_ONCE)


def _plan(
    payload: TaskPayload[Any] | RawTask, options: Mapping[str, Any], now: float, steps: int
) -> tuple[NewTask, dict[str, FollowUp], float]:
    """The task, what follows it, and for how long it is to wait."""
    task_type, body, given = _content(payload)
    if type(options) is not dict and not isinstance(options, Mapping):  # the latter takes its time
        raise _invalid("options", options, "give a mapping of options to values")
    given.update(options)
    _refuse_unknown(given)
    queue = check_name("queue", given.get("queue", DEFAULT_QUEUE))
    task_id = check_name("task_id", given["task_id"]) if "task_id" in given else new_uuid()
    timeout = _duration("timeout", given)
    deadline = _instant("deadline", given)
    unique_for = _duration("unique", given)
    if "unique" in given and unique_for < MIN_UNIQUE:
        raise _invalid("unique", given["unique"], "give at least one second")
    message = TaskMessage(
        type=task_type,
        payload=body if type(body) is bytes else bytes(body),
        id=task_id,
        queue=queue,
        max_retry=_max_retry(given.get("max_retry", DEFAULT_MAX_RETRY)),
        timeout=math.ceil(timeout) if timeout or deadline else DEFAULT_TIMEOUT,
        deadline=int(deadline),
        unique_key=unique_key(queue, task_type, None if body is NO_PAYLOAD else body) if unique_for else "",
        retention=math.ceil(_duration("retention", given)),
        group_key=check_name("group", given["group"]) if "group" in given else "",
        headers=_headers(given["headers"]) if "headers" in given else {},
    )
    then: dict[str, FollowUp] = {}
    if not _FOLLOWING.isdisjoint(given):
        then = {when: _follow_up(when, given[when], steps) for when in FOLLOWING if given.get(when) is not None}
    if then and message.group_key:
        raise _invalid("group", message.group_key, "nothing can follow one task of a group")
    process_at = _process_at(given, now)
    if unique_for and unique_for + max(0.0, process_at - now) >= MAX_SECONDS:
        raise _invalid("unique", given["unique"], "its lock would be held for too long; give less")
    return NewTask(message, process_at, unique_for), then, _duration("process_in", given)


def _follow_up(option: str, step: object, steps: int) -> FollowUp:
    if steps >= MAX_STEPS:
        raise TaskError(f"{option}: more than {MAX_STEPS} tasks in a row", kind=ErrorKind.TASK_OPTION_INVALID)
    payload, options = step_of(option, step)
    task, then, wait = _plan(payload, options, 0.0, steps + 1)
    return FollowUp(task.message, wait, 0.0 if wait else task.process_at, task.unique_for, then)


def unique_key(queue: str, task_type: str, payload: bytes | None) -> str:
    """The full name of the lock of a unique task, as asynq makes it; a payload of None is another one than none."""
    digest = "" if payload is None else hashlib.md5(payload, usedforsecurity=False).hexdigest()
    return f"asynq:{{{queue}}}:unique:{task_type}:{digest}"


def once_key(queue: str, task_id: str) -> str:
    """What keeps an id taken when its task is gone; of ours, and next to asynq's keys of the queue."""
    return f"asynq:{{{queue}}}:once:{task_id}"


def check_name(option: str, value: object) -> str:
    """A name that is not blank.

    Raises:
        TaskError: ``task.option.invalid``.
    """
    if not isinstance(value, str) or not value.strip():
        raise _invalid(option, value, "give a text that is not blank")
    if not _is_utf8(value):
        raise _invalid(option, value, "give a text that can be written as UTF-8")
    return value


def _is_utf8(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def seconds_of(option: str, value: object) -> float:
    """A duration in seconds.

    Raises:
        TaskError: ``task.option.invalid``.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not math.isfinite(seconds)
        or not 0 <= seconds < MAX_SECONDS
    ):
        raise _invalid(option, value, "give seconds, 0 or more, or a timedelta")
    return float(seconds)


def _content(payload: object) -> tuple[str, bytes, dict[str, Any]]:
    if isinstance(payload, RawTask):
        task_type, body, given = payload.type, payload.payload, {}
    elif isinstance(payload, TaskPayload):
        task_type, given = payload.task_type, dict(payload.task_options)
        body = b""
    else:
        raise TaskError(
            f"{type(payload).__name__} is no payload: derive it from TaskPayload, or give a RawTask",
            kind=ErrorKind.TASK_TYPE_INVALID,
        )
    if not isinstance(task_type, str) or not task_type.strip():
        raise TaskError(
            f'{type(payload).__qualname__} has no task type: give it task_type = "task:…"',
            kind=ErrorKind.TASK_TYPE_INVALID,
        )
    if not _is_utf8(task_type):
        raise TaskError(f"{task_type!r:.200} cannot be written as UTF-8", kind=ErrorKind.TASK_TYPE_INVALID)
    if not isinstance(payload, RawTask):
        return task_type, encode(payload), given
    if not isinstance(body, bytes):
        raise _invalid("payload", body, "give bytes")
    return task_type, body, given


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    if given.keys() <= _NAMES:
        return
    name = next(name for name in given if name not in _NAMES)
    raise TaskError(
        f"there is no option {name!r}{did_you_mean(name, sorted(_NAMES))}", kind=ErrorKind.TASK_OPTION_INVALID
    )


def _duration(option: str, given: Mapping[str, Any]) -> float:
    return seconds_of(option, given[option]) if option in given else 0.0


def _instant(option: str, given: Mapping[str, Any]) -> float:
    if option not in given:
        return 0.0
    value = given[option]
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _invalid(option, value, "give a datetime with a time zone")
        return value.timestamp()
    return seconds_of(option, value)


def _process_at(given: Mapping[str, Any], now: float) -> float:
    if "process_at" in given and "process_in" in given:
        raise _invalid("process_in", given["process_in"], "process_at is given as well: give one of the two")
    if "process_in" in given:
        return now + _duration("process_in", given)
    return _instant("process_at", given)


def _max_retry(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value > MAX_RETRY_LIMIT:
        raise _invalid("max_retry", value, f"give a whole number up to {MAX_RETRY_LIMIT}")
    return max(0, value)


def _headers(value: object) -> dict[str, str]:
    try:
        headers = dict(msgspec.convert(value, dict[str, str]))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise _invalid("headers", value, "give a mapping of texts to texts") from error
    for name, text in headers.items():
        if name.startswith(OURS):
            raise _invalid("headers", name, f"names that begin with {OURS} are not yours")
        if not _is_utf8(name) or not _is_utf8(text):
            raise _invalid("headers", {name: text}, "give texts that can be written as UTF-8")
    return headers


def _invalid(option: str, value: object, what: str) -> TaskError:
    return TaskError(f"{option}={value!r:.200}: {what}", kind=ErrorKind.TASK_OPTION_INVALID)

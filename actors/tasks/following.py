"""What follows a task: another one that is stored in the step that stores how this one ended.

What follows travels in the headers of the task, where other programs do not look, with an id that it has got already:
however often a step is repeated, it is stored once. What it may know of the task before travels the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
import orjson

from ...messages.codec import MAX_BODY
from ...messages.errors import ErrorKind, TaskError
from ...messages.tasks import DistributeTask, RawTask, TaskMessage, TaskOptions, TaskPayload

__all__ = [
    "FOLLOWING",
    "MAX_STEPS",
    "ON_FAILURE",
    "ON_SUCCESS",
    "OURS",
    "FollowUp",
    "Previous",
    "chain",
    "following",
    "hands_on",
    "headers_with",
    "previous",
    "step_of",
    "users_headers",
    "with_previous",
]

OURS: Final = "understudy."
"""What the names of our headers begin with."""
ON_SUCCESS: Final = "on_success"
ON_FAILURE: Final = "on_failure"
FOLLOWING: Final = (ON_SUCCESS, ON_FAILURE)
PREVIOUS: Final = "previous"
MAX_STEPS: Final = 100
"""How many tasks may follow each other."""


class FollowUp(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that is to be stored when another one has ended.

    Attributes:
        message: the task.
        wait: seconds from then until it may be processed.
        process_at: unix seconds before which it is not processed.
        unique_for: see ``NewTask``.
        then: what follows it, by `on_success` and `on_failure`.
    """

    message: TaskMessage
    wait: float = 0.0
    process_at: float = 0.0
    unique_for: float = 0.0
    then: dict[str, FollowUp] = {}


class Previous(msgspec.Struct, frozen=True, omit_defaults=True):
    """The task that this one follows.

    Attributes:
        id: its id.
        type: its type.
        queue: the name of its queue.
        result: what its handler returned or wrote, as it is stored with a task; empty if that was None, or it failed.
        error: why it was archived; empty if it was done.
    """

    id: str
    type: str
    queue: str
    result: bytes = b""
    error: str = ""

    @property
    def value(self) -> Any:
        """The result, read as JSON; None if it is empty.

        Raises:
            ValueError: it is no JSON.
        """
        return orjson.loads(self.result) if self.result else None


_write = msgspec.json.Encoder().encode
_read_follow_up = msgspec.json.Decoder(FollowUp).decode
_read_previous = msgspec.json.Decoder(Previous).decode


def chain(*steps: Any, on_failure: Any = None) -> DistributeTask:
    """Tasks one after the other: each is stored when the one before it is done.

    ::

        tasks.distribute_batch([chain(Download(url), [Resize(200), {"queue": "slow"}], Publish())])

    Args:
        steps: each a payload, a payload with its options, or a ``DistributeTask``.
        on_failure: follows each of them that is archived and says nothing else.

    Raises:
        TaskError: ``task.option.invalid``: there are none, too many, or what is none.
    """
    if not 1 <= len(steps) <= MAX_STEPS:
        raise TaskError(f"chain: give 1 to {MAX_STEPS} tasks, not {len(steps)}", kind=ErrorKind.TASK_OPTION_INVALID)
    after: DistributeTask | None = None
    for step in reversed(steps):
        payload, given = step_of("chain", step)
        options: dict[str, Any] = dict(given)
        if after is not None:
            if ON_SUCCESS in options:
                raise _invalid("chain", step, "only the last one may have an on_success")
            options[ON_SUCCESS] = after
        if on_failure is not None:
            options.setdefault(ON_FAILURE, on_failure)
        after = DistributeTask(payload, cast("TaskOptions", options))
    assert after is not None
    return after


def step_of(option: str, step: object) -> tuple[TaskPayload[Any] | RawTask, Mapping[str, Any]]:
    """Payload and options of what follows.

    Raises:
        TaskError: ``task.option.invalid``.
    """
    if isinstance(step, DistributeTask):
        return step.payload, step.options
    if isinstance(step, (TaskPayload, RawTask)):
        return step, {}
    if isinstance(step, Sequence) and len(step) == 2 and isinstance(step[1], Mapping):
        return step[0], step[1]
    raise _invalid(option, step, "give a payload, or [payload, options]")


def headers_with(headers: Mapping[str, str], then: Mapping[str, FollowUp]) -> dict[str, str]:
    """A task's headers with what follows it.

    Raises:
        TaskError: ``task.option.invalid``: it is too large.
    """
    texts = {OURS + when: _write(follow_up) for when, follow_up in then.items()}
    for name, text in texts.items():
        if len(text) > MAX_BODY:
            raise TaskError(
                f"{name.removeprefix(OURS)}: what follows takes {len(text):,} bytes, more than {MAX_BODY:,}",
                kind=ErrorKind.TASK_OPTION_INVALID,
            )
    return {**headers, **{name: text.decode() for name, text in texts.items()}}


def following(headers: Mapping[str, str], when: str) -> FollowUp | None:
    """What follows when a task has ended; None: nothing.

    Raises:
        TaskError: ``task.record.invalid``: somebody else has written the header.
    """
    text = headers.get(OURS + when)
    if text is None:
        return None
    try:
        return _read_follow_up(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TaskError(
            f"the header {OURS + when} cannot be read: {error}", kind=ErrorKind.TASK_RECORD_INVALID, cause=error
        ) from error


def hands_on(headers: Mapping[str, str]) -> bool:
    """Whether the result of a task with these headers is handed on."""
    return OURS + ON_SUCCESS in headers


def with_previous(message: TaskMessage, before: Previous, then: Mapping[str, FollowUp]) -> TaskMessage:
    """A task with what it may know of the one before, and with what follows it."""
    headers = headers_with(message.headers, then)
    headers[OURS + PREVIOUS] = _write(before).decode()
    return msgspec.structs.replace(message, headers=headers)


def previous(headers: Mapping[str, str]) -> Previous | None:
    """The task that one with these headers follows; None: none, or that cannot be read."""
    text = headers.get(OURS + PREVIOUS)
    try:
        return None if text is None else _read_previous(text)
    except (msgspec.MsgspecError, ValueError):
        return None


def users_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that are not ours."""
    return {name: text for name, text in headers.items() if not name.startswith(OURS)}


def _invalid(option: str, value: object, what: str) -> TaskError:
    return TaskError(f"{option}={value!r:.200}: {what}", kind=ErrorKind.TASK_OPTION_INVALID)

"""New tasks and the ends of attempts, as the scripts want them."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from ....messages.tasks import TaskMessage, TaskState
from ..engine import Ending
from ..options import NewTask
from .link import text_of_time
from .wire import write_task

__all__ = ["destination", "of_ending", "planned"]


def planned(task: NewTask, place: int, now: float) -> tuple[Any, ...]:
    """A new task as the scripts want it.

    Args:
        task: what is to be stored.
        place: of its queue among the script's keys.
        now: unix seconds.
    """
    message = task.message
    state, score = destination(task, now)
    if not message.unique_key:
        lock: tuple[Any, ...] = (b"", b"0")
    else:
        lock_seconds = task.unique_for + max(0.0, task.process_at - now)
        lock = (message.unique_key, max(1, round(lock_seconds * 1000)))
    return (
        b"%d" % place,
        message.id.encode(),
        write_task(message),
        b"pending" if state is TaskState.PENDING else _NAMES[state],  # an enum's hash takes its time
        score or b"0",
        *lock,
        message.group_key or b"",
        round(task.once_for * 1000) if task.once_for else b"0",
    )


_NAMES: Final = {state: state.value.encode() for state in TaskState}


def destination(task: NewTask, now: float) -> tuple[TaskState, int]:
    """The state of a new task and its number there; in whole seconds, and never before its time."""
    if task.process_at > now:
        return TaskState.SCHEDULED, math.ceil(task.process_at)
    if task.message.group_key:
        return TaskState.AGGREGATING, int(now)
    return TaskState.PENDING, 0


def of_ending(ending: Ending, now: float) -> tuple[Any, ...]:
    """The end of an attempt.

    Returns:
        how, record, score, whether it counts as a failure, lock, whether a result is stored, which, when it is due.
    """
    message = ending.lease.message
    match ending.how:
        case "done" if message.retention > 0 and not ending.forget:
            done = msgspec.structs.replace(message, completed_at=int(now))
            result = (1, ending.result) if ending.result is not None else (0, b"")
            return ("complete", write_task(done), int(now) + message.retention, 0, message.unique_key, *result, 0)
        case "done":
            return ("done", b"", 0, 0, message.unique_key, 0, b"", 0)
        case "retry":
            return ("retry", write_task(_failed(ending, now)), int(ending.at), int(ending.failure), "", 0, b"", 0)
        case "archive":
            return ("archive", write_task(_failed(ending, now)), int(now), 1, "", 0, b"", 0)
        case "requeue":
            return ("requeue", b"", 0, 0, "", 0, b"", 0)
        case "defer":
            return ("defer", b"", math.ceil(ending.at), 0, "", 0, b"", text_of_time(ending.at))


def _failed(ending: Ending, now: float) -> TaskMessage:
    message = ending.lease.message
    retried = message.retried + (ending.how == "retry" and ending.failure)
    return msgspec.structs.replace(message, retried=retried, error_msg=ending.error, last_failed_at=int(now))

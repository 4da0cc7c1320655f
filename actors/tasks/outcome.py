"""What becomes of a task when its handler has failed: the rules, in one place."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

from ...messages.errors import ActorError, ErrorKind, TaskError
from ...messages.redact import clean, text_of
from ...messages.tasks import TaskMessage
from .engine import Ending, Lease
from .following import ON_FAILURE, ON_SUCCESS, Previous, following
from .options import new_task
from .settings import ProcessorSettings

__all__ = ["RevokeTask", "SkipRetry", "after_failure", "followed", "retry_seconds", "text_for"]

logger = logging.getLogger("understudy.tasks")

MAX_ERROR = 1_000
"""Characters of an error's text that are stored with a task."""


class SkipRetry(Exception):
    """Raised by a handler, or the cause of what it raises: archive the task, do not try it again."""


class RevokeTask(Exception):
    """Raised by a handler, or the cause of what it raises: drop the task as if it were done."""


def retry_seconds(retried: int, chance: random.Random) -> float:
    """Seconds until the next attempt, as asynq waits by default: n⁴ + 15 + (0 to 29)·(n+1)."""
    return float(retried**4 + 15 + chance.randint(0, 29) * (retried + 1))


def text_for(error: BaseException) -> str:
    """The text of an error that is stored with a task: with its code and kind, where it has them."""
    if isinstance(error, ActorError):
        return clean(f"{error.code.hex} {error.kind}: {text_of(error)}", MAX_ERROR)
    coded = f"{TaskError.code.hex} {ErrorKind.TASK_HANDLER_FAILED}"
    return clean(f"{coded}: {type(error).__name__}: {text_of(error)}", MAX_ERROR)


def after_failure(
    lease: Lease, error: BaseException, settings: ProcessorSettings, now: float, chance: random.Random
) -> Ending:
    """How an attempt ends that failed with ``error``.

    Args:
        lease: the attempt.
        error: what its handler raised, or why it was ended.
        settings: the processor's.
        now: unix seconds.
        chance: random numbers.
    """
    text = text_for(error)
    message = lease.message
    if _orders(error, RevokeTask):
        return Ending(lease, "done", forget=True)
    if not settings.counts_as_failure(error):
        return Ending(lease, "retry", error=text, at=now + _delay(message, error, settings, chance), failure=False)
    if message.retried >= message.max_retry or _orders(error, SkipRetry) or _is_final(error):
        return Ending(lease, "archive", error=text)
    return Ending(lease, "retry", error=text, at=now + _delay(message, error, settings, chance))


def followed(ending: Ending, now: float) -> Ending:
    """The end of an attempt, with what follows it.

    Args:
        ending: how the attempt ended; its ``result`` is handed on.
        now: unix seconds.
    """
    message = ending.lease.message
    when = {"done": ON_SUCCESS, "archive": ON_FAILURE}.get(ending.how)
    if when is None or not message.headers or ending.forget:
        return ending
    try:
        follow_up = following(message.headers, when)
    except TaskError as error:
        logger.error("task %r of queue %s: %s", message.id, message.queue, error.response.to_json().decode())
        return ending
    if follow_up is None:
        return ending
    before = Previous(message.id, message.type, message.queue, ending.result or b"", ending.error)
    return ending._replace(next=new_task(follow_up, before, now))


def _is_final(error: BaseException) -> bool:
    """Whether another attempt must fail in the same way."""
    return isinstance(error, TaskError) and error.kind in (
        ErrorKind.TASK_PAYLOAD_INVALID,
        ErrorKind.TASK_RESULT_INVALID,
    )


def _delay(message: TaskMessage, error: BaseException, settings: ProcessorSettings, chance: random.Random) -> float:
    seconds = settings.delay_of(message, error)
    return retry_seconds(message.retried, chance) if seconds is None else seconds


def _orders(error: BaseException, order: type[BaseException]) -> bool:
    return any(isinstance(each, order) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes; where there is a circle, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__

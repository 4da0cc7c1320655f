"""How a processor works: all its settings, with asynq's defaults."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...messages.errors import ErrorKind, SpecInvalid
from ...messages.tasks import DEFAULT_QUEUE, RawTask, TaskMessage
from ..reasons import INTERRUPTIONS
from .limits import LimitKey, Rate, limits_of

__all__ = ["Aggregate", "ErrorHandler", "IsFailure", "ProcessorSettings", "RetryDelay"]

logger = logging.getLogger("understudy.tasks")

RetryDelay = Callable[[int, BaseException, TaskMessage], float]
"""Seconds until the next attempt: of the number of retries so far, the error, and the task."""
IsFailure = Callable[[BaseException], bool]
"""Whether an error is a failure; else the task is tried again without using up a retry."""
ErrorHandler = Callable[[TaskMessage, BaseException], None]
"""Is told of every attempt that failed, before it is decided what becomes of the task."""
Aggregate = Callable[[str, Sequence[TaskMessage]], RawTask]
"""Makes the tasks of a group, given by its name, into one."""


def _cpus() -> int:
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class ProcessorSettings:
    """How a processor works. All times are in seconds.

    Attributes:
        concurrency: how many tasks it works on at once; 0 or less: as many as there are CPUs.
        queues: the queues it serves, and their weights.
        strict_priority: a queue is served only when all weightier ones are empty; else weights are shares.
        limits: how often tasks may begin, over all processors on the same queues that say the same: by ``queue:`` and a
            queue's name, and by task type or payload class; see ``Rate``. What may not begin yet waits without using up
            a retry: the whole queue, or the task, which is scheduled.
        retry_delay: None: n⁴ + 15 + (0 to 29)·(n+1), n being the number of retries so far.
        is_failure: None: every error is one.
        error_handler: told of every failed attempt.
        after_cancel: what becomes of a task whose attempt was cancelled: ``retry``, which uses up one of its
            retries, or ``archive``.
        shutdown_timeout: how long a stop waits for handlers; what they do not finish is requeued. The ``shutdown``
            of the processor's child spec must be two seconds longer, so the default is less than asynq's 8.
        heartbeat, forward, recover, janitor, sync: seconds between two rounds of each.
        janitor_batch: how many completed tasks of a queue are deleted in a round.
        aggregate: makes the tasks of a group into one; None: groups are left alone.
        group_grace: a group is complete when nothing was added for so long; at least 1.
        group_max_delay: or so long after its first task; 0: however long that is.
        group_max_size: or as soon as it has so many; 0: however many these are.

    Raises:
        SpecInvalid: ``config.task_processing.invalid``, naming the field.
    """

    concurrency: int = 0
    queues: Mapping[str, int] = field(default_factory=lambda: {DEFAULT_QUEUE: 1})
    strict_priority: bool = False
    limits: Mapping[LimitKey, Rate] = field(default_factory=dict)
    retry_delay: RetryDelay | None = None
    is_failure: IsFailure | None = None
    error_handler: ErrorHandler | None = None
    after_cancel: Literal["retry", "archive"] = "retry"
    shutdown_timeout: float = 3.0
    heartbeat: float = 5.0
    forward: float = 5.0
    recover: float = 60.0
    janitor: float = 8.0
    janitor_batch: int = 100
    sync: float = 5.0
    aggregate: Aggregate | None = None
    group_grace: float = 60.0
    group_max_delay: float = 0.0
    group_max_size: int = 0

    def __post_init__(self) -> None:
        for name in ("heartbeat", "forward", "recover", "janitor", "sync"):
            self._require(name, _is_time(getattr(self, name), above=0.0), "seconds, more than 0")
        for name in ("shutdown_timeout", "group_max_delay"):
            self._require(name, _is_time(getattr(self, name)), "seconds, 0 or more")
        self._require("group_grace", _is_time(self.group_grace) and self.group_grace >= 1, "seconds, 1 or more")
        for name, least in (("janitor_batch", 1), ("group_max_size", 0), ("concurrency", -math.inf)):
            value = getattr(self, name)
            good = isinstance(value, int) and not isinstance(value, bool) and value >= least
            self._require(name, good, f"a whole number, {least} or more")
        self._require("after_cancel", self.after_cancel in ("retry", "archive"), "'retry' or 'archive'")
        limits_of(self.limits)
        for name in ("retry_delay", "is_failure", "error_handler", "aggregate"):
            value = getattr(self, name)
            self._require(name, value is None or callable(value), "a function, or None")

    @property
    def workers(self) -> int:
        """How many tasks are worked on at once."""
        return self.concurrency if self.concurrency > 0 else _cpus()

    def counts_as_failure(self, error: BaseException) -> bool:
        """Whether it is one; also if ``is_failure`` itself raises."""
        if self.is_failure is None:
            return True
        try:
            return bool(self.is_failure(error))
        except INTERRUPTIONS:
            raise
        except BaseException:  # a SystemExit there is no end of the process, as it is none in a handler
            logger.exception("is_failure raised; the error counts as a failure")
            return True

    def delay_of(self, message: TaskMessage, error: BaseException) -> float | None:
        """What ``retry_delay`` says; None if there is none, or it says nothing of use."""
        if self.retry_delay is None:
            return None
        try:
            seconds = float(self.retry_delay(message.retried, error, message))
        except INTERRUPTIONS:
            raise
        except BaseException:
            logger.exception("retry_delay raised; the default is taken")
            return None
        if not _is_time(seconds):
            logger.error("retry_delay returned %r, which is no time; the default is taken", seconds)
            return None
        return seconds

    def tell_failure(self, message: TaskMessage, error: BaseException) -> None:
        """Call the error handler; what it raises is logged and changes nothing."""
        if self.error_handler is not None:
            try:
                self.error_handler(message, error)
            except INTERRUPTIONS:
                raise
            except BaseException:
                logger.exception("error_handler raised")

    def _require(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise SpecInvalid(
                f"ProcessorSettings: {name}={getattr(self, name)!r}: give {wanted}",
                kind=ErrorKind.TASK_PROCESSING_INVALID,
                field=name,
                value=getattr(self, name),
            )


def _is_time(value: object, above: float = -1.0) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
        and value > above
    )

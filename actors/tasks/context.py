"""What a handler knows about the attempt it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ...messages.codec import encode_reply
from ...messages.errors import CodecError, ErrorKind, TaskError
from ...messages.tasks import RawTask
from ..background import check_cancelled
from .engine import Lease, TaskEngine
from .following import Previous, previous, users_headers

__all__ = ["TaskContext", "as_result"]


class TaskContext:
    """An attempt at a task, as its handler and its middleware see it.

    Attributes:
        task: type and payload, as bytes.
        payload: the payload as an object; None for a handler that takes a ``RawTask``.
        deadline: unix seconds at which the attempt is cancelled; 0: never.
    """

    def __init__(self, engine: TaskEngine, lease: Lease, deadline: float) -> None:
        self._engine = engine
        self._lease = lease
        self._cancelled = False
        self._written: bytes | None = None
        self.task = RawTask(lease.message.type, lease.message.payload)
        self.payload: Any = None
        self.deadline = deadline

    @property
    def id(self) -> str:
        """The task's id."""
        return self._lease.message.id

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._lease.message.queue

    @property
    def retried(self) -> int:
        """How often it was tried again before."""
        return self._lease.message.retried

    @property
    def max_retry(self) -> int:
        """How often it is tried again at most."""
        return self._lease.message.max_retry

    @property
    def headers(self) -> Mapping[str, str]:
        """The texts that travel with it."""
        headers = self._lease.message.headers
        return users_headers(headers) if headers else headers

    @property
    def previous(self) -> Previous | None:
        """The task that this one follows, with its result or its error; None if it follows none."""
        headers = self._lease.message.headers
        return previous(headers) if headers else None

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is to end: its result will not be taken."""
        return self._cancelled

    def check_cancelled(self) -> None:
        """End the handler here if the attempt was cancelled: for loops that spend their time in C calls."""
        check_cancelled()

    def write_result(self, result: object) -> None:
        """Store a result now; it can be read while the attempt goes on, and afterwards where the task is kept.

        Args:
            result: bytes, or anything that can be written as JSON.

        Raises:
            TaskError: ``task.result.invalid``; ``task.lease.expired``: this attempt counts no longer.
            StorageError: it could not be stored.
        """
        written = as_result(result)
        if not self._engine.write_result(self._lease, written):
            raise TaskError(f"task {self.id!r}: this attempt counts no longer", kind=ErrorKind.TASK_LEASE_EXPIRED)
        self._written = written

    async def awrite_result(self, result: object) -> None:
        """As ``write_result``, in a coroutine."""
        await asyncio.to_thread(self.write_result, result)


def as_result(value: object) -> bytes:
    """What a handler returned, as it is stored.

    Raises:
        TaskError: ``task.result.invalid``.
    """
    if isinstance(value, bytes):
        return value
    try:
        return encode_reply(value)
    except CodecError as error:
        raise TaskError(
            f"what the handler returned cannot be stored: {error}", kind=ErrorKind.TASK_RESULT_INVALID, cause=error
        ) from error

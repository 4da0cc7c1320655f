"""The connection under the engine: scripts sent until a reply comes, errors as codes, news of what was written."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeVar

from ....messages.errors import ErrorKind, StorageError
from ...lock.listening import Listener
from ...redis_link import Command, RedisLink, Script, ServerDenied, ServerLost, is_denial, slot_of
from ...redis_url import RedisUrl
from . import keys

__all__ = ["RedisConnection", "chunks", "text_of_time"]

T = TypeVar("T")

AT_ONCE: Final = 500
"""Tasks of one script at most: Redis does nothing else meanwhile."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one script's tasks; one that is larger is alone."""


class RedisConnection:
    """A connection to the queues in a Redis.

    Args:
        url: which Redis. asynq's keys are fixed, so it has no prefix.
        now: unix seconds.
    """

    def __init__(self, url: RedisUrl, now: Callable[[], float] = time.time) -> None:
        self._url = url
        self._now = now
        self._link = RedisLink(url)
        self._client = uuid.uuid4().hex.encode()
        self._threads = itertools.count(1)
        self._calls = itertools.count(1)
        self._local = threading.local()
        self._changed = threading.Condition()
        self._news = self._woken = 0
        self._listener = Listener(self._link, keys.WAKE, self._hear)

    def now(self) -> float:
        """Unix seconds."""
        return self._now()

    def check(self) -> None:
        """See `Server.check`."""
        try:
            self._link.check()
        except (ServerLost, ServerDenied) as error:
            self._fail(error)

    def close(self) -> None:
        """See ``TaskEngine.close``."""
        self._listener.close()
        self._link.close()
        self.wake()

    # --- sending -----------------------------------------------------------------------------------------

    def _send(self, commands: Sequence[Command], key: bytes, until: float | None = None) -> list[Any]:
        """Send commands, again until their replies come, within the URL's timeout.

        Args:
            commands: what may be sent twice.
            key: one of their keys, which are all in one slot.
            until: when to give up, in seconds of ``time.monotonic``, if that is before the URL's timeout.

        Raises:
            StorageError: there was no answer, or one of them was refused.
        """
        latest = time.monotonic() + self._url.timeout
        try:
            replies = self._link.insist(commands, latest if until is None else min(until, latest), self._slot(key) or 0)
        except (ServerLost, ServerDenied) as error:
            self._fail(error)
        for reply in replies:
            if isinstance(reply, Exception):
                self._refuse(reply)
        return replies

    def _ask(self, *command: Any) -> Any:
        """Send one command; its key is its second part."""
        return self._send([command], command[1])[0]

    def _run(self, script: Script, prefixes: Sequence[bytes], *arguments: Any) -> Any:
        """Run a `plain` script on queues of one slot."""
        return self._send([("EVALSHA", script, len(prefixes), *prefixes, *arguments)], prefixes[0])[0]

    def _run_once(
        self,
        script: Script,
        prefixes: Sequence[bytes],
        *arguments: Any,
        until: float | None = None,
    ) -> Any:
        """Run a `once` script on queues of one slot.

        Args:
            script: what to run.
            prefixes: of the queues.
            arguments: what it takes beside the number of the call.
            until: see `_send`.
        """
        return self._send([self._once(script, prefixes, *arguments)], prefixes[0], until)[0]

    def _once(self, script: Script, prefixes: Sequence[bytes], *arguments: Any, line: bytes = b"") -> Command:
        """The command that runs a `once` script; of those that are sent at once, each has a line of its own."""
        memo = keys.memo(self._caller() + line, self._slot(prefixes[0]))
        return ("EVALSHA", script, 1 + len(prefixes), memo, *prefixes, next(self._calls), *arguments)

    def _caller(self) -> bytes:
        """Names this connection and thread: a thread waits for one reply at a time."""
        caller: bytes | None = getattr(self._local, "caller", None)
        if caller is None:
            caller = self._local.caller = b"%b:%d" % (self._client, next(self._threads))
        return caller

    def _slot(self, key: bytes) -> int | None:
        return slot_of(key) if self._link.clustered else None

    def _by_slot(self, items: Iterable[T], queue_of: Callable[[T], str]) -> list[list[T]]:
        """Items whose queues are in one slot, together."""
        if not self._link.clustered:
            every = list(items)
            return [every] if every else []
        groups: dict[Hashable, list[T]] = {}
        for item in items:
            groups.setdefault(self._slot(keys.of_queue(queue_of(item))), []).append(item)
        return list(groups.values())

    def _fail(self, error: ServerLost | ServerDenied) -> NoReturn:
        if self._link.closed:
            text, kind = "the connection to the queues is closed", ErrorKind.REDIS_UNAVAILABLE
        elif isinstance(error, ServerLost):
            text, kind = str(error), ErrorKind.REDIS_UNAVAILABLE
        else:
            text, kind = str(error), ErrorKind.REDIS_DENIED
        raise StorageError(text, kind=kind, cause=error.__cause__) from error

    def _refuse(self, reply: Exception) -> NoReturn:
        text = f"{self._url}: {reply}"
        if "READONLY" in text:
            self._link.renew()
            raise StorageError(text, kind=ErrorKind.REDIS_UNAVAILABLE, cause=reply) from reply
        kind = ErrorKind.REDIS_DENIED if is_denial(reply) else ErrorKind.REDIS_FAILED
        raise StorageError(text, kind=kind, cause=reply) from reply

    # --- waiting -----------------------------------------------------------------------------------------

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        """See ``TaskEngine.wait``. Who enqueues here tells it; a Go process does not, so look again after a while."""
        self._listener.start()
        until = time.monotonic() + timeout
        with self._changed:
            woken = self._woken
        while True:
            news = self._news
            if self._has_pending(queues):
                return True
            with self._changed:
                self._changed.wait_for(
                    lambda news=news: self._news != news or self._woken != woken,  # type: ignore[misc]
                    max(0.0, until - time.monotonic()),
                )
                if self._woken != woken or time.monotonic() >= until:
                    return False

    def wake(self) -> None:
        """See ``TaskEngine.wake``."""
        with self._changed:
            self._woken += 1
            self._changed.notify_all()

    def _hear(self, _prefix: str | None) -> None:
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def _has_pending(self, queues: Sequence[str]) -> bool:
        for group in self._by_slot(queues, str):
            prefixes = list(map(keys.of_queue, group))
            commands = [(name, prefix + what) for prefix in prefixes for name, what in _LOOK]
            replies = self._send(commands, prefixes[0])
            if any(length and not paused for length, paused in zip(replies[::2], replies[1::2], strict=True)):
                return True
        return False


_LOOK: Final = (("LLEN", b"pending"), ("EXISTS", b"paused"))


def chunks(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in parts that one script may have.

    Args:
        items: what to divide, in order.
        size_of: how many bytes an item has.
    """
    part: list[T] = []
    size = 0
    for item in items:
        length = size_of(item)
        if part and (len(part) >= AT_ONCE or size + length > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part


def text_of_time(at: float) -> str:
    """An instant for a script to compare with."""
    return f"{at:.6f}"

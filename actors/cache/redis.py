"""A cache in Redis.

Operations that come together go as one: reads alone as a pipeline, anything else as one script (see `scripts`), so
a batch whose reply was lost can be sent again and is not done twice. That holds as long as Redis keeps what it has
been told: a server that comes back without its data, or a replica that took over before it had the last writes, may
do a batch a second time that was under way at that moment.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from math import ceil, isfinite
from typing import Any, Final, TypeAlias

import orjson

from ...messages.cache import (
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
)
from ...messages.codec import encode_reply
from ...messages.errors import CacheError, CodecError, ErrorKind
from ..redis_keys import beside, in_slot
from ..redis_link import RedisLink, ServerDenied, ServerLost, is_denial, slot_of
from ..redis_url import RedisUrl
from .backend import DEFAULT_LIST_LIMIT, Operation, Outcome
from .scripts import BATCH

MAX_OPERATIONS: Final = 1_000
MAX_BYTES: Final = 4 * 1024 * 1024
"""Of one script at most: Redis does nothing else meanwhile."""
REMEMBERED: Final = b"600000"
"""Milliseconds that the outcome of a connection's last batch is kept."""
MAX_EXPIRY: Final = 2**52
"""Milliseconds: what lasts for longer lasts for 140,000 years."""
MOST_ITEMS: Final = 2**52
"""Of a list: more than any server holds, and still a number in Lua."""
DEMOTED_PAUSE: Final = 0.05
"""Seconds until the next one is asked who the master is."""

_Step: TypeAlias = tuple[bytes, bytes, tuple[bytes, ...]]
"""An operation as the script wants it: what to do, the key, its arguments."""

_READS: Final = frozenset((b"g", b"i", b"r"))


class RedisCache:
    """A connection to a cache in Redis; a backend of the cache actor. Used by one thread; any may close it.

    Args:
        url: Which Redis.
    """

    def __init__(self, url: RedisUrl) -> None:
        self._link = RedisLink(url)
        self._prefix = url.prefix.encode()
        self._timeout = url.timeout
        self._client = uuid.uuid4().hex.encode()
        self._batch = 0

    def run(self, operations: Sequence[Operation], timeout: float | None = None) -> list[Outcome]:
        """See `CacheBackend.run`."""
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        outcomes: list[Outcome] = [None] * len(operations)
        groups: dict[int, list[tuple[int, _Step]]] = {}
        for number, operation in enumerate(operations):
            try:
                step = self._step(operation)
            except CacheError as refused:
                outcomes[number] = refused
            else:
                slot = slot_of(step[1]) if self._link.clustered else 0
                groups.setdefault(slot, []).append((number, step))
        for slot, group in groups.items():
            for chunk in _chunks(group):
                replies = self._carry_out([step for _, step in chunk], slot, until)
                for (number, step), reply in zip(chunk, replies, strict=True):
                    outcomes[number] = _outcome(operations[number], step[0], reply)
        return outcomes

    def check(self) -> None:
        """See `Server.check`."""
        try:
            self._link.check()
        except (ServerLost, ServerDenied) as error:
            kind = ErrorKind.CACHE_UNAVAILABLE if isinstance(error, ServerLost) else ErrorKind.CACHE_DENIED
            raise CacheError(str(error), kind=kind) from error.__cause__

    def close(self) -> None:
        """See `CacheBackend.close`."""
        self._link.close()

    # --- writing down ------------------------------------------------------------------------------------

    def _step(self, operation: Operation) -> _Step:
        key = self._key(operation.key)
        match operation:
            case CacheGet():
                return (b"g", key, ())
            case CacheSet(value=value, expires=expires):
                return (b"s", key, (_json(operation.key, value), _milliseconds(expires)))
            case CacheAppend(item=item, item_id=item_id, limit=limit, expires=expires):
                limit = DEFAULT_LIST_LIMIT if limit is None else limit
                if limit < 1:
                    raise _invalid(f"limit={operation.limit!r} must be at least 1")
                text = _json(operation.key, item)
                return (
                    b"a",
                    key,
                    (text, _utf8("item_id", item_id), b"%d" % min(limit, MOST_ITEMS), _milliseconds(expires)),
                )
            case CacheItems(last=last):
                return (b"i", key, (b"%d" % (0 if last is None else -min(last, MOST_ITEMS)),))
            case CacheDelete():
                return (b"d", key, ())
            case CacheExpire(expires=expires):
                return (b"x", key, (_milliseconds(expires),))
            case CacheRemaining():
                return (b"r", key, ())

    def _key(self, key: str) -> bytes:
        return self._prefix + _utf8("key", key)

    # --- sending -----------------------------------------------------------------------------------------

    def _carry_out(self, steps: list[_Step], slot: int, until: float) -> list[Any]:
        """Have the steps done, once, and return their replies; or one error for each."""
        reads = all(step[0] in _READS for step in steps)
        commands = [_read(step) for step in steps] if reads else [self._script(steps, slot)]
        try:
            replies = self._link.insist(commands, until, slot)
            while not reads and self._link.moves and _demoted(replies[0]) and time.monotonic() < until:
                self._link.renew()  # nothing of it was done
                time.sleep(DEMOTED_PAUSE)
                replies = self._link.insist(commands, until, slot)
        except ServerLost as lost:
            closed = self._link.closed
            kind = ErrorKind.CACHE_CLOSED if closed else ErrorKind.CACHE_UNAVAILABLE
            text = "the connection to the cache is closed" if closed else str(lost)
            return [CacheError(text, kind=kind, cause=lost.__cause__) for _ in steps]
        except ServerDenied as denied:
            return [CacheError(str(denied), kind=ErrorKind.CACHE_DENIED, cause=denied.__cause__) for _ in steps]
        if reads:
            return [_refused(reply) if isinstance(reply, Exception) else ("R", reply) for reply in replies]
        (reply,) = replies
        return [_refused(reply)] * len(steps) if isinstance(reply, Exception) else _unpacked(reply)

    def _script(self, steps: list[_Step], slot: int) -> list[Any]:
        self._batch += 1
        clustered = self._link.clustered
        own = b"{" + in_slot(slot) + b"}:" if clustered else b""
        keys = [self._prefix + b"understudy:cache:" + own + self._client]
        arguments: list[bytes] = [b"%d" % self._batch, REMEMBERED]
        for what, key, rest in steps:
            keys += (key, beside(key, b"ids", clustered=clustered))
            arguments.append(what)
            arguments += rest
        return ["EVALSHA", BATCH, len(keys), *keys, *arguments]


def _chunks(group: list[tuple[int, _Step]]) -> list[list[tuple[int, _Step]]]:
    chunks: list[list[tuple[int, _Step]]] = [[]]
    size = 0
    for each in group:
        length = len(each[1][1]) + sum(map(len, each[1][2]))
        if chunks[-1] and (len(chunks[-1]) >= MAX_OPERATIONS or size + length > MAX_BYTES):
            chunks.append([])
            size = 0
        chunks[-1].append(each)
        size += length
    return chunks


def _read(step: _Step) -> tuple[Any, ...]:
    what, key, rest = step
    if what == b"i":
        return ("LRANGE", key, rest[0], -1)
    return ("GET" if what == b"g" else "PTTL", key)


def _unpacked(reply: list[Any] | bytes) -> list[tuple[str, Any]]:
    """The code of each step of a script, with what was read or the text of the fault."""
    if isinstance(reply, bytes):
        return [(code, None) for code in reply.decode()]
    codes, read, texts = reply
    values, faults = iter(read), iter(texts)
    return [
        (code, next(values) if code == "R" else next(faults).decode("utf-8", "replace") if code == "F" else None)
        for code in codes.decode()
    ]


def _refused(error: Exception) -> tuple[str, str]:
    """The code of an error reply, as the script would give it."""
    text = str(error)
    if text.startswith("WRONGTYPE"):
        return "W", text
    if text.startswith("OOM"):
        return "O", text
    return "P" if is_denial(error) else "F", text


def _outcome(operation: Operation, what: bytes, reply: tuple[str, Any] | CacheError) -> Outcome:
    if isinstance(reply, CacheError):
        return reply
    code, value = reply
    if code == "R":
        if what == b"i":
            return [_loads(operation.key, item) for item in value]
        if what == b"g":
            return None if value is None else _loads(operation.key, value)
        return None if value < 0 else value / 1000
    return _CHANGED[code] if code in _CHANGED else _fault(operation, code, value or "refused")


_CHANGED: Final = {"N": None, "1": True, "0": False}


def _fault(operation: Operation, code: str, text: str) -> CacheError:
    key = operation.key
    match code:
        case "W":
            wanted = "list" if isinstance(operation, (CacheAppend, CacheItems)) else "value"
            other = "value" if wanted == "list" else "list"
            return CacheError(f"key {key!r} holds a {other}, not a {wanted}", kind=ErrorKind.CACHE_WRONG_TYPE)
        case "O":
            return CacheError(f"key {key!r}: the server has reached its maxmemory", kind=ErrorKind.CACHE_FULL)
        case "P":
            text = f"key {key!r}: the user may not do {type(operation).__name__}"
            return CacheError(text, kind=ErrorKind.CACHE_DENIED)
        case _:
            return CacheError(f"key {key!r}: {text}", kind=ErrorKind.CACHE_FAILED)


def _demoted(reply: Any) -> bool:
    """Whether the server that carried a script out has become somebody's replica."""
    return isinstance(reply, list) and len(reply) == 3 and any(b"READONLY" in text for text in reply[2])


def _loads(key: str, text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        what = f"key {key!r} holds no JSON value: something else wrote it"
        return CacheError(what, kind=ErrorKind.CACHE_WRONG_TYPE, cause=error)


def _json(key: str, value: object) -> bytes:
    try:
        return encode_reply(value)
    except CodecError as error:
        text = f"key {key!r}: {str(error).removeprefix('reply: ')}"
        raise CacheError(text, kind=ErrorKind.CACHE_REQUEST_INVALID, cause=error) from error


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _invalid(f"{what}={text!r} cannot be written as UTF-8") from error


def _milliseconds(expires: float | None) -> bytes:
    if expires is None:
        return b""
    if not (isfinite(expires) and expires > 0):
        raise _invalid(f"expires={expires!r} must be finite and above 0 seconds")
    return b"%d" % max(1, ceil(min(expires, MAX_EXPIRY / 1000) * 1000))  # the product of a huge one is no number


def _invalid(text: str) -> CacheError:
    return CacheError(text, kind=ErrorKind.CACHE_REQUEST_INVALID)

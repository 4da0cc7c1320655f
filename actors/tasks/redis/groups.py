"""Groups in Redis: tasks that are gathered to be made into one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from ....messages.errors import TaskDuplicate, TaskIdConflict
from ....messages.tasks import TaskMessage
from ...redis_link import Script
from ..engine import ARCHIVE_SECONDS
from ..options import NewTask
from . import keys
from .arguments import planned
from .link import RedisConnection
from .lua import once, plain
from .wire import buried, read_task, write_task

__all__ = ["RedisGroups"]

SET_SECONDS: Final = 120
"""How long an aggregator has to make a set into one task."""

_GROUPS: Final[Script] = plain(
    """
local names = {}
for _, group in ipairs(call('SMEMBERS', KEYS[1] .. 'groups')) do
  if call('ZCARD', KEYS[1] .. 'g:' .. group) > 0 then names[#names + 1] = group end
end
table.sort(names)
return names
"""
)

_GATHER: Final[Script] = plain(
    """
-- now, group, grace, delay, most, the set's id, its deadline; id and msg of each is returned
local p, now, group, most = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[5])
local all, set, found = p .. 'g:' .. group, p .. 'g:' .. group .. ':' .. ARGV[6], {}
if call('EXISTS', set) == 0 then
  local oldest, newest = call('ZRANGE', all, 0, 0, 'WITHSCORES'), call('ZRANGE', all, -1, -1, 'WITHSCORES')
  if #oldest == 0 then return found end
  local full = most > 0 and call('ZCARD', all) >= most
  local old = tonumber(ARGV[4]) > 0 and tonumber(oldest[2]) <= now - tonumber(ARGV[4])
  if not (full or old or tonumber(newest[2]) <= now - tonumber(ARGV[3])) then return found end
  local taken = call('ZRANGE', all, 0, most - 1, 'WITHSCORES')
  for at = 1, #taken, 2 do
    call('ZADD', set, taken[at + 1], taken[at])
    call('ZREM', all, taken[at])
  end
  call('ZADD', p .. 'aggregation_sets', ARGV[7], set)
  if call('ZCARD', all) == 0 then call('SREM', p .. 'groups', group) end
end
for _, id in ipairs(call('ZRANGE', set, 0, -1)) do
  local msg = redis.pcall('HGET', task(p, id), 'msg')
  found[#found + 1], found[#found + 2] = id, type(msg) == 'string' and msg or ''
end
return found
"""
)

_BURY: Final[Script] = plain(
    """
-- the set's key, now, archived since, then id and msg of each: taken out of the set, and archived
local p, set = KEYS[1], ARGV[1]
for at = 4, #ARGV, 2 do
  local id, key = ARGV[at], task(p, ARGV[at])
  if call('ZREM', set, id) == 1 then
    if call('TYPE', key).ok ~= 'hash' then call('DEL', key) end
    call('ZADD', p .. 'archived', ARGV[2], id)
    call('HSET', key, 'msg', ARGV[at + 1], 'state', 'archived')
  end
end
if call('EXISTS', set) == 0 then call('ZREM', p .. 'aggregation_sets', set) end
trim(p, ARGV[3])
"""
)

_DROP: Final[Script] = once(
    """
-- now, the set's key, then for what was made of it: ns, place, and what `store` takes
if told then return told end
local p, set = KEYS[2], ARGV[3]
local deadline = call('ZSCORE', p .. 'aggregation_sets', set)
if not deadline or tonumber(deadline) <= tonumber(ARGV[2]) then return remember('0') end
if ARGV[4] and call('EXISTS', task(p, ARGV[6])) == 1 then return remember('c') end
local ids, members = call('ZRANGE', set, 0, -1), {}
for _, id in ipairs(ids) do members[id] = true end
local holder = ARGV[4] and ARGV[10] ~= '' and call('GET', ARGV[10])
if holder and not members[holder] then return remember('d') end -- the members keep their locks
for _, id in ipairs(ids) do release(p, id) end
if ARGV[4] then
  local code = store(p, 6, ARGV[4])
  if code ~= '1' then return remember(code) end
end
for _, id in ipairs(ids) do call('DEL', task(p, id)) end
call('DEL', set)
call('ZREM', p .. 'aggregation_sets', set)
wake()
return remember('1')
""",
    storing=True,
)

_RECLAIM: Final[Script] = plain(
    """
-- now; how many tasks were given back is returned
local given = 0
for _, p in ipairs(KEYS) do
  for _, set in ipairs(call('ZRANGE', p .. 'aggregation_sets', '-inf', ARGV[1], 'BYSCORE')) do
    local all = set:match('^(.*):[^:]*$')
    local taken = call('ZRANGE', set, 0, -1, 'WITHSCORES')
    for at = 1, #taken, 2 do call('ZADD', all, taken[at + 1], taken[at]) end
    if #taken > 0 then call('SADD', p .. 'groups', all:sub(#p + 3)) end
    call('DEL', set)
    call('ZREM', p .. 'aggregation_sets', set)
    given = given + #taken / 2
  end
end
return given
"""
)


class RedisGroups(RedisConnection):
    """The part of the engine that aggregators use. The id of a set is its key."""

    def gather(
        self, queue: str, group: str, *, grace: float, max_delay: float, max_size: int
    ) -> tuple[str, list[TaskMessage]] | None:
        """See ``TaskEngine.gather``."""
        prefix, unique, now = keys.of_queue(queue), str(uuid.uuid4()), int(self._now())
        limits = (repr(float(grace)), repr(float(max_delay)), max_size)
        found = self._run(_GATHER, [prefix], now, group, *limits, unique, now + SET_SECONDS)
        if not found:
            return None
        set_id, messages, unread = f"{prefix.decode()}g:{group}:{unique}", [], []
        for task_id, blob in zip(found[::2], found[1::2], strict=True):
            name = task_id.decode("utf-8", "replace")
            message = read_task(blob, queue, name)
            if message is not None:
                messages.append(message)
            else:
                unread += [task_id, write_task(buried(blob, queue, name, now))]
        if unread:
            self._run(_BURY, [prefix], set_id, now, now - ARCHIVE_SECONDS, *unread)
        return (set_id, messages) if messages else None

    def drop_set(self, queue: str, set_id: str, made: NewTask | None = None) -> bool:
        """See ``TaskEngine.drop_set``. The locks of unique members are released with them."""
        prefix, now = keys.of_queue(queue), self._now()
        arguments: list[Any] = [int(now), set_id]
        if made is not None:
            arguments += [int(now * 1e9), *planned(made, 1, now)]
        code: bytes = self._run_once(_DROP, [prefix], *arguments)
        if code == b"c":
            raise TaskIdConflict(f"queue {queue}: the id of what was made of {set_id!r} is taken by another task")
        if code == b"d":
            raise TaskDuplicate(f"queue {queue}: a task like what was made of {set_id!r} is there already")
        return code == b"1"

    def reclaim(self, queues: Sequence[str]) -> int:
        """See ``TaskEngine.reclaim``. The group's name is noted again, which asynq does not do."""
        return sum(
            self._run(_RECLAIM, list(map(keys.of_queue, group)), int(self._now()))
            for group in self._by_slot(queues, str)
        )

    def groups(self, queue: str) -> list[str]:
        """See ``TaskEngine.groups``."""
        return [name.decode("utf-8", "replace") for name in self._run(_GROUPS, [keys.of_queue(queue)])]

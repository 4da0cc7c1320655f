"""What the scripts share: functions in Lua, and how a script is put together.

A script takes the prefixes of queues as its keys, `asynq:{queue}:`, and gets to the keys of a queue by its prefix. All
of these are in the slot of the queue's name. Instants come as arguments, from the engine's clock.
"""

from __future__ import annotations

from typing import Final

from ...redis_link import Script
from .keys import WAKE

__all__ = ["MEMO_MILLISECONDS", "once", "plain"]

MEMO_MILLISECONDS: Final = 60_000
"""How long it is remembered what a script came to: much longer than a caller tries to get its reply."""

_ONCE: Final = f"""
local memo, number, told = KEYS[1], ARGV[1], nil
local last, reply = (redis.call('GET', memo) or ''):match('^(%d+):(.*)$')
if last == number then told = reply end
if last and tonumber(last) > tonumber(number) then
  return redis.error_reply('UNDERSTUDY a later call of this thread was carried out')
end
local function remember(reply)
  redis.call('SET', memo, number .. ':' .. reply, 'PX', {MEMO_MILLISECONDS})
  return reply
end
"""
"""A script whose reply was lost is not carried out again: `told` is its reply. One that comes too late is refused."""

_QUEUES: Final = f"""
local call = redis.call
local function task(p, id) return p .. 't:' .. id end
local function attempts(p) return 'understudy' .. p:sub(6) .. 'attempts' end
local function due(p) return 'understudy' .. p:sub(6) .. 'due' end

-- What is no hash in the place of a task is not its record: it gives way, as nobody could go on with it.
local function mend(p, id)
  local kind = call('TYPE', task(p, id)).ok
  if kind ~= 'hash' and kind ~= 'none' then call('DEL', task(p, id)) end
end

-- Pending: at the head, served from the tail. Who waits is told where there was nothing before this script, which does
-- nothing but add to it.
local woken, looked = {{}}, {{}}
local function wakes(p)
  if looked[p] then return end
  looked[p] = true
  if call('LLEN', p .. 'pending') == 0 then woken[p] = true end
end
local function wake() for p in pairs(woken) do redis.pcall('PUBLISH', '{WAKE.decode()}', p) end end
local function to_pending(p, id, ns, ...)
  wakes(p)
  call('LPUSH', p .. 'pending', id)
  call('HSET', task(p, id), 'state', 'pending', 'pending_since', ns, ...)
end

-- A field of a record, by its number; '' where it is not there.
local function field(msg, wanted)
  local at, found = 1, ''
  local function varint()
    local value, scale = 0, 1
    while true do
      local byte = msg:byte(at)
      if not byte then return nil end
      at = at + 1
      value, scale = value + byte % 128 * scale, scale * 128
      if byte < 128 then return value end
    end
  end
  while at <= #msg do
    local tag = varint()
    local kind = tag and tag % 8
    if kind == 0 then varint()
    elseif kind == 1 then at = at + 8
    elseif kind == 5 then at = at + 4
    elseif kind == 2 then
      local length = varint()
      if not length then return found end
      if tag == wanted * 8 + 2 then found = msg:sub(at, at + length - 1) end
      at = at + length
    else return found end
  end
  return found
end

-- Locks. asynq notes them in the hash, but for tasks of a group only in the record.
local function unlock(id, lock) if lock ~= '' and redis.pcall('GET', lock) == id then call('DEL', lock) end end
local function release(p, id)
  local found = call('HMGET', task(p, id), 'unique_key', 'msg')
  unlock(id, found[1] or field(found[2] or '', 10))
end

-- The archive keeps the latest 9,999, for 90 days.
local function trim(p, since)
  for _, old in ipairs({{
    call('ZRANGE', p .. 'archived', '-inf', since, 'BYSCORE'),
    call('ZRANGE', p .. 'archived', 0, -10000),
  }}) do
    for _, id in ipairs(old) do
      call('ZREM', p .. 'archived', id)
      call('DEL', task(p, id))
    end
  end
end

-- A lease is held by the attempt that set it last.
local function held(p, id, token, now)
  local score = call('ZSCORE', p .. 'lease', id)
  return score and tonumber(score) > now and call('HGET', attempts(p), id) == token .. ':' .. score
end
local function count(p, day, processed, failed)
  local function add(name, number)
    local key = p .. name .. ':' .. day
    if redis.pcall('INCRBY', key, number) == number then call('EXPIRE', key, 7776000) end
  end
  if processed == 0 then return end
  add('processed', processed)
  if failed > 0 then add('failed', failed) end
  local total = redis.pcall('INCRBY', p .. 'processed', processed)
  if type(total) == 'table' then -- past the greatest number: both begin anew
    call('SET', p .. 'processed', processed)
    call('SET', p .. 'failed', failed)
  elseif failed > 0 then redis.pcall('INCRBY', p .. 'failed', failed) end
end
"""
"""What is done to queues."""

_STORE: Final = """
-- Store a new task, which is said by the arguments from `at` on: id, msg, state, score, lock, its milliseconds, group,
-- and for how many milliseconds the id stays taken. '1'; 'd' where a task like it holds the lock, 'c' where its id is
-- taken: those leave no trace.
local function store(p, at, ns)
  local id, msg, state, score = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local lock, ttl, group, once = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local key, taken = task(p, id)
  if once ~= '0' then taken = 'understudy' .. p:sub(6) .. 'once:' .. id end
  if lock ~= '' and call('EXISTS', lock) == 1 then return 'd' end
  if call('EXISTS', key) == 1 or (taken and call('EXISTS', taken) == 1) then return 'c' end
  if lock ~= '' then call('SET', lock, id, 'PX', ttl) end
  if taken then call('SET', taken, id, 'PX', once) end
  if state == 'aggregating' then
    call('HSET', key, 'msg', msg, 'state', state, 'group', group)
    call('ZADD', p .. 'g:' .. group, score, id)
    call('SADD', p .. 'groups', group)
    return '1'
  end
  if state == 'pending' then
    to_pending(p, id, ns, 'msg', msg)
  else
    call('HSET', key, 'msg', msg, 'state', state)
    call('ZADD', p .. state, score, id)
  end
  if lock ~= '' then call('HSET', key, 'unique_key', lock) end
  return '1'
end
"""


def once(body: str, *, storing: bool = False) -> Script:
    """A script that changes something, at most once for each call.

    Its first key is the caller's memo, its first argument the number of the call. It returns ``told`` where that is
    not nil, and what it comes to through ``remember``.

    Args:
        body: in Lua.
        storing: whether it stores new tasks.
    """
    return Script(_ONCE + _QUEUES + (_STORE if storing else "") + body)


def plain(body: str) -> Script:
    """A script that only looks, or that may be carried out twice.

    Args:
        body: in Lua.
    """
    return Script(_QUEUES + body)

"""The scripts for the way of a task: each of its steps changes all keys of the task at once."""

from __future__ import annotations

from typing import Final

from ...redis_link import Script
from .lua import once, plain

__all__ = ["DEQUEUE", "ENQUEUE", "EXPIRED", "EXTEND", "FINISH", "FORWARD", "SWEEP", "WRITE_RESULT"]

ENQUEUE: Final[Script] = once(
    """
-- ns, the set of queues or '' where that is in another slot, then for each: place, and what `store` takes
if told then return told end
if ARGV[3] ~= '' then
  for place = 2, #KEYS do call('SADD', ARGV[3], KEYS[place]:sub(8, -3)) end -- asynq:{queue}:
end
local codes = {}
for at = 4, #ARGV, 9 do codes[#codes + 1] = store(KEYS[1 + ARGV[at]], at + 1, ARGV[2]) end
wake()
return remember(table.concat(codes))
""",
    storing=True,
)

DEQUEUE: Final[Script] = once(
    """
-- count, token, until; place, id and msg of each is returned
local left, token, till, found = tonumber(ARGV[2]), ARGV[3], ARGV[4], {}
local function add(place, id, msg)
  found[#found + 1], found[#found + 2], found[#found + 3] = place, id, msg or ''
end
for place = 1, #KEYS - 1 do
  local p = KEYS[1 + place]
  if told then -- those that were dequeued when the reply was lost
    local all, mark = call('HGETALL', attempts(p)), token .. ':'
    for at = 1, #all, 2 do
      if all[at + 1]:sub(1, #mark) == mark then add(place, all[at], call('HGET', task(p, all[at]), 'msg')) end
    end
  elseif left > 0 and call('EXISTS', p .. 'paused') == 0 then
    local ids = call('RPOP', p .. 'pending', left)
    if ids and #ids > 0 then
      left = left - #ids
      call('LPUSH', p .. 'active', unpack(ids))
      for _, id in ipairs(ids) do
        call('ZADD', p .. 'lease', till, id)
        call('HSET', attempts(p), id, token .. ':' .. till)
        local key = task(p, id)
        local msg = redis.pcall('HGET', key, 'msg')
        if type(msg) == 'table' then -- no hash: something else has taken its place
          call('DEL', key)
          msg = false
        end
        call('HSET', key, 'state', 'active')
        call('HDEL', key, 'pending_since')
        add(place, id, msg)
      end
    end
  end
end
if #found > 0 and not told then remember('') end
return found
"""
)

FINISH: Final[Script] = once(
    """
-- now, ns, day, archived since; then for each:
-- place, id, hold or recover, token or lease, how, msg, score, failed, lock, with result, result, due,
-- and what is stored with it: place and what `store` takes; the place is 0 where there is nothing
if told then return told end
local now, ns, day, since = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local codes, processed, failures, archived = {}, {}, {}, {}

local function taken(p, id, by, fence)
  if by == 'hold' then
    if not held(p, id, fence, now) then return false end
  else
    local score = call('ZSCORE', p .. 'lease', id)
    if (score and tonumber(score) or '') ~= (tonumber(fence) or '') then return false end
    if score and tonumber(score) > now then return false end
  end
  if call('LREM', p .. 'active', 0, id) == 0 then return false end
  call('ZREM', p .. 'lease', id)
  call('HDEL', attempts(p), id)
  return true
end

local at = 6
while at <= #ARGV do
  local p, id, how, msg, score = KEYS[1 + ARGV[at]], ARGV[at + 1], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local failed, key = tonumber(ARGV[at + 7]), task(p, id)
  if not taken(p, id, ARGV[at + 2], ARGV[at + 3]) then
    codes[#codes + 1] = '0'
  else
    codes[#codes + 1] = '1'
    if how ~= 'done' then mend(p, id) end
    if how == 'requeue' then
      wakes(p)
      call('RPUSH', p .. 'pending', id)
      call('HSET', key, 'state', 'pending', 'pending_since', ns)
    elseif how == 'defer' then
      call('ZADD', p .. 'scheduled', score, id)
      call('ZADD', due(p), ARGV[at + 11], id)
      call('HSET', key, 'state', 'scheduled')
    elseif how == 'retry' then
      call('ZADD', p .. 'retry', score, id)
      call('HSET', key, 'msg', msg, 'state', 'retry')
    elseif how == 'archive' then
      call('ZADD', p .. 'archived', score, id)
      call('HSET', key, 'msg', msg, 'state', 'archived')
      archived[p] = true
    else
      unlock(id, ARGV[at + 8])
      if how == 'done' then
        call('DEL', key)
      else
        call('ZADD', p .. 'completed', score, id)
        call('HSET', key, 'msg', msg, 'state', 'completed')
        if ARGV[at + 9] == '1' then call('HSET', key, 'result', ARGV[at + 10]) end
      end
    end
    if how ~= 'requeue' and how ~= 'defer' and (how ~= 'retry' or failed == 1) then
      processed[p] = (processed[p] or 0) + 1
      failures[p] = (failures[p] or 0) + failed
    end
    if ARGV[at + 12] ~= '0' then store(KEYS[1 + ARGV[at + 12]], at + 13, ns) end
  end
  at = at + (ARGV[at + 12] == '0' and 13 or 21)
end
for p in pairs(archived) do trim(p, since) end
for p, number in pairs(processed) do count(p, day, number, failures[p]) end
wake()
return remember(table.concat(codes))
""",
    storing=True,
)

EXTEND: Final[Script] = plain(
    """
-- now, until, then for each: place, id, token
local now, till, codes = tonumber(ARGV[1]), ARGV[2], {}
for at = 3, #ARGV, 3 do
  local p, id, token = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if held(p, id, token, now) then
    call('ZADD', p .. 'lease', 'XX', till, id)
    call('HSET', attempts(p), id, token .. ':' .. till)
    codes[#codes + 1] = '1'
  else codes[#codes + 1] = '0' end
end
return table.concat(codes)
"""
)

WRITE_RESULT: Final[Script] = plain(
    """
-- now, id, token, result
if not held(KEYS[1], ARGV[2], ARGV[3], tonumber(ARGV[1])) then return 0 end
call('HSET', task(KEYS[1], ARGV[2]), 'result', ARGV[4])
return 1
"""
)

EXPIRED: Final[Script] = plain(
    """
-- now; id, lease, attempt and msg of each is returned
local p, found = KEYS[1], {}
local function add(id, score)
  local msg = redis.pcall('HGET', task(p, id), 'msg')
  found[#found + 1], found[#found + 2] = id, score
  found[#found + 1], found[#found + 2] = call('HGET', attempts(p), id) or '', type(msg) == 'string' and msg or ''
end
for _, id in ipairs(call('LRANGE', p .. 'active', 0, -1)) do
  local score = call('ZSCORE', p .. 'lease', id)
  if not score then add(id, '') elseif tonumber(score) <= tonumber(ARGV[1]) then add(id, score) end
end
return found
"""
)

FORWARD: Final[Script] = plain(
    """
-- now, ns, how many of each list at once, now to the point; how many were moved is returned, and whether there is more
local now, ns, most, moved, more = ARGV[1], ARGV[2], tonumber(ARGV[3]), 0, 0
for _, p in ipairs(KEYS) do
  local ids = call('ZRANGE', due(p), '-inf', ARGV[4], 'BYSCORE', 'LIMIT', 0, most)
  if #ids == most then more = 1 end
  for _, id in ipairs(ids) do
    call('ZREM', due(p), id)
    local score = call('ZSCORE', p .. 'scheduled', id)
    if score and tonumber(score) < tonumber(ARGV[4]) + 1 then -- else it is another task, with the same id
      call('ZREM', p .. 'scheduled', id)
      to_pending(p, id, ns)
      moved = moved + 1
    end
  end
  for _, state in ipairs({'scheduled', 'retry'}) do
    local ids = call('ZRANGE', p .. state, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    if #ids == most then more = 1 end
    for _, id in ipairs(ids) do
      local known = redis.pcall('HMGET', task(p, id), 'group', 'msg')
      if known.err then -- no hash: whoever dequeues it finds that it has no record
        call('DEL', task(p, id))
        known = {}
      end
      local group = known[1] or field(known[2] or '', 14)
      call('ZREM', p .. state, id)
      if group ~= '' then
        call('ZADD', p .. 'g:' .. group, now, id)
        call('SADD', p .. 'groups', group)
        call('HSET', task(p, id), 'state', 'aggregating', 'group', group)
      else to_pending(p, id, ns) end
      moved = moved + 1
    end
  end
end
wake()
return {moved, more}
"""
)

SWEEP: Final[Script] = plain(
    """
-- now, how many of each queue, archived since; how many completed ones were deleted is returned
local swept = 0
for _, p in ipairs(KEYS) do
  for _, id in ipairs(call('ZRANGE', p .. 'completed', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
    call('ZREM', p .. 'completed', id)
    call('DEL', task(p, id))
    swept = swept + 1
  end
  trim(p, ARGV[3])
  for _, id in ipairs(call('HKEYS', attempts(p))) do -- of attempts that a Go process has recovered
    if not call('ZSCORE', p .. 'lease', id) then call('HDEL', attempts(p), id) end
  end
end
return swept
"""
)

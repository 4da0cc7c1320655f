"""The scripts that look at queues and manage them."""

from __future__ import annotations

from typing import Final

from ...redis_link import Script
from .lua import once, plain

__all__ = [
    "GROUP_SIZES",
    "INFO",
    "LIST",
    "LOOK",
    "MANAGE",
    "MANAGE_ALL",
    "MEMORY",
    "PAUSE",
    "REMOVE",
    "REPLACE",
    "UNPAUSE",
]

_SIZES: Final = """
local names = {'pending', 'active', 'scheduled', 'retry', 'archived', 'completed'}
local function sizes(p)
  local all, groups = {}, 0
  for place, name in ipairs(names) do all[place] = call(place < 3 and 'LLEN' or 'ZCARD', p .. name) end
  local gathered = 0
  for _, group in ipairs(call('SMEMBERS', p .. 'groups')) do
    local size = call('ZCARD', p .. 'g:' .. group)
    gathered = gathered + size
    if size > 0 then groups = groups + 1 end
  end
  for _, set in ipairs(call('ZRANGE', p .. 'aggregation_sets', 0, -1)) do gathered = gathered + call('ZCARD', set) end
  all[#all + 1] = gathered
  return all, groups
end
"""
"""How many tasks are in each state, in the order of `names` and aggregating last; and how many groups there are."""

_MOVES: Final = """
-- Take a task out of the list of its state.
local function take_out(p, id, state)
  if state == 'pending' then
    call('LREM', p .. 'pending', 0, id)
    call('HDEL', task(p, id), 'pending_since')
  elseif state == 'aggregating' then
    local group = call('HGET', task(p, id), 'group') or ''
    if call('ZREM', p .. 'g:' .. group, id) == 1 then
      if call('ZCARD', p .. 'g:' .. group) == 0 then call('SREM', p .. 'groups', group) end
    else
      for _, set in ipairs(call('ZRANGE', p .. 'aggregation_sets', 0, -1)) do call('ZREM', set, id) end
    end
  else call('ZREM', p .. state, id) end
end
local function manage(p, id, what, ns, now)
  if what == 'run' then to_pending(p, id, ns)
  elseif what == 'archive' then
    call('ZADD', p .. 'archived', now, id)
    call('HSET', task(p, id), 'state', 'archived')
  else
    release(p, id)
    call('DEL', task(p, id))
  end
end
"""

INFO: Final[Script] = plain(
    _SIZES
    + """
-- today; sizes, groups, paused, pending since, counters of today and ever
local p = KEYS[1]
local all, groups = sizes(p)
local since, oldest = false, call('LINDEX', p .. 'pending', -1)
if oldest then since = redis.pcall('HGET', task(p, oldest), 'pending_since') end
if type(since) == 'table' then since = false end -- it is no hash
return {all, groups, call('EXISTS', p .. 'paused'), since, call('MGET', p .. 'processed:' .. ARGV[1],
  p .. 'failed:' .. ARGV[1], p .. 'processed', p .. 'failed')}
"""
)

GROUP_SIZES: Final[Script] = plain(
    """
-- name and size of each group that has tasks, by name
local found, names = {}, call('SMEMBERS', KEYS[1] .. 'groups')
table.sort(names)
for _, name in ipairs(names) do
  local size = call('ZCARD', KEYS[1] .. 'g:' .. name)
  if size > 0 then found[#found + 1], found[#found + 2] = name, size end
end
return found
"""
)

MEMORY: Final[Script] = plain(
    """
-- about how many bytes the queue takes up
local p, sampled, total = KEYS[1], 20, 0
local function used(key) return call('MEMORY', 'USAGE', key) or 0 end
local function tasks(ids, size)
  local sum = 0
  for _, id in ipairs(ids) do sum = sum + used(task(p, id)) end
  return #ids == 0 and 0 or sum / #ids * size
end
for _, name in ipairs({'pending', 'active'}) do
  local key = p .. name
  total = total + used(key) + tasks(call('LRANGE', key, 0, sampled - 1), call('LLEN', key))
end
for _, name in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
  local key = p .. name
  total = total + used(key) + tasks(call('ZRANGE', key, 0, sampled - 1), call('ZCARD', key))
end
local groups, looked, sum = call('SMEMBERS', p .. 'groups'), 0, 0
for _, name in ipairs(groups) do
  if looked == 5 then break end
  local key = p .. 'g:' .. name
  looked, sum = looked + 1, sum + used(key) + tasks(call('ZRANGE', key, 0, sampled - 1), call('ZCARD', key))
end
if looked > 0 then total = total + sum / looked * #groups end
return math.floor(total + used(p .. 'lease') + used(p .. 'groups') + used(attempts(p)))
"""
)

LIST: Final[Script] = plain(
    """
-- state, first, last, group; id, score, msg and result of each is returned
local p, state, first, last, group = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local listed = {}
if state == 'pending' or state == 'active' then
  local ids = call('LRANGE', p .. state, -last - 1, -first - 1)
  for at = #ids, 1, -1 do
    listed[#listed + 1] = {ids[at], state == 'active' and call('ZSCORE', p .. 'lease', ids[at]) or ''}
  end
elseif state == 'aggregating' then
  local all = {}
  for _, name in ipairs(group ~= '' and {group} or call('SMEMBERS', p .. 'groups')) do
    local ids = call('ZRANGE', p .. 'g:' .. name, 0, last, 'WITHSCORES')
    for at = 1, #ids, 2 do all[#all + 1] = {ids[at], ids[at + 1]} end
  end
  table.sort(all, function(one, other)
    local a, b = tonumber(one[2]), tonumber(other[2])
    return a < b or a == b and one[1] < other[1]
  end)
  for at = first + 1, math.min(last + 1, #all) do listed[#listed + 1] = all[at] end
else
  local ids = call('ZRANGE', p .. state, first, last, 'WITHSCORES')
  for at = 1, #ids, 2 do listed[#listed + 1] = {ids[at], ids[at + 1]} end
end
local found = {}
for _, each in ipairs(listed) do
  local known = redis.pcall('HMGET', task(p, each[1]), 'msg', 'result')
  found[#found + 1], found[#found + 2] = each[1], each[2]
  found[#found + 1], found[#found + 2] = known[1] or '', known[2] or ''
end
return found
"""
)

LOOK: Final[Script] = plain(
    """
-- id; nothing, or state, score, msg and result
local p, id = KEYS[1], ARGV[1]
if call('EXISTS', task(p, id)) == 0 then return {} end
local known = redis.pcall('HMGET', task(p, id), 'state', 'msg', 'result')
local state, score = known[1] or '', false
if state == 'active' then score = call('ZSCORE', p .. 'lease', id)
elseif state == 'scheduled' or state == 'retry' then score = call('ZSCORE', p .. state, id) end
return {state, score or '', known[2] or '', known[3] or ''}
"""
)

MANAGE: Final[Script] = once(
    _MOVES
    + """
-- what, id, ns, now, archived since; the state that the task was in is returned: '' where it is not there
if told then return told end
local p, what, id = KEYS[2], ARGV[2], ARGV[3]
if call('EXISTS', task(p, id)) == 0 then return remember('') end
local state = redis.pcall('HGET', task(p, id), 'state') or 'unknown'
if type(state) == 'table' then state = 'unknown' end -- it is no hash
local lists = {pending = 1, scheduled = 1, retry = 1, archived = 1, completed = 1, aggregating = 1}
if (what == 'run' and state == 'pending') or (what == 'archive' and state == 'archived') or state == 'active'
  or (what ~= 'delete' and not lists[state]) then return remember(state) end
mend(p, id)
if lists[state] then take_out(p, id, state) else for each in pairs(lists) do take_out(p, id, each) end end
manage(p, id, what, ARGV[4], ARGV[5])
if what == 'archive' then trim(p, ARGV[6]) end
wake()
return remember(state)
"""
)

MANAGE_ALL: Final[Script] = plain(
    _MOVES
    + """
-- what, state, group, how many at once, ns, now, archived since; how many there were is returned
local p, what, state, group, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ids, group_of = {}, {}
if state == 'pending' then
  local last = call('LRANGE', p .. 'pending', -most, -1)
  for at = #last, 1, -1 do ids[#ids + 1] = last[at] end
  call('LTRIM', p .. 'pending', 0, -most - 1)
elseif state == 'aggregating' then
  for _, name in ipairs(group ~= '' and {group} or call('SMEMBERS', p .. 'groups')) do
    if #ids < most then
      for _, id in ipairs(call('ZRANGE', p .. 'g:' .. name, 0, most - #ids - 1)) do
        ids[#ids + 1] = id
        group_of[#ids] = name
      end
    end
  end
else ids = call('ZRANGE', p .. state, 0, most - 1) end
for at, id in ipairs(ids) do
  mend(p, id)
  if state == 'pending' then call('HDEL', task(p, id), 'pending_since')
  elseif group_of[at] then -- not the group that its hash names, which may be gone
    call('ZREM', p .. 'g:' .. group_of[at], id)
    if call('ZCARD', p .. 'g:' .. group_of[at]) == 0 then call('SREM', p .. 'groups', group_of[at]) end
  else take_out(p, id, state) end
  manage(p, id, what, ARGV[5], ARGV[6])
end
if what == 'archive' then trim(p, ARGV[7]) end
wake()
return #ids
"""
)

REPLACE: Final[Script] = plain(
    """
-- id, msg as it was, msg; whether it was replaced is returned
local key = task(KEYS[1], ARGV[1])
local known = call('HMGET', key, 'msg', 'state')
if known[1] == ARGV[3] and known[2] == 'scheduled' then return 1 end
if known[1] ~= ARGV[2] or known[2] ~= 'scheduled' then return 0 end
call('HSET', key, 'msg', ARGV[3])
return 1
"""
)

PAUSE: Final[Script] = once(
    """
-- now; whether it was not is returned
if told then return told end
return remember(tostring(call('SETNX', KEYS[2] .. 'paused', ARGV[2])))
"""
)

UNPAUSE: Final[Script] = once(
    """
-- whether it was is returned
if told then return told end
local paused = call('DEL', KEYS[2] .. 'paused')
if call('LLEN', KEYS[2] .. 'pending') > 0 then
  woken[KEYS[2]] = true
  wake()
end
return remember(tostring(paused))
"""
)

REMOVE: Final[Script] = plain(
    _SIZES
    + """
-- days; how many tasks are in the way is returned
local p, all, number = KEYS[1], sizes(KEYS[1]), 0
for _, size in ipairs(all) do number = number + size end
if number > 0 then return number end
local rest = {'lease', 'groups', 'aggregation_sets', 'paused', 'processed', 'failed'}
for _, list in ipairs({names, rest}) do for _, name in ipairs(list) do call('DEL', p .. name) end end
for _, day in ipairs(ARGV) do call('DEL', p .. 'processed:' .. day, p .. 'failed:' .. day) end
call('DEL', attempts(p), due(p))
return 0
"""
)

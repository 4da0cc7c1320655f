"""The script that carries a batch out in Redis: all of it or, as far as the batch changes anything, none of it again.

A batch has a number that grows with each batch of its connection. What its changes came to is kept under the
connection's own key, so a batch that is sent again because its reply was lost is answered with what it came to, and
one that a network delivers after a later one is refused.

A list is a Redis list of JSON texts. Beside it lies a sorted set of the ids that it knows, by the place in the order of
appending of the item they came with; its member ``#`` has the next place.
"""

from __future__ import annotations

from typing import Final

from ..redis_link import Script

__all__ = ["BATCH", "SUPERSEDED"]

SUPERSEDED: Final = "UNDERSTUDY a later batch of this connection was carried out"

BATCH: Final = Script(
    """
local number, seen = tonumber(ARGV[1]), redis.call('GET', KEYS[1])
local past
if seen then
  local stored, codes = string.match(seen, '^(%d+) (.*)$')
  stored = tonumber(stored)
  if stored > number then return redis.error_reply('"""
    + SUPERSEDED
    + """') end
  if stored == number then past = codes end
end

-- One value alone, as at light load, is the most usual batch. What does not go well is found out again below.
if not past and #KEYS == 3 and ARGV[3] == 's' then
  local reply
  if ARGV[5] == '' then reply = redis.pcall('SET', KEYS[2], ARGV[4])
  else reply = redis.pcall('SET', KEYS[2], ARGV[4], 'PX', ARGV[5]) end
  if reply.ok then
    redis.pcall('DEL', KEYS[3])
    redis.pcall('SET', KEYS[1], ARGV[1] .. ' N', 'PX', ARGV[2])
    return 'N'
  end
end

local function failed(reply)
  local text = type(reply) == 'table' and reply.err
  if not text then return nil end
  if string.find(text, 'WRONGTYPE', 1, true) then return 'W' end
  if string.find(text, 'OOM', 1, true) then return 'O' end
  if string.find(text, 'NOPERM', 1, true) or string.find(text, 'ACL failure', 1, true)
    or string.find(text, "can't run this command", 1, true) then return 'P' end
  return 'F' .. text
end

local function set(key, ids, value, expires)
  local reply
  if expires == '' then reply = redis.pcall('SET', key, value)
  else reply = redis.pcall('SET', key, value, 'PX', expires) end
  local fault = failed(reply)
  if fault then return fault end
  redis.pcall('DEL', ids)
  return 'N'
end

local function append(key, ids, item, id, limit, expires)
  limit = tonumber(limit)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= 'list' then return 'W' end
  if kind == 'list' and id ~= '' and redis.call('ZSCORE', ids, '+' .. id) then return '0' end
  local length = redis.pcall('RPUSH', key, item)
  local fault = failed(length)
  if fault then return fault end
  if kind == 'none' then redis.call('DEL', ids) end
  local place = tonumber(redis.call('ZINCRBY', ids, 1, '#'))
  if id ~= '' then redis.call('ZADD', ids, place - 1, '+' .. id) end
  if length > limit then
    redis.call('LTRIM', key, -limit, -1)
    length = limit
  end
  local dropped = redis.call('ZCOUNT', ids, '-inf', '(' .. (place - length))
  if dropped > limit then redis.call('ZREMRANGEBYRANK', ids, 0, dropped - limit - 1) end
  if kind == 'none' then
    if expires ~= '' then
      redis.call('PEXPIRE', key, expires)
      redis.call('PEXPIRE', ids, expires)
    end
  elseif place == 1 then
    local left = redis.call('PTTL', key)
    if left > 0 then redis.call('PEXPIRE', ids, left) end
  end
  return '1'
end

local function delete(key, ids)
  local found = redis.pcall('DEL', key)
  local fault = failed(found)
  if fault then return fault end
  redis.pcall('DEL', ids)
  return found == 1 and '1' or '0'
end

local function expire(key, ids, expires)
  local found = redis.pcall('EXISTS', key)
  local fault = failed(found)
  if fault then return fault end
  if found == 0 then return '0' end
  for _, each in ipairs({key, ids}) do
    local reply
    if expires == '' then reply = redis.pcall('PERSIST', each)
    else reply = redis.pcall('PEXPIRE', each, expires) end
    fault = failed(reply)
    if fault then return fault end
  end
  return '1'
end

local taken = {g = 0, i = 1, r = 0, s = 2, a = 4, d = 0, x = 1}
local codes, changes, read, texts, at = {}, {}, {}, {}, 3
for turn = 1, (#KEYS - 1) / 2 do
  local key, ids = KEYS[2 * turn], KEYS[2 * turn + 1]
  local what, a, b, c, d = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  at = at + 1 + taken[what]
  local code, reply
  if what == 'g' then reply = redis.pcall('GET', key)
  elseif what == 'i' then reply = redis.pcall('LRANGE', key, a, -1)
  elseif what == 'r' then reply = redis.pcall('PTTL', key)
  else
    if past then code = string.sub(past, #changes + 1, #changes + 1)
    elseif what == 's' then code = set(key, ids, a, b)
    elseif what == 'a' then code = append(key, ids, a, b, c, d)
    elseif what == 'd' then code = delete(key, ids)
    elseif what == 'x' then code = expire(key, ids, a)
    end
    changes[#changes + 1] = string.sub(code, 1, 1)
  end
  if not code then
    code = failed(reply)
    if not code then
      code = 'R'
      read[#read + 1] = reply
    end
  end
  codes[turn] = string.sub(code, 1, 1)
  if codes[turn] == 'F' then texts[#texts + 1] = string.sub(code, 2) end
end
if not past then redis.pcall('SET', KEYS[1], ARGV[1] .. ' ' .. table.concat(changes), 'PX', ARGV[2]) end
if #read == 0 and #texts == 0 then return table.concat(codes) end
return {table.concat(codes), read, texts}
"""
)
"""KEYS: the connection's key; for each operation its key and that of its ids.
ARGV: the batch's number; how long it is remembered, in ms; for each operation what to do, and its arguments.
The reply: a code for each operation; what was read; the texts of the faults; or the codes alone, where there is nothing
else. The codes: ``R``ead; ``N``othing to say,
``1`` or ``0`` for a change; ``W``rong type, ``O``ut of memory, not ``P``ermitted, ``F``ailed otherwise for both."""

"""The script that does everything to a lock in Redis.

A lock is a hash (who holds it, until when, what became of the lease before, and whether somebody is in line), a list
of the ids of the wishes that wait in line, and a hash of those wishes. Whatever is done to it first ends a lease that
has run out and hands the lock to the first in line who still waits; who gets it that way is told on the channel of its
client.

Time is the server's, the same for all clients. A fencing token is at least the milliseconds since 1970 times 1,024, so
that tokens go on growing where the server has come back without its data.
"""

from __future__ import annotations

from typing import Final

from ..redis_link import Script

__all__ = ["LOCK"]

LOCK: Final = Script(
    """
local state, line, wishes, tokens = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local verb, resource = ARGV[1], ARGV[3]
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A script that has written something may go on where memory is full: a lock must always be given back. So what
-- takes memory comes after something that takes none; where there is nothing else, after this.
local function begin() redis.call('PERSIST', tokens) end

local KEPT = 604800000
local ALIVE = 10000

-- What became of a lease is known for a week after its end, however long it is.
local function keep(key, ends)
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(ends, now) - now + KEPT))
end

local found = redis.call('HMGET', state, 'token', 'owner', 'request', 'ends', 'last', 'released', 'by', 'queued')
local held = {token = found[1], owner = found[2], request = found[3], ends = tonumber(found[4] or '0'),
  last = found[5], released = found[6] == '1', by = found[7]}

local function write(id, owner, ttl)
  keep(state, now + ttl)  -- takes no memory
  local token = now * 1024
  local before = tonumber(redis.call('GETSET', tokens, string.format('%.0f', token)) or '0')
  if before >= token then
    token = before + 1
    redis.call('SET', tokens, string.format('%.0f', token))
  end
  held.token, held.owner, held.request, held.ends = string.format('%.0f', token), owner, id, now + ttl
  redis.call('HSET', state, 'token', held.token, 'owner', owner, 'request', id,
    'ends', string.format('%.0f', held.ends))
  if not held.last then keep(state, now + ttl) end
end

-- Most of the time nobody else wants the lock. That is answered in one word, which its reader takes apart at once.
if not found[8] then
  if verb == 'ask' and not held.token then
    write(ARGV[4], ARGV[5], tonumber(ARGV[6]))
    return 'G ' .. held.token .. ' ' .. ARGV[6]
  elseif verb == 'release' and held.token == ARGV[4] and held.ends > now then
    redis.call('HDEL', state, 'token', 'owner', 'request', 'ends')
    redis.call('HSET', state, 'last', held.token, 'released', '1', 'by', ARGV[5])
    return '1'
  end
end

local function finish(released, by)
  redis.call('HDEL', state, 'token', 'owner', 'request', 'ends')
  redis.call('HSET', state, 'last', held.token, 'released', released and '1' or '0', 'by', by)
  held = {token = false, ends = 0, last = held.token, released = released, by = by}
end

local promoted = false
local function promote()
  while not held.token do
    local id = redis.call('LPOP', line)
    if not id then
      redis.call('HDEL', state, 'queued')
      return
    end
    local text = redis.call('HGET', wishes, id)
    redis.call('HDEL', wishes, id)
    if text then
      local owner, ttl, deadline, alive, channel = unpack(cjson.decode(text))
      if deadline > now and alive > now then
        write(id, owner, ttl)
        promoted = {id, held.token, held.ends - now, owner}
        redis.call('PUBLISH', channel, resource)
      end
    end
  end
end

local function touch(id, channel)
  local text = redis.call('HGET', wishes, id)
  if not text then return false end
  local wish = cjson.decode(text)
  wish[4], wish[5] = now + ALIVE, channel
  begin()
  redis.call('HSET', wishes, id, cjson.encode(wish))
  return true
end

local function leave(id)
  if redis.call('HDEL', wishes, id) == 0 then return false end
  redis.call('LREM', line, 1, id)
  return true
end

if verb == 'poll' then
  for number = 5, #ARGV do touch(ARGV[number], ARGV[4]) end
end
if held.token and held.ends <= now then finish(false, '') end
promote()

local answer
if verb == 'ask' then
  local id, owner, ttl, wait, channel = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
  if not held.token then
    write(id, owner, ttl)
    answer = {'G', held.token, held.ends - now}
  elseif held.request == id then answer = {'G', held.token, held.ends - now}
  elseif touch(id, channel) then answer = {'W', held.ends - now}
  elseif wait <= 0 then answer = {'T', held.owner}
  else
    begin()
    redis.call('RPUSH', line, id)
    redis.call('HSET', wishes, id, cjson.encode({owner, ttl, now + wait, now + ALIVE, channel}))
    keep(line, math.max(held.ends, now + wait))
    keep(wishes, math.max(held.ends, now + wait))
    redis.call('HSET', state, 'queued', '1')
    keep(state, math.max(held.ends, now + wait))
    answer = {'W', held.ends - now}
  end
elseif verb == 'poll' then
  answer = {}
  for number = 5, #ARGV do
    local id = ARGV[number]
    if held.request == id then answer[#answer + 1] = {'G', held.token, held.ends - now}
    elseif redis.call('HEXISTS', wishes, id) == 1 then answer[#answer + 1] = {'W', held.token and held.ends - now or 0}
    else answer[#answer + 1] = {'X', held.owner or ''} end
  end
elseif verb == 'leave' then
  if held.request == ARGV[4] then answer = {'G', held.token, held.ends - now}
  else
    leave(ARGV[4])
    answer = {'X', held.owner or ''}
  end
elseif verb == 'forget' then
  if held.request == ARGV[4] then
    finish(true, '')
    promote()
  end
  leave(ARGV[4])
  answer = {'X', ''}
elseif verb == 'holder' then
  if held.token then answer = {'G', held.token, held.ends - now, held.owner} else answer = {'X', ''} end
else
  local token, by = ARGV[4], ARGV[5]
  if held.token == token then
    if verb == 'renew' then
      held.ends = now + tonumber(ARGV[6])
      begin()
      redis.call('HSET', state, 'ends', string.format('%.0f', held.ends))
      keep(state, held.ends)
      answer = {'G', token, held.ends - now, held.owner}
    else
      finish(true, by)
      promote()
      answer = {'1'}
    end
  elseif verb == 'release' and held.last == token and held.released then
    answer = {held.by == by and '1' or '0'}
  elseif held.last == token and not held.released then answer = {'L'}
  elseif (held.last and tonumber(token) < tonumber(held.last))
    or (held.token and tonumber(token) < tonumber(held.token)) then answer = {'S'}
  else answer = {'N'} end
end
return {answer, promoted}
"""
)
"""KEYS: the lock's hash, its line, its wishes, the last token. ARGV: what to do, the time in ms (empty: the server's),
the lock's name, and

- ``ask``: id, owner, lease and wait in ms, channel
- ``poll``: channel, ids
- ``leave``, ``forget``: id; who forgets a wish gives back what it was granted
- ``holder``
- ``renew``, ``release``: token, an id of this call; the lease in ms.

The reply: the answer, and who was handed the lock meanwhile (id, token, ms, owner); or, where nobody was in line, the
answer alone as a text. Answers: ``G``ranted with token
and ms; ``W``aits for a lease with so many ms left; ``T``aken by an owner; ``X`` neither in line nor holder, with who
is; ``1`` released, ``0`` released before; ``L``ost, ``S``tale, ``N``ot held."""

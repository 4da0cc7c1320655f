"""Limits in Redis: who may begin, and the line of those who may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...redis_link import Script
from ..engine import Turn
from . import keys
from .link import RedisConnection, text_of_time
from .lua import once

__all__ = ["RedisLimits"]

FORGOTTEN: Final = 3600
"""Seconds after which a place in line that nobody took is forgotten."""

_ADMIT: Final[Script] = once(
    f"""
-- now, seconds between two, burst, patience, then the tasks
if told then return told end
local line, now, every = KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3])
local slack, latest = (tonumber(ARGV[4]) - 1) * every, now + tonumber(ARGV[5])
local function at_of(member) return tonumber(call('ZSCORE', line, member) or nil) end
local function text(at) return string.format('%.6f', at) end

call('ZREMRANGEBYSCORE', line, '-inf', text(now - {FORGOTTEN}))
-- The members that are no tasks: from when one more may begin, and the end of the line.
local next_at, tail = at_of('') or 0, at_of(' ') or 0
local turns = {{}}
for number = 6, #ARGV do
  local id = ARGV[number]
  local place = id ~= '' and at_of(id) or nil
  local at, granted = math.max(now, next_at - slack, place or 0), '0'
  if at <= latest and (place or tail <= now) then
    granted = '1'
    next_at = math.max(next_at, at) + every
    if place then call('ZREM', line, id) end
  elseif place and place > now then at = place
  elseif id ~= '' then
    at = math.max(at, tail)
    tail = at + every
    call('ZADD', line, text(at), id)
  end
  turns[#turns + 1] = granted .. text(at)
end
call('ZADD', line, text(next_at), '', text(tail), ' ')
call('EXPIRE', line, math.ceil(math.max(next_at, tail, now) - now) + {FORGOTTEN})
return remember(table.concat(turns, ' '))
"""
)


class RedisLimits(RedisConnection):
    """The part of the engine that says how often tasks may begin."""

    def admit(self, limit: str, every: float, burst: int, tasks: Sequence[str], patience: float) -> list[Turn]:
        """See ``TaskEngine.admit``."""
        if not tasks:
            return []
        numbers = (text_of_time(self._now()), repr(float(every)), burst, repr(float(patience)))
        turns: bytes = self._run_once(_ADMIT, [keys.limit(limit)], *numbers, *tasks)
        return [Turn(granted=turn[:1] == b"1", at=float(turn[1:])) for turn in turns.split()]

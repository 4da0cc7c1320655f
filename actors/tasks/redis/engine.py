"""The engine on Redis."""

from __future__ import annotations

from .attempts import RedisAttempts
from .groups import RedisGroups
from .inspection import RedisInspection
from .limits import RedisLimits
from .presence import RedisPresence

__all__ = ["RedisEngine"]


class RedisEngine(RedisAttempts, RedisGroups, RedisInspection, RedisLimits, RedisPresence):
    """asynq's queues in a Redis: what is stored here a Go process runs, and the other way round.

    Each operation is one script for all queues (in a Cluster: for each queue), in which each task changes completely.
    A script whose reply was lost is sent again and not carried out again.

    Args:
        url: which Redis; 6.2 or newer.
        now: unix seconds.
    """

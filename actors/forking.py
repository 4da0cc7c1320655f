"""What a fork must not inherit: locks that other threads held then, and actors whose threads stayed behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["in_forks", "renewed_in_forks"]

L = TypeVar("L")


def in_forks(action: Callable[[], None]) -> None:
    """Call ``action`` in every process that is forked off this one; where nothing forks, never."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=action)


def renewed_in_forks(lock: L) -> L:
    """The lock itself, which will be free in every process that is forked off this one.

    It is for locks of the whole process: another thread may hold one in the moment of the fork, and that thread is
    not there to release it. What such a lock protects is left consistent at every instruction in between.
    """
    renew: Any = getattr(lock, "_at_fork_reinit", None)
    if renew is not None:  # as threading itself renews its locks
        in_forks(renew)
    return lock

"""Raising ``ActorKilled`` in another thread: the only way to reach a handler that does not return."""

from __future__ import annotations

import ctypes

from .reasons import ActorKilled

__all__ = ["forget_pending", "inject"]

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)


def inject(thread_id: int) -> bool:
    """Raise ``ActorKilled`` at the next bytecode of the thread. Returns whether there is such a thread."""
    return bool(_raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object(ActorKilled)))


def forget_pending(thread_id: int) -> None:
    """Take back an injected exception that has not landed yet."""
    _raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object())

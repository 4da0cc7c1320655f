"""Raising an exception in another thread: the only way to reach code that does not return."""

from __future__ import annotations

import ctypes
import sys
from types import CodeType, FrameType

from ..messages.caller import is_own
from .reasons import ActorKilled

__all__ = ["forget_pending", "inject", "inject_into_call"]

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)


def inject(thread_id: int, error: type[BaseException] = ActorKilled) -> bool:
    """Raise ``error`` at the next bytecode of the thread. Returns whether there is such a thread."""
    return bool(_raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object(error)))


def inject_into_call(thread_id: int, error: type[BaseException], base: CodeType) -> bool:
    """Raise ``error`` in what ``base`` calls, unless the runtime's own code runs there now.

    An exception out of nowhere in the middle of a ``tell`` could leave the addressed actor without anybody to
    run it; in an assisted ask it would crash the actor that is asked. Then nothing is done: try again later.

    Args:
        thread_id: the thread.
        error: the type of what is raised.
        base: the code of the function that called the user's; it must be on the thread's stack.

    Returns:
        whether it was injected.
    """
    if not _in_call(thread_id, base):
        return False
    inject(thread_id, error)
    if not _in_call(thread_id, base):
        # The thread ran on between the look and the injection, and may be where it must not be hit.
        forget_pending(thread_id)
        return False
    return True


def forget_pending(thread_id: int) -> None:
    """Take back an injected exception that has not landed yet."""
    _raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object())


def _in_call(thread_id: int, base: CodeType) -> bool:
    """Whether the thread is in code that ``base`` called, and in none of the runtime's beyond it."""
    frame: FrameType | None = sys._current_frames().get(thread_id)
    while frame is not None:
        if frame.f_code is base:
            return True
        if is_own(frame.f_globals.get("__name__", "")):
            return False
        frame = frame.f_back
    return False

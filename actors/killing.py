"""Raising an exception in another thread: the only way to reach code that does not return."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from ..messages.caller import is_own
from .reasons import ActorKilled

if TYPE_CHECKING:
    from .actor import Actor

__all__ = ["forget_pending", "inject", "inject_into_call", "raise_if_struck", "strike", "struck"]

FIRST_RETRY, LONGEST_RETRY = 0.001, 0.05
"""Seconds between two tries to hit a handler where it may be hit."""

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)


def inject(thread_id: int, error: type[BaseException] = ActorKilled) -> bool:
    """Raise ``error`` at the next bytecode of the thread. Returns whether there is such a thread."""
    return bool(_raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object(error)))


struck: dict[int, object] = {}
"""Threads whose handler could not be hit yet, and its cell: where it calls the runtime, the runtime raises."""


def raise_if_struck(cell: object) -> None:
    """Raise ``ActorKilled`` if the calling thread runs a handler of ``cell`` that is to be ended."""
    if cell is not None and struck.get(threading.get_ident()) is cell:
        forget_pending(threading.get_ident())
        raise ActorKilled


def strike(thread_id: int, actor: Actor) -> None:
    """Raise ``ActorKilled`` in the handler of ``actor``, an incarnation that was just fenced, on its thread.

    Not while the thread is in the runtime's own code: an exception out of nowhere between two steps of a ``tell``
    would leave the addressed actor claimed by nobody. Nor while it runs another actor in an assisted ask, which
    would be crashed in its stead. Then it is tried again, for as long as the handler runs.
    """
    if not _try_to_strike(thread_id, actor):
        struck[thread_id] = actor._cell
        threading.Thread(target=_keep_trying, args=(thread_id, actor), name="understudy-killer", daemon=True).start()


def _keep_trying(thread_id: int, actor: object) -> None:
    wait = FIRST_RETRY
    while not _try_to_strike(thread_id, actor):
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_RETRY)
    struck.pop(thread_id, None)


def _try_to_strike(thread_id: int, actor: object) -> bool:
    """Inject if that is safe now. Returns whether there is nothing left to do: it was, or the handler is over."""
    if not (runs := _run_of(thread_id, actor)):
        return runs is None
    inject(thread_id)
    if not _run_of(thread_id, actor):
        forget_pending(thread_id)  # the thread ran on between the look and the injection
        return False
    return True


def _run_of(thread_id: int, actor: object) -> bool | None:
    """Whether the thread is in code of ``actor``'s own; None if it does not run ``actor`` any more."""
    frame: FrameType | None = sys._current_frames().get(thread_id)
    in_own_code: bool | None = None
    above_runtime = False
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not is_own(module):
            above_runtime = in_own_code is None or above_runtime
        elif not module.startswith("pykka"):
            is_its_run = frame.f_locals.get("actor") is actor
            if in_own_code is None:
                in_own_code = is_its_run and above_runtime
            if is_its_run:
                return in_own_code
        frame = frame.f_back
    return None


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

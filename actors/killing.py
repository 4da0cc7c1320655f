"""Raising an exception in another thread: the only way to reach code that does not return."""

from __future__ import annotations

import _thread
import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from ..messages.caller import is_own
from .forking import renewed_in_forks
from .reasons import INTERRUPTIONS, ActorKilled, WorkCancelled

if TYPE_CHECKING:
    from .actor import Actor

__all__ = ["forget_pending", "frame_of", "inject", "inject_into_call", "raise_if_struck", "strike", "struck"]

FIRST_RETRY, LONGEST_RETRY = 0.001, 0.05
"""Seconds between two tries to hit a handler where it may be hit."""

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)


def inject(thread_id: int, error: type[BaseException] = ActorKilled) -> bool:
    """Raise ``error`` at the next bytecode of the thread. Returns whether there is such a thread."""
    return bool(_raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object(error)))


_looking = renewed_in_forks(threading.Lock())
"""Held while the garbage collector is off: of two who look, the first one back must not turn it on for the other."""


def frame_of(thread_id: int) -> FrameType | None:
    """The innermost frame of a thread; None if there is no such thread.

    ``sys._current_frames`` makes objects while it holds a lock of the interpreter's. If that starts the garbage
    collector, and what it finds is a ``threading.local``, the whole process waits for that lock for ever (CPython's
    gh-106883; seen in 3.11.7). So it is off meanwhile, which is how later releases do it.
    """
    with _looking:
        was_on = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(thread_id)
        finally:
            if was_on:
                gc.enable()


struck: dict[int, object] = {}
"""Threads whose handler was told to end and has not, and its cell: where it calls the runtime, the runtime raises."""


_striking = renewed_in_forks(threading.Lock())
"""Held while it is decided who raises: a handler is hit once, so that its ``finally`` can do its work."""


def raise_if_struck(cell: object) -> None:
    """Raise ``ActorKilled``, once, if the calling thread runs a handler of ``cell`` that is to be ended."""
    thread_id = threading.get_ident()
    if cell is None or struck.get(thread_id) is not cell:
        return
    with _striking:
        if struck.pop(thread_id, None) is not cell:
            return
    raise ActorKilled


def strike(thread_id: int, actor: Actor) -> None:
    """Raise ``ActorKilled`` in the handler of ``actor``, an incarnation that was just fenced, on its thread.

    Not while the thread is in the runtime's own code: an exception out of nowhere between two steps of a ``tell``
    would leave the addressed actor claimed by nobody. Nor while it runs another actor in an assisted ask, which
    would be crashed in its stead. Then it is tried again, until the run is over (``forget_pending``).
    """
    with _striking:
        struck[thread_id] = actor._cell
        _hit_again_if_dropped(thread_id, ActorKilled, lambda: _strike_again(thread_id, actor))
    if not _try_to_strike(thread_id, actor):
        threading.Thread(target=_keep_trying, args=(thread_id, actor), name="understudy-killer", daemon=True).start()


def _strike_again(thread_id: int, actor: Actor) -> None:
    struck[thread_id] = actor._cell  # the run is not over: it is its own thread that calls this
    _thread.start_new_thread(_keep_trying, (thread_id, actor))


def _keep_trying(thread_id: int, actor: Actor) -> None:
    wait = FIRST_RETRY
    while not _try_to_strike(thread_id, actor):
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_RETRY)


def _try_to_strike(thread_id: int, actor: Actor) -> bool:
    """Inject if that is safe now; returns whether it was, or is not needed any more."""
    with _striking:
        if struck.get(thread_id) is not actor._cell:
            return True
        if not _in_own_code(thread_id, actor):
            return False
        inject(thread_id)
        if not _in_own_code(thread_id, actor):
            _take_back(thread_id)  # it ran on between look and injection
            return False
        if struck.pop(thread_id, None) is None:
            _take_back(thread_id)  # its run was over just before (``forget_pending``)
        return True


def _in_own_code(thread_id: int, actor: Actor) -> bool:
    """Whether the thread is in user code that the runtime called for ``actor``.

    The thread may run on while its stack is read; then a frame may have lost the one below, and the answer is no.
    """
    frame: FrameType | None = frame_of(thread_id)
    above_runtime = False
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not is_own(module):
            above_runtime = True
        elif not module.startswith("pykka"):
            return above_runtime and frame.f_locals.get("actor") is actor
        frame = frame.f_back
    return False


def inject_into_call(
    thread_id: int, error: type[BaseException], base: CodeType, again: Callable[..., object], *arguments: object
) -> bool:
    """Raise ``error`` in what ``base`` calls, unless the runtime's own code runs there now.

    An exception out of nowhere in the middle of a ``tell`` could leave the addressed actor without anybody to
    run it; in an assisted ask it would crash the actor that is asked. Then nothing is done: try again later.

    Args:
        thread_id: the thread.
        error: the type of what is raised.
        base: the code of the function that called the user's; it must be on the thread's stack.
        again: what is called, on a thread of its own, if it was injected and the interpreter has dropped it.
        arguments: what that is called with.

    Returns:
        whether it was injected.
    """
    if not _in_call(thread_id, base):
        return False
    _hit_again_if_dropped(thread_id, error, lambda: _thread.start_new_thread(again, arguments))
    inject(thread_id, error)
    if not _in_call(thread_id, base):
        # The thread ran on between the look and the injection, and may be where it must not be hit.
        _again.pop((thread_id, error), None)
        _take_back(thread_id)
        return False
    return True


def forget_pending(thread_id: int) -> None:
    """The run that was to be ended is over: take back an injected exception that has not landed yet."""
    struck.pop(thread_id, None)
    if _again:
        for error in INTERRUPTIONS:
            _again.pop((thread_id, error), None)
    if thread_id == threading.get_ident():
        _let_land()
    else:
        _take_back(thread_id)


_again: dict[tuple[int, object], Callable[[], object]] = {}
"""Of threads that are hit, by what: called, on the thread itself, if that lands where the interpreter drops it."""


def _hit_again_if_dropped(thread_id: int, error: type[BaseException], again: Callable[[], object]) -> None:
    """What is raised in a weak reference's callback or in a ``__del__`` ends that, and no more: see to it.

    The interpreter tells ``sys.unraisablehook`` of it, on the same thread, in the middle of anything: ``again`` may
    take no lock. A new thread, even, is to be started by the bare ``_thread``.
    """
    _again[thread_id, error] = again
    if getattr(sys.unraisablehook, "__module__", "") != __name__:  # whoever replaced ours may not pass on
        sys.unraisablehook = _hook_before(sys.unraisablehook)


def _hook_before(other: Callable[[Any], object]) -> Callable[[Any], None]:
    def hook(dropped: Any) -> None:
        if dropped.exc_type not in INTERRUPTIONS:
            other(dropped)
            return
        again = _again.get((threading.get_ident(), dropped.exc_type))
        if again is not None:  # else nobody is to be hit any more
            again()

    return hook


def _let_land() -> None:
    """Have what is pending for the calling thread land here, where it does no harm."""
    try:
        for _ in range(8):  # where a loop jumps back, pending exceptions are raised
            pass
    except (ActorKilled, WorkCancelled):
        pass


def _take_back(thread_id: int) -> None:
    """Take back what is pending for another thread.

    CPython (before 3.13) then goes on believing that an exception is pending somewhere, until one lands: every
    thread looks for it at every step, and in 3.11 a function that is traced looks for it for ever. So one is made
    to land, in a thread that has nothing else to do.
    """
    _raise_in_thread(ctypes.c_ulong(thread_id), ctypes.py_object())
    threading.Thread(target=_land_one, name="understudy-killer", daemon=True).start()


def _land_one() -> None:
    try:
        inject(threading.get_ident())
        for _ in range(8):
            pass
    except ActorKilled:
        pass


def _in_call(thread_id: int, base: CodeType) -> bool:
    """Whether the thread is in code that ``base`` called, and in none of the runtime's beyond it."""
    frame: FrameType | None = frame_of(thread_id)
    while frame is not None:
        if frame.f_code is base:
            return True
        if is_own(frame.f_globals.get("__name__", "")):
            return False
        frame = frame.f_back
    return False

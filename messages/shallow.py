"""Calls that need room on the stack: what a caller of many frames has not left, a thread of its own has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

__all__ = ["with_room"]

P = ParamSpec("P")
T = TypeVar("T")


def with_room(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function; if the stack is too deep for it here, once more on a thread that has nothing on its stack.

    msgspec counts the levels of a value as Python counts frames, so that what is too deep would depend on who calls.

    Raises:
        RecursionError: it is too deep for any stack.
        BaseException: what the function raises.
    """
    try:
        return function(*args, **kwargs)
    except RecursionError:
        pass
    outcome: list[Any] = []
    context = copy_context()

    def work() -> None:
        try:
            outcome.append(context.run(function, *args, **kwargs))
        except BaseException as error:
            outcome.extend((None, error))

    thread = threading.Thread(target=work, name="understudy-room", daemon=True)
    thread.start()
    thread.join()
    value, *errors = outcome
    if errors:
        raise errors[0]
    result: T = value
    return result

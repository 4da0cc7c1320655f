"""Who called: the user's function, read off the calling frame when something has failed.

Only the names are kept: a frame would keep alive everything its function ever held. The dotted method name is
put together later, if anybody asks for it, since a refused tell may happen a million times.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType

_PACKAGE = __name__.partition(".messages.")[0]
_WHOLLY_OURS = (
    f"{_PACKAGE}.messages.",
    f"{_PACKAGE}.actors.dispatch.",
    f"{_PACKAGE}.actors.broker.rabbitmq.loop.",
    f"{_PACKAGE}.supervisors.",
    f"{_PACKAGE}.testing.",
    "pykka.",
)
_SERVICES = f"{_PACKAGE}.actors."
# What carries a call from one place to another and never makes one of its own accord.
_CARRIERS = {"asyncio", "concurrent", "contextlib", "contextvars", "functools", "queue", "threading"}

NO_CALLER = ("runtime", "")
"""What is recorded when no frame outside the runtime is on the stack, as in a timer's message."""

wall_clock: ContextVar[Callable[[], float]] = ContextVar("understudy_wall_clock", default=time.time)
"""Unix time in seconds, for the `at` of errors. A simulation sets its own in its context."""

_known: dict[str, bool] = {}


def is_runtime(module: str) -> bool:
    """Tell whether a module is the runtime itself: its name is never the answer to "who called?"."""
    known = _known.get(module)
    if known is None:
        known = _known[module] = _judge(module)
    return known


def is_own(module: str) -> bool:
    """Tell whether a module is of this package or of pykka: one whose code must not be interrupted.

    The service folders are among them: an embedded broker that is hit between two steps may lose a message.
    """
    return f"{module}.".startswith((*_WHOLLY_OURS, f"{_PACKAGE}.actors."))


def _judge(module: str) -> bool:
    if f"{module}.".startswith(_WHOLLY_OURS) or module.partition(".")[0] in _CARRIERS:
        return True
    inside = module.removeprefix(f"{_PACKAGE}.actors")
    # `actors` and the modules directly in it; its service folders (`actors.broker.actor`) call like anyone.
    return inside != module and inside.count(".") <= 1


def find_caller() -> tuple[str, str]:
    """Find the innermost function outside the runtime.

    Of a service's own functions it is one with a public name, if there is one: its helpers that put errors together
    say nothing to anybody.

    Returns:
        Its qualified name and its module's name.
    """
    helper = NO_CALLER
    frame: FrameType | None = sys._getframe(2)  # the one that asks is the runtime's own
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        inside = _known.get(module)
        if not (is_runtime(module) if inside is None else inside):
            name = frame.f_code.co_qualname
            if not (module.startswith(_SERVICES) and _plain_name(name, module).startswith("_")):
                return name, module
            if helper is NO_CALLER:
                helper = name, module
        frame = frame.f_back
    return helper


def method_name(caller: tuple[str, str], target: str | None, verb: str | None) -> str:
    """Put a method's dotted name together: `register_notif.broker.ask`.

    Args:
        caller: What `find_caller` found.
        target: The path of the actor that was addressed, such as `notifications/broker`.
        verb: What was asked of it, such as `ask` or `tell`.
    """
    return ".".join(str(part) for part in (_plain_name(*caller), target, verb) if part)


def _plain_name(qualified: str, module: str) -> str:
    """Reduce `Shop.register.<locals>.<lambda>` to `register`: a lambda has the name of what is around it."""
    for part in reversed(qualified.split(".")):
        if not part.startswith("<"):
            return part
    return module.rpartition(".")[2]

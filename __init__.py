"""Understudy: an embeddable actor runtime for Python services.

What is here is the public face. Each name is imported when it is first used, so that a program pays for what it
needs: ``import understudy`` loads no client library, no event loop and none of the service actors.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from understudy.actors.actor import Actor
    from understudy.actors.events import Event
    from understudy.actors.future import Future
    from understudy.actors.handlers import handles, handles_batch
    from understudy.actors.lifecycle import IGNORE, Started
    from understudy.actors.mailbox import Mailbox
    from understudy.actors.reasons import KILLED, NORMAL, SHUTDOWN, ExitReason
    from understudy.actors.ref import ActorRef
    from understudy.actors.request import Request
    from understudy.actors.watching import Terminated
    from understudy.messages.errors import (
        ActorError,
        ErrorCode,
        ErrorKind,
        Refusal,
    )
    from understudy.messages.message import Message
    from understudy.messages.registry import register
    from understudy.messages.response import ErrorResponse
    from understudy.supervisors.backoff import Backoff
    from understudy.supervisors.child import Child, ChildSpec, check_childspecs
    from understudy.supervisors.dynamic import DynamicSupervisor
    from understudy.supervisors.supervisor import Supervisor
    from understudy.supervisors.system import ActorSystem

_HOMES = {
    "actors.actor": ("Actor",),
    "actors.events": ("Event",),
    "actors.future": ("Future",),
    "actors.handlers": ("handles", "handles_batch"),
    "actors.lifecycle": ("IGNORE", "Started"),
    "actors.mailbox": ("Mailbox",),
    "actors.reasons": ("KILLED", "NORMAL", "SHUTDOWN", "ExitReason"),
    "actors.ref": ("ActorRef",),
    "actors.request": ("Request",),
    "actors.watching": ("Terminated",),
    "messages.errors": ("ActorError", "ErrorCode", "ErrorKind", "Refusal"),
    "messages.message": ("Message",),
    "messages.registry": ("register",),
    "messages.response": ("ErrorResponse",),
    "supervisors.backoff": ("Backoff",),
    "supervisors.child": ("Child", "ChildSpec", "check_childspecs"),
    "supervisors.dynamic": ("DynamicSupervisor",),
    "supervisors.supervisor": ("Supervisor",),
    "supervisors.system": ("ActorSystem",),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORE",
    "KILLED",
    "NORMAL",
    "SHUTDOWN",
    "Actor",
    "ActorError",
    "ActorRef",
    "ActorSystem",
    "Backoff",
    "Child",
    "ChildSpec",
    "DynamicSupervisor",
    "ErrorCode",
    "ErrorKind",
    "ErrorResponse",
    "Event",
    "ExitReason",
    "Future",
    "Mailbox",
    "Message",
    "Refusal",
    "Request",
    "Started",
    "Supervisor",
    "Terminated",
    "__version__",
    "check_childspecs",
    "handles",
    "handles_batch",
    "register",
]


def __getattr__(name: str) -> Any:
    home = _WHERE.get(name)
    if home is None:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"understudy.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})

"""Understudy: an embeddable actor runtime for Python services.

What is here is the public face. Each name is imported when it is first used, so that a program pays for what it
needs: ``import understudy`` loads no client library, no event loop and none of the service actors.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from understudy.actors.actor import Actor
    from understudy.actors.background import BackgroundTask, TaskFailed
    from understudy.actors.channel import Channel
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
    from understudy.supervisors.partition import PartitionRef, PartitionSupervisor
    from understudy.supervisors.ref import SupervisorRef
    from understudy.supervisors.supervisor import Supervisor
    from understudy.supervisors.system import ActorSystem
    from understudy.supervisors.task import Failed, Ok, Task
    from understudy.supervisors.tasks import TaskSupervisor, TaskSupervisorRef

else:
    from understudy.messages.lazy import face

    # Not `__name__`: pytest imports this file under its directory's name.
    __getattr__, __dir__ = face(
        "understudy",
        {
            "actors.actor": ("Actor",),
            "actors.background": ("BackgroundTask", "TaskFailed"),
            "actors.channel": ("Channel",),
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
            "supervisors.partition": ("PartitionRef", "PartitionSupervisor"),
            "supervisors.ref": ("SupervisorRef",),
            "supervisors.supervisor": ("Supervisor",),
            "supervisors.system": ("ActorSystem",),
            "supervisors.task": ("Failed", "Ok", "Task"),
            "supervisors.tasks": ("TaskSupervisor", "TaskSupervisorRef"),
        },
    )

__all__ = [
    "IGNORE",
    "KILLED",
    "NORMAL",
    "SHUTDOWN",
    "Actor",
    "ActorError",
    "ActorRef",
    "ActorSystem",
    "BackgroundTask",
    "Backoff",
    "Channel",
    "Child",
    "ChildSpec",
    "DynamicSupervisor",
    "ErrorCode",
    "ErrorKind",
    "ErrorResponse",
    "Event",
    "ExitReason",
    "Failed",
    "Future",
    "Mailbox",
    "Message",
    "Ok",
    "PartitionRef",
    "PartitionSupervisor",
    "Refusal",
    "Request",
    "Started",
    "Supervisor",
    "SupervisorRef",
    "Task",
    "TaskFailed",
    "TaskSupervisor",
    "TaskSupervisorRef",
    "Terminated",
    "__version__",
    "check_childspecs",
    "handles",
    "handles_batch",
    "register",
]

"""Everything that Understudy raises.

    ActorError
    ├── MailboxError                      0xFFFD
    │   ├── MailboxFull
    │   ├── MailboxClosed                 also pykka.ActorDeadError
    │   ├── AskTimeout                    also pykka.Timeout
    │   ├── ActorRestarting
    │   ├── AskCycle
    │   ├── ChannelClosed
    │   ├── ChannelTimeout                also pykka.Timeout
    │   ├── LoopBlocked
    │   └── UnknownActor                  also pykka.ActorDeadError
    ├── HandlerError                      0xFFF9
    │   ├── HandlerFailed
    │   ├── UnhandledMessage
    │   ├── ReplyMissing
    │   ├── Refusal
    │   └── IncarnationFenced
    ├── SupervisionError                  0xFFF8
    │   ├── StartFailed
    │   ├── NameTaken
    │   ├── ChildNotFound
    │   ├── ChildRunning
    │   ├── MaxChildren
    │   ├── IntensityExceeded
    │   ├── NotSupported
    │   ├── SystemStopped                 also pykka.ActorDeadError
    │   ├── ForkedSystem
    │   ├── DispatcherExhausted
    │   ├── PartitionInvalid
    │   ├── TaskCrashed
    │   └── TaskTimeout                   also pykka.Timeout
    ├── BackgroundError                   0xFFF6
    │   ├── BackgroundCancelled
    │   └── RaceTimeout                   also pykka.Timeout
    ├── TaskError                         0xFFF6
    │   ├── TaskDuplicate
    │   ├── TaskIdConflict
    │   ├── TaskNotFound
    │   └── TaskRefused
    ├── ConfigError                       0xFFF5, also ValueError
    │   ├── SpecInvalid
    │   ├── HandlerDeclarationError       also TypeError
    │   ├── UrlInvalid
    │   └── TreeInvalid
    ├── CodecError                        0xFFFB
    ├── StorageError                      0xFFFF
    │   └── CacheError
    ├── BrokerError                       0xFFFE
    ├── LockError                         0xFFF7
    ├── FileError                         0xFFCE
    └── EncryptionError                   0xFFAB

An exception says what was seen (`source`) and of which kind it is; what a kind means, whether trying again
can help and what to do about it is in the catalogue. `ActorError.response` is the same failure as a message.
"""

from __future__ import annotations

from typing import Any, Unpack

import pykka

from .base_error import ActorError, ErrorDetails
from .kinds import ErrorCode, ErrorKind, show_code

__all__ = [
    "ActorError",
    "ActorRestarting",
    "AskCycle",
    "AskTimeout",
    "BackgroundCancelled",
    "BackgroundError",
    "BrokerError",
    "CacheError",
    "ChannelClosed",
    "ChannelTimeout",
    "ChildNotFound",
    "ChildRunning",
    "CodecError",
    "ConfigError",
    "DispatcherExhausted",
    "EncryptionError",
    "ErrorCode",
    "ErrorDetails",
    "ErrorKind",
    "FileError",
    "ForkedSystem",
    "HandlerDeclarationError",
    "HandlerError",
    "HandlerFailed",
    "IncarnationFenced",
    "IntensityExceeded",
    "LockError",
    "LoopBlocked",
    "MailboxClosed",
    "MailboxError",
    "MailboxFull",
    "MaxChildren",
    "NameTaken",
    "NotSupported",
    "PartitionInvalid",
    "RaceTimeout",
    "Refusal",
    "ReplyMissing",
    "SpecInvalid",
    "StartFailed",
    "StorageError",
    "SupervisionError",
    "SystemStopped",
    "TaskCrashed",
    "TaskDuplicate",
    "TaskError",
    "TaskIdConflict",
    "TaskNotFound",
    "TaskRefused",
    "TaskTimeout",
    "TreeInvalid",
    "UnhandledMessage",
    "UnknownActor",
    "UrlInvalid",
    "show_code",
]


class MailboxError(ActorError):
    """A message could not be delivered, or not answered in time."""

    code = ErrorCode.MAILBOX_CHANNEL
    default_kind = ErrorKind.MAILBOX_CLOSED


class MailboxFull(MailboxError):
    """The mailbox held as many messages as it may; or this one was displaced by a later one."""

    default_kind = ErrorKind.MAILBOX_FULL


class MailboxClosed(MailboxError, pykka.ActorDeadError):
    """The actor is not running, or stopped before it came to the message."""

    default_kind = ErrorKind.MAILBOX_CLOSED


class AskTimeout(MailboxError, pykka.Timeout):
    """The deadline of an ask passed without an answer.

    `deadline` is that of the ask, in seconds of the system's clock; None where somebody waited shorter by itself.
    """

    default_kind = ErrorKind.MAILBOX_TIMEOUT
    deadline: float | None = None


class ActorRestarting(MailboxError):
    """The actor is between two incarnations, and its mailbox is set to refuse meanwhile."""

    default_kind = ErrorKind.MAILBOX_RESTARTING


class AskCycle(MailboxError):
    """The asked actor is itself waiting, directly or through others, for the one that asks."""

    default_kind = ErrorKind.ASK_CYCLE


class LoopBlocked(MailboxError):
    """A blocking ask was made on the event loop's thread, which would have to run what it waits for."""

    default_kind = ErrorKind.ASK_BLOCKS_LOOP


class ChannelClosed(MailboxError):
    """The channel was closed: nothing can be put, and what was put before is taken."""

    default_kind = ErrorKind.CHANNEL_CLOSED


class ChannelTimeout(MailboxError, pykka.Timeout):
    """Nothing came through the channel, or no place in it became free, in time."""

    default_kind = ErrorKind.CHANNEL_TIMEOUT


class UnknownActor(MailboxError, pykka.ActorDeadError):
    """No actor has that name."""

    default_kind = ErrorKind.NAME_UNKNOWN


class HandlerError(ActorError):
    """The message was delivered, and not dealt with."""

    code = ErrorCode.HANDLER
    default_kind = ErrorKind.HANDLER_FAILED


class HandlerFailed(HandlerError):
    """An exception escaped the handler and ended the incarnation; it is the `cause`."""

    default_kind = ErrorKind.HANDLER_FAILED


class UnhandledMessage(HandlerError):
    """The actor has no handler for a message of this type."""

    default_kind = ErrorKind.MESSAGE_UNHANDLED


class ReplyMissing(HandlerError):
    """A handler that answers requests one by one left this one without an answer."""

    default_kind = ErrorKind.REPLY_MISSING


class Refusal(HandlerError):
    """Raised by a handler to turn a request down: the asker gets it, the actor lives on."""

    default_kind = ErrorKind.HANDLER_REFUSED


class IncarnationFenced(HandlerError):
    """An incarnation that was given up on tried to reply, schedule or commit."""

    default_kind = ErrorKind.INCARNATION_FENCED


class SupervisionError(ActorError):
    """A supervisor or the system could not do what was asked of it."""

    code = ErrorCode.SUPERVISION
    default_kind = ErrorKind.CHILD_START_FAILED


class StartFailed(SupervisionError):
    """A child could not be started; why is the `cause`."""

    default_kind = ErrorKind.CHILD_START_FAILED


class NameTaken(SupervisionError):
    """The name is in use; `ref` is the actor that has it, if it could be told.

    Args:
        source: The text of what went wrong.
        ref: The actor that has the name.
        **details: See `ActorError`.
    """

    default_kind = ErrorKind.NAME_TAKEN

    def __init__(self, source: str = "", *, ref: Any = None, **details: Unpack[ErrorDetails]) -> None:
        super().__init__(source, **details)
        self.ref = ref


class ChildNotFound(SupervisionError):
    """The supervisor has no child of that id."""

    default_kind = ErrorKind.CHILD_NOT_FOUND


class ChildRunning(SupervisionError):
    """The child is running or about to be, and this can only be done to one that is not."""

    default_kind = ErrorKind.CHILD_RUNNING


class MaxChildren(SupervisionError):
    """The supervisor has as many children as it may."""

    default_kind = ErrorKind.MAX_CHILDREN


class IntensityExceeded(SupervisionError):
    """More restarts than allowed within the period: the supervisor gave up."""

    default_kind = ErrorKind.GAVE_UP


class NotSupported(SupervisionError):
    """This kind of supervisor has no such operation."""

    default_kind = ErrorKind.OPERATION_UNSUPPORTED


class SystemStopped(SupervisionError, pykka.ActorDeadError):
    """The actor system was stopped."""

    default_kind = ErrorKind.SYSTEM_STOPPED


class ForkedSystem(SupervisionError):
    """The process was forked after the system had started: its threads are not in this process."""

    default_kind = ErrorKind.SYSTEM_FORKED


class DispatcherExhausted(SupervisionError):
    """The dispatcher could not get another thread."""

    default_kind = ErrorKind.THREADS_EXHAUSTED


class PartitionInvalid(SupervisionError):
    """No such partition, or a number of partitions that cannot be."""

    default_kind = ErrorKind.PARTITION_INVALID


class TaskCrashed(SupervisionError):
    """A background task ended with an exception; it is the `cause`."""

    default_kind = ErrorKind.TASK_CRASHED


class TaskTimeout(SupervisionError, pykka.Timeout):
    """A background task did not end in time."""

    default_kind = ErrorKind.TASK_TIMEOUT


class BackgroundError(ActorError):
    """Work in the background of an actor came to no result."""

    code = ErrorCode.TASK
    default_kind = ErrorKind.BACKGROUND_CANCELLED


class BackgroundCancelled(BackgroundError):
    """Background work was cancelled, or the incarnation that had spawned it ended first."""

    default_kind = ErrorKind.BACKGROUND_CANCELLED


class RaceTimeout(BackgroundError, pykka.Timeout):
    """None of the works of a race had a result in time; all of them were cancelled."""

    default_kind = ErrorKind.RACE_TIMEOUT


class TaskError(ActorError):
    """A durable task could not be distributed, processed or managed."""

    code = ErrorCode.TASK
    default_kind = ErrorKind.TASK_HANDLER_FAILED


class TaskDuplicate(TaskError):
    """A unique task of the same type and payload waits or runs in the queue."""

    default_kind = ErrorKind.TASK_DUPLICATE


class TaskIdConflict(TaskError):
    """The queue holds another task of this id."""

    default_kind = ErrorKind.TASK_ID_CONFLICT


class TaskNotFound(TaskError):
    """The queue holds no task of this id, or there is no such queue."""

    default_kind = ErrorKind.TASK_NOT_FOUND


class TaskRefused(TaskError):
    """What was asked of a task or a queue cannot be done in its present state."""

    default_kind = ErrorKind.TASK_STATE_INVALID


class ConfigError(ActorError, ValueError):
    """Something was declared that cannot be. Raised where it is declared, not where it would be used."""

    code = ErrorCode.CONFIG
    default_kind = ErrorKind.CHILD_SPEC_INVALID


class SpecInvalid(ConfigError):
    """A field of a declaration has a value that it cannot have.

    Args:
        source: The text of what went wrong.
        field: The field's name.
        value: The offending value.
        **details: See `ActorError`.
    """

    default_kind = ErrorKind.CHILD_SPEC_INVALID

    def __init__(
        self, source: str = "", *, field: str = "", value: object = None, **details: Unpack[ErrorDetails]
    ) -> None:
        super().__init__(source, **details)
        self.field = field
        self.value = value


class HandlerDeclarationError(ConfigError, TypeError):
    """A handler is declared in a way that cannot work; raised when its class is defined."""

    default_kind = ErrorKind.HANDLER_MISSING_ANNOTATION


class UrlInvalid(ConfigError):
    """A URL names no backend that there is."""

    default_kind = ErrorKind.URL_INVALID


class TreeInvalid(ConfigError):
    """What was named to be run is not a tree of supervisors."""

    default_kind = ErrorKind.TREE_INVALID


class CodecError(ActorError):
    """Something cannot be written as JSON, or was not the JSON that it should have been.

    Args:
        source: The text of what went wrong.
        field: The path of the field, such as `notif_data.fired_at`, where one is to blame.
        **details: See `ActorError`.
    """

    code = ErrorCode.CODEC
    default_kind = ErrorKind.BODY_INVALID

    def __init__(self, source: str = "", *, field: str = "", **details: Unpack[ErrorDetails]) -> None:
        super().__init__(source, **details)
        self.field = field


class StorageError(ActorError):
    """The store could not be read or written."""

    code = ErrorCode.STORAGE_IO
    default_kind = ErrorKind.SQLITE_FAILED


class CacheError(StorageError):
    """The cache could not do what was asked of it."""

    default_kind = ErrorKind.CACHE_WRONG_TYPE


class BrokerError(ActorError):
    """The broker could not do what was asked of it."""

    code = ErrorCode.SERVER_IO
    default_kind = ErrorKind.BROKER_CLOSED


class LockError(ActorError):
    """A lock is not, or no longer, held."""

    code = ErrorCode.LOCK
    default_kind = ErrorKind.LOCK_NOT_HELD


class FileError(ActorError):
    """A file or stream could not be read or written."""

    code = ErrorCode.FILE
    default_kind = ErrorKind.FILE_UNREADABLE


class EncryptionError(ActorError):
    """Something could not be encrypted or decrypted. It is never sent in the clear instead."""

    code = ErrorCode.CRYPTER
    default_kind = ErrorKind.CRYPTER_FAILED

"""The catalogue of errors: one row for each kind, and all that is known about it.

`python -m understudy.messages.catalogue` prints it as docs/errors.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

from . import errors as e
from .kinds import ErrorCode, ErrorKind


class Entry(NamedTuple):
    """What is known about one kind of error."""

    kind: ErrorKind
    exception: type[e.ActorError]
    status: int
    """The HTTP status it is answered with."""
    retryable: bool
    """Whether the same request, made again later, may succeed."""
    meaning: str
    """What has happened, in one sentence: the title of a problem document."""
    advice: str
    """What to do about it."""

    @property
    def code(self) -> ErrorCode:
        """The family, which follows from the exception."""
        return self.exception.code


YES, NO = True, False
K = ErrorKind

# fmt: off
CATALOGUE: tuple[Entry, ...] = (
    # mailboxes
    Entry(K.MAILBOX_FULL, e.MailboxFull, 503, YES,
          "The mailbox is full.",
          "Send slower, or later; give the mailbox more capacity or another overflow policy."),
    Entry(K.MAILBOX_DROPPED, e.MailboxFull, 503, YES,
          "The message was displaced from a full mailbox.",
          "Send again if it still matters; the overflow policy drops the oldest or the newest by choice."),
    Entry(K.MAILBOX_CLOSED, e.MailboxClosed, 503, YES,
          "The actor is not running, or stopped before it came to the message.",
          "Look the actor up by name again; if it was stopped for good, stop sending to it."),
    Entry(K.MAILBOX_TIMEOUT, e.AskTimeout, 504, YES,
          "No answer came before the deadline.",
          "The message may still be handled: repeat it only if that does no harm. Else allow more time."),
    Entry(K.MAILBOX_EXPIRED, e.AskTimeout, 504, YES,
          "The deadline passed while the message was waiting; it was not handled.",
          "Safe to send again. The actor has more work than it can do in time."),
    Entry(K.MAILBOX_RESTARTING, e.ActorRestarting, 503, YES,
          "The actor is being restarted, and refuses messages meanwhile.",
          "Send again in a moment."),
    Entry(K.ASK_CYCLE, e.AskCycle, 508, NO,
          "The asked actor is waiting for the one that asks.",
          "Use tell for one of the two directions, or move what both need into a third actor."),
    Entry(K.ASK_BLOCKS_LOOP, e.LoopBlocked, 500, NO,
          "A blocking ask on the event loop's thread would wait for itself.",
          "Await it: `await ref.ask(message, block=False)`."),
    Entry(K.NAME_UNKNOWN, e.UnknownActor, 404, NO,
          "No actor has that name.",
          "Check the path against the tree; the error suggests the nearest name."),
    # handlers
    Entry(K.HANDLER_FAILED, e.HandlerFailed, 500, YES,
          "An exception escaped the handler; the actor was restarted.",
          "The cause is in the response. A message that fails each time is not worth repeating."),
    Entry(K.HANDLER_KILLED, e.HandlerFailed, 500, YES,
          "The actor was killed, or given up on, while it handled the message.",
          "Part of the work may have been done: repeat only what may happen twice."),
    Entry(K.HANDLER_REFUSED, e.Refusal, 422, NO,
          "The actor turned the request down.",
          "The text says why; change the request."),
    Entry(K.MESSAGE_UNHANDLED, e.UnhandledMessage, 501, NO,
          "The actor has no handler for this type of message.",
          "Declare one with @handles, or send it to the actor that has."),
    Entry(K.REPLY_MISSING, e.ReplyMissing, 500, NO,
          "The handler ended without answering the request.",
          "A handler of batches must answer every request it was given."),
    Entry(K.INCARNATION_FENCED, e.IncarnationFenced, 409, NO,
          "An incarnation that was given up on tried to act.",
          "Nothing: its successor does the work. Find out what held it up for so long."),
    # supervision
    Entry(K.CHILD_START_FAILED, e.StartFailed, 500, YES,
          "The child could not be started.",
          "See the cause: its constructor or on_start raised."),
    Entry(K.CHILD_BAD_RETURN, e.StartFailed, 500, NO,
          "What was to start the child did not return an actor.",
          "Return an actor, or a reference to one, from the function in the child's declaration."),
    Entry(K.CHILD_ALREADY_STARTED, e.NameTaken, 409, NO,
          "A child of this id is running.",
          "Use the reference that the error carries, or choose another id."),
    Entry(K.CHILD_ALREADY_PRESENT, e.NameTaken, 409, NO,
          "A child of this id is declared, and not running.",
          "Restart it, or delete it first."),
    Entry(K.CHILD_NOT_FOUND, e.ChildNotFound, 404, NO,
          "The supervisor has no child of this id.",
          "Check the id; the error suggests the nearest one."),
    Entry(K.CHILD_RUNNING, e.ChildRunning, 409, NO,
          "The child is running.",
          "Terminate it first."),
    Entry(K.CHILD_RESTARTING, e.ChildRunning, 409, YES,
          "The child is being restarted.",
          "Wait until it runs, or terminate it."),
    Entry(K.MAX_CHILDREN, e.MaxChildren, 503, YES,
          "The supervisor has as many children as it may.",
          "Wait until one ends, or raise max_children."),
    Entry(K.GAVE_UP, e.IntensityExceeded, 500, NO,
          "Children failed more often than the restart intensity allows; the supervisor gave up.",
          "Repair the cause. A higher intensity, a longer period or a backoff suits what heals by itself."),
    Entry(K.OPERATION_UNSUPPORTED, e.NotSupported, 501, NO,
          "This kind of supervisor has no such operation.",
          "Use a static supervisor where children are addressed by id."),
    Entry(K.PARTITION_INVALID, e.PartitionInvalid, 400, NO,
          "There is no such partition.",
          "Partitions are counted from 0 and there is at least one."),
    Entry(K.NAME_TAKEN, e.NameTaken, 409, NO,
          "Another actor has this name.",
          "Use the reference that the error carries, or choose another name."),
    Entry(K.SYSTEM_STOPPED, e.SystemStopped, 503, NO,
          "The actor system was stopped.",
          "Start a new one."),
    Entry(K.SYSTEM_FORKED, e.ForkedSystem, 500, NO,
          "The process was forked after the system had started.",
          "Start the system in the child process, after the fork."),
    Entry(K.THREADS_EXHAUSTED, e.DispatcherExhausted, 503, YES,
          "The dispatcher could not get another thread.",
          "Too many handlers block at once: raise the limit, or await instead of blocking."),
    Entry(K.TASK_CRASHED, e.TaskCrashed, 500, YES,
          "A background task ended with an exception.",
          "See the cause."),
    Entry(K.TASK_TIMEOUT, e.TaskTimeout, 504, YES,
          "A background task did not end in time.",
          "Allow more time; the task goes on unless it was shut down."),
    # configuration
    Entry(K.CHILD_SPEC_INVALID, e.SpecInvalid, 500, NO,
          "A child's declaration is not valid.",
          "Correct the field that the error names."),
    Entry(K.SUPERVISOR_FLAGS_INVALID, e.SpecInvalid, 500, NO,
          "A supervisor's strategy, intensity or period is not valid.",
          "Correct the field that the error names."),
    Entry(K.MAILBOX_INVALID, e.SpecInvalid, 500, NO,
          "A mailbox's declaration is not valid.",
          "Correct the field that the error names."),
    Entry(K.BACKOFF_INVALID, e.SpecInvalid, 500, NO,
          "A backoff's declaration is not valid.",
          "Correct the field that the error names."),
    Entry(K.HANDLER_MISSING_ANNOTATION, e.HandlerDeclarationError, 500, NO,
          "A handler does not say which message it takes.",
          "Annotate its parameter with the message's type."),
    Entry(K.HANDLER_DUPLICATE, e.HandlerDeclarationError, 500, NO,
          "Two handlers of one class take the same message.",
          "Keep one of them."),
    Entry(K.HANDLER_NOT_A_MESSAGE, e.HandlerDeclarationError, 500, NO,
          "A handler's parameter is not a message type.",
          "Derive the type from Message."),
    Entry(K.URL_INVALID, e.UrlInvalid, 500, NO,
          "A URL names no backend that there is.",
          "See the table of URLs in the configuration's documentation."),
    Entry(K.TREE_INVALID, e.TreeInvalid, 500, NO,
          "What was named to be run is not a tree of supervisors.",
          "Name it as module:variable; the variable must hold a Supervisor."),
    # codec
    Entry(K.TYPE_INVALID, e.CodecError, 500, NO,
          "A wire name has a form that it cannot have, or was given to what is not a message type.",
          "Use words joined by dots, and types derived from Message."),
    Entry(K.TYPE_UNKNOWN, e.CodecError, 400, NO,
          "No message type is registered under this name.",
          "Check the name; import the module that registers it."),
    Entry(K.TYPE_DUPLICATE, e.CodecError, 500, NO,
          "The wire name is taken by another message type.",
          "Choose another name: names are shared by everything that one process registers."),
    Entry(K.TYPE_UNREGISTERED, e.CodecError, 500, NO,
          "The message's type has no wire name.",
          "Decorate it with @register(\"its.name\")."),
    Entry(K.FIELD_INVALID, e.CodecError, 400, NO,
          "A field has a value of the wrong type.",
          "Correct the field that the error names; nothing is converted silently."),
    Entry(K.FIELD_UNKNOWN, e.CodecError, 400, NO,
          "There is a field that the message does not have.",
          "Remove it, or correct its name."),
    Entry(K.FIELD_MISSING, e.CodecError, 400, NO,
          "A field that the message needs is missing.",
          "Supply the field that the error names."),
    Entry(K.BODY_TOO_LARGE, e.CodecError, 413, NO,
          "The body is longer than allowed.",
          "Send less, or a reference to it; the limit is max_body, 1 MiB by default."),
    Entry(K.BODY_TOO_DEEP, e.CodecError, 400, NO,
          "The value is nested more deeply than allowed, or contains itself.",
          "Flatten it."),
    Entry(K.BODY_INVALID, e.CodecError, 400, NO,
          "The body is not JSON, or not the envelope of a message.",
          "The error says where reading stopped."),
    Entry(K.BODY_NOT_UTF8, e.CodecError, 400, NO,
          "The body is not UTF-8.",
          "Encode it as UTF-8; binary data goes into a base64 field."),
    Entry(K.NUMBER_NOT_FINITE, e.CodecError, 422, NO,
          "A number is NaN or infinite, which JSON cannot say.",
          "Send null or leave the field out."),
    Entry(K.NUMBER_OUT_OF_RANGE, e.CodecError, 422, NO,
          "An integer does not fit into 64 bits.",
          "Send it as a string."),
    Entry(K.VALUE_UNSERIALISABLE, e.CodecError, 422, NO,
          "A value cannot be written as JSON.",
          "Use JSON's types, messages, dataclasses, enums, dates, UUIDs or bytes."),
    # storage and cache
    Entry(K.SQLITE_UNAVAILABLE, e.StorageError, 503, YES,
          "The database file cannot be opened.",
          "Check its path and permissions."),
    Entry(K.SQLITE_FAILED, e.StorageError, 500, YES,
          "The database refused a statement; nothing of it was kept.",
          "See the cause: the disk is full, the file locked or damaged."),
    Entry(K.ROW_INVALID, e.StorageError, 422, NO,
          "A stored row is not, or would not be, a valid record.",
          "Correct the value that the error names."),
    Entry(K.FENCING_STALE, e.StorageError, 409, NO,
          "The write carries an older fencing token than the store has seen.",
          "Another holder has the lock by now: acquire it again before writing."),
    Entry(K.MIGRATION_FAILED, e.StorageError, 500, NO,
          "The database's schema could not be brought up to date.",
          "See the cause; the schema is as it was before the step that failed."),
    Entry(K.QUERY_INVALID, e.StorageError, 400, NO,
          "A read asks for something that cannot be.",
          "Correct the argument that the error names: no count is negative, no end before its start."),
    Entry(K.CACHE_WRONG_TYPE, e.CacheError, 409, NO,
          "The key holds a value of another type.",
          "Use another key, or delete this one first."),
    Entry(K.CACHE_REQUEST_INVALID, e.CacheError, 400, NO,
          "The cache was asked for something that cannot be.",
          "Correct the argument that the error names: an expiry and a bound are above zero."),
    Entry(K.CACHE_CLOSED, e.CacheError, 503, YES,
          "The cache is closed.",
          "Send again when its actor runs."),
    # broker
    Entry(K.DECLARATION_INVALID, e.BrokerError, 400, NO,
          "An exchange, queue, binding or key cannot be declared like this.",
          "Correct the argument that the error names; names have at most 255 bytes, amq. is reserved."),
    Entry(K.EXCHANGE_MISMATCH, e.BrokerError, 409, NO,
          "The exchange exists with other properties.",
          "Declare it as it is, or under another name; the error names what differs."),
    Entry(K.EXCHANGE_UNKNOWN, e.BrokerError, 404, NO,
          "There is no exchange of this name.",
          "Declare it first."),
    Entry(K.QUEUE_MISMATCH, e.BrokerError, 409, NO,
          "The queue exists with other properties.",
          "Declare it as it is, or under another name; the error names what differs."),
    Entry(K.UNROUTABLE, e.BrokerError, 404, YES,
          "No queue is bound where the message was published to.",
          "Bind a queue first, or check the exchange and the routing key."),
    Entry(K.PUBLISH_NACKED, e.BrokerError, 503, YES,
          "The broker could not take the message: a queue that it goes to is full.",
          "Publish again later; let consumers catch up, and see whether its dead letters fill the queue."),
    Entry(K.CONSUMER_INVALID, e.BrokerError, 400, NO,
          "A consumer cannot be started like this.",
          "Correct the argument that the error names: a tag is used once, a prefetch is at least 1."),
    Entry(K.CONSUMER_CANCELLED, e.BrokerError, 503, YES,
          "The broker ended a consumer.",
          "Consume again; what it had not acknowledged is delivered again."),
    Entry(K.QUEUE_UNKNOWN, e.BrokerError, 404, NO,
          "There is no queue of this name.",
          "Declare it first."),
    Entry(K.BROKER_CLOSED, e.BrokerError, 503, YES,
          "The broker is closed.",
          "Send again when its actor runs."),
    Entry(K.DEAD_LETTERED, e.BrokerError, 500, NO,
          "A delivery failed as often as it may, and went to the dead-letter queue.",
          "See the cause; list and replay the queue when it is repaired."),
    # locks
    Entry(K.LOCK_NOT_HELD, e.LockError, 409, NO,
          "The lock is not held by this owner.",
          "Acquire it first; it may have expired."),
    Entry(K.LOCK_TIMEOUT, e.LockError, 504, YES,
          "The lock did not become free in time.",
          "Wait longer, or do the work later."),
    Entry(K.LOCK_REQUEST_INVALID, e.LockError, 400, NO,
          "The lock was asked for something that cannot be.",
          "Correct the argument that the error names: a lease lasts longer than zero seconds."),
    Entry(K.LOCK_CLOSED, e.LockError, 503, YES,
          "The connection to the locks is closed.",
          "Send again when its actor runs."),
    Entry(K.LEASE_LOST, e.LockError, 409, YES,
          "The lease ran out before the work was done.",
          "Stop the work, acquire again; ask for a longer lease."),
    Entry(K.LOCK_TOKEN_STALE, e.LockError, 409, NO,
          "The token belongs to an earlier holder.",
          "Use the token of the latest acquisition."),
    # files and encryption
    Entry(K.FILE_UNREADABLE, e.FileError, 500, NO,
          "The file cannot be read.",
          "Check its path and permissions."),
    Entry(K.CRYPTER_FAILED, e.EncryptionError, 422, NO,
          "The data could not be encrypted or decrypted; nothing was sent in the clear.",
          "Check that both sides have the same key, and that the data is whole."),
    Entry(K.CRYPTER_KEY_INVALID, e.EncryptionError, 500, NO,
          "The encryption's configuration is not usable.",
          "Supply a secret, a passphrase and a unique key, none of them empty."),
)
# fmt: on

_BY_KIND: dict[str, Entry] = {entry.kind: entry for entry in CATALOGUE}


def entry_of(kind: str) -> Entry | None:
    """Find the row of a kind; None for a kind that is not of this catalogue."""
    return _BY_KIND.get(kind)


def render(entries: Iterable[Entry] = CATALOGUE) -> str:
    """Write the catalogue as the page docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Every failure that a caller can see has a code (its family), a kind and an exception. *Retry* tells",
        "whether the same request, made again later, may succeed. This page is generated from",
        "`messages/catalogue.py`: `python -m understudy.messages.catalogue > docs/errors.md`.",
        "",
        "| code | kind | exception | HTTP | retry | what happened | what to do |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.code.hex} {row.code.name} | `{row.kind}` | `{row.exception.__name__}` | {row.status} "
        f"| {'yes' if row.retryable else 'no'} | {row.meaning} | {row.advice} |"
        for row in entries
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())

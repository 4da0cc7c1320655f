"""The names of everything that can go wrong: families (`ErrorCode`) and, within them, kinds (`ErrorKind`).

What each kind means, and what to do about it, stands in `catalogue.py`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErrorCode(IntEnum):
    """A family of errors: a u16, always shown in hex.

    The values down to `HTTP_RESPONSE` and the three last ones are those of the system that Understudy's
    notification pipeline comes from; new families go downwards from 0xFFF9.
    """

    STORAGE_IO = 0xFFFF
    SERVER_IO = 0xFFFE
    MAILBOX_CHANNEL = 0xFFFD
    THIRDPARTYAPI = 0xFFFC
    CODEC = 0xFFFB
    HTTP_RESPONSE = 0xFFFA
    HANDLER = 0xFFF9
    SUPERVISION = 0xFFF8
    LOCK = 0xFFF7
    TASK = 0xFFF6
    CONFIG = 0xFFF5
    FILE = 0xFFCE
    CHRONO = 0xFFAE
    CRYPTER = 0xFFAB

    @property
    def hex(self) -> str:
        """The code as it is shown everywhere, such as `0xFFFD`."""
        return show_code(self)


def show_code(code: int) -> str:
    """Render a code in hex, four digits: `0xFFFD`."""
    return f"0x{code:04X}"


class ErrorKind(StrEnum):
    """One specific thing that can go wrong. Its text is what crosses wires and is searched for in logs."""

    # mailboxes
    MAILBOX_FULL = "actor.mailbox.full"
    MAILBOX_DROPPED = "actor.mailbox.dropped"
    MAILBOX_CLOSED = "actor.mailbox.closed"
    MAILBOX_TIMEOUT = "actor.mailbox.timeout"
    MAILBOX_EXPIRED = "actor.mailbox.expired"
    MAILBOX_RESTARTING = "actor.mailbox.restarting"
    ASK_CYCLE = "actor.ask.cycle"
    ASK_BLOCKS_LOOP = "actor.ask.blocks_loop"
    NAME_UNKNOWN = "actor.name.unknown"
    NAME_OTHER_CLASS = "actor.name.other_class"

    # handlers
    HANDLER_FAILED = "actor.handler.failed"
    HANDLER_KILLED = "actor.handler.killed"
    HANDLER_REFUSED = "actor.handler.refused"
    MESSAGE_UNHANDLED = "actor.message.unhandled"
    REPLY_MISSING = "actor.reply.missing"
    INCARNATION_FENCED = "actor.incarnation.fenced"

    # background work, races and channels
    BACKGROUND_CANCELLED = "actor.background.cancelled"
    RACE_TIMEOUT = "actor.race.timeout"
    CHANNEL_CLOSED = "actor.channel.closed"
    CHANNEL_TIMEOUT = "actor.channel.timeout"
    CHANNEL_BLOCKS_LOOP = "actor.channel.blocks_loop"

    # supervision
    CHILD_START_FAILED = "supervisor.child.start_failed"
    CHILD_BAD_RETURN = "supervisor.child.bad_return"
    CHILD_ALREADY_STARTED = "supervisor.child.already_started"
    CHILD_ALREADY_PRESENT = "supervisor.child.already_present"
    CHILD_NOT_FOUND = "supervisor.child.not_found"
    CHILD_RUNNING = "supervisor.child.running"
    CHILD_RESTARTING = "supervisor.child.restarting"
    MAX_CHILDREN = "supervisor.max_children"
    GAVE_UP = "supervisor.gave_up"
    OPERATION_UNSUPPORTED = "supervisor.operation.unsupported"
    PARTITION_INVALID = "supervisor.partition.invalid"
    NAME_TAKEN = "system.name.taken"
    SYSTEM_STOPPED = "system.stopped"
    SYSTEM_FORKED = "system.forked"
    THREADS_EXHAUSTED = "system.threads.exhausted"

    # background tasks
    TASK_CRASHED = "supervisor.task.crashed"
    TASK_TIMEOUT = "supervisor.task.timeout"

    # durable tasks
    TASK_OPTION_INVALID = "task.option.invalid"
    TASK_TYPE_INVALID = "task.type.invalid"
    TASK_DUPLICATE = "task.duplicate"
    TASK_ID_CONFLICT = "task.id.conflict"
    TASK_NOT_FOUND = "task.not_found"
    TASK_STATE_INVALID = "task.state.invalid"
    TASK_QUEUE_UNKNOWN = "task.queue.unknown"
    TASK_QUEUE_NOT_EMPTY = "task.queue.not_empty"
    TASK_RECORD_INVALID = "task.record.invalid"
    TASK_PAYLOAD_INVALID = "task.payload.invalid"
    TASK_HANDLER_MISSING = "task.handler.missing"
    TASK_HANDLER_FAILED = "task.handler.failed"
    TASK_RESULT_INVALID = "task.result.invalid"
    TASK_CANCELLED = "task.cancelled"
    TASK_DEADLINE_PASSED = "task.deadline.passed"
    TASK_LEASE_EXPIRED = "task.lease.expired"

    # configuration
    CHILD_SPEC_INVALID = "config.child_spec.invalid"
    SUPERVISOR_FLAGS_INVALID = "config.supervisor_flags.invalid"
    ACTOR_INVALID = "config.actor.invalid"
    MAILBOX_INVALID = "config.mailbox.invalid"
    CHANNEL_INVALID = "config.channel.invalid"
    BACKOFF_INVALID = "config.backoff.invalid"
    TIMER_INVALID = "config.timer.invalid"
    REASON_INVALID = "config.reason.invalid"
    TIMEOUT_INVALID = "config.timeout.invalid"
    HANDLER_MISSING_ANNOTATION = "config.handler.missing_annotation"
    HANDLER_DUPLICATE = "config.handler.duplicate"
    HANDLER_NOT_A_MESSAGE = "config.handler.not_a_message"
    HANDLER_UNCALLABLE = "config.handler.uncallable"
    TASK_PROCESSING_INVALID = "config.task_processing.invalid"
    URL_INVALID = "config.url.invalid"
    TREE_INVALID = "config.tree.invalid"
    STATEMENT_INVALID = "config.statement.invalid"

    # codec
    ARGUMENT_INVALID = "codec.argument.invalid"
    TYPE_INVALID = "codec.type.invalid"
    TYPE_UNKNOWN = "codec.type.unknown"
    TYPE_DUPLICATE = "codec.type.duplicate"
    TYPE_UNREGISTERED = "codec.type.unregistered"
    FIELD_INVALID = "codec.field.invalid"
    FIELD_UNKNOWN = "codec.field.unknown"
    FIELD_MISSING = "codec.field.missing"
    BODY_TOO_LARGE = "codec.body.too_large"
    BODY_TOO_DEEP = "codec.body.too_deep"
    BODY_INVALID = "codec.body.invalid"
    BODY_NOT_UTF8 = "codec.body.not_utf8"
    NUMBER_NOT_FINITE = "codec.number.not_finite"
    NUMBER_OUT_OF_RANGE = "codec.number.out_of_range"
    VALUE_UNSERIALISABLE = "codec.value.unserialisable"

    # storage and cache
    SQLITE_UNAVAILABLE = "storage.sqlite.unavailable"
    SQLITE_FAILED = "storage.sqlite.failed"
    POSTGRES_UNAVAILABLE = "storage.postgres.unavailable"
    POSTGRES_DENIED = "storage.postgres.denied"
    POSTGRES_FAILED = "storage.postgres.failed"
    REDIS_UNAVAILABLE = "storage.redis.unavailable"
    REDIS_DENIED = "storage.redis.denied"
    REDIS_FAILED = "storage.redis.failed"
    ROW_INVALID = "storage.row.invalid"
    FENCING_STALE = "storage.fencing.stale"
    MIGRATION_FAILED = "storage.migration.failed"
    QUERY_INVALID = "storage.query.invalid"
    CACHE_WRONG_TYPE = "cache.value.wrong_type"
    CACHE_REQUEST_INVALID = "cache.request.invalid"
    CACHE_CLOSED = "cache.closed"
    CACHE_UNAVAILABLE = "cache.unavailable"
    CACHE_DENIED = "cache.denied"
    CACHE_FULL = "cache.full"
    CACHE_FAILED = "cache.failed"
    CACHE_FETCH_TIMEOUT = "cache.fetch.timeout"

    # broker
    DECLARATION_INVALID = "broker.declaration.invalid"
    EXCHANGE_MISMATCH = "broker.exchange.mismatch"
    EXCHANGE_UNKNOWN = "broker.exchange.unknown"
    QUEUE_MISMATCH = "broker.queue.mismatch"
    QUEUE_UNKNOWN = "broker.queue.unknown"
    UNROUTABLE = "broker.unroutable"
    PUBLISH_NACKED = "broker.publish.nacked"
    CONSUMER_INVALID = "broker.consumer.invalid"
    CONSUMER_CANCELLED = "broker.consumer.cancelled"
    BROKER_CLOSED = "broker.closed"
    BROKER_UNAVAILABLE = "broker.unavailable"
    BROKER_BLOCKED = "broker.blocked"
    BROKER_REFUSED = "broker.refused"
    BROKER_FAILED = "broker.failed"
    PUBLISH_UNKNOWN = "broker.publish.unknown"
    PUBLISH_BACKLOG = "broker.publish.backlog"
    MESSAGE_INVALID = "broker.message.invalid"
    RPC_TIMEOUT = "broker.rpc.timeout"
    DEAD_LETTERED = "broker.message.dead_lettered"

    # locks
    LOCK_NOT_HELD = "lock.not_held"
    LOCK_TIMEOUT = "lock.timeout"
    LOCK_REQUEST_INVALID = "lock.request.invalid"
    LOCK_CLOSED = "lock.closed"
    LEASE_LOST = "lock.lease.lost"
    LOCK_TOKEN_STALE = "lock.token.stale"
    LOCK_UNAVAILABLE = "lock.unavailable"
    LOCK_DENIED = "lock.denied"
    LOCK_FAILED = "lock.failed"

    # files and encryption
    FILE_UNREADABLE = "file.unreadable"
    FILE_UNWRITABLE = "file.unwritable"
    ERRORS_UNLOGGED = "errorlog.incomplete"
    CRYPTER_FAILED = "crypter.failed"
    CRYPTER_UNAVAILABLE = "crypter.unavailable"

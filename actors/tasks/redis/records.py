"""The protobuf classes of `asynq.proto`.

They are built from a table when this module is imported, in a descriptor pool of their own: no compiler's output has
to be kept in step with the versions of ``protobuf`` that a program may have, and a program that has asynq's own
classes loaded as well gets no conflict of names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["RECORDS", "EnqueueEvent", "SchedulerEntry", "ServerInfo", "TaskMessage", "WorkerInfo"]

PACKAGE: Final = "understudy.tasks"
TIMESTAMP: Final = "google.protobuf.Timestamp"

RECORDS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "TaskMessage": (
        ("string", "type"),
        ("bytes", "payload"),
        ("string", "id"),
        ("string", "queue"),
        ("int32", "retry"),
        ("int32", "retried"),
        ("string", "error_msg"),
        ("int64", "timeout"),
        ("int64", "deadline"),
        ("string", "unique_key"),
        ("int64", "last_failed_at"),
        ("int64", "retention"),
        ("int64", "completed_at"),
        ("string", "group_key"),
        ("map<string, string>", "headers"),
    ),
    "ServerInfo": (
        ("string", "host"),
        ("int32", "pid"),
        ("string", "server_id"),
        ("int32", "concurrency"),
        ("map<string, int32>", "queues"),
        ("bool", "strict_priority"),
        ("string", "status"),
        (TIMESTAMP, "start_time"),
        ("int32", "active_worker_count"),
    ),
    "WorkerInfo": (
        ("string", "host"),
        ("int32", "pid"),
        ("string", "server_id"),
        ("string", "task_id"),
        ("string", "task_type"),
        ("bytes", "task_payload"),
        ("string", "queue"),
        (TIMESTAMP, "start_time"),
        (TIMESTAMP, "deadline"),
    ),
    "SchedulerEntry": (
        ("string", "id"),
        ("string", "spec"),
        ("string", "task_type"),
        ("bytes", "task_payload"),
        ("repeated string", "enqueue_options"),
        (TIMESTAMP, "next_enqueue_time"),
        (TIMESTAMP, "prev_enqueue_time"),
    ),
    "SchedulerEnqueueEvent": (
        ("string", "task_id"),
        (TIMESTAMP, "enqueue_time"),
    ),
}
"""Type and name of the fields of each record; their numbers count from 1."""


def _describe() -> FileDescriptorProto:
    file = FileDescriptorProto(name="understudy/tasks/asynq.proto", package=PACKAGE, syntax="proto3")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    for record, fields in RECORDS.items():
        message = file.message_type.add(name=record)
        for number, (kind, name) in enumerate(fields, 1):
            field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            if kind.startswith("map<"):
                entry = message.nested_type.add(name=f"{name.title()}Entry")
                entry.options.map_entry = True
                for place, part in enumerate(kind[4:-1].split(", "), 1):
                    inner = entry.field.add(name=("", "key", "value")[place], number=place)
                    inner.label = FieldDescriptorProto.LABEL_OPTIONAL
                    _set_type(inner, part)
                field.label = FieldDescriptorProto.LABEL_REPEATED
                _set_type(field, f"{PACKAGE}.{record}.{entry.name}")
                continue
            repeated, _, single = kind.rpartition(" ")
            if repeated:
                field.label = FieldDescriptorProto.LABEL_REPEATED
            _set_type(field, single)
    return file


def _set_type(field: FieldDescriptorProto, kind: str) -> None:
    if "." in kind:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


_pool = DescriptorPool()
_pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
_pool.AddSerializedFile(_describe().SerializeToString())


def _class(record: str) -> Any:
    return GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{record}"))


TaskMessage = _class("TaskMessage")
ServerInfo = _class("ServerInfo")
WorkerInfo = _class("WorkerInfo")
SchedulerEntry = _class("SchedulerEntry")
EnqueueEvent = _class("SchedulerEnqueueEvent")

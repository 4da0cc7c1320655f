"""Requests whose fields have no values of their types: nothing checks a message that was made in this process.

Each is refused by itself, before anything is done. Its kind is that of the step which could not be taken with the
value: a declaration, the start of a consumer, the encoding of a notification, or the writing of a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from ...messages.broker import (
    BindQueue,
    DeclareExchange,
    DeclareQueue,
    Publish,
    PurgeDeadLetters,
    ReplayDeadLetters,
    RpcReply,
    SendRpcMessage,
    Subscribe,
    Unsubscribe,
)
from ...messages.errors import ActorError, BrokerError, CodecError, ErrorKind
from ...messages.fields import field_fault
from ...messages.message import Message
from ...messages.notifications import ConsumeNotif, ProduceNotif, StopConsuming, UnwatchNotifs, WatchNotifs
from ...messages.redact import repr_of

DECLARED: Final = ("queue", "exchange", "routing_key", "message_id", "exchange_name", "exchange_type", "delivery_limit")
"""Fields that end in a declaration or an address, whatever the request is."""

_CONSUMERS: Final = (ConsumeNotif, StopConsuming, Subscribe, Unsubscribe, WatchNotifs, UnwatchNotifs)


def fault_of(message: Message[Any]) -> ActorError | None:
    """The error that a request is to be refused with; None when each field has a value of its type.

    A header may have any scalar, a body is bytes. The data of a notification are left to its encoding.
    """
    fault = field_fault(message)
    if fault is None:
        match message:
            case Publish() | SendRpcMessage() | RpcReply():
                fault = _body_fault(message.body) or _table_fault("headers", message.headers)
            case ProduceNotif():
                within = field_fault(message.notif_data)
                fault = None if within is None else f"notif_data.{within}"
            case BindQueue():
                fault = _table_fault("arguments", message.arguments)
            case ReplayDeadLetters() | PurgeDeadLetters():
                fault = _ids_fault(message.message_ids)
            case _:
                pass
    return None if fault is None else _refusal(message, fault)


def _body_fault(body: object) -> str | None:
    return None if isinstance(body, bytes) else f"body={repr_of(body)}: give bytes"


def _table_fault(name: str, table: object) -> str | None:
    if not isinstance(table, Mapping):
        return f"{name}={repr_of(table)}: give a dict"
    for key, value in table.items():
        if not isinstance(key, str):
            return f"{name}: the name {repr_of(key)} is no text"
        if value is not None and not isinstance(value, (str, int, float)):
            return f"{name}[{repr_of(key)}]={repr_of(value)}: give a text, a number, True, False or None"
    return None


def _ids_fault(ids: object) -> str | None:
    if ids is None or (isinstance(ids, (list, tuple, Set)) and all(isinstance(each, str) for each in ids)):
        return None
    return f"message_ids={repr_of(ids)}: give a list of texts, or None"


def _refusal(message: Message[Any], fault: str) -> ActorError:
    what = f"{type(message).__name__}: {fault}"
    field = fault.partition("=")[0]
    if isinstance(message, ProduceNotif) and field not in DECLARED:
        return CodecError(what, kind=ErrorKind.FIELD_INVALID, field=field)
    declares = isinstance(message, (DeclareExchange, DeclareQueue, BindQueue))
    if declares or (field in DECLARED and not isinstance(message, Subscribe)):
        return BrokerError(what, kind=ErrorKind.DECLARATION_INVALID)
    kind = ErrorKind.CONSUMER_INVALID if isinstance(message, _CONSUMERS) else ErrorKind.MESSAGE_INVALID
    return BrokerError(what, kind=kind)

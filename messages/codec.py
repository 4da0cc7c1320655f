"""Messages as JSON, and back: strict, bounded, and with an error of the catalogue for whatever does not fit.

A body is either a message's fields alone, when both sides know its type, or an envelope that names the type:
`{"type": "bank.deposit", "data": {"amount": 5}}`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import orjson

from .arguments import check_body, check_message, check_message_type, check_registry, check_size
from .errors import CodecError, ErrorKind
from .json_faults import (
    Fault,
    fault_of_body,
    fault_of_fields,
    fault_of_numbers,
    fault_of_value,
    has_long_number,
    holds_non_finite,
)
from .message import Message, reply_type_of
from .redact import text_of
from .registry import WireRegistry, default_registry
from .shallow import with_room
from .suggest import did_you_mean

M = TypeVar("M", bound=Message[object])
R = TypeVar("R")

MAX_BODY: Final = 1024 * 1024
"""How many bytes a body may have, unless said otherwise: 1 MiB."""

_MAX_TEXT: Final = 500
"""How much of a library's or peer's text goes into an error."""

Body = bytes | bytearray | memoryview

_plain = partial(msgspec.to_builtins, str_keys=True)


def encode(message: Message[object], *, max_body: int = MAX_BODY) -> bytes:
    """Write a message's fields as JSON.

    Args:
        message: Anything its fields hold may be a message, dataclass, enum, date, UUID, Decimal, set or bytes
            (base64), besides JSON's own types.
        max_body: How many bytes it may become.

    Raises:
        CodecError: `codec.value.unserialisable`; `codec.number.not_finite` or `.out_of_range`;
            `codec.body.too_deep` or `.too_large`. `field` says where. `codec.argument.invalid` for an argument
            of a wrong type.
    """
    check_message(message)
    return _write(message, type(message).__qualname__, max_body)


def encode_named(
    message: Message[object], *, registry: WireRegistry = default_registry, max_body: int = MAX_BODY
) -> bytes:
    """Write a message as JSON in an envelope that names its type.

    Args:
        message: See `encode`; its type must have a wire name.
        registry: Where wire names are looked up.
        max_body: How many bytes it may become, the envelope included.

    Raises:
        CodecError: As `encode`; and `codec.type.unregistered`.
    """
    check_message(message)
    check_registry(registry)
    name = registry.name_of(message)
    return _write({"type": name, "data": message}, name, max_body)


def encode_reply(reply: object, *, max_body: int = MAX_BODY) -> bytes:
    """Write a reply, which may be of any type, as JSON.

    Args:
        reply: What a handler answered.
        max_body: How many bytes it may become.

    Raises:
        CodecError: As `encode`.
    """
    return _write(_builtins(reply, "reply"), "reply", max_body)


def decode(body: Body, message_type: type[M], *, max_body: int = MAX_BODY) -> M:
    """Read a message from its fields as JSON.

    Nothing is converted silently: "5" is no int, and a field that the type does not have is an error.

    Args:
        body: UTF-8 encoded JSON.
        message_type: What it has to be.
        max_body: How many bytes it may have; looked at before anything else.

    Raises:
        CodecError: `codec.body.too_large`, `.not_utf8`, `.too_deep` or `.invalid`; `codec.field.invalid`,
            `.unknown` or `.missing`; `codec.number.out_of_range`. `field` says where. `codec.argument.invalid`
            for an argument of a wrong type.
    """
    name = check_message_type(message_type)
    message: M = _convert(_read(body, name, max_body), message_type, name)
    return message


def decode_named(body: Body, *, registry: WireRegistry = default_registry, max_body: int = MAX_BODY) -> Message[object]:
    """Read a message from an envelope that names its type.

    Args:
        body: UTF-8 encoded JSON.
        registry: Where wire names are looked up: only registered types can be made.
        max_body: How many bytes it may have, the envelope included.

    Raises:
        CodecError: As `decode`; and `codec.type.unknown`, suggesting the nearest name.
    """
    check_registry(registry)
    envelope = _read(body, "envelope", max_body)
    if not isinstance(envelope, dict):
        raise CodecError(f"envelope: expected an object, got {_json_type(envelope)}", kind=ErrorKind.BODY_INVALID)
    for field in ("type", "data"):
        if field not in envelope:
            raise _error(Fault(ErrorKind.FIELD_MISSING, "this field is missing", field), "envelope")
    if len(envelope) > 2:
        unknown = next(field for field in envelope if field not in ("type", "data"))
        raise _error(Fault(ErrorKind.FIELD_UNKNOWN, "there is no such field", unknown), "envelope")
    name = envelope["type"]
    if not isinstance(name, str):
        raise _error(Fault(ErrorKind.FIELD_INVALID, f"expected a name, got {_json_type(name)}", "type"), "envelope")
    message: Message[object] = _convert(envelope["data"], registry.type_of(name), name)
    return message


def decode_reply(body: Body, message_type: type[Message[R]], *, max_body: int = MAX_BODY) -> R:
    """Read the reply to a message.

    Args:
        body: UTF-8 encoded JSON.
        message_type: What was asked; it knows the reply's type. If it does not, any JSON value is accepted.
        max_body: How many bytes it may have.

    Raises:
        CodecError: As `decode`.
    """
    name = f"reply to {check_message_type(message_type)}"
    wanted = reply_type_of(message_type)
    reply: R = _convert(_read(body, name, max_body), Any if wanted is None else wanted, name)
    return reply


def _write(value: object, name: str, max_body: int) -> bytes:
    check_size(max_body)
    try:
        body = orjson.dumps(value, default=_plain)
    except Exception:
        body = _write_slowly(_builtins(value, name), name)
    else:
        # orjson writes NaN and infinities as null. Where there is no null at all, there was none of them.
        if b"null" in body:
            plain = _builtins(value, name)
            if holds_non_finite(plain):
                fault = fault_of_value(plain)
                assert fault is not None
                raise _error(fault, name)
    if len(body) > max_body:
        raise _too_large(len(body), name, max_body)
    return body


def _write_slowly(plain: object, name: str) -> bytes:
    """Write what orjson does not: more than 254 levels, or say what is wrong."""
    fault = fault_of_value(plain)
    if fault is not None:
        raise _error(fault, name)
    try:
        return with_room(msgspec.json.encode, plain)
    except RecursionError as error:
        raise _too_deep(name) from error


def _builtins(value: object, name: str) -> object:
    """Reduce a value to JSON's types."""
    try:
        return with_room(_plain, value)
    except RecursionError as error:
        raise _too_deep(name) from error
    except Exception as error:  # it reads attributes of foreign objects, which may raise anything
        fault = Fault(ErrorKind.VALUE_UNSERIALISABLE, text_of(error), _offending_field(value))
        raise _error(fault, name) from error


def _offending_field(value: object) -> str:
    """Find out in which field of a message something is that cannot be written."""
    if isinstance(value, dict) and isinstance(value.get("data"), msgspec.Struct):
        value = value["data"]  # an envelope
    if not isinstance(value, msgspec.Struct):
        return ""
    for attribute, name in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
        try:
            _plain(getattr(value, attribute))
        except Exception:
            return name
    return ""


def _read(body: Body, name: str, max_body: int) -> Any:
    check_body(body)
    check_size(max_body)
    size = body.nbytes if isinstance(body, memoryview) else len(body)
    if size > max_body:
        raise _too_large(size, name, max_body)
    if isinstance(body, memoryview):
        body = body.tobytes()
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Not chained: the decoding error holds the whole body, which may be a megabyte and secret.
        raise _error(fault_of_body(body, str(error)), name) from None
    if has_long_number(body):
        fault = fault_of_numbers(body)
        if fault is not None:
            raise _error(fault, name)
    return value


def _convert(value: object, wanted: Any, name: str) -> Any:
    try:
        return with_room(msgspec.convert, value, wanted, str_keys=True)
    except msgspec.ValidationError as error:
        fault = fault_of_fields(str(error))
        hint = ""
        if fault.kind is ErrorKind.FIELD_UNKNOWN and "." not in fault.path and hasattr(wanted, "__struct_fields__"):
            hint = did_you_mean(fault.path, wanted.__struct_encode_fields__)
        raise _error(fault._replace(text=fault.text + hint), name) from None
    except RecursionError as error:
        raise _too_deep(name) from error
    except Exception as error:  # a `__post_init__` may raise anything
        text = f"{name}: {type(error).__name__}: {error!s:.{_MAX_TEXT}}"
        raise CodecError(text, kind=ErrorKind.FIELD_INVALID, message_type=name) from error


def _error(fault: Fault, name: str) -> CodecError:
    where = f"{name}: {fault.path[:_MAX_TEXT]}: " if fault.path else f"{name}: "
    return CodecError(where + fault.text[:_MAX_TEXT], kind=fault.kind, field=fault.path[:_MAX_TEXT], message_type=name)


def _too_large(size: int, name: str, max_body: int) -> CodecError:
    return CodecError(
        f"{name}: the body has {size:,} bytes, at most {max_body:,} are allowed",
        kind=ErrorKind.BODY_TOO_LARGE,
        message_type=name,
    )


def _too_deep(name: str) -> CodecError:
    return CodecError(f"{name}: nested too deeply, or contains itself", kind=ErrorKind.BODY_TOO_DEEP, message_type=name)


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")

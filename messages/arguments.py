"""What the codec is called with: looked at before anything is read or written."""

from __future__ import annotations

from typing import Any, get_origin

from .errors import CodecError, ErrorKind
from .message import Message
from .redact import repr_of
from .registry import WireRegistry

__all__ = ["check_body", "check_message", "check_message_type", "check_registry", "check_size"]


def check_body(body: object) -> None:
    """Refuse what is no bytes."""
    if not isinstance(body, (bytes, bytearray, memoryview)):
        hint = ": encode the text, `body.encode()`" if isinstance(body, str) else ""
        raise _refusal("body", body, f"the bytes of a body{hint}")


def check_message(message: object) -> None:
    """Refuse what is no message."""
    if not isinstance(message, Message):
        raise _refusal("message", message, "a message; what is none may be a reply (encode_reply)")


def check_message_type(message_type: object) -> str:
    """Refuse what is no message type; returns its name."""
    found: Any = message_type if isinstance(message_type, type) else get_origin(message_type)
    if not isinstance(found, type) or not issubclass(found, Message) or found is Message:
        raise _refusal("message_type", message_type, "a subclass of Message")
    return found.__qualname__


def check_size(max_body: object) -> None:
    """Refuse what is no number of bytes."""
    if not isinstance(max_body, int) or isinstance(max_body, bool) or max_body < 0:
        raise _refusal("max_body", max_body, "a whole number of bytes, 0 or more")


def check_registry(registry: object) -> None:
    """Refuse what has no wire names."""
    if not isinstance(registry, WireRegistry):
        raise _refusal("registry", registry, "a WireRegistry")


def _refusal(name: str, value: object, wanted: str) -> CodecError:
    return CodecError(f"{name}={repr_of(value)}: give {wanted}", kind=ErrorKind.ARGUMENT_INVALID, field=name)

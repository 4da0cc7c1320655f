"""Whether a message's fields have their types: they are checked where a message is decoded, not where one is made.

A message that was made in this process has whatever its maker gave it. A service looks at it before it goes to work,
so that a wrong one is refused by itself, and not the batch that it came with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias, get_origin

import msgspec
from msgspec import inspect

from .message import Message
from .redact import repr_of

__all__ = ["field_fault"]

Accepts: TypeAlias = Callable[[Any], bool]

_Field: TypeAlias = tuple[str, frozenset[type], Accepts, str]
"""A field's name, the types of which every value will do, what looks at any other value, and what is wanted."""


def field_fault(message: Message[Any], declared: type[Message[Any]] | None = None) -> str | None:
    """What is wrong with the first field of a message that has no value of its type; None if nothing is.

    Bounds count, too. Fields of other types than plain ones, messages, enumerations and unions of them are left to
    whoever uses them; so is what messages within the message hold.

    Args:
        message: A message of any type.
        declared: Look only at the fields of this base of its type.
    """
    of = declared or type(message)
    fields = _FIELDS.get(of)
    if fields is None:
        fields = _FIELDS[of] = _fields_of(of)
    for name, plain, accepts, wanted in fields:
        value = getattr(message, name)
        if type(value) not in plain and not accepts(value):
            return f"{name}={repr_of(value)}: give {wanted}"
    return None


_FIELDS: Final[dict[type, tuple[_Field, ...]]] = {}


def _fields_of(message_type: type) -> tuple[_Field, ...]:
    try:
        fields = msgspec.structs.fields(message_type)
        infos = [(each.name, inspect.type_info(each.type)) for each in fields]
    except Exception:  # its annotations cannot be read here: it was declared within a function, say
        return ()
    return tuple(
        (name, frozenset(_plain(info)), _accepts(info), _wanted(info)) for name, info in infos if not _is_open(info)
    )


def _is_open(info: inspect.Type) -> bool:
    """Whether any value will do, as far as can be seen here."""
    if isinstance(info, inspect.UnionType):
        return any(map(_is_open, info.types))
    known = (
        inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType, inspect.EnumType,
        inspect.LiteralType, inspect.StructType,
    )  # fmt: skip
    return not isinstance(info, known)


def _plain(info: inspect.Type) -> set[type]:
    match info:
        case inspect.UnionType(types=types):
            return set[type]().union(*map(_plain, types))
        case inspect.NoneType():
            return {type(None)}
        case inspect.BoolType():
            return {bool}
        case inspect.StrType(min_length=None, max_length=None, pattern=None):
            return {str}
        case inspect.StructType(cls=cls) | inspect.EnumType(cls=cls):
            return {get_origin(cls) or cls}
        case _:
            return set()


def _accepts(info: inspect.Type) -> Accepts:
    match info:
        case inspect.UnionType(types=types):
            members = [_accepts(each) for each in types if not isinstance(each, inspect.NoneType)]  # None is plain
            if len(members) == 1:
                return members[0]
            return lambda value: any(accepts(value) for accepts in members)
        case inspect.NoneType():
            return lambda value: value is None
        case inspect.BoolType():
            return lambda value: type(value) is bool
        case inspect.IntType():
            return lambda value: type(value) is int and _is_within(value, info)
        case inspect.FloatType(gt=gt, ge=None, lt=None, le=None) if gt is not None:
            return lambda value: (type(value) is float or type(value) is int) and value > gt
        case inspect.FloatType():
            return lambda value: (type(value) is float or type(value) is int) and _is_within(value, info)
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            search = re.compile(pattern or "").search
            return lambda value: (
                isinstance(value, str)
                and len(value) >= (least or 0)
                and (most is None or len(value) <= most)
                and search(value) is not None
            )
        case inspect.EnumType(cls=cls):
            values = [each.value for each in cls]
            return lambda value: isinstance(value, cls) or value in values
        case inspect.LiteralType(values=values):
            return lambda value: value in values
        case inspect.StructType(cls=cls):
            kind: type = get_origin(cls) or cls
            return lambda value: isinstance(value, kind)
        case _:
            return lambda value: True


def _is_within(value: float, info: inspect.IntType | inspect.FloatType) -> bool:
    """Whether a number is within its bounds; what is no number, NaN, is within none."""
    return (
        (info.gt is None or value > info.gt)
        and (info.ge is None or value >= info.ge)
        and (info.lt is None or value < info.lt)
        and (info.le is None or value <= info.le)
    )


def _wanted(info: inspect.Type) -> str:
    match info:
        case inspect.UnionType(types=types):
            return " or ".join(_wanted(each) for each in types)
        case inspect.NoneType():
            return "None"
        case inspect.BoolType():
            return "True or False"
        case inspect.IntType():
            return f"a whole number{_bounds(info)}"
        case inspect.FloatType():
            return f"a number{_bounds(info)}"
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            length = f" of {least or 0} to {most} characters" if most else " that is not empty" if least else ""
            return f"a text{length}" + (f" that matches {pattern}" if pattern else "")
        case inspect.EnumType(cls=cls):
            return " or ".join(repr(each.value) for each in cls)
        case inspect.LiteralType(values=values):
            return " or ".join(sorted(map(repr, values)))
        case inspect.StructType(cls=cls):
            kind: type = get_origin(cls) or cls
            return "a message" if kind is Message else f"a message {kind.__name__}"
        case _:
            return "another value"


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    words = (("above", info.gt), ("at least", info.ge), ("below", info.lt), ("at most", info.le))
    return "".join(f", {word} {bound}" for word, bound in words if bound is not None)

"""`Message`, the base of everything that is said, and the type of the reply it asks for."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, ForwardRef, Generic, TypeVar, dataclass_transform, get_args, get_origin

import msgspec

R_co = TypeVar("R_co", covariant=True)


# The decorator tells type checkers that subclasses are frozen too: at run time a subclass inherits
# `frozen=True`, but a checker would ask for it to be repeated in each of them.
@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, Generic[R_co], frozen=True, forbid_unknown_fields=True):
    """Something said to an actor; the parameter is the type of the reply.

    A message is immutable, so that it may be handed from thread to thread without a copy::

        class Deposit(Message[int]):
            amount: int

    `Message[None]` is one that is answered with nothing. This class has no public attribute of its own: every
    name is free for a field.
    """


def reply_type_of(message: object) -> Any:
    """Tell which reply a message asks for.

    Args:
        message: A message class (`Deposit`), a parametrised one (`Get[int]`), or a message.

    Returns:
        The reply's type as it was written (`int`, `list[str]`, `NoneType` for `Message[None]`), or None when
        it is not known: there is no parameter, a type variable still open, or a name that does not exist.
    """
    if isinstance(message, Message):
        return _reply_type(type(message))
    try:
        return _reply_type(message)
    except TypeError:  # unhashable: not a type
        return None


@lru_cache(maxsize=4096)
def _reply_type(declared: Any) -> Any:
    found = _search(declared)
    return None if isinstance(found, TypeVar) else found


def _search(declared: Any) -> Any:
    """Follow the bases from `declared` up to `Message[...]`, carrying the parameters along."""
    origin = get_origin(declared) or declared
    if not (isinstance(origin, type) and issubclass(origin, Message)):
        return None
    if origin is Message:
        arguments = get_args(declared)
        return arguments[0] if arguments else None
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(declared), strict=False))
    for base in origin.__dict__.get("__orig_bases__", origin.__bases__):
        found = _search(base)
        if found is not None:
            return _resolve(found, origin, given)
    return None


def _resolve(found: Any, owner: type, given: dict[Any, Any]) -> Any:
    """Put the parameters `given` to `owner` in the place of type variables; look up names."""
    if isinstance(found, TypeVar):
        return given.get(found, found)
    if isinstance(found, ForwardRef):
        module = sys.modules.get(owner.__module__)
        try:
            # An annotation of the class's own source, read where it was written.
            return eval(found.__forward_code__, dict(vars(module)) if module else {}, {owner.__name__: owner})
        except Exception:
            return None
    parameters = getattr(found, "__parameters__", ())
    if parameters and given:
        return found[tuple(given.get(parameter, parameter) for parameter in parameters)]
    return found

"""Declarations: dataclasses whose constructors name the argument that there is not, is missing, or is one too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, ClassVar, NamedTuple, Self

from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of
from ..messages.suggest import did_you_mean

__all__ = ["Declared"]


class Declared:
    """The base of declarations. Python's own ``TypeError`` for a bad call would have no code, and suggest nothing.

    Attributes:
        _invalid_kind: the kind of error that says what is wrong with such a declaration.
    """

    __slots__ = ()

    _invalid_kind: ClassVar[ErrorKind] = ErrorKind.CHILD_SPEC_INVALID

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Look at how it is called; what is given is looked at by ``__post_init__``."""
        signature = _signature(cls)
        given = {*signature.positional[: len(args)], *kwargs}
        if not (
            len(args) <= len(signature.positional)
            and len(given) == len(args) + len(kwargs)
            and signature.required <= given <= signature.names
        ):
            raise _refusal(cls, signature, args, kwargs)
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """What a copy is made with."""
        return (), {name: getattr(self, name) for name in _signature(type(self)).names}


class _Signature(NamedTuple):
    """What a constructor takes."""

    names: frozenset[str]
    positional: tuple[str, ...]
    required: frozenset[str]


_signatures: dict[type[Any], _Signature] = {}


def _signature(cls: type[Any]) -> _Signature:
    known = _signatures.get(cls)
    if known is None:
        known = _signatures[cls] = _read_signature(cls)
    return known


def _read_signature(cls: type[Any]) -> _Signature:
    taken = [field for field in fields(cls) if field.init]
    return _Signature(
        frozenset(field.name for field in taken),
        tuple(field.name for field in taken if not field.kw_only),
        frozenset(field.name for field in taken if field.default is MISSING and field.default_factory is MISSING),
    )


def _refusal(
    cls: type[Declared], signature: _Signature, args: Sequence[object], kwargs: Mapping[str, object]
) -> SpecInvalid:
    names, positional, required = signature
    by_place = positional[: len(args)]
    for name, value in kwargs.items():
        if name not in names:
            hint = did_you_mean(name, names) or f"; there are {', '.join(sorted(names))}"
            return _error(cls, f"unknown argument {name:.100}={repr_of(value)}{hint}", name, value)
        if name in by_place:
            return _error(cls, f"{name} is given twice: by its place, and as {name}={repr_of(value)}", name, value)
    if len(args) > len(positional):
        most = f"{len(positional)} ({', '.join(positional)})" if positional else "none"
        text = f"{len(args)} arguments without a name, at most {most}: name the others"
        return _error(cls, text, "", args[len(positional)])
    missing = next(name for name in (*positional, *sorted(required)) if name in required - {*by_place, *kwargs})
    return _error(cls, f"{missing!r} is missing", missing, None)


def _error(cls: type[Declared], text: str, field: str, value: object) -> SpecInvalid:
    return SpecInvalid(f"{cls.__name__}: {text}", kind=cls._invalid_kind, field=field, value=value)

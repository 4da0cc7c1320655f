"""Statements of the user's own: a message type with the SQL that it stands for.

    @statement(
        "INSERT INTO {table} (number, amount) VALUES (%(number)s, %(amount)s)",
        identifiers={"table": "invoices"},
    )
    class AddInvoice(WriteStatement[int]):
        number: str
        amount: int

    mutator.ask(AddInvoice("2026-1", 250))          # how many rows were added

Values never become part of the text: `%(name)s` stands for the message's field of that name and is sent apart. Names
of tables and columns that are not known beforehand stand as `{name}` and are quoted by the database's client.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from .errors import ErrorKind, SpecInvalid, StorageError
from .lock import Fence
from .message import Message, reply_type_of

__all__ = ["ReadStatement", "Statement", "WriteStatement", "statement", "statement_of"]

R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M", bound="type[Message[Any]]")

Shape: TypeAlias = Literal["count", "any", "nothing", "rows", "first"]
Identifier: TypeAlias = str | tuple[str, ...]


class ReadStatement(Message[R_co]):
    """A statement that changes nothing; accessor and mutator answer it. The reply is `list[T]` or `T | None`."""


class WriteStatement(Message[R_co], kw_only=True):
    """A statement that changes something; the mutator answers it after the commit.

    The reply is `int` (how many rows), `bool` (whether any), `None`, or `list[T]` and `T | None` after RETURNING.
    """

    fence: Fence | None = None
    """The lock under which this is done: refused if a later holder has written already."""
    key: str = ""
    """Its idempotency key: a second statement of the same key is not run, and answered as the first was. Without one,
    only what the mutator itself repeats is recognised. It is remembered for a day."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What a message type stands for.

    Attributes:
        text: SQL, with `%(field)s` for values and `{name}` for identifiers.
        sqlite: SQL for SQLite, where that is another one.
        identifiers: What stands for each `{name}`: a name, or the parts of a qualified one.
        fields: The message's fields that are used.
        shape: What the reply is made of.
        row_type: What each row becomes.
        by_name: Whether a row becomes a record, whose fields are the columns; else it has one column.
    """

    text: str
    sqlite: str
    identifiers: Mapping[str, tuple[str, ...]]
    fields: tuple[str, ...]
    shape: Shape
    row_type: Any
    by_name: bool

    def values(self, message: Message[Any]) -> dict[str, Any]:
        """The values to send, by name."""
        return {name: getattr(message, name) for name in self.fields}

    def reply(self, count: int, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, strict: bool = True) -> Any:
        """Make the reply out of what the database answered.

        Args:
            count: How many rows were changed.
            columns: The names of the columns.
            rows: The rows, if there are any.
            strict: Whether values must have their types already; SQLite has fewer types than Python.

        Raises:
            StorageError: `storage.row.invalid`: a row is not what the reply says.
        """
        match self.shape:
            case "count":
                return count
            case "any":
                return count > 0
            case "nothing":
                return None
            case "first":
                return self._row(columns, rows[0], strict) if rows else None
            case "rows":
                return [self._row(columns, row, strict) for row in rows]

    def _row(self, columns: Sequence[str], row: Sequence[Any], strict: bool) -> Any:
        value = dict(zip(columns, row, strict=True)) if self.by_name else row[0]
        try:
            return msgspec.convert(value, self.row_type, strict=strict)
        except msgspec.ValidationError as error:
            raise StorageError(f"a row does not fit: {error}", kind=ErrorKind.ROW_INVALID, cause=error) from error


def statement(
    text: str, *, sqlite: str | None = None, identifiers: Mapping[str, Identifier] | None = None
) -> Callable[[M], M]:
    """Declare what a message type stands for.

    Args:
        text: One SQL statement. `%(name)s` is the message's field of that name; a per cent sign is written `%%`.
        sqlite: The same for SQLite, where it is written in another way.
        identifiers: What stands for each `{name}` in the text, a table's or a column's name or the parts of a
            qualified one. Only with it are braces special; then a brace is written twice.

    Raises:
        SpecInvalid: `config.statement.invalid`: it uses what the message does not have, or the reply is none that a
            statement can have.
    """

    def declare(message_type: M) -> M:
        names = {name: _parts(name, given) for name, given in (identifiers or {}).items()}
        texts = (text, text if sqlite is None else sqlite)
        used = tuple(dict.fromkeys(name for each in texts for name in _fields_in(each)))
        known = message_type.__struct_fields__
        for name in used:
            if name not in known:
                raise _invalid(
                    message_type, f"%({name})s is none of its fields: {', '.join(known) or 'there are none'}"
                )
        shape, row_type = _shape_of(message_type)
        _DECLARED[message_type] = Statement(
            *texts, MappingProxyType(names), used, shape, row_type, _is_record(row_type)
        )
        return message_type

    return declare


def statement_of(message: Message[Any]) -> Statement:
    """What a message stands for.

    Raises:
        SpecInvalid: `config.statement.invalid`: its type was not declared with `@statement`.
    """
    found = _DECLARED.get(type(message))
    if found is None:
        raise _invalid(type(message), "it is not declared: decorate it with @statement(...)")
    return found


_DECLARED: Final[dict[type, Statement]] = {}

_PLACEHOLDER: Final = re.compile(r"%(?:%|\((?P<name>[^)]*)\)s|(?P<other>.?))", re.DOTALL)


def _fields_in(text: str) -> list[str]:
    found = []
    for match in _PLACEHOLDER.finditer(text):
        if match["other"] is not None:
            raise SpecInvalid(
                f"%{match['other']} in a statement: write %(field)s for a value and %% for a per cent sign",
                kind=ErrorKind.STATEMENT_INVALID,
            )
        if match["name"] is not None:
            found.append(match["name"])
    return found


def in_sqlite(declared: Statement) -> str:
    """The statement in SQLite's own writing: `:field` for values, and identifiers quoted."""
    text = declared.sqlite
    if declared.identifiers:
        quoted = {
            name: ".".join('"' + part.replace('"', '""') + '"' for part in parts)
            for name, parts in declared.identifiers.items()
        }
        text = text.format_map(quoted)
    return _PLACEHOLDER.sub(lambda match: "%" if match["name"] is None else f":{match['name']}", text)


def _parts(name: str, given: Identifier) -> tuple[str, ...]:
    parts = (given,) if isinstance(given, str) else tuple(given)
    if not parts or any(not isinstance(part, str) or not part or "\0" in part for part in parts):
        raise SpecInvalid(f"identifier {name!r}={given!r}: give a name", kind=ErrorKind.STATEMENT_INVALID)
    return parts


def _shape_of(message_type: type[Message[Any]]) -> tuple[Shape, Any]:
    reply = reply_type_of(message_type)
    origin, arguments = typing.get_origin(reply), typing.get_args(reply)
    if origin is list and len(arguments) == 1:
        return "rows", arguments[0]
    if origin in (typing.Union, UnionType) and NoneType in arguments and len(arguments) == 2:
        return "first", next(each for each in arguments if each is not NoneType)
    plain: dict[Any, Shape] = {int: "count", bool: "any", NoneType: "nothing"}
    if issubclass(message_type, WriteStatement) and reply in plain:
        return plain[reply], None
    raise _invalid(message_type, f"its reply cannot be {reply!r}: list[T] or T | None; of a write also int, bool, None")


def _is_record(row_type: Any) -> bool:
    origin = typing.get_origin(row_type) or row_type
    if not isinstance(origin, type):
        return False
    return issubclass(origin, (msgspec.Struct, dict)) or dataclasses.is_dataclass(origin) or typing.is_typeddict(origin)


def _invalid(message_type: type, text: str) -> SpecInvalid:
    return SpecInvalid(f"statement {message_type.__name__}: {text}", kind=ErrorKind.STATEMENT_INVALID)

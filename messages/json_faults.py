"""What is wrong with a value that is to become JSON, or with a body that should be JSON.

orjson and msgspec decide quickly whether something can be written or read; here the reason is found, for an
error that names the place. Nothing here recurses, and nothing takes more than linear time, whatever is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import Any, Final, NamedTuple

from .kinds import ErrorKind

MAX_DEPTH: Final = 1024
"""How deeply a value may be nested: what orjson reads."""

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1


class Fault(NamedTuple):
    """A reason, and the path of the field that it was found in."""

    kind: ErrorKind
    text: str
    path: str = ""


def holds_non_finite(value: object) -> bool:
    """Tell whether there is a NaN or an infinity anywhere in a value of JSON's types."""
    waiting = [value]
    for item in waiting:  # which grows meanwhile
        if isinstance(item, float):
            if not isfinite(item):
                return True
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    return False


def fault_of_value(value: object) -> Fault | None:
    """Find the first thing in a value of JSON's types that cannot be written as JSON without changing it.

    Args:
        value: Dicts with string keys, lists, strings, numbers, booleans and None, in any nesting.
    """
    waiting: list[tuple[object, int, _Path]] = [(value, 1, None)]
    while waiting:
        item, depth, path = waiting.pop()
        if isinstance(item, dict | list | tuple):
            if depth > MAX_DEPTH:
                return Fault(ErrorKind.BODY_TOO_DEEP, f"nested more than {MAX_DEPTH:,} levels deep", _show(path, 8))
            inner = item.items() if isinstance(item, dict) else enumerate(item)
            for key, part in inner:
                if isinstance(key, str) and not _encodable(key):
                    return Fault(ErrorKind.VALUE_UNSERIALISABLE, "a key holds half a surrogate pair", _show(path))
                waiting.append((part, depth + 1, (path, key)))
        else:
            fault = _fault_of_atom(item)
            if fault is not None:
                return Fault(*fault, _show(path))
    return None


def _fault_of_atom(item: object) -> tuple[ErrorKind, str] | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        if not _encodable(item):
            return ErrorKind.VALUE_UNSERIALISABLE, "the text holds half a surrogate pair"
    elif isinstance(item, int):
        if not INT_MIN <= item <= INT_MAX:
            return ErrorKind.NUMBER_OUT_OF_RANGE, "the integer does not fit into 64 bits"
    elif isinstance(item, float):
        if not isfinite(item):
            return ErrorKind.NUMBER_NOT_FINITE, f"{item} cannot be said in JSON"
    else:
        return ErrorKind.VALUE_UNSERIALISABLE, f"a {type(item).__qualname__} cannot be written as JSON"
    return None


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# A path is a chain of (path of what is around, key), so that going down costs no copy.
_Path = tuple[Any, Any] | None


def _show(path: _Path, most: int = 32) -> str:
    keys: list[Any] = []
    while path is not None:
        path, key = path
        keys.append(key)
    shown = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in reversed(keys[-most:]))
    return shown.removeprefix(".") + ("…" if len(keys) > most else "")


# Bytes of a body, told apart only as digits and others: a search for nineteen digits in a row then costs a
# fraction of parsing. A regular expression would take longer than the parser.
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_NINETEEN = b"0" * len(str(-INT_MIN))

# A string's closing quote is optional: were it not, each quote of a broken body would be searched to the end.
_STRING = rb'"(?:[^"\\]++|\\.)*+"?'
_STRING_OR_NUMBER = _STRING + rb"|-?[0-9]++(?:[.eE][0-9eE.+-]*+)?"
_STRING_OR_BRACKET = _STRING + rb"|[\[{}\]]"


def _tokens(pattern: bytes, body: bytes | bytearray) -> Iterator[bytes]:
    # Compiled when first needed (and kept by `re`): most programs never see such a body.
    return (found.group() for found in re.finditer(pattern, body, re.DOTALL))


def has_long_number(body: bytes | bytearray) -> bool:
    """Tell whether there may be an integer beyond 64 bits in a body; if so, `fault_of_numbers` knows."""
    return _NINETEEN in body.translate(_DIGITS)


def fault_of_numbers(body: bytes | bytearray) -> Fault | None:
    """Find the first integer beyond 64 bits, which orjson would read as a float.

    Args:
        body: JSON that was parsed without an error.
    """
    for token in _tokens(_STRING_OR_NUMBER, body):
        if token[:1] == b'"' or len(token) < len(_NINETEEN) or not token.removeprefix(b"-").isdigit():
            continue
        # By length first: Python refuses to convert some thousand digits.
        if len(token) > len(str(INT_MAX)) + 1 or not INT_MIN <= int(token) <= INT_MAX:
            shown = token[:40].decode() + ("…" if len(token) > 40 else "")
            return Fault(ErrorKind.NUMBER_OUT_OF_RANGE, f"the integer {shown} does not fit into 64 bits")
    return None


def fault_of_body(body: bytes | bytearray, reason: str) -> Fault:
    """Tell why a body was not read.

    Args:
        body: What orjson refused.
        reason: What orjson said.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return Fault(ErrorKind.BODY_NOT_UTF8, f"byte {error.start} is not UTF-8")
    if _deeper_than(MAX_DEPTH, body):
        return Fault(ErrorKind.BODY_TOO_DEEP, f"nested more than {MAX_DEPTH:,} levels deep")
    if "infinity" in reason:
        return Fault(ErrorKind.NUMBER_OUT_OF_RANGE, f"a number does not fit into 64 bits: {reason}")
    return Fault(ErrorKind.BODY_INVALID, f"not JSON: {reason}")


def _deeper_than(limit: int, body: bytes | bytearray) -> bool:
    depth = 0
    for token in _tokens(_STRING_OR_BRACKET, body):
        if token in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif token in b"]}":
            depth -= 1
    return False


_MSGSPEC_PATH = r"(?s) - at (?:`key` in )?`\$\.?(.*)`$"
_MSGSPEC_FIELD = r"(?s)Object (contains unknown|missing required) field `(.*)`"


def fault_of_fields(reason: str) -> Fault:
    """Read what msgspec says of a value that is not of the wanted type.

    Args:
        reason: Such as ``Expected `int`, got `str` - at `$.amount` ``.
    """
    at = re.search(_MSGSPEC_PATH, reason)
    path = at.group(1) if at else ""
    text = reason[: at.start()] if at else reason
    field = re.fullmatch(_MSGSPEC_FIELD, text)
    if field is None:
        return Fault(ErrorKind.FIELD_INVALID, text[:1].lower() + text[1:], path)
    name = f"{path}.{field.group(2)}" if path else field.group(2)
    if field.group(1).startswith("missing"):
        return Fault(ErrorKind.FIELD_MISSING, "this field is missing", name)
    return Fault(ErrorKind.FIELD_UNKNOWN, "there is no such field", name)

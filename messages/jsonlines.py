"""Files of messages, one JSON body a line: a broken line costs that line and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import TypeVar

from .arguments import check_message_type, check_size
from .codec import MAX_BODY, decode
from .errors import CodecError, ErrorKind, FileError
from .message import Message
from .redact import repr_of

__all__ = ["read_lines"]

M = TypeVar("M", bound=Message[object])


def read_lines(
    path: str | PathLike[str], message_type: type[M], *, max_body: int = MAX_BODY
) -> Iterator[tuple[int, M | CodecError]]:
    """Read a file of JSON lines; empty lines are passed over.

    However long a line is, no more than ``max_body`` bytes and one of it are kept.

    Args:
        path: the file.
        message_type: what each line is.
        max_body: how many bytes a line may have.

    Returns:
        an iterator over each line's number, counted from 1, and its message, or the error of a line that is none.

    Raises:
        FileError: ``file.unreadable``: it cannot be opened or read; raised when the first line is asked for.
        CodecError: ``codec.argument.invalid``: another argument is of a wrong type.
    """
    # A number would be a file that somebody else has open; no system takes a null character.
    if not isinstance(path, (str, PathLike)) or "\0" in str(path):
        raise FileError(f"path={repr_of(path)}: give the path of a file", kind=ErrorKind.FILE_UNREADABLE)
    check_message_type(message_type)
    check_size(max_body)
    return _lines(path, message_type, max_body)


def _lines(path: str | PathLike[str], message_type: type[M], max_body: int) -> Iterator[tuple[int, M | CodecError]]:
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(max_body + 2):
                number += 1
                if len(line) > max_body and not line.endswith(b"\n"):
                    _skip_rest(line, file.readline)
                if line.strip():
                    yield number, _decoded(line.rstrip(b"\r\n"), message_type, max_body)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}", kind=ErrorKind.FILE_UNREADABLE, cause=error) from error


def _decoded(line: bytes, message_type: type[M], max_body: int) -> M | CodecError:
    try:
        return decode(line, message_type, max_body=max_body)
    except CodecError as error:
        return error


def _skip_rest(line: bytes, readline: object) -> None:
    """Read on to the end of a line that is too long, a piece at a time."""
    while line and not line.endswith(b"\n"):
        line = readline(65_536)  # type: ignore[operator]  # the file's own method

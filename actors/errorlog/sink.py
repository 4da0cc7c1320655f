"""Where the error log's lines go: a file or a text stream."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol, TextIO

from ...messages.errors import ErrorKind, FileError

__all__ = ["FileSink", "Sink", "StreamSink", "open_sink"]


class Sink(Protocol):
    """Takes whole lines."""

    def write(self, lines: bytes) -> None:
        """Write lines, each with its end.

        Raises:
            FileError: ``file.unwritable``: they were not written, or not whole.
        """
        ...

    def close(self) -> None:
        """End it."""


class FileSink:
    """Appends to a file, with no buffer in between: what was written survives this process.

    Args:
        path: the file; made if there is none.

    Raises:
        FileError: ``file.unwritable``: it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._torn = False
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, lines: bytes) -> None:
        """Append lines. After a write that broke off, they begin on a line of their own."""
        left = b"\n" + lines if self._torn else lines
        try:
            while left:
                written = os.write(self._file, left)
                self._torn = left[written - 1 : written] != b"\n" if written else self._torn
                left = left[written:]
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class StreamSink:
    """Writes to a text stream that somebody else opened and will close.

    Args:
        stream: the stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, lines: bytes) -> None:
        """Write lines, and flush."""
        try:
            self._stream.write(lines.decode())
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: it is closed, or cannot encode the text
            raise _unwritable(getattr(self._stream, "name", "the stream"), error) from error

    def close(self) -> None:
        """Leave the stream to its owner."""


def open_sink(to: str | Path | TextIO | None) -> Sink:
    """Open what the lines go to: a file by its path, a text stream; None is the standard error stream.

    Raises:
        FileError: ``file.unwritable``.
    """
    if to is None:
        return StreamSink(sys.stderr)
    return FileSink(to) if isinstance(to, str | Path) else StreamSink(to)


def _unwritable(name: object, error: Exception) -> FileError:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return FileError(f"{name}: {text}", kind=ErrorKind.FILE_UNWRITABLE, cause=error)

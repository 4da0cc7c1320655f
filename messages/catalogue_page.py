"""The catalogue of errors as a page: `make docs` writes it to docs/errors.md, run as a module it is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from .catalogue import CATALOGUE, Entry

_HEAD = """\
# Errors

Every failure that a caller can see has a code (its family), a kind and an exception. *Retry* tells whether the same
request, made again later, may succeed. This page is generated from `messages/catalogue.py` by `make docs`.

| code | kind | exception | HTTP | retry | what happened | what to do |
|---|---|---|---|---|---|---|
"""


def render(entries: Iterable[Entry] = CATALOGUE) -> str:
    """Write the page docs/errors.md."""
    return _HEAD + "".join(map(_line, entries))


def _line(row: Entry) -> str:
    cells = (
        f"{row.code.hex} {row.code.name}",
        f"`{row.kind}`",
        f"`{row.exception.__name__}`",
        str(row.status),
        "yes" if row.retryable else "no",
        row.meaning,
        row.advice,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())

"""Bringing a database's schema up to date: numbered steps, each applied once, none ever edited.

What was applied stands in a table of the database, with a digest of the step's text. A step that was edited
afterwards, or a database that is ahead of this program, is refused instead of guessed at.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ...messages.errors import ErrorKind, StorageError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Args:
        number: Its place, from 1 without gaps.
        name: What it does.
        statements: SQL, each one statement.
    """

    number: int
    name: str
    statements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Tells whether the text is still what was applied."""
        return hashlib.sha256("\0".join((self.name, *self.statements)).encode()).hexdigest()


def missing_steps(applied: Mapping[int, tuple[str, str]], steps: Sequence[Migration]) -> list[Migration]:
    """Tell which steps are to be applied.

    Args:
        applied: The name and the digest of each step that was applied, by number.
        steps: All steps there are, in order.

    Raises:
        StorageError: `storage.migration.failed`: one that was applied is not known here, or was edited since.
    """
    known = {step.number: step for step in steps}
    for number, (name, digest) in sorted(applied.items()):
        if number not in known:
            raise migration_failed(f"the database has migration {number} ({name}), which this program does not know")
        if known[number].digest != digest:
            raise migration_failed(f"migration {number} ({name}) was edited after it had been applied")
    return [step for step in steps if step.number not in applied]


def script(steps: Sequence[Migration], preamble: Sequence[str], record: str, begin: str = "BEGIN") -> str:
    """Write steps down as a script for the database's own shell, to be looked at and run by hand.

    Args:
        steps: What it is to apply.
        preamble: Statements that come first, within the transaction.
        record: The statement that notes a step, with `{number}`, `{name}` and `{digest}` in the places of its values.
        begin: How the database begins a transaction that writes.
    """
    lines = [f"{begin};", *(f"{_tidy(each)};" for each in preamble)]
    for step in steps:
        lines.append(f"\n-- {step.number}: {step.name}")
        lines += [f"{_tidy(each)};" for each in step.statements]
        lines.append(f"{_tidy(record.format(number=step.number, name=step.name, digest=step.digest))};")
    return "\n".join([*lines, "\nCOMMIT;", ""])


def _tidy(statement: str) -> str:
    return textwrap.dedent(statement).strip()


@contextmanager
def saying_where(database: str) -> Iterator[None]:
    """Have the errors for what is wrong with a schema begin with the name of its database."""
    failed: StorageError
    try:
        yield
        return
    except StorageError as error:
        failed = migration_failed(f"{database}: {error}", error.__cause__)
    raise failed from failed.__cause__


def migration_failed(text: str, cause: BaseException | None = None) -> StorageError:
    """The error for what is wrong with a schema."""
    return StorageError(text, kind=ErrorKind.MIGRATION_FAILED, cause=cause)

"""The catalogue: complete, unique, true, and the source of the documentation."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import understudy
from understudy.messages import CATALOGUE, ActorError, Entry, ErrorCode, ErrorKind, entry_of, errors
from understudy.messages.catalogue_page import render

PACKAGE = Path(understudy.__file__).resolve().parent
ROOMS = ("messages", "actors", "supervisors", "testing", "console")
WHERE_KINDS_ARE_LISTED = {PACKAGE / "messages" / "kinds.py", PACKAGE / "messages" / "catalogue.py"}


def test_every_kind_has_exactly_one_row() -> None:
    """None is missing, none is described twice."""
    assert Counter(entry.kind for entry in CATALOGUE) == Counter(ErrorKind)


def test_every_kind_is_found() -> None:
    """And only those."""
    assert all(entry_of(entry.kind) is entry for entry in CATALOGUE)
    assert entry_of("storage.postgres.gone_fishing") is None


def test_codes_are_distinct_and_fit_into_two_bytes() -> None:
    """A code stands for one family."""
    codes = [code.value for code in ErrorCode]
    assert len(codes) == len(set(codes)) == len(ErrorCode.__members__)
    assert all(0 <= code <= 0xFFFF for code in codes)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (ErrorCode.STORAGE_IO, "0xFFFF"),
        (ErrorCode.SERVER_IO, "0xFFFE"),
        (ErrorCode.MAILBOX_CHANNEL, "0xFFFD"),
        (ErrorCode.THIRDPARTYAPI, "0xFFFC"),
        (ErrorCode.CODEC, "0xFFFB"),
        (ErrorCode.HTTP_RESPONSE, "0xFFFA"),
        (ErrorCode.FILE, "0xFFCE"),
        (ErrorCode.CHRONO, "0xFFAE"),
        (ErrorCode.CRYPTER, "0xFFAB"),
    ],
)
def test_the_families_taken_over_keep_their_codes(code: ErrorCode, shown: str) -> None:
    """Logs of the old system and of this one can be read together."""
    assert code.hex == shown


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.kind)
def test_a_row_is_worth_reading(entry: Entry) -> None:
    """A dotted kind, a status of an error, whole sentences."""
    assert "." in entry.kind
    assert entry.kind == entry.kind.lower()
    assert 400 <= entry.status <= 599
    for sentence in (entry.meaning, entry.advice):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "|" not in sentence


def test_every_exception_and_its_own_kind_are_in_the_catalogue() -> None:
    """What an exception is by default is one of the kinds that the catalogue gives to it."""
    rows = {(entry.exception, entry.kind) for entry in CATALOGUE}
    concrete = {entry.exception for entry in CATALOGUE}
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, ActorError):
            if error in concrete:
                assert (error, error.default_kind) in rows
            else:
                assert any(issubclass(row, error) for row in concrete), f"{error.__name__} is never raised"


def test_the_page_of_errors_is_the_catalogue() -> None:
    """It is generated, never edited."""
    assert (PACKAGE / "docs" / "errors.md").read_text() == render()


# --- every kind is raised somewhere -------------------------------------------------------------------------


def sources() -> list[ast.Module]:
    """The code of the package, without the lists of kinds themselves."""
    files = [path for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))]
    return [ast.parse(path.read_text()) for path in files if path not in WHERE_KINDS_ARE_LISTED]


def kinds_named(trees: list[ast.Module]) -> set[str]:
    """The members of ErrorKind that the code names, other than as the default of an exception class."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defaults = {id(node.value) for node in nodes if _is_default_kind(node)}  # type: ignore[attr-defined]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and _last_name(node.value) == "ErrorKind" and id(node) not in defaults
    }


def _is_default_kind(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "default_kind" for target in targets)


def exceptions_made_by_default(trees: list[ast.Module]) -> set[str]:
    """The names of the exception classes that are called, or raised, without a kind of their own."""
    made: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and not any(keyword.arg == "kind" for keyword in node.keywords):
                made.add(_last_name(node.func))
            elif isinstance(node, ast.Raise) and node.exc is not None:
                made.add(_last_name(node.exc))
    return made


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


FOR_USERS = {ErrorKind.HANDLER_REFUSED: "raise Refusal(...) is what a user's handler does"}


def test_every_kind_is_raised_somewhere() -> None:
    """A kind that nothing raises would be documentation of what cannot happen.

    A kind counts as raised where the code names it, or makes the exception whose default it is.
    """
    trees = sources()
    named, made = kinds_named(trees), exceptions_made_by_default(trees)
    raised = {ErrorKind[name] for name in named if name in ErrorKind.__members__}
    raised |= {e.kind for e in CATALOGUE if e.exception.__name__ in made and e.exception.default_kind is e.kind}
    never = sorted(set(ErrorKind) - raised - set(FOR_USERS))
    assert not never, f"never raised: {', '.join(never)}"

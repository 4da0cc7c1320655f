"""``understudy migrate``: what it does, what it prints, and that it can be looked at first."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from understudy.actors.mutator.sqlite import SqliteStore
from understudy.console.cli import NOT_STARTED, main


def test_it_says_which_steps_it_applied_and_that_there_is_nothing_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    assert main(["migrate", url]) == 0
    first = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in first] == ["applied 1", "applied 2", "applied 3"]
    assert main(["migrate", url]) == 0
    assert capsys.readouterr().out == "nothing to do: the schema is up to date\n"
    SqliteStore(str(tmp_path / "store.db")).close()


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_STORE_URL", f"sqlite:///{tmp_path}/other.db")
    assert main(["migrate"]) == 0
    assert (tmp_path / "other.db").exists()


def test_it_migrates_a_server(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", postgres_url]) == 0
    assert main(["migrate", postgres_url]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to do: the schema is up to date"


def test_sql_is_printed_and_nothing_is_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--sql", f"sqlite:///{tmp_path}/store.db"]) == 0
    assert not (tmp_path / "store.db").exists()
    printed = capsys.readouterr().out
    with sqlite3.connect(tmp_path / "by_hand.db", isolation_level=None) as db:
        db.executescript(printed)
    db.close()
    assert main(["migrate", f"sqlite:///{tmp_path}/by_hand.db"]) == 0
    assert capsys.readouterr().out == "nothing to do: the schema is up to date\n"


def test_sql_for_a_server_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--sql", "postgresql://nobody:hunter2@127.0.0.1:1/nowhere"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("BEGIN;\nSELECT pg_advisory_xact_lock(")
    assert printed.endswith("COMMIT;\n")
    assert "hunter2" not in printed


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://nobody:hunter2@127.0.0.1:1/nowhere", "storage.postgres.unavailable"),
        ("postgresql://nobody:hunter2@127.0.0.1/x?no_such_option=1", "config.url.invalid"),
        ("mysql://nobody:hunter2@127.0.0.1/x", "config.url.invalid"),
        ("sqlite:////no/such/folder/store.db", "storage.sqlite.unavailable"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code_and_without_secrets(
    url: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", url]) == NOT_STARTED
    said = capsys.readouterr()
    response = json.loads(said.err.splitlines()[-1])
    assert response["kind"] == kind
    assert "hunter2" not in said.err + said.out

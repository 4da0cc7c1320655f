"""The checklist itself: complete, and counted by the command that prints it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def test_the_checklist_has_all_93_cases_each_with_a_meaning_or_a_reason() -> None:
    with (HERE / "checklist.toml").open("rb") as file:
        cases = tomllib.load(file)["case"]
    assert [case["number"] for case in cases] == list(range(1, 94))
    assert len({case["name"] for case in cases}) == 93
    for case in cases:
        assert ("meaning" in case) != ("left_out" in case)
        assert case.get("left_out", "code upgrade:").startswith(("code upgrade:", "log format:"))


def test_every_applicable_case_is_named_by_a_test() -> None:
    found = subprocess.run([sys.executable, str(HERE)], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.startswith("covered 80/93\n")
    assert found.stdout.count("left out: ") == 13

"""How much of the checklist is tested: ``python tests/supervisors/otp``.

The tests are collected, not listed by hand: a case counts if a test that would run names it. Ends with status 1 if
an applicable case has no test, or a case that was left out has one.
"""

from __future__ import annotations

import io
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


class Collector:
    """Notes which cases the collected tests name."""

    def __init__(self) -> None:
        self.tests: dict[int, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the markers of every test that was collected."""
        for item in session.items:
            if item.get_closest_marker("skip") is None:
                for mark in item.iter_markers("otp"):
                    self.tests.setdefault(mark.args[0], []).append(item.name)


def collect() -> dict[int, list[str]]:
    """Which tests name each case."""
    collector, output = Collector(), io.StringIO()
    with redirect_stdout(output):
        status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", str(HERE)], plugins=[collector])
    if status != pytest.ExitCode.OK:
        sys.exit(f"{output.getvalue()}\nthe tests cannot be collected")
    return collector.tests


def report(cases: list[dict[str, Any]], tests: dict[int, list[str]]) -> bool:
    """Print the count and what is missing; returns whether all is as it should be."""
    good = True
    covered = [case for case in cases if tests.get(case["number"])]
    lines = [f"covered {len(covered)}/{len(cases)}"]
    for case in cases:
        named, reason = bool(tests.get(case["number"])), case.get("left_out")
        if named and reason is None:
            continue
        if named:
            note, good = f"is tested, though it was left out for: {reason}", False
        elif reason is None:
            note, good = "HAS NO TEST", False
        else:
            note = f"left out: {reason}"
        lines.append(f"{case['number']:3} {case['name']}: {note}")
    sys.stdout.write("\n".join(lines) + "\n")
    return good


if __name__ == "__main__":
    with (HERE / "checklist.toml").open("rb") as checklist:
        listed = tomllib.load(checklist)["case"]
    sys.exit(0 if report(listed, collect()) else 1)

"""The checklist: which cases there are, and that a test which names one names it right."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ..players import new_stage

__all__ = ["new_stage"]

with Path(__file__).with_name("checklist.toml").open("rb") as file:
    NAMES = {case["number"]: case["name"] for case in tomllib.load(file)["case"]}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "otp(number, name): the case of OTP's supervisor suite that the test covers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that names a case which is not on the list."""
    for item in items:
        for mark in item.iter_markers("otp"):
            number, name = mark.args
            if NAMES.get(number) != name:
                raise pytest.UsageError(f"{item.nodeid}: there is no case {number} {name!r} on the checklist")

"""What a test does without its server: it is skipped with the reason; in CI, where they all run, it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = "UNDERSTUDY_TEST_SERVICES"
"""The environment variable that, set to ``required``, makes a missing server a failure."""


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where services are required."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{reason}, and {REQUIRED}=required", pytrace=False)
    pytest.skip(reason)

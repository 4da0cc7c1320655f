"""The example that the README shows runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .redis_server import redis_of_this_run

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_the_example_sends_every_email_that_can_be_sent(engine: str) -> None:
    """100 are sent, however busy the mail server is; the one that cannot be is archived with its reason."""
    command = [sys.executable, "-m", "examples.tasks"]
    if engine == "redis":
        server = redis_of_this_run()
        server.empty()
        command.append(server.url)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 archived, 100 completed" in run.stdout
    assert "SkipRetry: a user without a name has no address" in run.stdout

"""Fixtures of the tests of actors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from understudy import ActorSystem


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    """A system on real threads."""
    with ActorSystem("test") as running:
        yield running

"""What every test gets: the same examples on every run, and an order that keeps the slow ones last."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from .servers.shared import *  # noqa: F403 -- its fixtures, for every test

# The same examples every time, on every machine: a red run is then a change of the code, never of the dice.
# And as slow as the machine is: `too_slow` would measure that, and nothing of ours.
settings.register_profile(
    "understudy",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("understudy")

CLIENTS = ("rabbitmq ", "redis broker ", "lock-listener")
"""How the names of the threads of those clients begin that have some."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the built wheel last: the sort is stable, so nothing else moves."""
    items.sort(key=lambda item: item.get_closest_marker("packaging") is not None)


@pytest.fixture(autouse=True, scope="module")
def no_client_outlives_its_tests() -> Iterator[None]:
    """A client that was closed, and lives on, would try to connect for ever, beside every test that comes after."""
    yield
    deadline = time.monotonic() + 30.0
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith(CLIENTS)]:
        assert time.monotonic() < deadline, f"clients that nobody closed, or that did not end: {left}"
        time.sleep(0.05)

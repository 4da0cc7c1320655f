"""What every test gets: the same examples on every run, and an order that keeps the slow ones last."""

import pytest
from hypothesis import settings

from .servers.shared import *  # noqa: F403 -- its fixtures, for every test

# The same examples every time, on every machine: a red run is then a change of the code, never of the dice.
settings.register_profile("understudy", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("understudy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the built wheel last: the sort is stable, so nothing else moves."""
    items.sort(key=lambda item: item.get_closest_marker("packaging") is not None)

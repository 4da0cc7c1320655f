"""A pytest plugin for pykka's own suite: its tests run on our actors and futures instead of pykka's.

The suite's ``conftest.py`` keeps what it tests in a record, ``RUNTIMES["threading"].values[0]``, that its
``runtime`` fixture hands out. The record is changed once the conftest is loaded and before anything is
collected; no file of the suite is touched.
"""

import os

import pytest

from understudy.actors.actor import Actor
from understudy.actors.future import Future


def pytest_collection(session: pytest.Session) -> None:
    for plugin in session.config.pluginmanager.get_plugins():
        runtimes = getattr(plugin, "RUNTIMES", None)
        if runtimes is not None:
            record = runtimes["threading"].values[0]
            dispatcher = os.environ["UNDERSTUDY_CONFORMANCE_DISPATCHER"]
            record.actor_class = type("UnderstudyActor", (Actor,), {"dispatcher": dispatcher})
            record.future_class = Future
            return
    raise pytest.UsageError("pykka's conftest has no RUNTIMES record any more: see how its suite chooses a runtime")

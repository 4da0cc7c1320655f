"""What the plugin does in a test run of a user's: each test here is a run of pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on a test module, and return what it prints."""

    def run(module: str, *options: str) -> str:
        (tmp_path / "test_it.py").write_text(module, encoding="utf-8")
        plugins = ["-p", "no:cacheprovider", "-p", "understudy.testing.plugin"]
        command = [sys.executable, "-m", "pytest", *plugins, *options, "test_it.py"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return run


def test_systems_are_stopped_at_the_end_of_the_test(run: Run) -> None:
    output = run(
        """
from understudy import Actor
systems = []

def test_one(actor_system, simulation):
    systems.append(actor_system(name="real"))
    systems.append(actor_system(dispatcher=simulation))
    for system in systems:
        system.spawn(Actor, name="a")

def test_two():
    assert [system.name for system in systems] == ["real", "test"]
    assert [system.running for system in systems] == [False, False]
"""
    )
    assert "2 passed" in output


def test_a_thread_that_a_system_leaves_behind_fails_the_test_and_is_named(run: Run) -> None:
    output = run(
        """
import threading
from understudy import Actor
release = threading.Event()

class Leaking(Actor):
    def on_start(self):
        threading.Thread(target=release.wait, args=(30,), name="forgotten", daemon=True).start()

def test_one(actor_system, monkeypatch):
    monkeypatch.setattr("understudy.testing.plugin.THREADS_TIMEOUT", 0.0)
    actor_system().spawn(Leaking)

def test_two():
    release.set()
"""
    )
    assert "2 passed, 1 error" in output
    assert "the systems of this test left threads behind: forgotten" in output


FAILING = """
from understudy import Actor

def test_it(actor_system, simulation):
    system = actor_system(dispatcher=simulation)
    system.spawn(Actor, name="quiet").tell("hello")
    simulation.run_until_idle()
    assert simulation.seed < 0
"""


@pytest.mark.parametrize(("options", "seed"), [((), 0), (("--understudy-seed=41",), 41)])
def test_a_failing_test_reports_its_seed_and_the_last_steps(run: Run, options: tuple[str, ...], seed: int) -> None:
    output = run(FAILING, *options)
    assert "1 failed" in output
    assert f"run it again with --understudy-seed={seed}" in output
    assert "run      quiet str" in output


def test_pytest_loads_it_by_itself() -> None:
    (plugin,) = entry_points(group="pytest11", name="understudy")
    assert plugin.value == "understudy.testing.plugin"
    assert callable(plugin.load().actor_system)


def test_the_seed_may_be_parametrized(run: Run) -> None:
    output = run(
        """
import pytest

@pytest.mark.parametrize("simulation_seed", range(5))
def test_it(simulation, simulation_seed):
    assert simulation.seed == simulation_seed
"""
    )
    assert "5 passed" in output


def test_the_runtime_is_not_loaded_in_runs_that_do_not_use_it(run: Run) -> None:
    output = run(
        """
import sys

def test_it():
    assert "understudy.testing.plugin" in sys.modules
    assert not {"understudy.actors", "understudy.supervisors", "msgspec", "pykka"} & set(sys.modules)
"""
    )
    assert "1 passed" in output

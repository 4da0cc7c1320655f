"""Fixtures for tests of programs that use Understudy; pytest loads this plugin by itself.

- ``actor_system``: starts systems, stops them at the end of the test, and fails it if they leave threads behind.
- ``simulation``: a ``SimulatedDispatcher``; a failing test reports its seed and last steps. Another seed is given
  by ``--understudy-seed``.
- ``probe``: a ``Probe``.

Nothing of Understudy is imported before a test asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..supervisors.child import ChildSpec
    from ..supervisors.system import ActorSystem
    from .probe import Probe
    from .simulated import SimulatedDispatcher

__all__ = ["actor_system", "probe", "simulation", "simulation_seed"]

SEED = 0
THREADS_TIMEOUT = 2.0
"""Real seconds that a system's threads get to end after it has stopped."""

_simulation: pytest.StashKey[SimulatedDispatcher] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--understudy-seed``."""
    parser.getgroup("understudy").addoption(
        "--understudy-seed", type=int, default=SEED, help=f"the seed of simulated systems ({SEED} unless given)"
    )


@pytest.fixture
def simulation_seed(request: pytest.FixtureRequest) -> int:
    """The seed of ``simulation``; override it, or parametrize it, to run a test on several."""
    seed: Any = request.config.getoption("--understudy-seed")
    return int(seed)


@pytest.fixture
def simulation(
    request: pytest.FixtureRequest, simulation_seed: int, _systems: list[ActorSystem]
) -> Iterator[SimulatedDispatcher]:
    """A dispatcher for a system in virtual time: ``actor_system(dispatcher=simulation)``."""
    from .simulated import SimulatedDispatcher

    dispatcher = SimulatedDispatcher(simulation_seed)
    request.node.stash[_simulation] = dispatcher
    yield dispatcher
    _stop(system for system in _systems if system.runtime.simulation is dispatcher)
    dispatcher.stop()


@pytest.fixture
def _systems() -> list[ActorSystem]:
    """The systems of a test; whichever of the fixtures that need them ends first stops them."""
    return []


@pytest.fixture
def actor_system(_systems: list[ActorSystem]) -> Iterator[Callable[..., ActorSystem]]:
    """A function that starts systems: ``actor_system(tree, dispatcher=…)``; arguments as for ``ActorSystem``.

    The systems are stopped at the end of the test, the last one first.
    """
    from ..supervisors.system import ActorSystem

    before = set(threading.enumerate())

    def start(tree: ChildSpec | None = None, *, name: str = "test", **options: Any) -> ActorSystem:
        _systems.append(ActorSystem(name, tree, **options))
        return _systems[-1]

    yield start
    _stop(_systems)
    left = _threads_that_stay(before)
    if left:
        pytest.fail(f"the systems of this test left threads behind: {', '.join(left)}", pytrace=False)


@pytest.fixture
def probe() -> Probe:
    """A stand-in for an actor: ``probe.spawn(system)``."""
    from .probe import Probe

    return Probe()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the seed and the last steps of its simulation to the report of a test that failed."""
    report = yield
    dispatcher = item.stash.get(_simulation, None)
    if report.failed and dispatcher is not None:
        text = f"run it again with --understudy-seed={dispatcher.seed}\n{dispatcher.tail()}"
        report.sections.append((f"simulation, {dispatcher.steps} steps", text))
    return report


def _stop(systems: Iterable[ActorSystem]) -> None:
    for system in reversed(list(systems)):
        system.stop()


def _threads_that_stay(before: set[threading.Thread]) -> list[str]:
    """The names of the threads that were started since and do not end, apart from those that wait to be reused."""
    from .drivers import is_idle

    new = [thread for thread in threading.enumerate() if thread not in before and not is_idle(thread)]
    for thread in new:
        thread.join(THREADS_TIMEOUT)
    return [thread.name for thread in new if thread.is_alive() and not is_idle(thread)]

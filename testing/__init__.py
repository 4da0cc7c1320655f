"""The test kit: simulated dispatch, probe actors and pytest fixtures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .baton import Deadlock, Endless
    from .faults import FaultPlan, InjectedCrash
    from .probe import Probe, ProbeActor
    from .simulated import SimulatedDispatcher

__all__ = ["Deadlock", "Endless", "FaultPlan", "InjectedCrash", "Probe", "ProbeActor", "SimulatedDispatcher"]

_WHERE = {
    "Deadlock": "baton",
    "Endless": "baton",
    "FaultPlan": "faults",
    "InjectedCrash": "faults",
    "Probe": "probe",
    "ProbeActor": "probe",
    "SimulatedDispatcher": "simulated",
}


def __getattr__(name: str) -> Any:
    # When it is first used: pytest loads the plugin below in every run, also where nobody needs the rest.
    home = _WHERE.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)

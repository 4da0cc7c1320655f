"""The test kit: simulated dispatch, probe actors and pytest fixtures."""

from __future__ import annotations

from .baton import Deadlock, Endless
from .faults import FaultPlan, InjectedCrash
from .simulated import SimulatedDispatcher

__all__ = ["Deadlock", "Endless", "FaultPlan", "InjectedCrash", "SimulatedDispatcher"]

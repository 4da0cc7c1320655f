"""The test kit: simulated dispatch, probe actors and pytest fixtures."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .faults import FaultPlan, InjectedCrash
    from .probe import Probe, ProbeActor
    from .simulated import SimulatedDispatcher
    from .waiter import Deadlock, Endless
else:
    from ..messages.lazy import face

    # pytest loads the plugin in this package in every run, also where nobody needs the rest.
    __getattr__, __dir__ = face(
        __name__,
        {
            "faults": ("FaultPlan", "InjectedCrash"),
            "probe": ("Probe", "ProbeActor"),
            "simulated": ("SimulatedDispatcher",),
            "waiter": ("Deadlock", "Endless"),
        },
    )

__all__ = ["Deadlock", "Endless", "FaultPlan", "InjectedCrash", "Probe", "ProbeActor", "SimulatedDispatcher"]

"""Fixtures of the tests of the system."""

from .bank import new_bank, new_gate, new_simulated_bank, new_simulation

__all__ = ["new_bank", "new_gate", "new_simulated_bank", "new_simulation"]

"""Measurements, never assertions: Understudy and pykka in turn in one process, and a million supervised actors."""

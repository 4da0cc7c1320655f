"""The fixtures of the tests of supervision trees."""

from ..players import new_stage

__all__ = ["new_stage"]

"""Understudy: an embeddable actor runtime for Python services."""

__version__ = "0.1.0"

__all__ = ["__version__"]

"""Faces of packages whose names are imported when they are first used, so that a program pays for what it needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["face"]


def face(package: str, homes: Mapping[str, tuple[str, ...]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: its name, as ``__name__`` has it.
        homes: the names that it shows, by the module that each is defined in, relative to the package.
    """
    where = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        home = where.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home}")
        try:
            value = getattr(module, name)
        except AttributeError:  # a module of that package, which nobody has imported yet
            value = importlib.import_module(f"{module.__name__}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return get, names

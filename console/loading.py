"""Finding a declared tree by its name."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from ..messages.errors import TreeInvalid
from ..supervisors.child import ChildSpec

__all__ = ["load_tree"]


def load_tree(reference: str) -> ChildSpec:
    """Find a declared tree by ``module:attribute``.

    Args:
        reference: such as ``shop.service:tree``; the attribute may be a dotted one, and a function without
            arguments that returns the declaration. The current directory is searched for modules first.

    Raises:
        TreeInvalid: the module cannot be imported, has no such attribute, or it is no declaration.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise TreeInvalid(f"{reference!r}: give module:attribute, such as shop.service:tree")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _import(module_name)
    for part in attribute.split("."):
        found = _attribute(found, part, reference)
    if callable(found) and not isinstance(found, ChildSpec):
        found = _call(found, reference)
    if not isinstance(found, ChildSpec):
        raise TreeInvalid(f"{reference!r} is {found!r}: declare a Supervisor(...), or a function that returns one")
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise TreeInvalid(f"{name!r} cannot be imported: {type(error).__name__}: {error}", cause=error) from error


def _attribute(owner: Any, name: str, reference: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        close = difflib.get_close_matches(name, dir(owner), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TreeInvalid(f"{reference!r}: there is no {name!r}{hint}") from None


def _call(function: Any, reference: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise TreeInvalid(f"{reference!r} raised {type(error).__name__}: {error}", cause=error) from error

"""The command line: ``understudy run module:tree`` runs a declared tree until a signal."""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..messages.errors import ActorError, TreeInvalid
from ..supervisors.child import ChildSpec
from ..supervisors.system import ActorSystem

__all__ = ["load_tree", "main"]

USAGE_ERROR = 2
"""The exit status for a command line or a tree that cannot be run, as argparse has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what stands behind the command's name; by default what the process was started with.

    Returns:
        the exit status: 0 after a clean end, 1 if the tree gave up, 2 if it could not be started, 3 if something
        had to be killed while stopping, 128 + the signal's number after a second signal.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        tree = load_tree(options.tree)
        system = ActorSystem(options.name or tree.name or "understudy", tree)
    except ActorError as error:
        print(f"understudy: {error}", file=sys.stderr)
        print(error.response.to_json().decode(), file=sys.stderr)
        return USAGE_ERROR
    return system.run(drain=options.drain, timeout=options.timeout)


def load_tree(reference: str) -> ChildSpec:
    """Find a declared tree by ``module:attribute``; the attribute may be a function that returns one.

    Raises:
        TreeInvalid: the module cannot be imported, has no such attribute, or it is no declaration.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise TreeInvalid(f"{reference!r}: give module:attribute, such as shop.service:tree")
    if "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise TreeInvalid(
            f"{module_name!r} cannot be imported: {type(error).__name__}: {error}", cause=error
        ) from error
    try:
        tree: Any = getattr(module, attribute)
    except AttributeError as error:
        close = difflib.get_close_matches(attribute, dir(module), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TreeInvalid(f"{module_name!r} has no {attribute!r}{hint}", cause=error) from error
    if callable(tree) and not isinstance(tree, ChildSpec):
        tree = tree()
    if not isinstance(tree, ChildSpec):
        raise TreeInvalid(f"{reference!r} is {tree!r}: declare a Supervisor(...), or a function that returns one")
    return tree


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="understudy", description="Run supervised actors.")
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a declared tree until SIGTERM or SIGINT",
        description="Run a declared tree until SIGTERM or SIGINT drains it; a second signal forces it down.",
        epilog="Exit status: 0 clean end, 1 the tree gave up, 2 it could not be started, 3 something had to be killed "
        "while stopping, 128 + N forced by a second signal N.",
    )
    run.add_argument("tree", metavar="MODULE:TREE", help="where the tree is declared, such as shop.service:tree")
    run.add_argument("--name", help="the system's name in logs; by default the tree's")
    run.add_argument(
        "--drain", type=float, default=5.0, metavar="S", help="seconds for the mailboxes to run empty (%(default)s)"
    )
    run.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds for the whole stop (%(default)s)"
    )
    run.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="(%(default)s)")
    return parser

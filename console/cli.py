"""The command line: ``understudy run module:tree`` runs a declared tree until a signal; also ``migrate``, ``tasks``."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from .. import __version__
from ..messages.errors import ActorError
from ..messages.redact import clean, redact, text_of
from ..supervisors.signals import FORCED_BASE, KILLED_SOME, Signals, run_until_signal
from ..supervisors.system import ActorSystem
from .loading import load_tree
from .tasks import add_tasks_parser, run_tasks

__all__ = ["NOT_STARTED", "main"]

NOT_STARTED = 2
"""The exit status for a command line or a tree that cannot be run, as argparse has it."""

_EPILOG = """\
exit status:
  0        it ended by itself, or everything stopped in order after a signal
  1        the tree gave up: restarts did not help
  2        it could not be started
  3        it stopped after a signal, but something had to be killed
  128 + N  a second signal N forced it down
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what stands behind the command's name; by default what the process was started with. Then the
            process is ended without waiting for threads that were given up.

    Returns:
        the exit status: 0 after a clean end, 1 if the tree gave up, 2 if it could not be started, 3 if something
        had to be killed while stopping, 128 + the signal's number after a second signal.
    """
    options = _parser().parse_args(arguments)
    status: int = options.command(options)
    if arguments is None and (status == KILLED_SOME or status > FORCED_BASE):
        _leave(status)
    return status


def _run(options: argparse.Namespace) -> int:
    with Signals() as signals:
        signals.starting = True
        try:
            tree = load_tree(options.tree)
            logging.basicConfig(  # after the tree's module, which may have a set-up of its own
                level=options.log_level.upper(),
                format="%(asctime)s %(levelname)s %(name)s %(message)s",
                stream=sys.stderr,
            )
            system = ActorSystem(options.name or tree.name or "understudy", tree)
        except Exception as error:
            _show(error)
            return NOT_STARTED
        signals.starting = False
        with suppress(ActorError):  # it may have ended by itself meanwhile, which is no fault
            if not system.root.count_children().specs:
                system.stop(cause="the tree said IGNORE: there is nothing to do")
        return run_until_signal(system, drain=options.drain, timeout=options.timeout, signals=signals)


def _migrate(options: argparse.Namespace) -> int:
    from .migrate import run_migrate

    try:
        return run_migrate(options.url, sql=options.sql)
    except ActorError as error:
        _show_response(error)
        return NOT_STARTED


def _tasks(options: argparse.Namespace) -> int:
    try:
        return run_tasks(options)
    except ActorError as error:
        _show_response(error)
        return NOT_STARTED


def _show(error: Exception) -> None:
    """Show what kept it from starting: the traceback of what is at the bottom of it, and the error response."""
    lowest: BaseException = error
    while lowest.__cause__ is not None:
        lowest = lowest.__cause__
    if lowest is not error or not isinstance(error, ActorError):
        trace = traceback.format_exception(type(lowest), lowest, lowest.__traceback__, chain=False)
        print(redact("".join(trace)), end="", file=sys.stderr)
    if isinstance(error, ActorError):
        _show_response(error)
    else:
        print(f"understudy: {clean(text_of(error))}", file=sys.stderr)


def _show_response(error: ActorError) -> None:
    print(f"understudy: {clean(text_of(error))}", file=sys.stderr)
    print(error.response.to_json().decode(), file=sys.stderr)


def _leave(status: int) -> None:
    """End the process now: the interpreter would wait for threads, and some of them may never end."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="understudy",
        description="Run supervised actors.",
        epilog="example:\n  understudy run shop.service:tree",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a declared tree until SIGTERM or SIGINT",
        description="Run a declared tree until SIGTERM or SIGINT drains it; a second signal forces it down.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("tree", metavar="MODULE:TREE", help="where the tree is declared, such as shop.service:tree")
    run.add_argument("--name", help="the system's name in logs; by default the tree's")
    run.add_argument(
        "--drain", type=_seconds, default=5.0, metavar="S", help="seconds for the mailboxes to run empty (%(default)s)"
    )
    run.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="seconds for the whole stop (%(default)s)"
    )
    run.set_defaults(command=_run)
    run.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="(%(default)s)")
    migrate = commands.add_parser(
        "migrate",
        help="bring a store's schema up to date",
        description="Bring the schema of the mutator's store up to date. Several may do so at once: one does the work.",
    )
    migrate.add_argument(
        "url", nargs="?", metavar="URL", help="by default UNDERSTUDY_STORE_URL, or else sqlite:///understudy.db"
    )
    migrate.add_argument("--sql", action="store_true", help="print the statements, connect to nothing")
    migrate.set_defaults(command=_migrate)
    add_tasks_parser(commands, _tasks)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds) or seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return seconds

"""``understudy migrate``: bring a store's schema up to date, or print what that would take."""

from __future__ import annotations

import os

from ..actors.mutator.migrating import migrate, script

__all__ = ["run_migrate"]


def run_migrate(url: str | None, *, sql: bool) -> int:
    """Bring the schema up to date and say what was done; with ``sql``, print the statements and connect to nothing.

    Args:
        url: which store; None takes ``UNDERSTUDY_STORE_URL``, or else ``sqlite:///understudy.db``.
        sql: whether to print only.

    Returns:
        the exit status 0.

    Raises:
        ActorError: the URL names no store, or the store cannot be brought up to date.
    """
    url = url or os.environ.get("UNDERSTUDY_STORE_URL") or "sqlite:///understudy.db"
    if sql:
        print(script(url), end="")
        return 0
    applied = migrate(url)
    for number, name in applied:
        print(f"applied {number}: {name}")
    if not applied:
        print("nothing to do: the schema is up to date")
    return 0

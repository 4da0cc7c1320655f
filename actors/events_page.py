"""The catalogue of events as a page: `make docs` writes it to docs/events.md, run as a module it is printed."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterable

import msgspec

from . import events
from .events import Event, catalogue

_HEAD = """\
# Events

Everything that a system tells of itself comes on its event stream: `system.events.subscribe(ActorCrashed, callback)`,
or `Event` for all of it. The log reads the stream too: a line of text on the logger `understudy`; for an event with an
`error`, its error response as one JSON object on `understudy.errors`. Every event has a `path` (the actor's; empty for
the system's own supervisor; the system's name for the events of the system) and `at` (Unix time). `from understudy
import events` has them; this page is generated from `actors/events.py` by `make docs`.

| event | level | fields | what happened |
|---|---|---|---|
"""


def ours() -> list[type[Event]]:
    """The types that `actors/events.py` defines."""
    return [event_type for event_type in catalogue() if event_type.__module__ == events.__name__]


def render(event_types: Iterable[type[Event]] | None = None) -> str:
    """Write the page docs/events.md."""
    return _HEAD + "".join(map(_line, ours() if event_types is None else event_types))


def _line(event_type: type[Event]) -> str:
    names = [f"`{field.name}`" for field in msgspec.structs.fields(event_type) if field.name not in ("path", "at")]
    meaning = " ".join((inspect.getdoc(event_type) or "").replace("``", "`").replace("|", r"\|").split())
    level = logging.getLevelName(event_type.level)
    return f"| `{event_type.__name__}` | {level} | {', '.join(names)} | {meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())

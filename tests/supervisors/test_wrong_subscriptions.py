"""What `system.events` can be asked to tell."""

from __future__ import annotations

from typing import Any

import pytest

import understudy
from understudy import ActorSystem, NotSupported, events


@pytest.mark.parametrize(
    ("event_type", "callback"),
    [
        (understudy.DeadLetter, print),  # the broker's message of that name
        (ValueError, print),
        ("ActorCrashed", print),
        (None, print),
        (events.ActorCrashed, None),
        (events.ActorCrashed, 5),
    ],
    ids=repr,
)
def test_what_would_never_be_told_is_refused_at_once(event_type: Any, callback: Any) -> None:
    with ActorSystem("quiet") as system, pytest.raises(NotSupported, match="give a type of event"):
        system.events.subscribe(event_type, callback)

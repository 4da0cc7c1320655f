"""Where the project's own keys lie in a Redis: beside the user's, in the same slot of a Cluster."""

from __future__ import annotations

from functools import cache

from .redis_link import SLOTS, slot_of

__all__ = ["beside", "in_slot"]


def beside(key: bytes, what: bytes, *, clustered: bool) -> bytes:
    """The key of what belongs to ``key``: in the same slot, if there are slots.

    Args:
        key: The user's key.
        what: Which of the things that belong to it.
        clustered: Whether there are slots.
    """
    suffix = b":understudy:" + what
    if not clustered or _has_tag(key):
        return key + suffix
    if key and b"}" not in key:
        return b"{" + key + b"}" + suffix
    return b"{" + in_slot(slot_of(key)) + b"}" + key + suffix


def _has_tag(key: bytes) -> bool:
    """Whether a part in braces decides on its slot."""
    start = key.find(b"{")
    return start >= 0 and key.find(b"}", start + 1) > start + 1


def in_slot(slot: int) -> bytes:
    """A short text that lies in a slot, to be put in braces."""
    return _table()[slot]


@cache
def _table() -> list[bytes]:
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < SLOTS:
        text = b"%x" % number
        found.setdefault(slot_of(text), text)
        number += 1
    return [found[slot] for slot in range(SLOTS)]

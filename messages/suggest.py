"""The nearest known name to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Write the end of an error's text: `; did you mean 'rest_for_one'?`, or nothing if nothing is near.

    Args:
        word: What was given, of any type.
        known: The names that would have been right. At most 10,000 of them are looked at.
    """
    if not isinstance(word, str) or len(word) > MAX_WORD:
        return ""
    from difflib import get_close_matches  # only on failing paths, so not at every start

    names = [name for name, _ in zip(known, range(MAX_KNOWN), strict=False)]
    by_folded = {name.casefold(): name for name in names}
    near = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""


MAX_WORD = 200
"""Beyond this many characters nothing is compared: the cost grows with the square of the length."""
MAX_KNOWN = 10_000
"""A system may have a million names, and an error must not take seconds."""

"""How each type of exchange decides which of its bindings a message takes.

Nothing here knows about queues, threads or a broker: a route is a function of a binding and a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from ...messages.broker import HeaderValue
from .topology import Binding

Headers = Mapping[str, HeaderValue]


def split_words(key: str) -> list[str]:
    """Words of a routing key or pattern: an empty one has none, ``"a..b"`` has an empty one in the middle."""
    return key.split(".") if key else []


def topic_matches(pattern: str, key: str) -> bool:
    """Whether a topic pattern takes a routing key.

    ``*`` stands for exactly one word and ``#`` for any number of words, none included. Both are wild only as
    a whole word: ``a*`` is just text. Never worse than words × pattern, so a hostile pattern cannot stall it.
    """
    words = split_words(key)
    position, retry_pattern, retry_word = 0, -1, 0
    pattern_words = _pattern_words(pattern)
    at = 0
    while position < len(words):
        if at < len(pattern_words) and pattern_words[at] == "#":
            # Let '#' take nothing for now; on a mismatch further on, come back and let it take one word more.
            retry_pattern, retry_word = at, position
            at += 1
        elif at < len(pattern_words) and pattern_words[at] in ("*", words[position]):
            at += 1
            position += 1
        elif retry_pattern >= 0:
            retry_word += 1
            at, position = retry_pattern + 1, retry_word
        else:
            return False
    return all(word == "#" for word in pattern_words[at:])


def headers_match(wanted: Headers, headers: Headers) -> bool:
    """Whether a headers binding takes a message; arguments that begin with ``x-`` are not compared.

    ``any`` without a single value to compare matches nothing, ``all`` without one everything, as in AMQP.
    """
    compared = (_header_matches(value, headers, name) for name, value in wanted.items() if not name.startswith("x-"))
    return any(compared) if wanted.get("x-match", "all") == "any" else all(compared)


Route = Callable[[Binding, str, Headers], bool]

ROUTES: Mapping[str, Route] = {
    "fanout": lambda binding, key, headers: True,
    "direct": lambda binding, key, headers: binding.routing_key == key,
    "topic": lambda binding, key, headers: topic_matches(binding.routing_key, key),
    "headers": lambda binding, key, headers: headers_match(binding.arguments, headers),
}
"""One row per type of exchange: does this binding take a message with that key and those headers?"""


@lru_cache(maxsize=4096)
def _pattern_words(pattern: str) -> tuple[str, ...]:
    return tuple(split_words(pattern))


def _header_matches(wanted: HeaderValue, headers: Headers, name: str) -> bool:
    if name not in headers:
        return False
    # The type counts too, as on the wire: in Python True == 1 == 1.0, in AMQP they are different values.
    return wanted is None or (type(headers[name]) is type(wanted) and headers[name] == wanted)

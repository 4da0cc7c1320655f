"""Routing on its own: topic patterns against a naive model, headers against their definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.actors.broker.routing import headers_match, topic_matches

words = st.sampled_from(["a", "b", "ab", "", "*", "#"])
keys = st.lists(words, max_size=6).map(".".join)


def naive(pattern: list[str], key: list[str]) -> bool:
    """The definition, word for word; exponential, which is fine for six words."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(naive(pattern[1:], key[taken:]) for taken in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and naive(pattern[1:], key[1:])


@given(keys, keys)
def test_topic_matching_agrees_with_the_definition(pattern: str, key: str) -> None:
    expected = naive(pattern.split(".") if pattern else [], key.split(".") if key else [])
    assert topic_matches(pattern, key) is expected


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("stock.usd.nyse", "stock.usd.nyse", True),
        ("*.stock.#", "usd.stock", True),
        ("*.stock.#", "eur.stock.db", True),
        ("*.stock.#", "stock.nasdaq", False),
        ("#", "", True),
        ("*", "", False),
        ("", "", True),
        ("#.#", "", True),
        ("a.#.b", "a.b", True),
        ("a*", "ab", False),
        ("a.", "a", False),
    ],
)
def test_topic_examples_from_the_protocol(pattern: str, key: str, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches


def test_a_hostile_pattern_does_not_explode() -> None:
    """127 wildcards against 127 words that all but match: a naive matcher would still be at it tomorrow."""
    assert topic_matches(".".join(["#"] * 126 + ["b"]), ".".join(["a"] * 127)) is False


values = st.one_of(st.sampled_from([0, 1, 1.0, True, False, "1", "", b"1", None]))
headers = st.dictionaries(st.sampled_from(["a", "b", "c"]), values)


@given(headers, headers)
def test_headers_matching_agrees_with_the_definition(wanted: dict[str, object], given_: dict[str, object]) -> None:
    same = [
        name in given_ and (value is None or (value == given_[name] and type(value) is type(given_[name])))
        for name, value in wanted.items()
    ]
    assert headers_match({"x-match": "all", **wanted}, given_) is all(same)  # type: ignore[dict-item, arg-type]
    assert headers_match({"x-match": "any", **wanted}, given_) is any(same)  # type: ignore[dict-item, arg-type]
    assert headers_match({"x-trace": "1", **wanted}, given_) is all(same)  # type: ignore[dict-item, arg-type]


def test_true_is_not_one() -> None:
    assert not headers_match({"flag": 1}, {"flag": True})
    assert not headers_match({"size": 1}, {"size": 1.0})

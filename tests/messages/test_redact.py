"""What may be shown: no credentials, no surrogates, no megabytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.messages.redact import clean, redact, text_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://user:pass@host", "amqp://user:***@host"),
        ("amqps://user:p%40ss@host:5671/vhost?x=1", "amqps://user:***@host:5671/vhost?x=1"),
        ("redis://:pass@host/0", "redis://:***@host/0"),
        ("postgresql://u:p@ss/w@rd@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:12/34@host/db", "postgresql://u:***@host/db"),
        ("redis://:12?34@host/0", "redis://:***@host/0"),
        ("amqp://u:it's@host", "amqp://u:***@host"),
        ('Child("amqp://u:it\'s@host", 5)', 'Child("amqp://u:***@host", 5)'),
        ("tried amqp://a:b@c,amqp://d:e@f.", "tried amqp://a:***@f."),
        ("tried amqp://a:b@c then amqp://d:e@f.", "tried amqp://a:***@c then amqp://d:***@f."),
        ("https://ghp_token@github.com/x", "https://***@github.com/x"),
        ("password=hunter2", "password=***"),
        ("password = hunter2, user=ada", "password = ***, user=ada"),
        ("PASSWORD: hunter2", "PASSWORD: ***"),
        ("db_password='hun ter2' host=x", "db_password=*** host=x"),
        ('{"secret": "hunter2", "user": "ada"}', '{"secret": ***, "user": "ada"}'),
        (
            "CryptoConfig(secret='a', passphrase='b', unique_key='c')",
            "CryptoConfig(secret=***, passphrase=***, unique_key=***)",
        ),
        ("api_key=abc&page=2", "api_key=***&page=2"),
        ("access-token: abc;next", "access-token: ***;next"),
        ("?token=abc&x=1", "?token=***&x=1"),
        ("GET / Cookie: session=abc; theme=dark", "GET / Cookie: ***"),
        ("Set-Cookie: sid=a=b==; Path=/; HttpOnly\nHost: x", "Set-Cookie: ***\nHost: x"),
        ("{'Cookie': 'session=abc', 'Host': 'x'}", "{'Cookie': ***, 'Host': 'x'}"),
        ("Authorization: Bearer eyJhbGciOi.abc-_", "Authorization: Bearer ***"),
    ],
)
def test_credentials_are_replaced(text: str, shown: str) -> None:
    """And what is around them stays, to be of use; where in doubt, too much is hidden."""
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8080/users/@me",
        "amqp://guest@host/vhost",
        "redis://host:6379/0, then ada@example.org",
        "('redis://host:6379/0', 'ada@example.org')",
        "https://host/path?x=1",
        "password authentication failed for user ada",
        "mailto:ada@example.org",
        "10,000 messages are waiting",
        "the key notif_owner:1 holds a list",
        "the cookie: it was not set",
        "",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    """Ports, paths, users and ordinary words."""
    assert redact(text) == text


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    """A response may pass through several hands."""
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    ["://" * 100_000, "://:" * 100_000, "password" * 50_000, "secret-" * 50_000, "token='" * 50_000, "a.b." * 100_000,
     "://a:" + "@" * 300_000, "bearer " * 50_000, "http://" * 60_000, "password=" * 50_000,
     "cookie=" * 50_000, "cookie: a=b;" * 50_000, "cookie='" * 50_000, "Cookie: " + ";" * 300_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_text_takes_linear_time(text: str) -> None:
    """Quadratic work on so much text would run into the suite's time limit."""
    assert len(clean(text)) < 5000


def test_a_password_at_the_cut_is_not_shown_by_half() -> None:
    """The cut comes after redaction."""
    text = "x" * 90 + " amqp://user:" + "hunter2" * 3 + "@host"
    for limit in range(80, 130):
        assert "hunt" not in clean(text, limit)


def test_cut_text_says_how_much_is_missing() -> None:
    """And text within the limit is left alone."""
    assert clean("x" * 10, 10) == "x" * 10
    assert clean("x" * 11, 10) == "x" * 10 + "… (1 more characters)"


@given(st.text(st.characters()))
def test_clean_text_can_be_encoded(text: str) -> None:
    """Half surrogates are shown as their escapes."""
    clean(text).encode()


def test_the_text_of_anything_can_be_had() -> None:
    """An error's text must not be lost to another error."""

    class Mute:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    assert text_of(Mute()) == "<Mute whose text cannot be had: KeyboardInterrupt>"
    assert text_of(5) == "5"

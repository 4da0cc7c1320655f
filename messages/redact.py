"""Text that is safe to show: credentials taken out, of bounded length, and always encodable."""

from __future__ import annotations

import re
from functools import cache

MASK = "***"
MAX_TEXT = 4096
"""How many characters of an error's text are kept."""
MAX_NAME = 1024
"""How many characters of a method, path, type or id are kept."""
MAX_NOTE = 40
"""How many characters it takes to say how many were cut."""

# In all of these every repetition has a bound, so that no text makes them take more than linear time.
#
# scheme://user:password@host; the user stays, for "which account was refused?" is the first question.
# Greedy, up to the last "@": a password may hold "@", "/" and, between letters, a quote. Digits before a path are a
# port where HTTP is spoken; elsewhere nothing after a port has an "@", so they are the beginning of a password.
_USER = r"[^\s/?#:@'\"]{0,256}"
_URL_CREDENTIALS = (
    rf"(?i)(?<=://)(?:(?<!http://)(?<!https://)|(?!{_USER}:\d{{1,5}}[/?#]))({_USER}):"
    r"(?:[^\s'\"]|(?<=\w)['\"](?=\w)){0,512}@"
)
# An account without a password is a token where HTTP is spoken.
_URL_TOKEN = r"(?i)\b(https?://)[^\s/?#:@'\"]{1,256}@"
_NAMED_SECRET = r"""(?ix)
    (?P<name>  (?: password | passwd | passphrase | pwd | secret | token | credential
                 | api[_-]?key | access[_-]?key | unique_key )
               [\w-]{0,16} ["']? \s{0,4} [=:] \s{0,4} )
    (?P<value> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s,;&"'(){}\[\]]+ )
    """
# A header is as long as its cookies go on: name=value; name=value.
_COOKIE = r"""(?ix)
    (?P<name> \b cookie ["']? \s{0,4} [=:] \s{0,4} )
    (?P<value> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'
             | [^\s;,"'=]{1,256} = [^\s;,"']{0,4096} (?: ; \s{0,4} [^\s;,"']{1,4096} )* )
    """
_BEARER = r"(?i)\b(bearer|basic)\s{1,4}[\w.~+/=-]{8,}"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when it is first needed: most programs start without an error."""
    return re.compile(pattern)


def redact(text: str) -> str:
    """Replace the credentials in URLs, cookies, and the values of password, secret, token and key pairs by `***`."""
    if "://" in text:
        text = _compiled(_URL_CREDENTIALS).sub(rf"\1:{MASK}@", text)
        text = _compiled(_URL_TOKEN).sub(rf"\1{MASK}@", text)
    if "=" in text or ":" in text:
        text = _compiled(_COOKIE).sub(rf"\g<name>{MASK}", text)
        text = _compiled(_NAMED_SECRET).sub(rf"\g<name>{MASK}", text)
    return _compiled(_BEARER).sub(rf"\1 {MASK}", text) if " " in text else text


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Make text fit to be shown and sent: redacted, at most `limit` characters and a note, valid UTF-8.

    Args:
        text: Any string, lone surrogates and megabytes included.
        limit: How many characters are kept.
    """
    length = len(text)
    if length > 2 * limit:
        # Redaction sees twice what is kept, so that a password which the cut would halve is still recognised.
        text = text[: 2 * limit]
    text = redact(text)
    if length > limit:
        text = f"{text[:limit]}… ({length - limit} more characters)" if len(text) > limit else text
    return encodable(text)


def clean_again(text: str, limit: int = MAX_TEXT) -> str:
    """As `clean`, for text that may have been cut by it before: that is not cut once more, note and all."""
    return clean(text, limit if len(text) > limit + MAX_NOTE else limit + MAX_NOTE)


def encodable(text: str) -> str:
    """Write lone surrogates, which UTF-8 cannot express, as their escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(value: object) -> str:
    """`str(value)`, whatever its `__str__` does."""
    try:
        return str(value)
    # BaseException: an error's text must be had even from a `__str__` that exits.
    except BaseException as problem:
        return f"<{type(value).__name__} whose text cannot be had: {type(problem).__name__}>"


def repr_of(value: object, limit: int = 100) -> str:
    """`repr(value)` for an error's text: of bounded length, whatever its `__repr__` does.

    Args:
        value: Anything that somebody gave where it does not belong.
        limit: How many characters are kept; how many were cut off is said.
    """
    if isinstance(value, (str, bytes)) and len(value) > limit:
        return f"{value[:limit]!r}… ({len(value) - limit} more characters)"
    try:
        text = repr(value)
    # BaseException: an error's text must be had even from a `__repr__` that exits.
    except BaseException as problem:
        return f"<{type(value).__name__} whose text cannot be had: {type(problem).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"

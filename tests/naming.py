"""How the values that a test is repeated with are shown in its name."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """Its repr without the address: a test has the same name in every process, and on every run."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))

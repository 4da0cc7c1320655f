"""pika's log, as far as it comes from our connections.

pika writes a dozen records for each attempt to connect, most of them errors, some with a traceback. What they amount to
is an event of the system and one line of ours, so they are held back. Whoever wants to read them gives the logger
``understudy.broker.pika`` a level: from that level on they go where pika's own configuration sends them. What pika
says of anybody else's connections is left alone.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

SWITCH: Final = "understudy.broker.pika"

_ours: Final[set[int]] = set()
"""The threads of our loops: all that pika does for us it does there."""


class _Hush(logging.Filter):
    """Holds back what pika says on one of our threads."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is let through."""
        if threading.get_ident() not in _ours:
            return True
        level = logging.getLogger(SWITCH).level
        return level != logging.NOTSET and record.levelno >= level


_HUSH: Final = _Hush()


def begin() -> None:
    """This thread is one of ours from now on."""
    _ours.add(threading.get_ident())
    # A filter counts for the logger it stands at, not for those below it; pika has one in each module.
    for name in [name for name in logging.root.manager.loggerDict if name == "pika" or name.startswith("pika.")]:
        logging.getLogger(name).addFilter(_HUSH)


def end() -> None:
    """This thread ends; its number may be another's."""
    _ours.discard(threading.get_ident())

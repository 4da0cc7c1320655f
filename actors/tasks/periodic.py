"""Periodic tasks: what is enqueued again and again, and how that is shown."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ...messages.errors import ErrorKind, TaskError
from ...messages.tasks import RawTask, TaskOptions, TaskPayload
from .cron import Spec
from .following import FOLLOWING, step_of
from .options import plan, seconds_of

__all__ = ["Periodic", "go_duration", "option_texts"]


@dataclass(frozen=True)
class Periodic:
    """A task that is enqueued whenever its schedule says.

    Attributes:
        schedule: see ``Spec``: ``*/5 * * * *``, ``@hourly``, ``@every 30s``, ``CRON_TZ=Asia/Tokyo 0 9 * * *``.
        payload: what it is about.
        options: how it is to be processed; ``task_id`` would let only one of them exist at a time.

    Raises:
        SpecInvalid: the schedule cannot be read.
        TaskError: ``task.option.invalid``, ``task.type.invalid``.
        CodecError: the payload cannot be written as JSON.
    """

    schedule: str
    payload: TaskPayload[Any] | RawTask
    options: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        self.spec  # noqa: B018 -- read it once, to refuse it where it is declared
        plan(self.payload, self.options, 0.0)
        option_texts(self.options)

    @property
    def spec(self) -> Spec:
        """The schedule, read."""
        return Spec(self.schedule)

    @property
    def id(self) -> str:
        """The same for every scheduler that is given the same schedule, payload and options."""
        message = plan(self.payload, self.options, 0.0).message
        texts = sorted(option_texts(self.options))
        content = json.dumps([self.schedule, message.type, message.payload.hex(), texts]).encode()
        return str(uuid.UUID(bytes=hashlib.sha256(content).digest()[:16]))


def option_texts(options: Mapping[str, Any]) -> list[str]:
    """Options as asynq shows them, such as ``MaxRetry(3)`` and ``Timeout(30s)``."""
    texts: list[str] = []
    for name, value in options.items():
        title = "TaskID" if name == "task_id" else "".join(part.title() for part in name.split("_"))
        if name == "headers":
            texts += [f"Header({json.dumps([key, text], separators=(',', ':'))})" for key, text in value.items()]
        elif name in FOLLOWING:
            if value is not None:
                after = plan(*step_of(name, value), 0.0).message
                digest = hashlib.sha256(after.payload).hexdigest()[:8]
                texts.append(f"{title}({json.dumps(f'{after.type}/{digest}')})")
        elif name == "max_retry":
            texts.append(f"{title}({value})")
        elif name in ("deadline", "process_at"):
            try:
                at = value.astimezone(UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
            except (ValueError, OverflowError, OSError) as error:
                raise TaskError(
                    f"{name}={value!r:.200}: no calendar has that instant", kind=ErrorKind.TASK_OPTION_INVALID
                ) from error
            texts.append(f"{title}({at.strftime('%a %b')} {at.day:2} {at.strftime('%H:%M:%S %Z %Y')})")
        elif name in ("queue", "task_id", "group"):
            texts.append(f"{title}({json.dumps(value, ensure_ascii=False)})")
        else:
            texts.append(f"{title}({go_duration(seconds_of(name, value))})")
    return texts


def go_duration(seconds: float) -> str:
    """A duration as Go writes it: ``1m0s``, ``1h0m0.5s``, ``250ms``."""
    seconds = round(seconds, 9)  # Go has nanoseconds
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text

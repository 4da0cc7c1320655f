"""When a periodic task is due: cron expressions, ``@every``, and their short forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from ...messages.errors import ErrorKind, SpecInvalid

if TYPE_CHECKING:
    from cronsim import CronSim

__all__ = ["Spec"]

SHORT: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
LONGEST: Final = 2**63 // 10**9
"""Seconds that a duration of Go's can have."""
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{0,9})?)(ns|us|µs|ms|s|m|h)")
_ZONE: Final = re.compile(r"(?:CRON_)?TZ=(\S{1,64})\s+(.*)")


class Spec:
    """A schedule.

    Args:
        text: five fields of cron (``*/5 * * * *``), ``@hourly`` and the like, or ``@every 1h30m``; the first two may
            begin with ``CRON_TZ=Europe/Berlin``. Seconds of an ``@every`` are whole, at least one.
        zone: where neither says otherwise.

    Raises:
        SpecInvalid: ``config.task_processing.invalid``: it cannot be read, or is never due.
    """

    def __init__(self, text: str, zone: tzinfo = UTC) -> None:
        if not isinstance(text, str):
            raise _invalid(text, "it is no text")
        self.text = text
        rest = text.strip()
        found = _ZONE.fullmatch(rest)
        if found:
            try:
                zone, rest = ZoneInfo(found[1]), found[2]
            except (KeyError, ValueError, OSError) as error:
                raise _invalid(text, f"there is no time zone {found[1]!r}") from error
        self._zone = zone
        self._seconds = self._every(rest.removeprefix("@every ").strip()) if rest.startswith("@every ") else 0
        if not self._seconds and rest.startswith("@") and rest not in SHORT:
            raise _invalid(text, f"there are @every and {', '.join(SHORT)}")
        self._expression = SHORT.get(rest, rest)
        if not self._seconds:
            if len(self._expression.split()) != 5:
                raise _invalid(text, "give five fields: minute, hour, day of month, month, day of week")
            self.after(0.0)

    def after(self, moment: float) -> float:
        """The first instant later than ``moment`` at which it is due; both are unix seconds."""
        if self._seconds:
            # On the multiples of the interval, so that every scheduler comes to the same instants.
            return float((int(moment) // self._seconds + 1) * self._seconds)
        local = datetime.fromtimestamp(moment, UTC).astimezone(self._zone)
        try:
            return float(next(self._cron(local)).timestamp())
        except StopIteration:
            raise _invalid(self.text, "it is never due") from None

    def _cron(self, start: datetime) -> CronSim:
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            raise _invalid(self.text, "cron needs a library: pip install 'understudy[cron]'") from error
        try:
            return CronSim(self._expression, start)
        except CronSimError as error:
            raise _invalid(self.text, str(error)) from error

    def _every(self, duration: str) -> int:
        parts = _DURATION.findall(duration)
        if not parts or "".join(number + unit for number, unit in parts) != duration:
            raise _invalid(self.text, "give a duration such as 30s, 5m or 1h30m")
        try:
            seconds = int(sum(timedelta(seconds=float(number) * UNITS[unit]).total_seconds() for number, unit in parts))
        except OverflowError:
            seconds = LONGEST + 1
        if not 1 <= seconds <= LONGEST:
            raise _invalid(self.text, "give at least one second, and less than 292 years")
        return seconds


def _invalid(text: object, what: str) -> SpecInvalid:
    return SpecInvalid(
        f"schedule {text!r:.200}: {what}", kind=ErrorKind.TASK_PROCESSING_INVALID, field="schedule", value=text
    )

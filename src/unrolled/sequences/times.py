"""Times as cells of tables have them: told as they are written, with a word on what looks odd about them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from unrolled.sequences.names import is_gap

__all__ = ["oddity"]

CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)")


def oddity(times: Sequence[str]) -> str:
    """What is odd first about the times of a sequence's steps: one falls, or cannot be read; nothing for neither.

    Numbers are read, clocks (`9:30`, `75:00.5`, `09:30:00`), and dates, with a time or without, in ISO 8601. Only
    what is written alike is compared: `9:31` may be half past nine and a minute, or nine minutes and 31 seconds.
    """
    before, last = "", ("", 0.0)
    for step, time in enumerate(times):
        if is_gap(time):
            continue
        now = _moment(time)
        if now is None:
            return f"step {step}: the time {time!r} cannot be read"
        if now[0] == last[0] and now[1] < last[1]:
            return f"step {step}: the time {time!r} comes after {before!r}"
        before, last = time, now
    return ""


def _moment(time: str) -> tuple[str, float] | None:
    """How a time is written, and a number that grows with it among those written alike."""
    if clock := CLOCK.fullmatch(time):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return "h:m:s" if clock[1] else "a:b", 3600 * hours + 60 * minutes + seconds
    try:
        return "number", float(time)
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(time)
    except ValueError:
        return None
    return ("zoned", date.timestamp()) if date.tzinfo else ("date", date.replace(tzinfo=UTC).timestamp())

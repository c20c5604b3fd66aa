"""Times as cells of tables have them: numbers, times of day or of a clock that runs, dates."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["moment"]

CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)")


def moment(cell: Any) -> float | None:
    """A number that grows with the time that a cell says; None where it says none.

    A time is a number, a clock (`9:30`, `75:00.5`, `09:30:00`), or a date or a date and time in ISO 8601
    (`2026-11-30 09:30`). One without a zone is of UTC; cells of different kinds cannot be compared.
    """
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    text = str(cell).strip()
    if clock := CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return 3600 * hours + 60 * minutes + seconds
    try:
        number = float(text)
        return number if math.isfinite(number) else None
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()

"""What a cell of a table says of the time, in an order that can be compared."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest

from unrolled.tasks.label.times import moment


@pytest.mark.parametrize(
    "cells",
    [
        ["-1", "0", 2, " 3.5 ", "1e3"],
        ["9:30", "09:31", "10:00"],
        ["0:59.5", "59:59", "1:00:00", "25:00:00.25"],
        ["2026-11-30", "2026-11-30 09:30", "2026-11-30T09:30:00.5", "2026-11-30T09:30:00-02:00"],
        [date(2026, 1, 1), datetime(2026, 1, 1, 1), datetime(2026, 1, 1, 2, tzinfo=UTC)],
        [time(9, 30), time(9, 30, 1)],
        [timedelta(seconds=1), timedelta(days=2)],
    ],
)
def test_later_times_are_greater(cells: list[Any]) -> None:
    for one, other in pairwise(cells):
        now, then = moment(one), moment(other)
        assert now is not None and then is not None and now < then


@pytest.mark.parametrize("cell", ["noon", "", "nan", "inf", "9:3", "2026-13-01", "true", "1,5"])
def test_what_is_no_time_says_none(cell: str) -> None:
    assert moment(cell) is None

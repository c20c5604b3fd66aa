"""Where the times of a sequence look odd, which are told as they stand."""

import pytest

from unrolled.sequences.times import oddity


@pytest.mark.parametrize(
    "times",
    [
        ["-1", "0", "2", "3.5", "1e3"],
        ["9:30", "", "09:31", "na", "10:00"],
        ["0:59.5", "59:59", "1:00:00", "25:00:00.25"],
        ["9:30:30", "9:31"],
        ["2026-11-30", "2026-11-30 09:30", "2026-11-30T09:30:00.5"],
        ["2026-11-30T09:30:00+02:00", "2026-11-30T08:00:00Z"],
        ["2026-10-25T02:59:00+02:00", "2026-10-25T02:00:00+01:00"],
        ["2026-10-25 12:00", "7:00", "3"],
    ],
)
def test_times_that_grow_are_not_odd(times: list[str]) -> None:
    assert oddity(times) == ""


@pytest.mark.parametrize(
    "times",
    [["2", "1"], ["23:59", "", "00:00"], ["2026-10-25 02:59", "2026-10-25 02:00"], ["1:00:00", "0:59:59"]],
)
def test_times_that_fall_are_odd(times: list[str]) -> None:
    step = len(times) - 1
    assert oddity([*times, "noon"]) == f"step {step}: the time {times[-1]!r} comes after {times[0]!r}"


@pytest.mark.parametrize(
    "time",
    ["noon", "9:3", "9:30 PM", "2026-11", "2026-11-30 9:30", "30.11.2026", "11/30/2026 9:30 AM", "2026-13-01"],
)
def test_times_that_cannot_be_read_are_odd(time: str) -> None:
    assert oddity(["", time]) == f"step 1: the time {time!r} cannot be read"

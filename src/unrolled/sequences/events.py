"""Events over time: read from the CSV beside a film, as the steps of a labelling, and back.

Times are in seconds, or in steps where there are one a second. This file knows no film.
"""

import colorsys
import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from unrolled.errors import InputError
from unrolled.texts import text_of

__all__ = ["Event", "colour", "label_steps", "read_events", "steps_to_events"]

COLUMNS = ("start", "end", "event")
SHADES = ((0.8, 0.95), (0.8, 0.55), (0.5, 0.9))  # saturation and value of colours, in turn


@dataclass(frozen=True)
class Event:
    """What happens from `start` to `end`, in seconds."""

    start: float
    end: float
    name: str


def read_events(path: Path) -> list[Event]:
    """The events of a CSV file with the columns start, end (seconds) and event, in order of time.

    Raises `InputError` for a missing file or column, a time that is not a number, an event that ends before it
    starts, and two at one time.
    """
    events: list[Event] = []
    try:
        text = text_of(path.read_bytes(), str(path))
        rows = csv.DictReader(io.StringIO(text, newline=""))
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}, expected {','.join(COLUMNS)} in line 1.")
        for row in rows:
            events.append(_event(row, f"{path}, line {rows.line_num}"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; expected the events of the film, {','.join(COLUMNS)}."
        ) from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}.") from error
    events.sort(key=lambda event: event.start)
    for one, other in pairwise(events):
        if other.start < one.end - 1e-9:
            raise InputError(
                f"{path}: {other.name!r} starts at {other.start:g} s, before {one.name!r} ends at {one.end:g} s; "
                "expected one event at a time."
            )
    return events


def _event(row: dict[str, Any], where: str) -> Event:
    times = []
    for name in COLUMNS[:2]:
        try:
            times.append(float(row[name]))
        except (TypeError, ValueError):
            times.append(math.nan)
        if not math.isfinite(times[-1]):
            raise InputError(f"{where}: {name} is {row[name]!r}, expected a number of seconds.")
    if not 0 <= times[0] < times[1]:
        raise InputError(f"{where}: from {times[0]:g} to {times[1]:g} s, expected a start before the end.")
    if not row["event"]:
        raise InputError(f"{where}: no event, expected its name.")
    return Event(times[0], times[1], row["event"])


def label_steps(events: Sequence[Event], path: Path, steps: int, fps: float, background: str) -> list[str]:
    """The event at each step, `background` where there is none; raises `InputError` for one past the end.

    `path` is the file that they were read from.
    """
    labels = [background] * steps
    for event in events:
        if event.start * fps >= steps + fps:
            raise InputError(
                f"{path}: {event.name!r} starts at {event.start:g} s, but the film ends at {steps / fps:g} s; "
                "expected its events alone."
            )
        first, last = (math.ceil(time * fps - 1e-6) for time in (event.start, event.end))
        for step in range(first, min(last, steps)):
            labels[step] = event.name
    return labels


def steps_to_events(labels: Iterable[str], fps: float) -> Iterator[Event]:
    """The events of a labelling, each as soon as it has ended."""
    start, before = 0, ""
    step = -1
    for step, label in enumerate(labels):
        if step > start and label != before:
            yield Event(start / fps, step / fps, before)
            start = step
        before = label
    if step >= 0:
        yield Event(start / fps, (step + 1) / fps, before)


def colour(number: int) -> tuple[int, int, int]:
    """The colour of an event by its number: among twenty far from all others, the same everywhere."""
    saturation, value = SHADES[number % len(SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)

"""What a label model finds, told: a row for each event or step, a film with a ribbon, a picture of it all."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled import plots
from unrolled.errors import InputError
from unrolled.results import Output
from unrolled.sequences import Series, films
from unrolled.sequences.events import Event, steps_to_events
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import by_name, cell
from unrolled.sequences.options import TellOptions
from unrolled.sequences.times import oddity
from unrolled.settings import setting
from unrolled.tasks.label import ribbons
from unrolled.tasks.label.ribbons import Ribbons

__all__ = ["EventOptions", "Step", "Telling"]


@dataclass(frozen=True)
class EventOptions(TellOptions):
    """How a label model tells what it finds."""

    every: bool = setting(False, "A row for every step, instead of one for every event.")
    offline: bool | None = setting(
        None,
        "Read whole sequences in both directions.",
        default_help="live for films, else as the model was trained",
    )
    video: str | None = setting(None, "Write the film with a ribbon of its events to this .mp4 file.")


class Step(NamedTuple):
    """What a model says of one step: its event, and how likely each of its events is, [classes]."""

    event: str
    probabilities: NDArray[np.float64]


class Telling:
    """How the sequences of so many `inputs` are told, as `options` have it.

    Raises `InputError` for options that do not go with the inputs, or with a model of this `kind`.
    """

    def __init__(
        self, kind: str, layout: Layout, classes: Sequence[str], options: EventOptions, inputs: int
    ) -> None:
        if options.video and inputs != 1:
            raise InputError(f"{inputs} inputs, expected one for --video.")
        if options.plot and inputs > ribbons.MOST:
            raise InputError(f"{inputs} inputs; --plot draws at most {ribbons.MOST} sequences.")
        if options.plot:
            plots.check_name(Path(options.plot))
        if options.video and kind != "films":
            raise InputError(f"--video needs a film, but the model reads {kind}.")
        if options.video:
            films.check_name(Path(options.video))
        if options.plot and kind == "words":
            raise InputError("--plot draws events over time, but the model reads words.")
        if options.time and kind != "numbers":
            raise InputError(f"--time names a column of a table, but the model reads {kind}.")
        self._of_films = kind == "films"
        self._rate = layout.fps if self._of_films else 1.0  # steps a second, where times are in seconds
        self._background = layout.background
        self._classes, self._options = classes, options
        self._drawn: list[Ribbons] = []
        self._warned = False  # of times that are odd

    def check(self, given: str, found: Sequence[Series]) -> None:
        """Raise `InputError` for sequences of the input `given` that the options do not go with."""
        if self._options.time and found[0].times is None:
            raise InputError(f"{given} has no columns with names, expected a table for --time.")
        if self._options.video and len(found) != 1:
            raise InputError(f"{given} has {len(found):,} sequences, expected one for --video.")
        if self._options.plot and len(self._drawn) + len(found) > ribbons.MOST:
            raise InputError(
                f"{given} has {len(found):,} sequences; --plot draws at most {ribbons.MOST} of all inputs."
            )

    def events(self, labels: Iterable[str]) -> list[Event]:
        """The events of a sequence, in seconds for a film, else in steps."""
        return list(steps_to_events(labels, self._rate))

    def told(
        self,
        name: str,
        steps: Iterable[Step],
        truth: Sequence[Event] | None = None,
        times: Sequence[str] | None = None,
    ) -> Iterator[Output]:
        """The rows of one sequence, as its steps come; then its film with a ribbon is written, if that is wanted.

        `truth` has the events as they were, for `draw`, and `times` the time of each step, where it is to be told
        as well. What is odd about times is said on standard error, once.
        """
        if not self._warned and (odd := oddity(times or ())):
            print(f"unrolled: {name}, {odd}; times are told as they stand.", file=sys.stderr)
            self._warned = True
        options = self._options
        kept: list[Event] = []
        columns = ["start", "end", "event", *(["start_time", "end_time"] if times else [])]
        if options.every:  # of a film the time in seconds, as nothing else tells it
            columns = ["time", "event"] if self._of_films else ["step", "event", *(["time"] if times else [])]
        heading = f"# {name}\n{','.join(columns)}\n"

        def output(values: Sequence[float], said: Step) -> Output:
            whole = list(map(round, values))
            at = [times[min(step, len(times) - 1)] for step in whole] if times else []
            told = values if self._of_films else whole
            cells = [*map(_written, told), cell(said.event), *map(cell, at)]
            record = dict(zip(columns, [*told, said.event, *at], strict=True))
            likely = by_name(self._classes, said.probabilities)
            return Output(heading + ",".join(cells), {"sequence": name, **record, "probabilities": likely})

        for values, said in self._rows(steps, kept):
            yield output(values, said)
            heading = ""
        if options.video:
            films.write_with_ribbon(Path(name), Path(options.video), kept, self._classes)
        if options.plot:
            self._drawn.append((name, {"truth": truth, "model": kept} if truth is not None else {"model": kept}))

    def _rows(self, steps: Iterable[Step], kept: list[Event]) -> Iterator[tuple[Sequence[float], Step]]:
        """The times and what is said of each row: of every step or, in the mean, of the steps of every event, as
        soon as it has ended; `kept` gets the events.
        """
        if not self._options.every:
            end = 0
            for event, course in groupby(steps, attrgetter("event")):
                start, total = end, np.zeros(len(self._classes))
                for step in course:
                    total += step.probabilities
                    end += 1
                kept.append(Event(start / self._rate, end / self._rate, event))
                yield [start / self._rate, end / self._rate], Step(event, total / (end - start))
            return
        said: list[str] = []
        for number, step in enumerate(steps):
            said.append(step.event)
            yield [number / self._rate], step
        kept += self.events(said)

    def draw(self) -> None:
        """Draw the ribbons of all sequences, if that is wanted; other names than the model's have colours too."""
        if not self._options.plot:
            return
        said = {event.name for _, rows in self._drawn for events in rows.values() for event in events}
        names = [*self._classes, *sorted(said - set(self._classes))]
        unit = "seconds" if self._of_films else "steps"
        # What the table of a film's events does not name, or a step whose event is not known.
        blank = self._background if self._of_films else ""
        ribbons.draw(Path(self._options.plot), self._drawn, names, unit, blank)


def _written(number: float) -> str:
    """A step or a time in seconds, with no exponent however many there are."""
    return f"{number:.6f}".rstrip("0").rstrip(".")

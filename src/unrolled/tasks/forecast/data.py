"""Courses of numbers to train on and courses held out, and how their files are read."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unrolled import kinds, sequences
from unrolled.architecture import MOST_LAYERS
from unrolled.errors import InputError, counted
from unrolled.examples import Refused, divide
from unrolled.floats import Floats
from unrolled.recipe import longest_gap
from unrolled.sequences import Series
from unrolled.sequences.categories import spread
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import parted
from unrolled.sequences.options import SequenceOptions
from unrolled.settings import setting
from unrolled.tasks.forecast import delayed
from unrolled.tasks.forecast.plan import Plan

if TYPE_CHECKING:
    from unrolled.tasks.forecast.model import ForecastModel

__all__ = ["Course", "Data", "ForecastOptions", "courses", "divided", "fingerprint", "found_in", "steps_known"]

AHEAD = 1


@dataclass(frozen=True)
class ForecastOptions(SequenceOptions):
    """What a forecast model is and how its sequences are read."""

    split: float = setting(
        0.9,
        "Fraction of the sequences, or of the steps of a single one, to train on; the rest is held out.",
        above=0,
        below=1,
    )
    target: str | None = setting(
        None,
        "Columns to forecast, written as for --ignore; of arrays their places, from 0. Without it all of numbers.",
        several=True,
    )
    ahead: int | None = setting(
        None,
        "Forecast the number that comes this many steps later. With 0 it is the step's own, and its column is not "
        "read: it may be missing from new data.",
        at_least=0,
        default_help=f"{AHEAD}, of arrays with targets 0",
    )
    cell: str = setting("lstm", kinds.HELP, unmet=kinds.unmet, heading="Model")
    hidden: int = setting(64, "Hidden units in each layer.", at_least=1)
    layers: int = setting(1, "Recurrent layers.", at_least=1, below=MOST_LAYERS + 1)
    longest_gap: int | None = longest_gap()
    dropout: float = setting(
        0.2, "Dropout between layers and before the head.", at_least=0, below=1, heading="Regularisation"
    )
    noise: float = setting(0.0, "Noise added to what is read, in standard deviations.", at_least=0)
    window: int = setting(256, "Train on pieces of at most this many steps.", at_least=1, heading="Training")
    keep: str = setting(
        "best", "Weights to keep: the best on what is held out, or the last.", choices=("best", "last")
    )


@dataclass(frozen=True)
class Course:
    """One sequence: the numbers that are read, `inputs` [T, D], and what is to be forecast at each step, `targets`
    [T, K], NaN where that is not known or does not count. `times` are what a table says of the time of each step.
    """

    name: str
    inputs: Floats
    targets: Floats
    times: Sequence[str] | None = None


def found_in(paths: Sequence[str | Path], layout: Layout, refused: Refused, labelled: bool = True) -> list[Series]:
    """The sequences of numbers in `paths`; raises `InputError` for files of another kind, before they are read.

    Where not `labelled`, a table may lack the column that tells sequences apart.
    """
    for source in sequences.sources(paths):
        if source.kind != "numbers":
            raise InputError(f"{source.path} has {source.kind}, expected tables or arrays of numbers.")
    return sequences.read(paths, layout, refused, labelled)[1]


def courses(found: Iterable[Series], plan: Plan) -> list[Course]:
    """The sequences as a model of this plan reads them; raises `InputError` for one of another width.

    One may lack the targets, where these are not read.
    """
    made = []
    for one in found:
        width = one.inputs.shape[1]
        if width == len(plan.columns):
            inputs, numbers = (
                one.inputs[:, plan.read],
                one.inputs[:, [plan.columns.index(t) for t in plan.targets]],
            )
        elif width == len(plan.read):
            inputs, numbers = one.inputs, np.full((len(one.inputs), len(plan.targets)), np.nan, np.float32)
        else:
            raise InputError(
                f"{one.name} has {counted(width, 'number')} a step, but the model reads {len(plan.read)}."
            )
        targets = np.full_like(numbers, np.nan)
        targets[: max(0, len(numbers) - plan.ahead)] = numbers[plan.ahead :]
        made.append(Course(one.name, inputs, targets, one.times))
    return made


def divided(found: Sequence[Course], ahead: int, split: float, seed: int) -> tuple[list[Course], list[Course]]:
    """What to train on and what to hold out: sequences by chance, or the end of a single one.

    Sequences with nothing to forecast are left out. What is held out of a single one begins as that does, and only
    its end counts.
    """
    found = _with_targets(found)
    if not found:
        return [], []
    if len(found) > 1:
        train, held = divide(len(found), split, seed)
        return [found[n] for n in train], [found[n] for n in held]
    (one,) = found
    cut = round(split * len(one.inputs))
    before = np.arange(len(one.inputs))[:, None] < cut - ahead
    early, late = (np.where(part, one.targets, np.float32(np.nan)) for part in (before, ~before))
    times = None if one.times is None else one.times[:cut]
    return [Course(one.name, one.inputs[:cut], early[:cut], times)], [replace(one, targets=late)]


def _with_targets(found: Iterable[Course]) -> list[Course]:
    """Those with something to forecast."""
    return [one for one in found if not np.isnan(one.targets).all()]


def steps_known(found: Iterable[Course]) -> int:
    """At how many steps something that is to be forecast is known."""
    return sum(int((~np.isnan(one.targets)).any(1).sum()) for one in found)


class Data:
    """The sequences of files (without: a built-in series), divided as `options` say.

    With a model to `start` from, they must have its columns. What cannot be used goes to `refused`; raises
    `InputError` where nothing is left to train on, or to hold out.
    """

    def __init__(
        self,
        options: ForecastOptions,
        paths: Sequence[str | Path],
        seed: int,
        start: "ForecastModel | None" = None,
    ) -> None:
        self.names = [str(path) for path in paths] or [delayed.NAME]
        self.refused = Refused(options.skip_bad)
        where = ", ".join(self.names)
        layout = options.layout_of(() if start else paths)
        if start:
            had = start.plan.layout
            layout = replace(layout, features=had.features, categories=had.categories)
            self.plan = replace(start.plan, layout=layout)
        read = self.plan.whole if start else layout
        series = found_in(paths, read, self.refused) if paths else delayed.series()
        if not start:
            self.plan = _plan(options, layout, series[0], where, bool(paths))
        found = courses(series, self.plan)
        if options.held_out is None:
            self.train, self.held_out = divided(found, self.plan.ahead, options.split, seed)
        else:
            self.train = found
            self.held_out = courses(found_in([options.held_out], self.plan.whole, self.refused), self.plan)
        self.train, self.held_out = _with_targets(self.train), _with_targets(self.held_out)
        later = f" {counted(self.plan.ahead, 'step')} later" if self.plan.ahead else ""
        for left, use in ((self.train, "train on"), (self.held_out, "hold out")):
            if not left:
                raise InputError(
                    f"{where}: nothing is left to {use}, expected steps with a number to forecast{later}."
                )

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What was trained on and what was held out: SHA-256 of each."""
        return {"data": fingerprint(self.train), "held_out_data": fingerprint(self.held_out)}


def _plan(options: ForecastOptions, layout: Layout, first: Series, where: str, given: bool) -> Plan:
    """What is to be forecast of data whose first sequence is this one; raises `InputError` as `Plan.of` does."""
    wanted, usual = parted(options.target or ""), AHEAD if given else delayed.AHEAD
    columns = spread(first.features, layout.categories)
    if not columns:
        columns = [str(place) for place in range(first.inputs.shape[1] - first.targets)]
    if first.targets:
        if wanted:
            raise InputError(f"{where}: there are targets beside the inputs, expected no --target.")
        wanted = tuple(f"target {place}" if first.targets > 1 else "target" for place in range(first.targets))
        columns, usual = [*columns, *wanted], 0
    ahead = usual if options.ahead is None else options.ahead
    return Plan.of(replace(layout, features=first.features), columns, wanted, ahead, where)


def fingerprint(found: Sequence[Course]) -> str:
    """SHA-256 over what is read and what is to be forecast of all sequences."""
    digest = hashlib.sha256()
    for one in found:
        digest.update(f"{one.inputs.shape}{one.targets.shape}".encode())
        digest.update(np.ascontiguousarray(one.inputs).tobytes())
        digest.update(np.ascontiguousarray(one.targets).tobytes())
    return digest.hexdigest()

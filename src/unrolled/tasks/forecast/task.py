"""The forecast task: of a sequence of numbers, those that come some steps later. Nothing here needs torch but
`ForecastTask.build`.
"""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import sequences, whereabouts
from unrolled.architecture import ForecastArchitecture
from unrolled.errors import InputError, counted
from unrolled.examples import pad
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.results import Evaluation, Table
from unrolled.sequences.names import cell, listed
from unrolled.sequences.numbers import held
from unrolled.tasks.forecast.data import Course, Data, ForecastOptions, steps_known
from unrolled.tasks.forecast.lags import Fit, Lags, fitted
from unrolled.tasks.forecast.model import ForecastModel
from unrolled.tasks.forecast.scale import pressed

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["ForecastTask"]

Batch = dict[str, NDArray[Any]]
Pair = tuple[Floats, Floats]
BEGUN_ANEW = 0.1  # of the pieces, before which there is nothing: else a model forecasts only what has a past
ENCODING = ("mean", "deviation", "target_mean", "target_deviation")


class ForecastTask:
    """Train a model that forecasts numbers, each with a likely range (without DATA: those of a chaotic series).

    DATA is tables (.csv or .tsv, gzipped or not, .parquet), or .npy, .npz or .mat arrays. Of a single sequence the
    end is held out.
    """

    name: ClassVar[str] = "forecast"
    example: ClassVar[str] = "power.csv --target load --ahead 24 --ignore when"
    Options: ClassVar[type[Any]] = ForecastOptions
    Model: ClassVar[type[Any]] = ForecastModel
    defaults: ClassVar[dict[str, Any]] = {"steps": 600, "batch": 16}
    changeable: ClassVar[frozenset[str]] = frozenset({"sequence", "ignore", "missing"})
    ready: ClassVar[bool] = True

    def __init__(
        self,
        options: ForecastOptions,
        paths: Sequence[str | Path] = (),
        seed: int = 0,
        start: "Start | None" = None,
    ) -> None:
        self.options = options
        self.seed = seed
        self.start = start
        self.data = Data(options, paths, seed, start.model if start else None)
        known = start.model.file.encoding if start else self._measured()
        self._encoding: dict[str, Any] = {name: known[name] for name in ENCODING}
        pairs = [self._encoded(one) for one in self.data.train]
        places = self.data.plan.places
        self._fit: Fit | None = None
        if start and "lags.weight" in start.model.file.tensors:
            weight, bias = (start.model.file.tensors[f"lags.{name}"] for name in ("weight", "bias"))
            self._fit = Fit(weight, bias, np.ones_like(bias))
        elif self.data.plan.ahead:
            self._fit = fitted([(inputs[:, places], targets) for inputs, targets in pairs])
        self._train = [self._whole(*pair) for pair in pairs]
        self._starts = [_starts(targets, options.window) for _, targets in self._train]
        self._ends = np.cumsum([len(starts) for starts in self._starts])

    def _measured(self) -> dict[str, Any]:
        """The mean and the deviation of what is read and of what is forecast, in the training data."""
        data, plan = self.data, self.data.plan
        read = [plan.columns[place] for place in plan.read]
        of_inputs = np.array([column not in plan.layout.categories for column in read])
        measured: dict[str, Any] = {}
        for prefix, names, parts in (
            ("", read, [one.inputs for one in data.train]),
            ("target_", list(plan.targets), [one.targets for one in data.train]),
        ):
            steps = np.concatenate(parts).astype(np.float64)
            if len(empty := np.flatnonzero(np.isnan(steps).all(0))):
                missing = [names[place] for place in empty]
                hint = f"; --ignore {shlex.quote(','.join(map(cell, missing)))} leaves out what has no numbers"
                raise InputError(
                    f"{', '.join(data.names)}: column {missing[0]!r} has no number to learn from, expected at "
                    f"least one{hint if plan.of_names else ''}."
                )
            counts = of_inputs if not prefix else np.ones(len(names), bool)
            deviation = np.nanstd(steps, 0)
            measured[f"{prefix}mean"] = np.where(counts, np.nanmean(steps, 0), 0.0).tolist()
            measured[f"{prefix}deviation"] = np.where(counts & (deviation > 0), deviation, 1.0).tolist()
        for k, place in enumerate(plan.places):  # of one scale, so that a number stands for itself
            if place >= 0:
                for name in ("mean", "deviation"):
                    measured[f"target_{name}"][k] = measured[name][place]
        return measured

    @staticmethod
    def files(path: str | Path) -> Sequence[Path]:
        """The files of sequences that `path` is read as."""
        return [source.path for source in sequences.sources([path])]

    @property
    def architecture(self) -> ForecastArchitecture:
        """The model's sizes."""
        o, plan = self.options, self.data.plan
        return ForecastArchitecture(
            inputs=len(plan.read),
            targets=len(plan.targets),
            lags=self._fit.weight.shape[1] if self._fit else 0,
            cell=o.cell,
            hidden=o.hidden,
            layers=o.layers,
        )

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """How sequences are read, and the model's sizes."""
        of_tables = ("target", "ahead", "sequence", "ignore", "category", "missing")
        return file.had(*of_tables, "cell", "hidden", "layers", "longest_gap")

    def build(self) -> "torch.nn.Module":
        """A `ForecastNetwork` with fresh weights."""
        from unrolled.models.forecast import ForecastNetwork

        o = self.options
        return ForecastNetwork(self.architecture, self._fit, o.dropout, o.longest_gap)

    def _encoded(self, course: Course) -> tuple[Floats, Floats]:
        """What is read, [T, D], and what is to be forecast, [T, K], as the network has them."""
        mean, deviation, target_mean, target_deviation = (
            np.array(self._encoding[name], np.float32) for name in ENCODING
        )
        inputs = held(pressed(course.inputs, mean, deviation), np.zeros_like(mean))
        return inputs, pressed(course.targets, target_mean, target_deviation)

    def _whole(self, inputs: Floats, targets: Floats) -> Pair:
        """The same with the linear forecast after what is read, if there is one: [T, D + K]."""
        if self._fit:
            linear = Lags(self._fit.weight, self._fit.bias).whole(inputs[:, self.data.plan.places])
            inputs = np.concatenate([inputs, linear], axis=1)
        return inputs, targets

    def batch(self, step: int) -> Batch:
        """inputs [T, B, D + K], lengths [B], targets [T, B, K]: pieces that begin anywhere."""
        rng = np.random.default_rng([self.seed, step])
        pieces: list[Pair] = []
        for place in rng.integers(self._ends[-1], size=self.options.batch):
            number = int(np.searchsorted(self._ends, place, "right"))
            start = self._starts[number][place - self._ends[number]]  # counted from the end of its sequence's
            inputs, targets = (one[start : start + self.options.window] for one in self._train[number])
            if rng.random() < BEGUN_ANEW:
                inputs, targets = self._whole(inputs[:, : len(self.data.plan.read)], targets)
            pieces.append((inputs, targets))
        batch = _gathered(pieces)
        if self.options.noise:
            read = batch["inputs"][..., : len(self.data.plan.read)]
            read += rng.normal(0, self.options.noise, read.shape).astype(np.float32)
        return batch

    @cached_property
    def _held_out(self) -> list[tuple[Batch, int]]:
        ordered = sorted(self.data.held_out, key=lambda one: len(one.inputs))
        size = self.options.batch
        parts = [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
        batches = [_gathered([self._whole(*self._encoded(one)) for one in part]) for part in parts]
        return [(batch, int((~np.isnan(batch["targets"])).sum())) for batch in batches]

    def held_out(self) -> list[tuple[Batch, int]]:
        """The held-out sequences by length, whole; none where the last weights are to be kept."""
        return self._held_out if self.options.keep == "best" else []

    def settings(self) -> dict[str, Any]:
        """The options and the fingerprints of the data."""
        return {**asdict(self.options), **self.data.fingerprints}

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        left_out = len(self.data.refused.reasons)
        names = [self.data.held_out[0].name, *self.data.names]
        example = next((name for name in names if Path(name).exists()), None)
        further = {"left_out": left_out, "example": example, **self.settings(), **training}
        document = {**whereabouts.kept(self.data.names), **further}
        return ModelFile(
            self.name, self.architecture, {**self.data.plan.to_json(), **self._encoding}, document, tensors
        )

    def report(self, model: ForecastModel) -> Evaluation:
        """The errors on what was held out, beside those of simple forecasts."""
        data, reads = self.data, model.reads()
        measured = model.measure(data.held_out)
        rows = [
            [name, listed(list(one)) if isinstance(one, list | dict) else str(one)]
            for name, one in reads.items()
            if one
        ]
        sizes = [["trained on", _size(data.train)], ["held out", _size(data.held_out)]]
        used = Table(["the data", ""], [*sizes, *rows])
        trained_on = {"sequences": len(data.train), "steps": steps_known(data.train)}
        further = {"trained_on": trained_on, "reads": reads, "left_out": len(data.refused.reasons)}
        return replace(
            measured,
            figures={**measured.figures, **further},
            tables=[used, *measured.tables],
            shown=model.show(data.held_out[0]),
        )


def _starts(targets: Floats, window: int) -> NDArray[np.int64]:
    """Where the pieces of a sequence begin that have a window's length, or all it has, and a known target."""
    known = np.concatenate([[0], np.cumsum(~np.isnan(targets).all(1))])
    begin = np.arange(max(1, len(targets) - window + 1))
    return np.flatnonzero(known[np.minimum(begin + window, len(targets))] > known[begin])


def _gathered(pieces: Sequence[Pair]) -> Batch:
    """Several sequences as one batch."""
    inputs, lengths = pad([inputs for inputs, _ in pieces])
    return {"inputs": inputs, "lengths": lengths, "targets": pad([targets for _, targets in pieces], np.nan)[0]}


def _size(part: Sequence[Course]) -> str:
    return f"{counted(len(part), 'sequence')}, {counted(steps_known(part), 'step')} with a number to forecast"

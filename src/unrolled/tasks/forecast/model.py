"""A finished forecast model: it forecasts courses of numbers, live ones too, and measures itself."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import sequences, whereabouts
from unrolled.causal import Causal
from unrolled.errors import InputError, counted
from unrolled.examples import Refused
from unrolled.floats import Floats
from unrolled.modelfile import Loaded, ModelFile
from unrolled.network import Network
from unrolled.piping import Streams
from unrolled.results import Evaluation, Output
from unrolled.sequences.numbers import held
from unrolled.sequences.options import TellOptions
from unrolled.sequences.rows import Rows, of_rows
from unrolled.stream import Stream
from unrolled.tasks.forecast import delayed, scores
from unrolled.tasks.forecast.data import Course, courses, divided, fingerprint, found_in, steps_known
from unrolled.tasks.forecast.plan import Plan
from unrolled.tasks.forecast.scale import Scale
from unrolled.tasks.forecast.streamed import Forecast, LaggedSteps, Quantiles, Spoken, shown
from unrolled.tasks.forecast.telling import Telling, record

__all__ = ["ForecastModel"]

SHOWN = 8  # steps


class ForecastModel(Loaded):
    """A trained forecast model: `forecast` says of each step what comes later, `stream` as steps come.

    Raises `InputError` for a file whose encoding is not that of a forecast model, or does not fit.
    """

    RunOptions: ClassVar[type[Any]] = TellOptions

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file)
        sizes = file.architecture
        try:
            self.plan = Plan.from_json(file.encoding)
            _check(file.encoding, sizes.inputs, sizes.targets)
            self._scale = Scale(file.encoding)
            self._steps = LaggedSteps(file, self.plan.places)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"its encoding is not that of a forecast model: {error}.") from error
        if (len(self.plan.read), len(self.plan.targets)) != (sizes.inputs, sizes.targets):
            raise InputError(
                f"it reads {len(self.plan.read)} numbers a step and forecasts {len(self.plan.targets)}, but the "
                f"architecture has {sizes.inputs} and {sizes.targets}."
            )

    def reads(self) -> dict[str, Any]:
        """What it reads and what it forecasts, as it was trained; of a table, the columns in order."""
        plan, layout = self.plan, self.plan.layout
        found: dict[str, Any] = {}
        if plan.of_names:
            found = {"columns": list(layout.features), "sequence": layout.sequence}
            found |= {"categories": layout.categories} if layout.categories else {}
        return {**found, "targets": list(plan.targets), "ahead": plan.ahead, "missing": layout.missing}

    @cached_property
    def causal(self) -> Causal:
        """The model as a stream sees it."""
        network, reader = Network(self.file), Spoken(self.plan.targets)
        tail = Quantiles(self.file, self._scale)
        return Causal(self.file.fingerprint(), self._steps, [network], network.outputs, reader, tail)

    def stream(self) -> Stream:
        """A new stream: its outputs [3 K] are the medians, then the lower and the upper ends of the ranges."""
        return Stream(self)

    def forecast(self, inputs: Any) -> Forecast:
        """What comes `plan.ahead` steps after each step of a sequence of numbers [T, D], in the data's units.

        Of each target the median and the range, [T, K] each, by the steps up to it. Raises `InputError` for inputs
        that are not what the model reads.
        """
        return Forecast.of(self.stream().feed(inputs))

    def piped(
        self, streams: Streams, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """The forecast after each row of `source`: see `unrolled.piping.PipedModel`."""
        rows = Rows(self.plan.layout, self.file.architecture.inputs)
        return of_rows(rows, self._told, streams, source, refused)

    def _told(self, outputs: Floats, said: str) -> tuple[Sequence[str], dict[str, Any]]:
        numbers = Forecast.of(outputs)
        cells = [shown(float(one)) for of_target in zip(*numbers, strict=True) for one in of_target]
        return cells, {"forecast": record(self.plan.targets, *numbers)}

    def read(
        self, paths: Iterable[str | Path], refused: Refused, known: bool = True, time: str | None = None
    ) -> list[Course]:
        """Sequences from files, as this model takes them; raises `InputError` for others.

        Where `known`, they must have what is to be forecast. `time` names the column of a table that has the time
        of each step.
        """
        layout = replace(self.plan.whole if known else self.plan.layout, time=time)
        return courses(found_in(list(paths), layout, refused, known), self.plan)

    def measure(self, found: Sequence[Course]) -> Evaluation:
        """The errors on courses whose numbers are known, beside those of simple forecasts.

        One of these is the linear one that the recurrent layers add to. Raises `InputError` where no step has a
        number to forecast.
        """
        if not steps_known(found):
            later = f" {counted(self.plan.ahead, 'step')} later" if self.plan.ahead else ""
            raise InputError(
                f"{found[0].name}: expected steps whose number to forecast{later} is known, found none."
            )
        ways: dict[str, Callable[[Floats], NDArray[np.float64]]] = {
            "mean": lambda inputs: np.tile(self._scale.mean, (len(inputs), 1))
        }
        sizes = self.file.architecture
        if sizes.lags:
            ways |= {"last": self._last, "linear": self._linear}
        true = np.concatenate([one.targets for one in found]).astype(np.float64)
        of_each = {
            name: scores.score(true, np.concatenate([way(one.inputs) for one in found]))
            for name, way in ways.items()
        }
        said = [
            np.concatenate(parts).astype(np.float64)
            for parts in zip(*(self.forecast(one.inputs) for one in found), strict=True)
        ]
        of_each["model"] = scores.score(true, *said)
        linear = f"linear, of the last {sizes.lags:,}" if sizes.lags > 1 else "linear"
        names = {"mean": "the mean", "last": "the last number", "linear": linear, "model": f"this {sizes.cell}"}
        measured = scores.evaluation(of_each, names, self.plan.targets, self.plan.ahead)
        counts = {"sequences": len(found), "steps": steps_known(found)}
        return replace(measured, figures={**counts, **measured.figures})

    def _last(self, inputs: Floats) -> NDArray[np.float64]:
        """The last number of each target that was there, [T, K]; before any, the mean."""
        return held(inputs[:, self.plan.places], self._scale.mean.astype(np.float32)).astype(np.float64)

    def _linear(self, inputs: Floats) -> NDArray[np.float64]:
        """The linear forecast, [T, K]."""
        steps, _ = self._steps.run(inputs, np.array([len(inputs)]), np.zeros(1, np.dtype([*self._steps.fields])))
        return self._scale.released(steps[:, -len(self.plan.targets) :])

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """The errors on sequences in files (default: on what was held out); see `measure`."""
        return self.measure(self.read(paths, Refused()) if paths else self.held_out())

    def held_out(self) -> list[Course]:
        """What was held out, read again from where it was; raises `InputError` if it is no longer the same."""
        training, plan = self.file.training, self.plan
        refused = Refused(training["skip_bad"])
        if training["held_out"] is not None:
            paths = whereabouts.found(self.file, [training["held_out"]])
            held = self.read(paths, refused)
        else:
            paths = whereabouts.data(self.file, delayed.NAME)
            found = self.read(paths, refused) if paths else courses(delayed.series(), plan)
            held = divided(found, plan.ahead, training["split"], training["seed"])[1]
        held = [one for one in held if not np.isnan(one.targets).all()]
        if fingerprint(held) != training["held_out_data"]:
            given = ", ".join(map(str, paths)) or delayed.NAME
            raise InputError(f"{given}: not the data that the model was trained with; name DATA to measure on.")
        return held

    def run(self, inputs: Sequence[str], options: TellOptions) -> Iterator[Output]:
        """The forecast after each step of each of `inputs`: files of sequences, or a table by `-`.

        Raises `InputError` for an input that cannot be read.
        """
        telling = Telling(self.plan, options)
        if "" in inputs:
            raise InputError("the INPUT is empty, expected a file's name.")
        for given in inputs:
            if given == "-":
                found = self._of_stdin(options.time)
            else:
                found = self.read([given], Refused(), known=False, time=options.time)
            telling.check(given, found)
            for one in found:
                yield from telling.told(one, self.forecast(one.inputs))
        telling.draw()

    def _of_stdin(self, time: str | None) -> list[Course]:
        """The sequences of a table on standard input, by the names of its columns."""
        if not self.plan.of_names:
            raise InputError(
                "standard input: the model reads arrays, which have no names of columns, expected a file's name."
            )
        layout = replace(self.plan.layout, time=time)
        return courses(sequences.of_bytes(sys.stdin.buffer.read(), layout, Refused()), self.plan)

    def show(self, course: Course) -> str:
        """What the model forecasts in the last steps of a course that are known, for people."""
        known = np.flatnonzero((~np.isnan(course.targets)).any(1))[-SHOWN:]
        numbers = [one[known] for one in (course.targets, *self.forecast(course.inputs))]
        steps = ["for step", *(f"{step + self.plan.ahead:,}" for step in known)]
        lines = [course.name]
        for k, target in enumerate(self.plan.targets):
            true, median, low, high = ([shown(float(number)) for number in one[:, k]] for one in numbers)
            true = ["-" if one == "nan" else one for one in true]
            ranges = [f"{least} to {most}" for least, most in zip(low, high, strict=True)]
            columns = (steps, [target, *true], ["forecast", *median], ["its range", *ranges])
            widths = [max(map(len, column)) for column in columns]
            for row in zip(*columns, strict=True):
                lines.append("  ".join(one.rjust(width) for one, width in zip(row, widths, strict=True)))
        return "\n".join(lines)

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""
        example = self.file.training.get("example")
        read = shlex.quote(whereabouts.path(self.file, example)) if example else "FILE"
        return [f"unrolled run {path} {read} --plot forecast.png", f"unrolled eval {path}"]


def _check(encoding: dict[str, Any], inputs: int, targets: int) -> None:
    """Raise `ValueError` or another where what was measured of the training data is not one number for each."""
    of_each = {"mean": inputs, "deviation": inputs, "target_mean": targets, "target_deviation": targets}
    for name, count in of_each.items():
        found = np.array(encoding[name], np.float64)
        if found.shape != (count,) or not np.isfinite(found).all():
            raise ValueError(f"{name} is {encoding[name]}, expected {counted(count, 'finite number')}")

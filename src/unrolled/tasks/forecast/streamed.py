"""A forecast model as a stream sees it: what its layers read of a step, and what comes out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.causal import Field, Lengths, Records
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.sequences.steps import Steps
from unrolled.tasks.forecast.lags import Lags
from unrolled.tasks.forecast.scale import Pressed, Scale

__all__ = ["Forecast", "LaggedSteps", "Quantiles", "Spoken", "shown"]


class Forecast(NamedTuple):
    """Of each step [T] and each target [K] the median, and the ends of the range that it is in four times of five.

    A tenth of what comes is to be below `low`, a tenth above `high`.
    """

    median: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, outputs: Floats) -> "Forecast":
        """The forecast that a stream's outputs [T, 3 K] are."""
        return cls(*np.split(outputs, 3, axis=-1))


class LaggedSteps(Steps):
    """The numbers of a step and, with lags, the linear forecast of each target after them."""

    def __init__(self, file: ModelFile, places: Sequence[int]) -> None:
        super().__init__(file, Pressed(file))
        tensors = file.tensors
        self.lags = Lags(tensors["lags.weight"], tensors["lags.bias"]) if file.architecture.lags else None
        self._places = list(places)
        if self.lags:
            self.fields = [*self.fields, ("lags", "<f4", (self.lags.count, len(places)))]

    def run(self, inputs: NDArray[Any], lengths: Lengths, states: Records) -> tuple[NDArray[Any], Lengths]:
        """Each input makes one step, whatever stands beside it, but for the numbers before it."""
        x, counts = super().run(inputs, lengths, states)
        if not self.lags:
            return x, counts
        own, before = x[:, self._places], states["lags"]
        if len(x) and (counts == counts[0]).all():
            linear = self.lags.run(own.reshape(len(counts), -1, own.shape[1]), before).reshape(own.shape)
        else:
            pieces = np.split(own, np.cumsum(counts)[:-1])
            rows = [self.lags.run(one[None], before[row : row + 1])[0] for row, one in enumerate(pieces)]
            linear = np.concatenate(rows)
        return np.concatenate([x, linear], axis=1), counts


class Quantiles:
    """The median and the range of each target in the data's units, as `unrolled.models.forecast` has them."""

    def __init__(self, file: ModelFile, scale: Scale) -> None:
        self._spread, self._scale = file.tensors["spread"], scale
        self._linear = len(self._spread) if file.architecture.lags else 0
        self.fields: Sequence[Field] = [("linear", "<f4", (self._linear,))] if self._linear else ()

    def run(self, found: Floats, steps: NDArray[Any], lengths: Lengths, states: Records) -> Floats:
        """Outputs [N, 3 K]: the medians, the lower ends, the upper ends; see `unrolled.causal.Tail`."""
        if not self._linear:
            return self._outputs(found, None)
        linear = steps[:, -self._linear :]
        some = lengths > 0
        states["linear"][some] = linear[np.cumsum(lengths)[some] - 1]
        return self._outputs(found, linear)

    def last(self, found: Floats, states: Records) -> Floats:
        """The same for the steps that were run last."""
        return self._outputs(found, states["linear"] if self._linear else None)

    def _outputs(self, found: Floats, linear: Floats | None) -> Floats:
        median, down, up = np.split(found, 3, axis=-1)
        if linear is not None:
            median = median + linear
        ends = (median, median - self._spread * _positive(down), median + self._spread * _positive(up))
        return np.concatenate([self._scale.released(one) for one in ends], axis=-1).astype(np.float32)


def _positive(x: Floats) -> Floats:
    """A positive number for any, 1 for 0."""
    found: Floats = (x + np.sqrt(x * x + np.float32(4))) / np.float32(2)
    return found * found


def shown(number: float) -> str:
    """A number for people, to six digits."""
    return f"{number:.6g}"


class Spoken:
    """The forecast of each step in words."""

    fields: Sequence[Field] = ()

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets

    def read(self, outputs: Floats, state: np.void) -> list[str]:
        """For each step [T] the targets, each with its range, from outputs [T, 3 K]."""
        return [
            "; ".join(
                f"{name} {shown(middle)} ({shown(low)} to {shown(high)})"
                for name, middle, low, high in zip(self._targets, *np.split(step, 3), strict=True)
            )
            for step in outputs
        ]

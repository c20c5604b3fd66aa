"""Numbers as recurrent layers read them: normalised, and none missing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.sequences.layout import Layout

__all__ = ["Numbers", "held"]


class Numbers:
    """Numbers less their mean in the training data, over their standard deviation there.

    Where they may be missing (`gaps`), one that is, NaN, is `held`.
    """

    def __init__(self, file: ModelFile) -> None:
        self._mean = np.array(file.encoding["mean"], np.float32)
        self._deviation = np.array(file.encoding["deviation"], np.float32)
        self.gaps = Layout.from_json(file.encoding["layout"]).gaps

    def __call__(self, inputs: NDArray[Any]) -> Floats:
        """Numbers [T, width] of a whole sequence."""
        normalised = self.normalised(inputs)
        return held(normalised, np.zeros_like(self._mean)) if self.gaps else normalised

    def normalised(self, inputs: NDArray[Any]) -> Floats:
        """The same, but for what is missing, which stays NaN."""
        normalised: Floats = (np.asarray(inputs, np.float32) - self._mean) / self._deviation
        return normalised


def held(numbers: Floats, before: Floats) -> Floats:
    """Numbers [T, width] with the last one that was there in place of each NaN, at first `before` [width]."""
    missing = np.isnan(numbers)
    if not missing.any():
        return numbers
    last = np.where(missing, -1, np.arange(len(numbers))[:, None])
    np.maximum.accumulate(last, out=last)
    return np.where(last < 0, before, np.take_along_axis(numbers, np.maximum(last, 0), axis=0))

"""Numbers as a forecast model has them: in standard deviations from the mean, those far out pressed together.

What is pressed grows like a square root (Pohlen et al. 2018, without their last term), so that a few numbers far
out do not rule all others. It takes only operations that all processors round alike. A quantile of what is pressed
is that quantile, pressed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.floats import Floats
from unrolled.sequences.numbers import Numbers

__all__ = ["Pressed", "Scale", "pressed"]

FARTHEST = 1e12  # deviations from the mean: what is beyond counts as that, so that nothing becomes infinite
MOST = float(np.finfo(np.float32).max)


def pressed(numbers: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Each z of deviations from the mean as 2 z / (1 + sqrt(1 + |z|)): about z near 0, about 2 sqrt(z) far out.

    NaN stays NaN.
    """
    one, most = np.ones((), np.float32), np.float32(FARTHEST)
    with np.errstate(over="ignore"):
        z = np.clip((numbers - mean) / deviation, -most, most)
    found: Floats = (one + one) * z / (one + np.sqrt(one + np.abs(z)))
    return found


class Pressed(Numbers):
    """The front end of a finished model: what is missing is held."""

    def normalised(self, inputs: NDArray[np.floating]) -> Floats:
        """Numbers [T, width], pressed; what is missing stays NaN."""
        return pressed(np.asarray(inputs, np.float32), self._mean, self._deviation)


class Scale:
    """The mean and the deviation of each target [K] in the training data."""

    def __init__(self, encoding: Mapping[str, Any]) -> None:
        self.mean = np.array(encoding["target_mean"], np.float64)
        self.deviation = np.array(encoding["target_deviation"], np.float64)

    def released(self, numbers: NDArray[np.floating]) -> NDArray[np.float64]:
        """What was `pressed`, numbers [T, K], in the data's units, of which float32 has all."""
        wide = numbers.astype(np.float64)
        return np.clip(self.mean + self.deviation * (wide * (1 + np.abs(wide) / 4)), -MOST, MOST)

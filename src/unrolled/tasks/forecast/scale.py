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
from unrolled.tasks.label.fronts import Numbers

__all__ = ["Pressed", "Scale", "pressed"]


def pressed(numbers: Floats) -> Floats:
    """z as 2 z / (1 + sqrt(1 + |z|)): about z near 0, about 2 sqrt(z) far out. NaN stays NaN."""
    one = np.ones((), np.float32)
    found: Floats = (one + one) * numbers / (one + np.sqrt(one + np.abs(numbers)))
    return found


class Pressed(Numbers):
    """The front end of a finished model: what is missing is held, as in label models."""

    def normalised(self, inputs: NDArray[np.floating]) -> Floats:
        """Numbers [T, width], pressed; what is missing stays NaN."""
        return pressed(super().normalised(inputs))


class Scale:
    """The mean and the deviation of each target [K] in the training data."""

    def __init__(self, encoding: Mapping[str, Any]) -> None:
        self.mean = np.array(encoding["target_mean"], np.float64)
        self.deviation = np.array(encoding["target_deviation"], np.float64)

    def released(self, numbers: NDArray[np.floating]) -> NDArray[np.float64]:
        """What was `pressed`, numbers [T, K], in the data's units."""
        wide = numbers.astype(np.float64)
        found: NDArray[np.float64] = self.mean + self.deviation * (wide * (1 + np.abs(wide) / 4))
        return found

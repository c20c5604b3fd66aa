"""A series whose next number depends on one some time ago: the data of the forecast task that needs no download.

The delay differential equation of Mackey & Glass (1977), a measure of forecasts ever since:
dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t). Its course is chaotic, so that two that begin alike part.
"""

import numpy as np
from numpy.typing import NDArray

from unrolled.sequences import Series

__all__ = ["AHEAD", "NAME", "courses", "series"]

NAME = "Mackey-Glass series"
AHEAD = 10  # steps, unless another number is asked for
SERIES, STEPS, SEED = 20, 1500, 1977
DELAY = 17  # units of time, and steps: a step is one
SUBSTEPS = 10  # of a step, by which it is integrated
SETTLING = 300  # steps that pass before the first


def series() -> list[Series]:
    """The series, each from its own beginning."""
    numbers = courses(SERIES, STEPS, np.random.default_rng(SEED)).astype(np.float32)
    return [Series(f"{NAME} {number}", one[:, None], None, ("x",)) for number, one in enumerate(numbers, 1)]


def courses(count: int, steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """x [count, steps], each from a random number on that it had until then.

    Integrated by Runge and Kutta's method of the fourth order, in operations that all processors round alike.
    """
    lag, h = DELAY * SUBSTEPS, 1 / SUBSTEPS
    x = np.empty((lag + 1 + (SETTLING + steps) * SUBSTEPS, count))
    x[: lag + 1] = rng.uniform(1.0, 1.4, count)

    def slope(now: NDArray[np.float64], past: NDArray[np.float64]) -> NDArray[np.float64]:
        square = past * past
        fourth = square * square
        return 0.2 * past / (1 + fourth * fourth * square) - 0.1 * now

    for n in range(lag, len(x) - 1):
        now, past, after = x[n], x[n - lag], x[n - lag + 1]
        between = (past + after) / 2
        a = slope(now, past)
        b = slope(now + h / 2 * a, between)
        c = slope(now + h / 2 * b, between)
        d = slope(now + h * c, after)
        x[n + 1] = now + h / 6 * (a + 2 * b + 2 * c + d)
    return x[lag + 1 + SETTLING * SUBSTEPS :: SUBSTEPS][:steps].T

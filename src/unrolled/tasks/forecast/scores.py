"""How good forecasts are, and how good simple ones would have been."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.results import Evaluation, Table
from unrolled.tasks.forecast.streamed import shown

__all__ = ["Score", "evaluation", "score"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Of each target [K] the mean absolute error, the root of the mean squared error and, of a forecast that has
    one, the part of what came that lay in its range; NaN where nothing is known of a target.
    """

    mae: Numbers
    rmse: Numbers
    within: Numbers | None = None

    def figures(self, targets: Sequence[str]) -> dict[str, Any]:
        """For JSON, by target; None where nothing is known."""
        parts = {"mae": self.mae, "rmse": self.rmse, "within": self.within}
        return {
            target: {
                name: None if np.isnan(part[k]) else float(part[k])
                for name, part in parts.items()
                if part is not None
            }
            for k, target in enumerate(targets)
        }


def score(true: Numbers, said: Numbers, low: Numbers | None = None, high: Numbers | None = None) -> Score:
    """The errors of what was `said` [N, K] of what is `true`, NaN where nothing is known."""
    error = np.abs(said - true)
    within = None
    if low is not None and high is not None:
        within = _mean(np.where(np.isnan(true), np.nan, (low <= true) & (true <= high)))
    return Score(_mean(error), np.sqrt(_mean(error**2)), within)


def _mean(numbers: Numbers) -> Numbers:
    """The mean of what is known, [K]; NaN where nothing is."""
    known = ~np.isnan(numbers)
    count, total = known.sum(0), np.where(known, numbers, 0.0).sum(0)
    found: Numbers = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def _told(number: float) -> str:
    return "-" if np.isnan(number) else shown(number)


def evaluation(
    scores: Mapping[str, Score], names: Mapping[str, str], targets: Sequence[str], ahead: int
) -> Evaluation:
    """The scores of each way to forecast; `names` has what people call them."""
    when = f", {ahead:,} step{'' if ahead == 1 else 's'} ahead" if ahead else ""
    tables = []
    for k, target in enumerate(targets):
        rows = [
            [
                names[way],
                _told(float(one.mae[k])),
                _told(float(one.rmse[k])),
                "" if one.within is None or np.isnan(one.within[k]) else f"{100 * one.within[k]:.1f} %",
            ]
            for way, one in scores.items()
        ]
        tables.append(Table([f"{target}{when}", "MAE", "RMSE", "in its range (of 80 %)"], rows))
    return Evaluation({"ahead": ahead, **{way: one.figures(targets) for way, one in scores.items()}}, tables)

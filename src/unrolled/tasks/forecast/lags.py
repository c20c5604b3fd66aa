"""A linear forecast of each target from its own last numbers: fitted at once, run over sequences and streams.

It is what a model begins with. Where the past is one period, a linear map is hard to beat.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled import _engine
from unrolled.floats import Floats

__all__ = ["Fit", "Lags", "fitted"]

LAGS = (1, 4, 16, 48, 168, 336, 672)  # numbers that it may look at: the hours of days and weeks among them
ROWS_A_LAG = 4  # steps to learn from for each of them, at least
MOST_ROWS = 100_000  # that the maps of all targets are fitted to
JUDGED = 0.2  # of each sequence's steps, its last, by which it is chosen how many lags are worth having
RIDGE = 1e-4  # of the number of rows
LEAST = 1e-8  # of the mean of squared errors, of which a target that never changes has none
AT_ONCE = 4096  # rows of lags that are made at a time

Numbers = NDArray[np.float64]


class Fit(NamedTuple):
    """The weight [K, lags], of the oldest number first, the bias [K], and the deviation [K] of its errors."""

    weight: Floats
    bias: Floats
    deviation: Floats


class Lags:
    """The map of weight [K, lags] and bias [K]. Before a sequence's beginning, numbers are 0.

    A step's outputs are the same bits whatever stands beside it.
    """

    def __init__(self, weight: Floats, bias: Floats) -> None:
        self.count = weight.shape[1]
        self._maps = [
            _engine.Linear(np.ascontiguousarray(one[None]), np.ascontiguousarray(bias[None]))
            for one, bias in zip(weight, bias, strict=True)
        ]

    def run(self, numbers: Floats, before: Floats) -> Floats:
        """What it gives at each step of the targets' numbers of S sequences [S, T, K], after those `before`
        [S, lags, K], which are brought up to date.
        """
        steps = numbers.shape[1]
        known = np.concatenate([before, numbers], axis=1)
        outputs = np.empty((len(self._maps), *numbers.shape[:2]), np.float32)
        at_once = max(1, AT_ONCE // max(1, len(numbers)))
        for begin in range(0, steps, at_once):
            end = min(begin + at_once, steps)
            for k, one in enumerate(self._maps):
                seen = _windows(known[:, begin + 1 : end + self.count, k], self.count, axis=1)
                found = np.empty((seen.shape[0] * seen.shape[1], 1), np.float32)
                one.run(np.ascontiguousarray(seen).reshape(len(found), self.count), found)
                outputs[k, :, begin:end] = found.reshape(len(numbers), end - begin)
        before[:] = known[:, steps:]
        return np.moveaxis(outputs, 0, -1)

    def whole(self, numbers: Floats) -> Floats:
        """The same for one sequence [T, K], from its beginning."""
        outputs: Floats = self.run(numbers[None], np.zeros((1, self.count, numbers.shape[1]), np.float32))[0]
        return outputs


def _windows(numbers: NDArray[Any], lags: int, axis: int = 0) -> NDArray[Any]:
    """The last `lags` numbers at each of T steps, oldest first, as a new last axis; `axis` has lags - 1 + T."""
    return np.lib.stride_tricks.sliding_window_view(numbers, lags, axis=axis)


def fitted(pairs: Sequence[tuple[Floats, Floats]]) -> Fit:
    """The map of the targets' numbers [T, K] that is nearest to what they become [T, K], NaN where not known.

    It is ridge regression (Hoerl & Kennard 1970). The last part of each sequence judges how many lags are worth
    having, the same for all targets; then all of it counts.
    """
    steps, targets = sum(len(x) for x, _ in pairs), pairs[0][0].shape[1]
    known = [lags for lags in LAGS if ROWS_A_LAG * lags <= steps] or LAGS[:1]
    apart = -(-steps * targets // MOST_ROWS)
    of_each = [_candidates([(x[:, k], y[:, k]) for x, y in pairs], known, apart) for k in range(targets)]
    chosen = int(np.argmin(np.sum([[one.judged for one in found] for found in of_each], axis=0)))
    weights = np.array([found[chosen].weights for found in of_each], np.float32)
    squares = np.array([found[chosen].squares for found in of_each])
    deviation = np.sqrt(np.maximum(squares, LEAST)).astype(np.float32)
    return Fit(weights[:, :-1].copy(), weights[:, -1].copy(), deviation)


class _Candidate(NamedTuple):
    """The weights and the bias [lags + 1] of a target's map, what the last part made of it, and the mean of its
    squared errors.
    """

    weights: Numbers
    judged: float
    squares: float


def _candidates(pairs: Sequence[tuple[Floats, Floats]], counts: Sequence[int], apart: int) -> list[_Candidate]:
    """The maps of one target with so many lags each, fitted to every so manieth step."""
    most = counts[-1]
    early, late = _Sums(most + 1), _Sums(most + 1)
    for x, y in pairs:
        seen = _windows(np.concatenate([np.zeros(most - 1), x.astype(np.float64)]), most)
        cut = round((1 - JUDGED) * len(x))
        for sums, begin, end in ((early, 0, cut), (late, cut, len(x))):
            for first in range(begin, end, AT_ONCE):
                rows = np.arange(first, min(first + AT_ONCE, end), apart)
                sums.add(seen[rows], y[rows].astype(np.float64))
    every = early + late
    found = []
    for lags in counts:
        weights = every.solved(lags)
        judged, squares = late.error(early.solved(lags)), every.error(weights) / max(1, every.rows)
        found.append(_Candidate(weights, judged, squares))
    return found


class _Sums:
    """What least squares need of rows: the sums of products of lags, and 1, with each other and the target."""

    def __init__(self, size: int) -> None:
        self.left, self.right = np.zeros((size, size)), np.zeros(size)
        self.squares, self.rows = 0.0, 0

    def add(self, lags: Numbers, target: Numbers) -> None:
        known = ~np.isnan(target)
        x, y = np.concatenate([lags[known], np.ones((int(known.sum()), 1))], axis=1), target[known]
        self.left += x.T @ x
        self.right += x.T @ y
        self.squares += float(y @ y)
        self.rows += len(y)

    def __add__(self, other: "_Sums") -> "_Sums":
        both = _Sums(len(self.right))
        both.left += self.left + other.left
        both.right += self.right + other.right
        both.squares, both.rows = self.squares + other.squares, self.rows + other.rows
        return both

    def solved(self, lags: int) -> Numbers:
        """The weights of the last so many lags, and the bias, which is free."""
        ridge = np.diag([RIDGE * max(1, self.rows)] * lags + [1e-9])
        found = np.linalg.solve(self.left[-lags - 1 :, -lags - 1 :] + ridge, self.right[-lags - 1 :])
        return np.asarray(found, np.float64)

    def error(self, weights: Numbers) -> float:
        """The sum of the squared errors of weights that were `solved`, here or elsewhere."""
        left, right = self.left[-len(weights) :, -len(weights) :], self.right[-len(weights) :]
        return float(self.squares - 2 * weights @ right + weights @ left @ weights)

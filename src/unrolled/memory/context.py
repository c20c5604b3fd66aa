"""Loss against the length of context: how much of what went before does a model use?

The model begins anew (its state is zero, or a decoder's first) k steps before the step that is measured, so that
it has read k inputs and the step's own. k = 0 is a model that knows nothing but the present. The horizon is the
least k at which the loss is within 1 % of that with all the context there is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.memory.subject import NO_TARGET, Passages, Subject, losses

__all__ = ["Context", "Horizon", "by_context", "horizon"]

MEASURED = 4096  # steps for each k
EXACT = 64  # up to this k a step's context is k exactly, else k to 9/8 k
RESAMPLED = 1000  # times, for the intervals
WITHIN = 0.01  # of the loss with all the context
CONFIDENCE = 0.95
ROWS_STEPS = 1 << 18  # steps run at a time

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Context:
    """The loss in nats a step with `k` steps of context, and the difference to that with all of it.

    `excess` is the mean of what it is above the loss of the same steps with all their context, `low` ... `high`
    where 95 of 100 bootstrap samples have that, and `loss` the excess and the loss of all steps with all context.
    """

    k: int
    loss: float
    excess: float
    low: float
    high: float


@dataclass(frozen=True)
class Horizon:
    """The least k with which the loss is within 1 % of the full context's, and where it lies for sure.

    `high` is None where the data are too few to say.
    """

    k: int
    low: int
    high: int | None


def by_context(subject: Subject, passages: Passages, seed: int = 0) -> tuple[float, list[Context]]:
    """The loss with all the context, and with 0, 1, 2, 4 ... steps of it, up to the longest that can be measured.

    Steps of the second half of each passage are measured, so that all have as much context as half a passage.
    """
    measurer = _Measurer(subject, passages, seed)
    longest = int(passages.lengths.max()) // 2
    ks = [0] + [1 << power for power in range(longest.bit_length())]
    found = {k: measurer.measure(k) for k in ks}
    bound = WITHIN * measurer.full
    within = [k for k in ks if found[k].excess <= bound]
    if within:
        below, above = within[0] // 2, within[0]
        while above - below > max(1, above // EXACT):
            middle = (below + above) // 2
            found[middle] = measurer.measure(middle)
            below, above = (below, middle) if found[middle].excess <= bound else (middle, above)
    return measurer.full, [found[k] for k in sorted(found)]


def horizon(full: float, contexts: list[Context]) -> Horizon:
    """The horizon of what `by_context` found; the last k where none is within 1 %."""
    bound = WITHIN * full
    ks = [one.k for one in contexts]
    low, k, high = (
        next((one.k for one in contexts if getattr(one, name) <= bound), None)
        for name in ("low", "excess", "high")
    )
    return Horizon(ks[-1] if k is None else k, ks[-1] if low is None else low, high)


class _Measurer:
    """Measures the loss of the same passages at one k after another."""

    def __init__(self, subject: Subject, passages: Passages, seed: int) -> None:
        self._subject, self._passages = subject, passages
        self._seed = seed
        self._losses = losses(passages.logits, passages.targets.clamp(min=0))
        steps = torch.arange(len(passages.targets))[:, None]
        measured = (steps >= passages.lengths // 2) & (passages.targets != NO_TARGET)
        self._measured = measured
        self.full = float(self._losses[measured].mean())

    def measure(self, k: int) -> Context:
        """The loss with k steps of context, on some thousands of steps in windows of their own."""
        rng = np.random.default_rng([self._seed, k])
        count = 1 if k <= EXACT else k // 8
        windows = self._windows(count, rng)
        excess, weights = [], []
        size = max(1, ROWS_STEPS // (k + count))
        for begin in range(0, len(windows), size):
            part = windows[begin : begin + size]
            now, before, valid = self._losses_of(part, k, count)
            excess.append(((now - before) * valid).sum(0))
            weights.append(valid.sum(0))
        by_window, steps = np.concatenate(excess), np.concatenate(weights)
        draws = rng.integers(len(steps), size=(RESAMPLED, len(steps)))
        resampled = by_window[draws].sum(1) / np.maximum(1, steps[draws].sum(1))
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(resampled, [tail, 100 - tail])
        mean = float(by_window.sum() / steps.sum())
        return Context(k, self.full + mean, mean, float(low), float(high))

    def _windows(self, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Up to so many windows of `count` measured steps as make 4,096 steps: (passage, first step)."""
        steps, rows = torch.nonzero(self._measured, as_tuple=True)
        if count > 1:
            lengths = self._passages.lengths[rows]
            fits = steps + count <= lengths
            if bool(fits.any()):
                steps, rows = steps[fits], rows[fits]
        chosen = rng.permutation(len(steps))[: max(1, MEASURED // count)]
        return [(int(rows[i]), int(steps[i])) for i in chosen]

    def _losses_of(self, windows: list[tuple[int, int]], k: int, count: int) -> tuple[Doubles, Doubles, Doubles]:
        """The losses [count, windows] with k steps of context and with all of it, and 1 where a step counts."""
        passages = self._passages
        rows = torch.tensor([row for row, _ in windows])
        firsts = torch.tensor([first for _, first in windows])
        starts = (firsts - k).clamp(min=0)  # a passage's beginning is all the context there is
        lead = firsts - starts
        steps = torch.arange(k + count)[:, None]
        at = (starts + steps).clamp(max=len(passages.x) - 1)
        x = passages.x[at, rows]
        with torch.no_grad():
            outputs, _ = self._subject.run(x, passages.sequences[rows])
            measured = lead + torch.arange(count)[:, None]
            logits = self._subject.logits(outputs[measured, torch.arange(len(windows))])
        where = (firsts + torch.arange(count)[:, None]).clamp(max=len(passages.x) - 1)
        targets = passages.targets[where, rows]
        now = losses(logits, targets.clamp(min=0))
        valid = self._measured[where, rows] & (firsts + torch.arange(count)[:, None] < passages.lengths[rows])
        return _float64(now), _float64(self._losses[where, rows]), _float64(valid)


def _float64(x: Tensor) -> Doubles:
    found: Doubles = x.double().numpy()
    return found

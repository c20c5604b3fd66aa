"""How far back an input still changes the output: by gradients, and by putting another input in its place."""

from dataclasses import dataclass

import numpy as np
import torch

from unrolled.floats import Floats
from unrolled.memory.subject import Passages, States, Subject

__all__ = ["Reach", "gradients", "influence", "substitutions"]


MEASURED = 256  # steps
LONGEST = 512  # steps back
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Reach:
    """What the input `k` steps back does to the output: the median over steps, and where 8 of 10 of them lie."""

    k: int
    median: float
    low: float
    high: float


def gradients(subject: Subject, passages: Passages, seed: int = 0) -> list[Reach]:
    """The size of the Jacobian of the logits by what the layers read k steps before (k = 0: at the same step).

    Its Frobenius norm, estimated by one random direction of the logits for each step (Hutchinson's estimate).
    """
    rows, ends = _steps(passages, LONGEST, seed)
    back = min(LONGEST, int(ends.min()))
    x = _windows(passages, rows, ends - back, back + 1).requires_grad_()
    outputs, _ = subject.run(x, passages.sequences[rows])
    logits = subject.logits(outputs[-1])
    generator = torch.Generator().manual_seed(seed)
    (logits * torch.randn(logits.shape, generator=generator)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return _reaches(x.grad.norm(dim=-1).flip(0).numpy(), range(back + 1))


def substitutions(subject: Subject, passages: Passages, seed: int = 0) -> list[Reach]:
    """How far the output distribution moves (total variation, 0 to 1) when the input k steps back is another.

    The other is the input of some other step of the data; k = 0, 1, 2, 4 ...
    """
    rng = np.random.default_rng(seed)
    rows, ends = _steps(passages, LONGEST, seed)
    back = min(LONGEST, int(ends.min()))
    others = rng.integers(len(rows), size=len(rows))
    before = passages.logits[ends, rows].softmax(-1)
    moved = []
    ks = [0] + [1 << power for power in range(back.bit_length())]
    for k in ks:
        at = ends - k
        x = _windows(passages, rows, at, k + 1)
        x[0] = passages.x[ends[others], rows[others]]
        with torch.no_grad():
            outputs, _ = subject.run(x, passages.sequences[rows], _before(subject, passages, at, rows))
            after = subject.logits(outputs[-1]).softmax(-1)
        moved.append(0.5 * (after - before).abs().sum(-1).numpy())
    return _reaches(np.stack(moved), ks)


def influence(subject: Subject, passages: Passages, row: int, end: int, back: int) -> Floats:
    """How much each of the `back` inputs before a passage's step `end`, and its own, moves its output: [back + 1].

    The size of the gradient of the output's log probability at what came true, the oldest input first.
    """
    rows, ends = torch.tensor([row]), torch.tensor([end])
    x = _windows(passages, rows, ends - back, back + 1).requires_grad_()
    outputs, _ = subject.run(x, passages.sequences[rows])
    said = subject.logits(outputs[-1]).log_softmax(-1)
    said[0, int(passages.targets[end, row])].backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    sizes: Floats = x.grad.norm(dim=-1)[:, 0].numpy()
    return sizes


def _steps(passages: Passages, back: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps to look back from: passages [N] and steps [N], each with at least as many steps before as can be had.

    Of passages shorter than the longest, only those at least half as long as that are looked at.
    """
    rng = np.random.default_rng(seed)
    most = min(back, int(passages.lengths.max()) // 2)
    steps = torch.arange(len(passages.x))[:, None]
    rows, at = np.nonzero(((steps >= most) & (steps < passages.lengths)).numpy().T)
    chosen = rng.permutation(len(rows))[:MEASURED]
    return torch.from_numpy(rows[chosen]), torch.from_numpy(at[chosen])


def _windows(passages: Passages, rows: torch.Tensor, starts: torch.Tensor, steps: int) -> torch.Tensor:
    """What the layers read in so many steps from `starts` on: [steps, N, width], a copy."""
    return passages.x[starts + torch.arange(steps)[:, None], rows]


def _before(subject: Subject, passages: Passages, at: torch.Tensor, rows: torch.Tensor) -> States:
    """The states before the steps `at` [N] of passages `rows`; before the first step, those of a beginning."""
    return [
        tuple(
            torch.where((at > 0)[:, None], part[(at - 1).clamp(min=0), rows], first[rows])
            for part, first in zip(trace.carried, beginning, strict=True)
        )
        for trace, beginning in zip(passages.traces, subject.beginning(passages.sequences), strict=True)
    ]


def _reaches(values: Floats, ks: range | list[int]) -> list[Reach]:
    low, median, high = np.quantile(values, QUANTILES, axis=1)
    return [Reach(k, float(median[i]), float(low[i]), float(high[i])) for i, k in enumerate(ks)]

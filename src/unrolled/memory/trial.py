"""What a trial is: a network that learns one problem within a budget. Nothing here needs torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unrolled import kinds

__all__ = ["CELLS", "TESTED", "TEST_SEED", "Budget", "Row", "Trial", "most_hidden", "unmet"]

CELLS = ("rnn", "gru", "gru-chrono", "lstm", "lstm-chrono")
"""Standard RNN; gated recurrent unit; LSTM with forget bias 1; both with chrono initialisation for the gap.

Any other cell of `unrolled.kinds` may be tried too, and begin so.
"""

CHRONO = "-chrono"

TESTED = 512
TEST_SEED = 1 << 32
"""Errors are measured on 512 sequences that training never draws."""

Row = dict[str, Any]
"""What came of a trial at one gap, as JSON can hold it."""


@dataclass(frozen=True)
class Budget:
    """What every network of an experiment may use.

    The most parameters and steps, sequences a step, the learning rate, and the gap at which training begins.
    """

    parameters: int
    steps: int
    batch: int
    lr: float
    first_gap: int


@dataclass(frozen=True)
class Trial:
    """A network of this cell and seed learns the problem up to the last of `gaps`, and is measured at each.

    `recall` takes several gaps, the others one.
    """

    problem: str
    cell: str
    gaps: tuple[int, ...]
    seed: int

    @property
    def kind(self) -> str:
        """The cell without its initialisation."""
        return self.cell.removesuffix(CHRONO)

    @property
    def work(self) -> int:
        """About how much there is to do at most, to be compared with other trials."""
        return self.gaps[-1]

    @property
    def longest_gap(self) -> int | None:
        """The gap that gates are opened for, with chrono initialisation."""
        return self.gaps[-1] if self.cell.endswith(CHRONO) else None


def unmet(cell: str) -> str:
    """What is expected of a cell that cannot be tried, else an empty text."""
    kind = cell.removesuffix(CHRONO)
    if expected := kinds.unmet(kind):
        return expected
    gated = kinds.named(kind).gates > 1
    return "" if gated or kind == cell else "a GRU or an LSTM before -chrono, which sets gates"


def most_hidden(parameters: int, size: Callable[[int], int]) -> int:
    """The most hidden units (at least 1) with which a network has at most so many parameters."""
    hidden = 1
    while size(hidden + 1) <= parameters:
        hidden += 1
    return hidden

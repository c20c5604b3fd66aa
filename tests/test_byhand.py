"""A standard RNN with weights set by hand remembers for as long as it is asked to."""

import numpy as np
import pytest
import torch

from unrolled.memory import byhand
from unrolled.memory.problems import PROBLEMS, Drawn


@pytest.mark.parametrize("symbols", [2, 3])
@pytest.mark.parametrize("gap", [10, 11, 100, 3000])
def test_it_knows_the_order_at_every_gap(symbols: int, gap: int) -> None:
    problem = PROBLEMS[f"order-{symbols}"]
    assert isinstance(problem, Drawn)
    sequences = problem.draw(gap, 64, np.random.default_rng(gap))
    with torch.no_grad():
        answers = byhand.order(symbols).answers(sequences)
    assert (answers[-1].argmax(-1).numpy() == sequences.targets[-1]).all()
    assert answers[-1].softmax(-1).amax(-1).min() > 0.99

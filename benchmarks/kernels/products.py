"""The products that the engine is made of, alone: rows times packed weights, beside torch's and the peak."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.kernels.limits import peak
from benchmarks.kernels.peers import difference
from benchmarks.kernels.row import OWN, Case, Trial
from unrolled import _engine

__all__ = ["product_cases"]

ROWS = (32, 64, 512)  # of a step, and of a chunk of steps
UNITS = (128, 256, 512, 650)


def product_cases() -> Iterator[Case]:
    """What is multiplied at a step of an LSTM: rows of H numbers by weights [4H, H]."""
    for units in UNITS:
        for rows in ROWS:
            yield Case(f"{rows}-{units}-{4 * units}", partial(product, rows, units, 4 * units))


def product(M: int, K: int, N: int) -> Trial:
    """Check and make ready a row; the peak is that of multiply-adds of numbers that are in registers already."""
    generator = np.random.default_rng(0)
    x, weight = (generator.normal(size=(size, K)).astype(np.float32) for size in (M, N))
    own, theirs = np.empty((M, N), np.float32), torch.empty(M, N)
    linear, rows, columns = _engine.Linear(weight, None), torch.from_numpy(x), torch.from_numpy(weight).T
    linear.run(x, own)
    return Trial(
        {OWN: partial(linear.run, x, own), "torch": lambda: torch.mm(rows, columns, out=theirs)},
        difference({"output": torch.from_numpy(own)}, {"output": rows.double() @ columns.double()}),
        peak(),
        2.0 * M * N * K,
    )

"""Whole sequences under autocast to bfloat16, forward and back, beside torch's and beside float32."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.peers import difference, fallback, pair
from benchmarks.kernels.row import OWN, Case, Trial
from benchmarks.kernels.training import OTHER_CELLS, SHAPES, Shape, name_of, train
from unrolled import _engine

__all__ = ["autocast_cases"]

WORST = 0.05  # of a result's largest number: both layers round what they multiply to 8 bits, at every step


def autocast_cases() -> Iterator[Case]:
    """The rows of training, where this machine multiplies bfloat16; elsewhere none."""
    if not _engine.multiplies_bfloat16():
        return
    for cell, shapes in {"lstm": SHAPES, "gru": OTHER_CELLS, "rnn": OTHER_CELLS}.items():
        for shape in shapes:
            yield Case(name_of(cell, shape), partial(autocast, cell, shape), {"torch": 1.0})


def low(layer: torch.nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """`train` under autocast, which the layer's way back need not be called in."""
    with torch.autocast("cpu", torch.bfloat16):
        return train(layer, x, grad)


def autocast(cell: str, shape: Shape) -> Trial:
    """Check and make ready a row."""
    B, T, D, H = shape
    ours, theirs = pair(cell, D, H)
    x = torch.randn(T, B, D)
    grad = torch.randn(T, B, H) / (T * B) ** 0.5
    narrow = grad.bfloat16()  # of torch's output, which is so
    exact, _ = pair(cell, D, H)
    right = train(exact.double(), x.double(), grad.double())
    wrong = difference(low(ours, x, grad), right, WORST)
    return Trial(
        {
            OWN: lambda: low(ours, x, grad),
            "torch": lambda: low(theirs, x, narrow),
            "float32": lambda: train(ours, x, grad),
        },
        wrong or fallback(lambda: low(ours, x, grad), cell),
    )

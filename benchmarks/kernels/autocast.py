"""Whole sequences under autocast to bfloat16, forward and back, beside torch's and beside float32."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.peers import difference, fallback, pair
from benchmarks.kernels.row import OWN, Case, Trial
from benchmarks.kernels.training import OTHER_CELLS, SHAPES, Shape, drawn, exactly, name_of, train
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
    ours, theirs = pair(cell, *shape[2:])
    x, grad = drawn(shape)
    own = partial(low, ours, x, grad)
    narrow = grad.bfloat16()  # of torch's output, which is so
    return Trial(
        {OWN: own, "torch": partial(low, theirs, x, narrow), "float32": partial(train, ours, x, grad)},
        difference(own(), exactly(ours, x, grad), WORST) or fallback(own, cell),
    )

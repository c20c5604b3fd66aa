"""What single units do: how long they hold what they have, which are saturated, which never move."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.memory.subject import Passages, Steps

__all__ = ["Units", "of_layer", "of_layers"]

FULL = 0.95  # of what a unit's tanh can be: it is saturated there
MOSTLY = 0.9  # of the steps
STILL = 1e-3  # the standard deviation of a unit that does not move
EVER = 1e6  # steps: a half-life that is as good as for ever


@dataclass(frozen=True)
class Units:
    """The units of one layer.

    `half_lives` [H], in steps, are how long each takes to forget half of what it holds, from the mean logarithm of
    the gate that keeps it (f of an LSTM, z of a GRU; None for an RNN, which has no such gate); at most a million.
    `saturated` and `still` are the numbers of the units that are at their limit in 9 of 10 steps, and of those
    that never move. `moves` is how far the state moves at all: the largest standard deviation of a unit.
    """

    hidden: int
    half_lives: list[float] | None
    saturated: list[int]
    still: list[int]
    moves: float


def of_layers(passages: Passages) -> list[Units]:
    """The units of each layer, over all passages."""
    valid = torch.arange(len(passages.x))[:, None] < passages.lengths
    return [of_layer(trace, valid) for trace in passages.traces]


def of_layer(trace: Steps, valid: Tensor) -> Units:
    """The units of a layer over the steps [T, B] that are `valid`."""
    h = trace.h[valid]
    inner = h if trace.c is None else torch.tanh(trace.c[valid])
    hidden = inner.shape[1]
    deviation = (h if h.shape == inner.shape else inner).std(dim=0)  # of a projection, its units before it
    saturated = (inner.abs() > FULL).float().mean(dim=0) > MOSTLY
    return Units(
        hidden,
        _half_lives(trace, valid),
        torch.nonzero(saturated).flatten().tolist(),
        torch.nonzero(deviation < STILL).flatten().tolist(),
        float(deviation.max()),
    )


def _half_lives(trace: Steps, valid: Tensor) -> list[float] | None:
    if trace.gates is None:
        return None
    keeping = trace.gates.chunk(4, dim=-1)[1][valid]  # f of i, f, g, o; z of r, z, n, hn
    rate = -keeping.double().clamp(min=1e-30).log().mean(dim=0)
    return (math.log(2) / rate.clamp(min=math.log(2) / EVER)).tolist()

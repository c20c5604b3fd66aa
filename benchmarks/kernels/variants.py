"""What the variants of an LSTM cost: each beside the plain layer of the same size, forward and back."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.kernels.peers import difference, fallback
from benchmarks.kernels.row import OWN, Case, Trial
from benchmarks.kernels.training import drawn, train
from unrolled import nn

__all__ = ["variant_cases"]

B, T, D, H = 32, 100, 256, 256
VARIANTS: dict[str, dict[str, Any]] = {
    "peephole": {"peephole": True},
    "coupled": {"coupled": True},
    "recurrent-dropout": {"recurrent_dropout": 0.25},
    "zoneout": {"zoneout": 0.1},
    "weight-drop": {"weight_drop": 0.5},
    "projection": {"proj_size": H // 2},
    "layer-norm": {"layer_norm": True},
}


def variant_cases() -> Iterator[Case]:
    """Ratios to `plain` say how many times as long the plain layer takes; torch has projections too."""
    for name, options in VARIANTS.items():
        yield Case(f"lstm-{B}-{T}-{D}-{H}-{name}", partial(variant, options))


def variant(options: dict[str, Any]) -> Trial:
    """A layer in training, its masks drawn anew at each run; checked in evaluation, where nothing is drawn."""
    torch.manual_seed(0)
    plain, ours = nn.LSTM(D, H), nn.LSTM(D, H, **options)
    if "layer_norm" in options:
        torch.nn.init.constant_(ours.get_parameter("gain_hh_l0"), 0.25)  # at 1, roundings grow from step to step
    width = options.get("proj_size", H)
    x, grad = drawn((B, T, D, H))
    own = partial(train, ours, x, grad[..., :width].contiguous())
    contestants: dict[str, Callable[[], object]] = {OWN: own, "plain": partial(train, plain, x, grad)}
    if "proj_size" in options:
        theirs = torch.nn.LSTM(D, H, proj_size=width)
        theirs.load_state_dict(ours.state_dict())
        contestants["torch"] = partial(train, theirs, *own.args[1:])
    exact = nn.LSTM(D, H, **options).double().eval()
    exact.load_state_dict(ours.eval().state_dict())
    right = train(exact, *(one.double() for one in own.args[1:]))
    wrong = difference(own(), right)
    ours.train()
    return Trial(contestants, wrong or fallback(own, "lstm"))

"""The model of the forecast task: a linear forecast, and what recurrent layers add to it."""

import torch
from torch import Tensor, nn

from unrolled.architecture import ForecastArchitecture
from unrolled.floats import Floats
from unrolled.models.layers import Head, Layers, drop

__all__ = ["QUANTILES", "ForecastNetwork"]

QUANTILES = (0.5, 0.1, 0.9)
"""What the median is, and the ends of the range."""
FAR = 1.28  # standard deviations from the median to either end of a normal distribution's range


class Lags(nn.Module):
    """The linear forecast, weight [K, lags] and bias [K]: fitted before training begins, and left alone by it."""

    def __init__(self, weight: Floats, bias: Floats) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(weight))
        self.register_buffer("bias", torch.from_numpy(bias))


def positive(x: Tensor) -> Tensor:
    """A positive number for any: 1 for 0, near there as exp(x), far out as x^2 and its inverse."""
    return ((x + (x * x + 4).sqrt()) / 2).square()


class ForecastNetwork(nn.Module):
    """Numbers in, for each target its median and the range around it out, both in standard deviations, pressed.

    The linear forecast, of the weight and the bias `lags`, is the median that training begins with (as the
    autoregressive part of Lai et al. 2018), and the deviation of its errors, the third of `lags`, makes the first
    range; the recurrent layers read it too, and their head moves both. Without one the median begins as 0. How far
    an end is from the median is the spread times the square of (x + sqrt(x^2 + 4)) / 2 (Barron 2021) of an output
    x. The loss is that of quantile regression (Koenker & Bassett 1978). `dropout` applies between layers and
    before the head; `longest_gap` is that of `Layers`.
    """

    spread: Tensor

    def __init__(
        self,
        architecture: ForecastArchitecture,
        lags: tuple[Floats, Floats, Floats] | None,
        dropout: float = 0.0,
        longest_gap: int | None = None,
    ) -> None:
        super().__init__()
        sizes = architecture
        self.dropout = dropout
        self.lags = Lags(*lags[:2]) if lags else None
        self.recurrent = Layers(
            sizes.cell, sizes.width, sizes.hidden, sizes.layers, dropout=dropout, longest_gap=longest_gap
        )
        self.head = Head(self.recurrent.width, 3 * sizes.targets)
        deviation = torch.from_numpy(lags[2]) if lags else torch.ones(sizes.targets)
        self.register_buffer("spread", FAR * deviation)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()

    def quantiles(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The medians and the lower and upper ends of the ranges, [3, T, B, K], for inputs [T, B, D] of `lengths`.

        With a linear forecast, the last K of the inputs are that.
        """
        h, _ = self.recurrent(inputs, lengths=lengths)
        found: Tensor = self.head(drop(h, self.dropout, self.training)).float()
        median, down, up = found.chunk(3, dim=-1)
        if self.lags is not None:
            median = median + inputs[..., -median.shape[-1] :]
        return torch.stack([median, median - self.spread * positive(down), median + self.spread * positive(up)])

    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mean loss over the targets [T, B, K] that are not NaN, and no state."""
        known = ~targets.isnan()
        error = torch.where(known, targets, 0.0) - self.quantiles(inputs, lengths)
        at = error.new_tensor(QUANTILES).view(-1, 1, 1, 1)
        losses = torch.maximum(at * error, (at - 1) * error).sum(0)
        return (losses * known).sum() / known.sum(), ()

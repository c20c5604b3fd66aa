"""What models are made of: recurrent layers one on another, heads, dropout with one mask, normalisation."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled import kinds
from unrolled.nn import GRU, LSTM, RNN, chrono

__all__ = ["BatchNorm", "Head", "Layers", "State", "drop", "open_forget_gates"]

State = tuple[Tensor, ...]
"""What is carried from step to step: h [L, B, P] (P is H but for a projection) and, for an LSTM, c [L, B, H]; with
2 L in place of L if bidirectional.
"""

LAYERS: dict[str, type[RNN | LSTM | GRU]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


class Head(nn.Linear):
    """A linear layer that gives the logits of classes or symbols: like an embedding, it is for AdamW to move."""


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) of `channels`, with running averages for evaluation.

    `torch.nn.BatchNorm2d` without its count of batches: all that a model file holds is floating point.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, channels, H, W], each channel with mean 0 and deviation 1, scaled and moved."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class Layers(nn.ModuleList):
    """`layers` recurrent layers of `hidden` units over x [T, B, inputs].

    `dropout` (default 0) applies to what one layer gives to the next, with one mask for all steps (Gal &
    Ghahramani 2016), so that noise does not keep the state from remembering. Biases start at 0, an LSTM's forget
    gates open, with bias 1 (Gers et al. 2000; Jozefowicz et al. 2015); with `longest_gap`, the gates of an LSTM
    or a GRU start as `unrolled.nn.chrono` has them.
    """

    def __init__(
        self,
        cell: str,
        inputs: int,
        hidden: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        longest_gap: int | None = None,
    ) -> None:
        kind = kinds.named(cell)
        width = kind.width(hidden) * (2 if bidirectional else 1)
        widths = itertools.pairwise([inputs, *[width] * layers])
        super().__init__(
            LAYERS[kind.base](before, hidden, bidirectional=bidirectional, **kind.arguments(hidden))
            for before, _ in widths
        )
        self.dropout = dropout
        self.width = width
        self.state_widths = kind.state_widths(hidden)
        for layer in self:
            open_forget_gates(layer)
            if longest_gap is not None and isinstance(layer, LSTM | GRU):
                chrono(layer, longest_gap)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """What the last layer gives, [T, B, width], and the state after the last step (default before: zero).

        `lengths` [B] and `resets` [T, B] are as in `unrolled.nn`, and so is `embedding`, with which x is symbols
        [T, B].
        """
        finals: list[State] = []
        for number, layer in enumerate(self):
            x = drop(x, self.dropout, self.training) if number else x
            directions = 2 if layer.bidirectional else 1
            first = number * directions
            before = state and tuple(part[first : first + directions] for part in state)
            steps = {"lengths": lengths, "resets": resets, "embedding": None if number else embedding}
            if isinstance(layer, LSTM):
                x, final = layer(x, before, **steps)
            else:
                x, h = layer(x, before and before[0], **steps)
                final = (h,)
            finals.append(final)
        return x, tuple(torch.cat(parts) for parts in zip(*finals, strict=True))


def drop(x: Tensor, dropout: float, training: bool) -> Tensor:
    """Dropout on x [T, B, width] with the same mask at every step."""
    if not training or not dropout:
        return x
    kept = 1.0 - dropout
    return x * x.new_empty(1, *x.shape[1:]).bernoulli_(kept).div_(kept)


def open_forget_gates(layer: nn.Module) -> None:
    """Biases zero, and an LSTM's forget gates open (bias 1), so that it starts by remembering."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
            if name.startswith("bias_ih") and isinstance(layer, LSTM):
                if layer.variant.coupled:  # f is 1 - i
                    parameter[: layer.hidden_size] = -1.0
                else:
                    parameter[layer.hidden_size : 2 * layer.hidden_size] = 1.0

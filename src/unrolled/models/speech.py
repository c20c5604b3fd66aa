"""The model of the speech task."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.architecture import CONVOLUTIONS, SpeechArchitecture
from unrolled.models.layers import BatchNorm, Head, Layers, State, drop

__all__ = ["Convolutions", "SpeechNetwork"]


class Convolutions(nn.Module):
    """Convolutions over frames and filters, each normalised and rectified, and the largest of neighbouring places.

    What a voice says is told by shapes that stand a little higher or lower from speaker to speaker. Frames to come
    are not seen.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [1, *(one.times * channels for one in CONVOLUTIONS)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, (one.frames, one.mels), padding=(0, one.mels // 2), bias=False)
            for one, (before, after) in zip(CONVOLUTIONS, pairwise(widths), strict=True)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths[1:])

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [context + T stack, B, mels] -> steps [T, B, width]."""
        x = frames.permute(1, 0, 2)[:, None]
        for one, convolution, norm in zip(CONVOLUTIONS, self.convolutions, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(convolution(x))), (one.pooled_frames, one.pooled_mels))
        return x.permute(2, 0, 1, 3).flatten(2)


class SpeechNetwork(nn.Module):
    """Frames of a filter bank in, a distribution over the symbols and CTC's blank (the last class) out.

    It hears only what came before: the layers are causal. `dropout` (default 0) applies to what one recurrent
    layer gives to the next and to the head.
    """

    def __init__(self, architecture: SpeechArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = architecture
        self.dropout = dropout
        self.stack = sizes.stack
        self.front = Convolutions(sizes.channels) if sizes.channels else None
        self.recurrent = Layers(sizes.cell, sizes.width, sizes.hidden, sizes.layers, dropout=dropout)
        self.head = Head(self.recurrent.width, sizes.symbols + 1)
        with torch.no_grad():
            self.head.bias.zero_()

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        targets: Tensor | None = None,
        target_lengths: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """Run the frames `inputs` [context + T stack, B, mels] from `state` (default zero).

        Returns the logits [T, B, V + 1] and the state after the last step; or, with `targets` [S, B] and the
        lengths [B] of inputs and targets, the mean CTC loss in nats a symbol (Graves et al. 2006) and ().
        Examples with more symbols than steps do not count.
        """
        if self.front is None:
            steps = inputs.view(-1, self.stack, *inputs.shape[1:]).transpose(1, 2).flatten(2)
        else:
            steps = self.front(inputs)
        x, after = self.recurrent(steps, state, lengths=lengths)
        logits = self.head(drop(x, self.dropout, self.training))
        if targets is None or lengths is None or target_lengths is None:
            return logits, after
        losses = F.ctc_loss(
            logits.log_softmax(-1),
            targets.t(),
            lengths,
            target_lengths,
            blank=self.head.out_features - 1,
            reduction="none",
            zero_infinity=True,
        )
        return losses.sum() / (target_lengths * (losses > 0)).sum().clamp(min=1), ()

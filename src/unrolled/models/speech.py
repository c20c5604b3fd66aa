"""The model of the speech task."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.architecture import SpeechArchitecture
from unrolled.models.layers import Head, Layers, State, drop

__all__ = ["SpeechNetwork"]


class SpeechNetwork(nn.Module):
    """Steps of a filter bank in, a distribution over the symbols and CTC's blank (the last class) out.

    It hears only what came before: the layers are causal. `dropout` (default 0) applies to what one recurrent
    layer gives to the next and to the head.
    """

    def __init__(self, architecture: SpeechArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = architecture
        self.dropout = dropout
        self.recurrent = Layers(sizes.cell, sizes.features, sizes.hidden, sizes.layers, dropout=dropout)
        self.head = Head(sizes.hidden, sizes.symbols + 1)
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
        """Run `inputs` [T, B, features] from `state` (default zero).

        Returns the logits [T, B, V + 1] and the state after the last step; or, with `targets` [S, B] and the
        lengths [B] of inputs and targets, the mean CTC loss in nats a symbol (Graves et al. 2006) and ().
        Examples with more symbols than steps do not count.
        """
        x, after = self.recurrent(inputs, state, lengths=lengths)
        logits = self.head(drop(x, self.dropout, self.training))
        if targets is None or lengths is None or target_lengths is None:
            return logits, after
        loss = F.ctc_loss(
            logits.log_softmax(-1),
            targets.t(),
            lengths,
            target_lengths,
            blank=self.head.out_features - 1,
            reduction="sum",
            zero_infinity=True,
        )
        return loss / target_lengths.sum(), ()

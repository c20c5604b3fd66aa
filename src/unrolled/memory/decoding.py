"""A decoder that attends to a source, as the probes see it: models of translate and caption.

Its steps are the symbols of what it writes, given as they should be. The source stays in sight at every step, so
what is measured is the memory of the decoder itself: how much it uses of what was written so far.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.memory.subject import States, Steps, Subject
from unrolled.models.attention import Memory, attend
from unrolled.models.decoder import AttentionDecoder

__all__ = ["Decoding"]


class Decoding(Subject):
    """A decoder, the sources [S, B, M] of B sequences with their `lengths` [B], and what was written of each.

    `written` are the symbols of each sequence, the last of which ends it.
    """

    endless = False

    def __init__(
        self,
        decoder: AttentionDecoder,
        sources: Tensor,
        lengths: Tensor,
        written: list[NDArray[np.int64]],
        step: str,
    ) -> None:
        self._decoder = decoder.requires_grad_(False)
        boundary = len(decoder.bias) - 1
        self.inputs = [np.concatenate([[boundary], one[:-1]]) for one in written]
        self.targets = list(written)
        self.step, self.classes = step, len(decoder.bias)
        with torch.no_grad():
            self._begun = decoder.start(sources, lengths)

    def vectors(self, inputs: NDArray[np.int64]) -> Tensor:
        """The embedded symbols [T, E]."""
        embedded: Tensor = self._decoder.embedding(torch.from_numpy(inputs))
        return embedded

    def beginning(self, sequences: Tensor) -> States:
        """What the decoder makes of the whole source."""
        attended, *states = (part[sequences] for part in self._begun.carried)
        return [(*states, attended)]

    def run(
        self, x: Tensor, sequences: Tensor, state: States | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Steps]]:
        """The attended vectors [T, B, E], and what the decoder's layer computed."""
        memory = Memory(*(part[sequences] for part in self._begun.memory))
        (before,) = self.beginning(sequences) if state is None else state
        *first, attended = before
        states = tuple(first)
        weights = self._decoder.weights()
        found = []
        for gates in self._decoder.input_share(x):
            attended, states, _, activated = attend(self._decoder.cell, gates, attended, states, memory, weights)
            found.append((attended, activated, *states))
        outputs, activated, h, *c = (torch.stack(parts) for parts in zip(*found, strict=True))
        gated = None if self._decoder.cell == "rnn" else activated
        return outputs, [Steps(h, c[0] if c else None, gated, outputs)]

    def logits(self, outputs: Tensor) -> Tensor:
        """The logits [..., V] of attended vectors."""
        return self._decoder.logits(outputs)

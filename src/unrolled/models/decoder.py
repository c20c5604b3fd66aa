"""A recurrent decoder that attends to a memory, step by step or over a whole target at once.

It knows nothing of what the memory stands for (words, the parts of a picture) or of how a sequence is searched.

S places in the memory, B rows, N = B K hypotheses (K a row, those of a row next to each other), T steps,
V symbols, E the width of embedded symbols, H hidden units, M the width of the memory.
"""

from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.models.attention import Memory, Weights, attend, attended_sequence
from unrolled.models.layers import Layers, drop
from unrolled.nn import GRU, LSTM, RNN

__all__ = ["AttentionDecoder", "DecoderState"]

EMBEDDING_DEVIATION = 0.1


class DecoderState(NamedTuple):
    """What a decoder goes on from: its memory, of B rows, and what it carries, each [N, width].

    `carried` is the attended vector of the last step, h and, for an LSTM, c.
    """

    memory: Memory
    carried: tuple[Tensor, ...]

    def choose(self, hypotheses: Tensor, rows: Tensor | None = None) -> Self:
        """The state of these `hypotheses` [N'] alone, and of the `rows` [B'] that they belong to (default all)."""
        memory = self.memory if rows is None else Memory(*(part[rows] for part in self.memory))
        return self._replace(memory=memory, carried=tuple(part[hypotheses] for part in self.carried))


class AttentionDecoder(nn.Module):
    """One recurrent layer with general attention and input feeding (Luong, Pham & Manning 2015).

    At each step the cell reads the embedded symbol and the attended vector of the step before; its h asks the
    memory, and what it finds, together with h, gives the attended vector tanh(W [c; h]). The logits are products
    with the embedding itself (Press & Wolf 2017), so that vector is E wide. The first h and c are linear in the
    mean of the memory (Xu et al. 2015). `dropout` (default 0) applies to the embedded symbols and to the attended
    vector, with one mask for all steps.
    """

    def __init__(
        self, symbols: int, embedding: int, hidden: int, memory: int, cell: str = "lstm", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.cell, self.dropout, self.width = cell, dropout, embedding
        self.embedding = nn.Embedding(symbols, embedding)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_DEVIATION)
        self.recurrent = Layers(cell, 2 * embedding, hidden)
        self.initial = nn.Linear(memory, (2 if cell == "lstm" else 1) * hidden)
        self.keys = nn.Linear(memory, hidden, bias=False)
        self.values = nn.Linear(memory, embedding, bias=False)
        self.combine = nn.Linear(hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(symbols))

    @property
    def _layer(self) -> RNN | LSTM | GRU:
        return cast(RNN | LSTM | GRU, self.recurrent[0])

    def start(self, memory: Tensor, lengths: Tensor) -> DecoderState:
        """The state before the first symbol, for a memory [S, B, M] of which row b has `lengths` [B] places."""
        past = torch.arange(len(memory), device=memory.device)[:, None] >= lengths
        mean = memory.masked_fill(past[:, :, None], 0).sum(0) / lengths[:, None]
        first = torch.tanh(self.initial(mean)).to(mean.dtype).chunk(2 if self.cell == "lstm" else 1, dim=1)
        rows = memory.transpose(0, 1)
        projected = Memory(self.keys(rows), self.values(rows), past.T[:, None])
        return DecoderState(projected, (mean.new_zeros(len(mean), self.width), *first))

    def step(self, symbols: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """Consume `symbols` [N]; returns the next ones' log-probabilities [N, V], where in the memory the decoder
        looked [N, S] (weights that sum to 1), and the state after.
        """
        x_gates = self.input_share(self.embedding(symbols))
        attended, *states = state.carried
        attended, after, attention, _ = attend(
            self.cell, x_gates, attended, tuple(states), state.memory, self.weights()
        )
        carried = (attended, *after)
        log_probabilities = self.logits(carried[0]).log_softmax(-1)
        return log_probabilities, attention, state._replace(carried=carried)

    def forward(self, memory: Tensor, lengths: Tensor, inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Logits [T, B, V] after each of the `inputs` [T, B], which are given whatever the decoder would say.

        `chosen` [T, B] bool keeps some of them: then the logits are [chosen, V], in the order of steps.
        """
        state = self.start(memory, lengths)
        x = drop(self.embedding(inputs), self.dropout, self.training)
        kept = None
        if self.training and self.dropout:
            kept = drop(x.new_ones(1, inputs.shape[1], self.width), self.dropout, True)[0]
        x_gates = self.input_share(x).to(x.dtype)
        _, *states = state.carried
        outputs = attended_sequence(self.cell, x_gates, tuple(states), state.memory, self.weights(), kept)
        return self.logits(outputs if chosen is None else outputs[chosen])

    def loss(
        self,
        memory: Tensor,
        lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The mean loss in nats a symbol of `targets` [T, B], rows of `target_lengths` [B], one after another.

        The last of the V symbols both begins and ends a sequence. `label_smoothing` (default 0) is the part of
        each target's probability spread over all symbols (Szegedy et al. 2016).
        """
        start = targets.new_full((1, targets.shape[1]), len(self.bias) - 1)
        chosen = targets.new_ones(targets.shape).cumsum(0) <= target_lengths
        logits = self(memory, lengths, torch.cat([start, targets[:-1]]), chosen)
        return F.cross_entropy(logits, targets[chosen], label_smoothing=label_smoothing)

    def input_share(self, embedded: Tensor) -> Tensor:
        """The embedded symbols' share of the gates, [..., gates], with all biases that can be added now."""
        weight = self._layer._parameter("weight_ih_l0")[:, : self.width]
        return F.linear(embedded, weight, self._layer._bias_of_input("_l0"))

    def weights(self) -> Weights:
        """The weights of the recurrence, those that are multiplied in the precision that autocast wants."""
        layer, device = self._layer, self.bias.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.bias.dtype
        return Weights(
            layer._parameter("weight_ih_l0")[:, self.width :].to(dtype),
            layer._parameter("weight_hh_l0").to(dtype),
            layer._parameter("bias_hh_l0")[2 * layer.hidden_size :] if self.cell == "gru" else None,
            self.combine.weight.to(dtype),
            self.combine.bias,
        )

    def logits(self, attended: Tensor) -> Tensor:
        """The logits [..., V] of the next symbol, of attended vectors [..., E]."""
        return F.linear(attended, self.embedding.weight, self.bias)

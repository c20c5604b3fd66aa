"""Models that train: a front end, recurrent layers and a head, in torch.

The names and shapes of their parameters are those of `unrolled.modelfile.Architecture`, so that what is trained
here runs without torch in `unrolled.stream`. This file knows no task and no file.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.modelfile import Architecture
from unrolled.nn import GRU, LSTM, RNN

__all__ = ["LanguageModel", "State"]

State = tuple[Tensor, ...]
"""What is carried from chunk to chunk: (h, c) for an LSTM, (h,) otherwise, each [L, B, H]."""


class LanguageModel(nn.Module):
    """Symbols in, a distribution over the next symbol out.

    `dropout` (default 0) applies to what one recurrent layer gives to the next and to the head, with one mask
    for all steps of a chunk (Gal & Ghahramani 2016), so that noise does not keep the state from remembering.
    The embedded symbols are left whole: a run that dropped them too did worse (docs/training.md). Forget
    gates start with bias 1 (Gers et al. 2000; Jozefowicz et al. 2015).
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        self.dropout = dropout
        self.embedding = nn.Embedding(architecture.symbols, architecture.embedding)
        kind = {"lstm": LSTM, "gru": GRU, "rnn": RNN}[architecture.cell]
        widths = [architecture.embedding, *[architecture.hidden] * architecture.layers]
        self.recurrent = nn.ModuleList(kind(*pair) for pair in itertools.pairwise(widths))
        self.head = nn.Linear(architecture.hidden, architecture.symbols)
        for layer in self.recurrent:
            start_open(layer)

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor | None = None,
        state: State | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run `inputs` [T, B] from `state` (default zero).

        Returns the logits [T, B, V], or, with `targets` [T, B], the mean loss in nats a symbol; and the state
        after the last step. `resets` [T, B] is as in `unrolled.nn`.
        """
        x = self.embedding(inputs)
        finals = []
        for number, layer in enumerate(self.recurrent):
            before = state and tuple(part[number : number + 1] for part in state)
            x, final = run_layer(layer, self._drop(x) if number else x, before, resets)
            finals.append(final)
        logits = self.head(self._drop(x))
        after = tuple(torch.cat(parts) for parts in zip(*finals, strict=True))
        if targets is None:
            return logits, after
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), after

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout on x [T, B, width] with the same mask at every step."""
        if not self.training or not self.dropout:
            return x
        kept = 1.0 - self.dropout
        return x * x.new_empty(1, *x.shape[1:]).bernoulli_(kept).div_(kept)


def run_layer(layer: nn.Module, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
    """One recurrent layer, its state always a tuple: torch's convention has a bare tensor where there is no c."""
    if isinstance(layer, LSTM):
        output, (h, c) = layer(x, state, resets=resets)
        return output, (h, c)
    output, h = layer(x, state and state[0], resets=resets)
    return output, (h,)


def start_open(layer: nn.Module) -> None:
    """Biases zero, and an LSTM's forget gates open (bias 1), so that it starts by remembering."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
            if name == "bias_ih_l0" and isinstance(layer, LSTM):
                parameter[layer.hidden_size : 2 * layer.hidden_size] = 1.0

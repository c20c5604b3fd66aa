"""The model of the text task."""

from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.architecture import TextArchitecture
from unrolled.models.layers import Head, Layers, State, drop

__all__ = ["LanguageModel"]


class LanguageModel(nn.Module):
    """Symbols in, a distribution over the next symbol out.

    `dropout` (default 0) applies to what one recurrent layer gives to the next and to the head. The embedded
    symbols are left whole: a run that dropped them too did worse (docs/training.md). `longest_gap` is that of
    `Layers`.
    """

    def __init__(
        self, architecture: TextArchitecture, dropout: float = 0.0, longest_gap: int | None = None
    ) -> None:
        super().__init__()
        sizes = architecture
        self.dropout = dropout
        self.embedding = nn.Embedding(sizes.symbols, sizes.embedding)
        self.recurrent = Layers(
            sizes.cell, sizes.embedding, sizes.hidden, sizes.layers, dropout=dropout, longest_gap=longest_gap
        )
        self.head = Head(self.recurrent.width, sizes.symbols)

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
        x, after = self.recurrent(inputs, state, resets=resets, embedding=self.embedding.weight)
        logits = self.head(drop(x, self.dropout, self.training))
        if targets is None:
            return logits, after
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), after

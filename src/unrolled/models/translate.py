"""The model of the translate task."""

from torch import Tensor, nn

from unrolled.architecture import TranslateArchitecture
from unrolled.models.decoder import AttentionDecoder
from unrolled.models.layers import Layers, drop

__all__ = ["Translator"]


class Translator(nn.Module):
    """A bidirectional encoder, and a decoder that attends to what it gives (Bahdanau, Cho & Bengio 2015).

    `dropout` (default 0) applies to the embedded symbols of both sides, between the encoder's layers, to what it
    gives, and to the decoder's attended vector. `label_smoothing` (default 0) is the part of each target's
    probability spread over all symbols while training (Szegedy et al. 2016).
    """

    def __init__(
        self, architecture: TranslateArchitecture, dropout: float = 0.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        sizes = architecture
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.embedding = nn.Embedding(sizes.source_symbols, sizes.embedding)
        self.encoder = Layers(
            sizes.cell, sizes.embedding, sizes.hidden, sizes.layers, bidirectional=True, dropout=dropout
        )
        self.decoder = AttentionDecoder(
            sizes.target_symbols, sizes.embedding, sizes.hidden, self.encoder.width, sizes.cell, dropout
        )

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        """What the encoder gives for each symbol of `source` [S, B], rows of `lengths` [B]: [S, B, 2 H]."""
        x, _ = self.encoder(drop(self.embedding(source), self.dropout, self.training), lengths=lengths)
        return drop(x, self.dropout, self.training)

    def forward(
        self, source: Tensor, source_lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, tuple[()]]:
        """The mean loss in nats a symbol of `targets` [T, B], rows of `target_lengths` [B], each with its end.

        `source` is [S, B], rows of `source_lengths` [B]. There is no state to go on from.
        """
        memory = self.encode(source, source_lengths)
        smoothing = self.label_smoothing if self.training else 0.0
        return self.decoder.loss(memory, source_lengths, targets, target_lengths, smoothing), ()

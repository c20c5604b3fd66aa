"""The model of the caption task."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.architecture import GRID_STAGES, CaptionArchitecture
from unrolled.models.backbone import Backbone
from unrolled.models.decoder import AttentionDecoder
from unrolled.models.layers import BatchNorm

__all__ = ["CaptionNetwork", "Stage"]

POSITION_DEVIATION = 0.2


class Stage(nn.Module):
    """Half the picture's side, then a residual block (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.reduce_norm = BatchNorm(outputs)
        self.first = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.first_norm = BatchNorm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = BatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, S, S] to [B, outputs, (S + 1) // 2, (S + 1) // 2]."""
        x = F.relu(self.reduce_norm(self.reduce(x)))
        change = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(x + change)


class CaptionNetwork(nn.Module):
    """Pictures in, the words of a caption out, by attention over a grid of places (Xu et al. 2015).

    To what is seen at a place a learned position is added, so that attention can go by left and right, above and
    below. `dropout` (default 0) is the decoder's, `weights` a file of those of the backbone, if there is one.
    """

    def __init__(
        self, architecture: CaptionArchitecture, dropout: float = 0.0, weights: str | None = None
    ) -> None:
        super().__init__()
        sizes = architecture
        self.grid: nn.Module
        if sizes.backbone:
            self.grid = Backbone(sizes.backbone, sizes.channels, weights)
        else:
            widths = [sizes.channels, *(sizes.width * 2**stage for stage in range(GRID_STAGES))]
            self.grid = nn.Sequential(*(Stage(widths[n], widths[n + 1]) for n in range(GRID_STAGES)))
        self.position = nn.Parameter(torch.randn(sizes.memory, sizes.side, sizes.side) * POSITION_DEVIATION)
        self.decoder = AttentionDecoder(
            sizes.symbols, sizes.embedding, sizes.hidden, sizes.memory, sizes.cell, dropout
        )

    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, C, S, S], bytes, as memory [places, B, M], rows from the top, and its lengths [B]."""
        grid = self.grid(pictures.float() / 255) + self.position
        memory = grid.flatten(2).permute(2, 0, 1).contiguous()
        places, batch = memory.shape[:2]
        return memory, torch.full((batch,), places, device=memory.device)

    def forward(self, pictures: Tensor, targets: Tensor, target_lengths: Tensor) -> tuple[Tensor, tuple[()]]:
        """The mean loss in nats a symbol of `targets` [T, B], rows of `target_lengths` [B], each with its end.

        `pictures` is [B, C, S, S], bytes. There is no state to go on from.
        """
        memory, lengths = self.look(pictures)
        return self.decoder.loss(memory, lengths, targets, target_lengths), ()

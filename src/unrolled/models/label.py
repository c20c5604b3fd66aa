"""The model of the label task: a front end, recurrent layers in one or both directions, a head for each use."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.architecture import FILM_CHANNELS, FILM_GROUPS, NO_EVENT, LabelArchitecture, film_side
from unrolled.models.layers import Head, Layers, drop

__all__ = ["FilmFront", "LabelNetwork", "WordFront"]


class WordFront(nn.Module):
    """A word's vector beside what two LSTMs, one from each side, make of its characters (Ling et al. 2015)."""

    def __init__(self, sizes: LabelArchitecture) -> None:
        super().__init__()
        self.words = nn.Embedding(sizes.inputs, sizes.embedding)
        self.characters = nn.Embedding(sizes.characters, sizes.spelling)
        self.spelling = Layers("lstm", sizes.spelling, sizes.spelling, 1, bidirectional=True)

    def forward(self, inputs: Tensor, spellings: Tensor, spelling_lengths: Tensor, spelling_of: Tensor) -> Tensor:
        """Words [T, B], each spelled as column `spelling_of` [T, B] of `spellings` [C, U] -> [T, B, width]."""
        _, (h, _) = self.spelling(self.characters(spellings), lengths=spelling_lengths)
        spelled = torch.cat([h[0], h[1]], dim=-1)
        return torch.cat([self.words(inputs), F.embedding(spelling_of, spelled)], dim=-1)


class FilmFront(nn.Module):
    """Three convolutions with stride 2, each normalised in groups (Wu & He 2018), and a linear layer."""

    def __init__(self, sizes: LabelArchitecture) -> None:
        super().__init__()
        channels = [3, *FILM_CHANNELS]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(FILM_GROUPS, after) for after in FILM_CHANNELS)
        self.out = nn.Linear(FILM_CHANNELS[-1] * film_side(sizes.inputs) ** 2, sizes.embedding)

    def forward(self, inputs: Tensor) -> Tensor:
        """Frames [T, B, side, side, 3] of bytes -> [T, B, embedding]."""
        x = inputs.flatten(0, 1).permute(0, 3, 1, 2).float() / 255 - 0.5
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x).float()))  # torch normalises bfloat16 five times as slowly
        return F.relu(self.out(x.flatten(1))).view(*inputs.shape[:2], -1)


class Member(nn.Module):
    """Recurrent layers in one or both directions: `head` reads the forward ones, `offline` all of them."""

    def __init__(self, sizes: LabelArchitecture, dropout: float, longest_gap: int | None) -> None:
        super().__init__()
        layers = (sizes.cell, sizes.width, sizes.hidden, sizes.layers)
        self.dropout = dropout
        self.recurrent = Layers(*layers, dropout=dropout, longest_gap=longest_gap)
        self.head = Head(self.recurrent.width, sizes.classes)
        self.bidirectional = sizes.bidirectional
        if sizes.bidirectional:
            self.backward_recurrent = Layers(*layers, dropout=dropout, longest_gap=longest_gap)
            self.offline = Head(2 * self.recurrent.width, sizes.classes)

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """The logits [T, B, classes] of `head` and, if there is one, of `offline` for x [T, B, width]."""
        h, _ = self.recurrent(x, lengths=lengths)
        h = drop(h, self.dropout, self.training)
        found = [self.head(h)]
        if self.bidirectional:
            turned = turn(lengths, len(x))
            b, _ = self.backward_recurrent(take(x, turned), lengths=lengths)
            b = drop(take(b, turned), self.dropout, self.training)
            found.append(self.offline(torch.cat([h, b], dim=-1)))
        return found


class LabelNetwork(nn.Module):
    """Steps in, an event for each out: by the step alone, by all up to it and, if bidirectional, by all.

    `alone` is the classifier of single steps that the others are to be measured by; the `members`, which read
    the same front end, have a head for each other way (Graves & Schmidhuber 2005). All are trained together, each
    by its own loss, and what the model says is the members' mean. `input_dropout` applies to what the front end
    gives, a mask for each member, `dropout` between layers and before the heads; `smoothing` is spread over the
    classes in training (Szegedy et al. 2016). `longest_gap` is that of `Layers`.
    """

    def __init__(
        self,
        architecture: LabelArchitecture,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        smoothing: float = 0.0,
        longest_gap: int | None = None,
    ) -> None:
        super().__init__()
        sizes = architecture
        self.input_dropout, self.smoothing = input_dropout, smoothing
        fronts = {"words": WordFront, "films": FilmFront}
        self.front = fronts[sizes.kind](sizes) if sizes.kind in fronts else None
        self.alone = Head(sizes.width, sizes.classes)
        self.members = nn.ModuleList(Member(sizes, dropout, longest_gap) for _ in range(sizes.members))

    def _each(self, inputs: Tensor, lengths: Tensor, **spelled: Tensor) -> list[list[Tensor]]:
        """For each way of reading, the logits [T, B, classes] of each that reads so."""
        x = inputs if self.front is None else self.front(inputs, **spelled)
        said = [member(drop(x, self.input_dropout, self.training), lengths) for member in self.members]
        return [[self.alone(x)], *(list(one) for one in zip(*said, strict=True))]

    def logits(self, inputs: Tensor, lengths: Tensor, **spelled: Tensor) -> list[Tensor]:
        """The logits [T, B, classes] by the step alone, by all up to it and, if bidirectional, by all."""
        return [torch.stack(each).mean(0) for each in self._each(inputs, lengths, **spelled)]

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        **spelled: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mean loss in nats a step over sequences [T, B, ...] of `lengths` [B], and no state.

        In training the mean over the ways of reading, of all members each on its own, else that of the best
        informed way. Steps count by `weights` [T, B] (default 1), a target of -1 does not.
        """
        known = (targets != NO_EVENT).float()
        weights = known if weights is None else weights * known
        if not self.training:
            return self._loss(self.logits(inputs, lengths, **spelled)[-1], targets, weights), ()
        ways = self._each(inputs, lengths, **spelled)
        losses = [torch.stack([self._loss(one, targets, weights) for one in each]).mean() for each in ways]
        return torch.stack(losses).mean(), ()

    def _loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        smoothing = self.smoothing if self.training else 0.0
        losses = F.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=NO_EVENT,
            label_smoothing=smoothing,
            reduction="none",
        )
        return (losses * weights.flatten()).sum() / weights.sum()


def turn(lengths: Tensor, steps: int) -> Tensor:
    """For each row the order [T, B] that turns its first `lengths` steps around and leaves the rest in place."""
    t = torch.arange(steps, device=lengths.device)[:, None]
    return torch.where(t < lengths, lengths - 1 - t, t)


def take(x: Tensor, order: Tensor) -> Tensor:
    """x [T, B, width] with each row's steps in `order` [T, B]."""
    return x.gather(0, order[:, :, None].expand(-1, -1, x.shape[-1]))

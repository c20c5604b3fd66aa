"""Beam search for the likeliest sequences of a decoder, the whole batch at once.

It knows a decoder by its `start` and `step` alone, and nothing of what the symbols mean.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Decoder", "Hypothesis", "search"]


class Decoder(Protocol):
    """What is searched: see `unrolled.models.decoder`, whose state can also `widen` and `choose`."""

    def start(self, memory: Tensor, lengths: Tensor) -> Any:
        """The state before the first symbol."""

    def step(self, symbols: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Log-probabilities [N, V] of what comes after `symbols` [N], the attention [N, S], the state after."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished sequence: its symbols [T], without start and end; `score`, by which it was ranked; and where in
    the memory the decoder looked, attention [T + 1, S'], a row a symbol and one for the end.
    """

    symbols: list[int]
    score: float
    attention: Tensor


@torch.no_grad()
def search(
    decoder: Decoder,
    memory: Tensor,
    lengths: Tensor,
    *,
    start: int,
    end: int,
    beam: int = 5,
    longest: int = 100,
    length_penalty: float = 0.0,
    coverage: float = 0.0,
) -> list[list[Hypothesis]]:
    """The best finished sequences for each row of `memory` [S, B, M], of which `lengths` [B] places count.

    At each step the `beam` likeliest unfinished ones are kept. A sequence is at most `longest` symbols and then
    `end`. Its score is that of Wu et al. (2016): log P / ((5 + n) / 6)^`length_penalty`, with n symbols, `end`
    among them, plus `coverage` times the sum over places of log min(1, attention received in all). A row is done
    when it has `beam` finished sequences, or when no unfinished one can still beat its best. At most `beam` are
    returned for a row, at least one, the best first.
    """
    rows = torch.arange(lengths.shape[0], device=memory.device)  # those not yet done
    finished: list[list[Hypothesis]] = [[] for _ in rows]
    state = decoder.start(memory, lengths)
    symbols = torch.full((len(rows),), start, device=memory.device)
    total = memory.new_zeros(len(rows), 1)
    written = symbols.new_empty(len(rows), 1, 0)
    looked = memory.new_empty(len(rows), 1, 0, len(memory))
    for step in range(longest + 1):
        logs, attention, state = decoder.step(symbols, state)
        width = total.shape[1]
        looked = torch.cat([looked, attention.view(len(rows), width, 1, -1)], 2)
        extended = total[:, :, None] + logs.view(len(rows), width, -1)
        size = extended.shape[2]
        best, place = extended.flatten(1).topk(min(beam, width * size), dim=1)
        ends = place % size == end
        if step == longest:
            best, place = extended[:, :, end], torch.arange(width, device=place.device) * size + end
            place = place.expand(len(rows), width)
            ends = torch.ones_like(place, dtype=torch.bool)
        penalty = ((5 + step + 1) / 6) ** length_penalty
        for at, number in ends.nonzero().tolist():
            parent = int(place[at, number]) // size
            row = int(rows[at])
            seen = looked[at, parent, :, : int(lengths[row])]
            covered = seen.sum(0).clamp(min=1e-9, max=1).log().sum()
            score = float(best[at, number] / penalty + coverage * covered)
            if score > -torch.inf:
                finished[row].append(Hypothesis(written[at, parent].tolist(), score, seen))
        if step == longest:
            break
        # The unfinished ones: as many as the beam, the ends left out.
        extended[:, :, end] = -torch.inf
        total, place = extended.flatten(1).topk(min(beam, width * size), dim=1)
        most = ((5 + longest + 1) / 6) ** length_penalty  # dividing a loss by the most makes it the least
        hope = (total[:, 0] / most).tolist()
        going = [
            at
            for at, row in enumerate(rows.tolist())
            if len(finished[row]) < beam
            and hope[at] > max((one.score for one in finished[row]), default=-torch.inf)
        ]
        if not going:
            break
        kept = torch.tensor(going, device=rows.device)
        total, place = total[kept], place[kept]
        parents, chosen = place // size, place % size
        hypotheses = (kept[:, None] * width + parents).flatten()
        state = state.choose(hypotheses, kept if len(kept) < len(rows) else None)
        rows = rows[kept]
        symbols = chosen.flatten()
        written = torch.cat([_take(written[kept], parents), chosen[:, :, None]], 2)
        looked = _take(looked[kept], parents)
    return [sorted(of_row, key=lambda one: -one.score)[:beam] for of_row in finished]


def _take(x: Tensor, parents: Tensor) -> Tensor:
    """What x [B, K, ...] holds for the hypotheses `parents` [B, K'] of each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], parents]

"""Beam search for the likeliest sequences of a decoder, the whole batch at once.

It knows a decoder by its `start` and `step` alone, and nothing of what the symbols mean.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Decoder", "Hypothesis", "search"]


class Decoder(Protocol):
    """What is searched: see `unrolled.models.decoder`, whose state can also `choose`."""

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
    search = _Search(memory, lengths, start, end, beam, longest, length_penalty, coverage)
    state = decoder.start(memory, lengths)
    for step in range(longest + 1):
        logs, attention, state = decoder.step(search.symbols, state)
        extended = search.extended(logs, attention)
        search.finish(extended, step)
        going = search.going_on(extended) if step < longest else None
        if going is None:
            break
        state = state.choose(*going)
    return search.best()


class _Search:
    """The unfinished hypotheses [B, K] of the B rows that are not done, and what is finished.

    `_total` [B, K] are their log-probabilities, `_written` [B, K, T] all of their symbols and `symbols` [B * K]
    the last ones, `_looked` [B, K, T, S] where the decoder looked.
    """

    def __init__(
        self,
        memory: Tensor,
        lengths: Tensor,
        start: int,
        end: int,
        beam: int,
        longest: int,
        length_penalty: float,
        coverage: float,
    ) -> None:
        count = len(lengths)
        self._lengths, self._end, self._beam, self._longest = lengths, end, beam, longest
        self._length_penalty, self._coverage = length_penalty, coverage
        self._rows = torch.arange(count, device=memory.device)
        self._finished: list[list[Hypothesis]] = [[] for _ in range(count)]
        self.symbols = torch.full((count,), start, device=memory.device)
        self._total = memory.new_zeros(count, 1)
        self._written = self.symbols.new_empty(count, 1, 0)
        self._looked = memory.new_empty(count, 1, 0, len(memory))

    def extended(self, logs: Tensor, attention: Tensor) -> Tensor:
        """The log-probabilities [B, K, V] of each with each symbol after it."""
        rows, width = self._total.shape
        self._looked = torch.cat([self._looked, attention.view(rows, width, 1, -1)], 2)
        return self._total[:, :, None] + logs.view(rows, width, -1)

    def finish(self, extended: Tensor, step: int) -> None:
        """Take up those among the best that end here; at the longest, all."""
        if step == self._longest:
            totals = extended[:, :, self._end]
            parents = torch.arange(totals.shape[1], device=totals.device).expand_as(totals)
            ends = torch.ones_like(totals, dtype=torch.bool)
        else:
            totals, parents, symbols = self._likeliest(extended)
            ends = symbols == self._end
        penalty = self._penalty(step + 1)
        for at, number in ends.nonzero().tolist():
            parent, row = int(parents[at, number]), int(self._rows[at])
            seen = self._looked[at, parent, :, : int(self._lengths[row])]
            covered = seen.sum(0).clamp(min=1e-9, max=1).log().sum()
            score = float(totals[at, number] / penalty + self._coverage * covered)
            if score > -torch.inf:
                self._finished[row].append(Hypothesis(self._written[at, parent].tolist(), score, seen))

    def going_on(self, extended: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Keep the likeliest that do not end here, as many as the beam, of the rows that are not done.

        Returns which hypotheses [B' * K'] they go on from, and the rows [B'] that are left (None: all), as a
        decoder's state is chosen by; None when all rows are done.
        """
        width = extended.shape[1]
        extended[:, :, self._end] = -torch.inf
        total, parents, symbols = self._likeliest(extended)
        most = self._penalty(self._longest + 1)  # dividing a loss by the most makes it the least
        hope = (total[:, 0] / most).tolist()
        going = [at for at, row in enumerate(self._rows.tolist()) if self._may_gain(self._finished[row], hope[at])]
        if not going:
            return None
        kept = torch.tensor(going, device=self._rows.device)
        self._total, parents, symbols = total[kept], parents[kept], symbols[kept]
        self.symbols = symbols.flatten()
        self._written = torch.cat([_take(self._written[kept], parents), symbols[:, :, None]], 2)
        self._looked = _take(self._looked[kept], parents)
        all_go_on = len(kept) == len(self._rows)
        self._rows = self._rows[kept]
        return (kept[:, None] * width + parents).flatten(), None if all_go_on else kept

    def best(self) -> list[list[Hypothesis]]:
        """The finished ones of every row, at most as many as the beam, the best first."""
        return [sorted(of_row, key=lambda one: -one.score)[: self._beam] for of_row in self._finished]

    def _likeliest(self, extended: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The totals of the likeliest, as many as the beam; which hypotheses they extend, and by which symbols."""
        _, width, size = extended.shape
        total, place = extended.flatten(1).topk(min(self._beam, width * size), dim=1)
        return total, place // size, place % size

    def _penalty(self, symbols: int) -> float:
        return float(((5 + symbols) / 6) ** self._length_penalty)

    def _may_gain(self, finished: list[Hypothesis], hope: float) -> bool:
        best = max((one.score for one in finished), default=-torch.inf)
        return len(finished) < self._beam and hope > best


def _take(x: Tensor, parents: Tensor) -> Tensor:
    """What x [B, K, ...] holds for the hypotheses `parents` [B, K'] of each row."""
    return x[torch.arange(len(x), device=x.device)[:, None], parents]

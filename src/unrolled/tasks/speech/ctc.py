"""From a model's outputs to symbols: greedy and prefix beam search for connectionist temporal classification.

CTC (Graves et al. 2006) gives a distribution over V symbols and the blank (the last class, V) at every step; a
string's probability is the sum over all paths that become it when repeats are joined and blanks removed. Greedy
decoding takes the best path. Prefix beam search (Hannun et al. 2014, algorithm 1) sums over the paths of each of
the most probable prefixes, and may weigh them with a language model.

Both read a stream: outputs come in pieces of any size, and symbols that no later output can change are given out
as soon as they are certain. What is kept does not grow with the stream. NumPy alone; nothing here knows sound.
"""

import copy
import math
from itertools import takewhile
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["BeamSearch", "Greedy", "LanguageModel", "Search", "log_softmax"]

MARGIN = 7.0  # nats: prefixes so far below the best are given up, so that symbols become certain soon
FLOOR = -12.0  # nats: symbols less probable than this do not extend a prefix
LONGEST_OPEN = 64  # symbols that may be undecided
PATIENCE = 20  # steps after which a symbol that the best prefix has kept is certain

Prefix = tuple[int, ...]


class LanguageModel(Protocol):
    """What weighs the symbols that may follow: a state for each prefix."""

    def first(self) -> Any:
        """The state before any symbol."""

    def after(self, state: Any, symbol: int) -> Any:
        """The state after one more symbol."""

    def scores(self, state: Any) -> list[float]:
        """What each of the V symbols adds to a prefix's log probability when it comes next."""


class Search(Protocol):
    """A stream of outputs in, a stream of symbols out."""

    def feed(self, logits: NDArray[np.float32]) -> list[int]:
        """Consume outputs [T, V + 1]; returns the symbols that have become certain."""

    def open(self) -> Prefix:
        """The best guess at what follows the certain symbols, if nothing more came."""

    def fork(self) -> Self:
        """A second search that goes on from here on its own."""


class Greedy:
    """The best path: the likeliest class of each step, repeats joined, blanks removed."""

    def __init__(self, blank: int) -> None:
        self._blank = blank
        self.last = blank

    def feed(self, logits: NDArray[np.float32]) -> list[int]:
        """Consume outputs [T, V + 1]; returns the symbols that they complete."""
        found = []
        for symbol in logits.argmax(axis=-1).tolist():
            if symbol not in (self.last, self._blank):
                found.append(symbol)
            self.last = symbol
        return found

    def open(self) -> Prefix:
        """Nothing: every symbol is certain at once."""
        return ()

    def fork(self) -> Self:
        """A second search that goes on from here on its own."""
        return copy.copy(self)


class _Entry(NamedTuple):
    """The log probability of a prefix's paths that end in a blank, and that do not; the language model's state."""

    blank: float
    symbol: float
    state: Any

    @property
    def total(self) -> float:
        return _log_add(self.blank, self.symbol)


class BeamSearch:
    """Prefix beam search with the `beam` best prefixes.

    A symbol is certain once all prefixes in the beam agree on it, or once the best has held on to it for
    `patience` steps; prefixes that say otherwise are given up then, so that live sound becomes text in time.
    `margin` and `floor` (nats) give up prefixes far below the best and symbols of next to no probability. With
    all three infinite and a wide beam the search is exact. Log probabilities are relative to the best prefix, so
    that a stream may last.
    """

    def __init__(
        self,
        blank: int,
        beam: int,
        language: LanguageModel | None = None,
        margin: float = MARGIN,
        floor: float = FLOOR,
        patience: float = PATIENCE,
    ) -> None:
        self._blank, self._beam = blank, beam
        self._patience = patience
        self._kept: tuple[tuple[int, int], ...] = ()  # the best prefix's symbols, and for how many steps each
        self._language = language
        self._margin, self._floor = margin, floor
        self._last = blank  # the last certain symbol; the blank before there is one
        self._entries: dict[Prefix, _Entry] = {(): _Entry(0.0, -math.inf, language and language.first())}

    def feed(self, logits: NDArray[np.float32]) -> list[int]:
        """Consume outputs [T, V + 1]; returns the symbols that have become certain."""
        certain: list[int] = []
        for row in logits:
            self._step(log_softmax(row))
            certain += self._settle()
        return certain

    def open(self) -> Prefix:
        """The best prefix beyond the certain symbols."""
        return next(iter(self._entries))

    def scores(self) -> dict[Prefix, float]:
        """The log probabilities of the prefixes in the beam, relative to the best, which comes first."""
        return {prefix: entry.total for prefix, entry in self._entries.items()}

    def fork(self) -> Self:
        """A second search that goes on from here on its own."""
        return copy.copy(self)  # nothing in it is ever changed in place

    def _step(self, log_probabilities: list[float]) -> None:
        likely = [s for s, value in enumerate(log_probabilities[: self._blank]) if value > self._floor]
        stay = log_probabilities[self._blank]
        blank: dict[Prefix, float] = {}
        symbol: dict[Prefix, float] = {}
        for prefix, entry in self._entries.items():
            total, last = entry.total, self._last_of(prefix)
            blank[prefix] = total + stay
            if last != self._blank:
                _add(symbol, prefix, entry.symbol + log_probabilities[last])
            weights = self._language and self._language.scores(entry.state)
            for following in likely:
                before = entry.blank if following == last else total
                if before > -math.inf:
                    weight = weights[following] if weights else 0.0
                    _add(symbol, (*prefix, following), before + log_probabilities[following] + weight)
        self._entries = self._best(blank, symbol)

    def _best(self, blank: dict[Prefix, float], symbol: dict[Prefix, float]) -> dict[Prefix, _Entry]:
        never = -math.inf
        totals = {p: _log_add(blank.get(p, never), symbol.get(p, never)) for p in (blank | symbol)}
        kept = sorted(totals, key=lambda prefix: -totals[prefix])[: self._beam]
        best = totals[kept[0]]
        return {
            prefix: _Entry(blank.get(prefix, never) - best, symbol.get(prefix, never) - best, self._state(prefix))
            for prefix in kept
            if totals[prefix] >= best - self._margin
        }

    def _state(self, prefix: Prefix) -> Any:
        if self._language is None:
            return None
        if prefix in self._entries:
            return self._entries[prefix].state
        return self._language.after(self._entries[prefix[:-1]].state, prefix[-1])

    def _settle(self) -> list[int]:
        """Take off the symbols that have become certain; prefixes without them are given up."""
        self._kept = _kept_on(self._kept, self.open())
        certain: list[int] = []
        while best := self.open():
            agreed = {p: entry for p, entry in self._entries.items() if p[:1] == best[:1]}
            undecided = self._kept[0][1] < self._patience and len(best) <= LONGEST_OPEN
            if len(agreed) < len(self._entries) and undecided:
                break
            self._last = best[0]
            certain.append(best[0])
            self._kept = self._kept[1:]
            self._entries = {prefix[1:]: entry for prefix, entry in agreed.items()}
        return certain

    def _last_of(self, prefix: Prefix) -> int:
        return prefix[-1] if prefix else self._last


def _kept_on(before: tuple[tuple[int, int], ...], best: Prefix) -> tuple[tuple[int, int], ...]:
    """One step on: symbols in the same place as before are a step older; from the first that is not, new."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1], zip(before, best, strict=False)))
    return tuple((symbol, before[i][1] + 1 if i < same else 0) for i, symbol in enumerate(best))


def log_softmax(logits: NDArray[np.float32]) -> list[float]:
    """The log probabilities of one step's outputs [V + 1], in float64 and in one order of summation."""
    values = [float(value) for value in logits]
    highest = max(values)
    total = highest + math.log(math.fsum(math.exp(value - highest) for value in values))
    return [value - total for value in values]


def _add(into: dict[Prefix, float], prefix: Prefix, value: float) -> None:
    into[prefix] = _log_add(into[prefix], value) if prefix in into else value


def _log_add(left: float, right: float) -> float:
    if left < right:
        left, right = right, left
    return left if right == -math.inf else left + math.log1p(math.exp(right - left))

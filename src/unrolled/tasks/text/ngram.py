"""Two baselines for a text model: a unigram and an n-gram with interpolated modified Kneser-Ney smoothing.

They say how good a prediction needs no network at all. This file sees symbol ids only: it knows nothing about
characters, files or models.

With c a context, w a symbol and c' the context without its first symbol:

    P(w | c) = (n(c w) - D(n(c w))) / n(c)  +  weight(c) * P(w | c')        with 1 / V below the empty context

where n counts occurrences at the highest order and, at every lower order, how many different symbols came
before (the text's beginning counts as one). D is one discount for a count of 1, one for 2, one for 3 or more;
weight(c) is the mass so saved, handed to the shorter context. Chen & Goodman 1999, "An empirical study of
smoothing techniques for language modeling", after Kneser & Ney 1995.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NGram", "ngram", "unigram"]

Symbols = npt.NDArray[np.integer]
Ids = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

UNSEEN = -1
DEFAULT_DISCOUNT = 0.5  # where a text is too small or too regular for its discounts to be estimated
LEAST_DISCOUNT = 0.1  # keeps some mass for symbols never seen after a context


def unigram(train: Symbols, held_out: Symbols, size: int) -> float:
    """Mean nats of a held-out symbol when each is predicted by how often it stands in `train`.

    `size` is V: ids are in [0, V). Symbols that are not in `train` share a little uniform mass.
    """
    return NGram(train, size, order=1).nats(held_out)


def ngram(train: Symbols, held_out: Symbols, size: int, order: int = 5) -> float:
    """Mean nats of a held-out symbol when each is predicted from the `order` - 1 symbols before it.

    The held-out symbols are read as one stream that continues `train`; ids are in [0, `size`).
    """
    return NGram(train, size, order).nats(held_out)


class NGram:
    """An n-gram model of the ids `train` [N] in [0, `size`), with contexts of up to `order` - 1 symbols."""

    def __init__(self, train: Symbols, size: int, order: int = 5) -> None:
        self.size = size
        symbols = train.astype(np.int64)  # keys outgrow the narrow type that ids may come in
        self._tail = symbols[max(len(symbols) - order + 1, 0) :]
        self._levels: list[_Level] = []

        contexts = 1  # below the single symbols there is only the empty context
        keys, number, counts = np.unique(symbols, return_inverse=True, return_counts=True)
        for length in range(2, min(order, len(symbols)) + 1):
            # number [N - length + 2]: which shorter n-gram ends at each position
            longer_keys, first, longer_number, longer_counts = np.unique(
                number[:-1] * size + symbols[length - 1 :],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            self._levels.append(_smooth(keys, _beginnings(number, first), contexts, size))
            contexts = len(keys)
            keys, number, counts = longer_keys, longer_number, longer_counts
        self._levels.append(_smooth(keys, counts, contexts, size))

    def probabilities(self, stream: Symbols) -> Doubles:
        """P of every symbol of `stream` [T] given up to `order` - 1 symbols before it in the stream: [T]."""
        probability = np.full(len(stream), 1.0 / self.size)
        context = np.zeros(len(stream), np.int64)
        for level in self._levels:
            number = level.find(context * self.size + stream)  # after an UNSEEN context the key is negative
            probability = level.discounted[number] + level.weight[context] * probability
            context = np.concatenate([[UNSEEN], number[:-1]])
        return probability

    def nats(self, held_out: Symbols) -> float:
        """Mean negative log-probability of `held_out` [T] as the continuation of the training text."""
        stream = np.concatenate([self._tail, held_out])
        return float(-np.log(self.probabilities(stream)[len(self._tail) :]).mean())


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length, numbered in the order of their keys.

    An n-gram's key is (its context's number in the level below) * V + (its last symbol). Numbering each level
    anew keeps keys below N * V, inside 64 bits for any order and vocabulary.
    """

    keys: Ids  # [n-grams], ascending
    discounted: Doubles  # [n-grams + 1]: (n - D) / n(context); the last entry serves UNSEEN and is 0
    weight: Doubles  # [contexts + 1]: the share of the shorter context; the last entry serves UNSEEN and is 1

    def find(self, keys: Ids) -> Ids:
        """The numbers of the n-grams with these keys, UNSEEN where there is none."""
        nearest = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[nearest] == keys, nearest, UNSEEN)


def _beginnings(ends: Ids, first: Ids) -> Ids:
    """How many different symbols stand before each n-gram, the beginning of the text counted as one.

    `ends`: which n-gram ends at each position. `first`: a position of each distinct n-gram one symbol longer.
    """
    beginnings = np.bincount(ends[1:][first], minlength=int(ends.max()) + 1)
    beginnings[ends[0]] += 1
    return beginnings


def _smooth(keys: Ids, counts: Ids, contexts: int, size: int) -> _Level:
    """Discount the counts of the n-grams with these keys; `contexts` is how many the level below numbers."""
    discount = _discounts(counts)[np.minimum(counts, 3)]
    context = keys // size
    total = np.bincount(context, counts, contexts)
    saved = np.bincount(context, discount, contexts)
    # a context that stands only at the text's very end was never followed: it leaves all to the shorter one
    weight = np.divide(saved, total, out=np.ones(contexts), where=total > 0)
    discounted = (counts - discount) / total[context]
    return _Level(keys, np.append(discounted, 0.0), np.append(weight, 1.0))


def _discounts(counts: Ids) -> Doubles:
    """What to take off a count of 0, 1, 2, and 3 or more (Chen & Goodman 1999, modified Kneser-Ney)."""
    n1, n2, n3, n4 = np.bincount(counts.clip(max=5), minlength=6)[1:5].tolist()
    if 0 in (n1, n2, n3, n4):
        return np.array([0.0, *[DEFAULT_DISCOUNT] * 3])
    y = n1 / (n1 + 2 * n2)
    estimated = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return np.array([0.0, *np.maximum(estimated, LEAST_DISCOUNT)])

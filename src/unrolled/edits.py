"""How wrong a text is: edits, and the error rates that speech recognition is measured in."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["edits", "error_rates"]


def edits(reference: Iterable[Any], hypothesis: Iterable[Any]) -> int:
    """How many insertions, deletions and substitutions make `reference` of `hypothesis` (Levenshtein 1966)."""
    numbers: dict[Any, int] = {}
    numbered = ([numbers.setdefault(one, len(numbers)) for one in text] for text in (reference, hypothesis))
    shorter, longer = sorted(map(np.array, numbered), key=len)
    places = np.arange(len(longer) + 1)
    row = places
    for one in shorter:
        best = row + 1
        best[1:] = np.minimum(best[1:], row[:-1] + (longer != one))
        row = np.minimum.accumulate(best - places) + places  # each place also by insertions from one before it
    return int(row[-1])


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Edits in all `hypotheses` over the length of all `references`, for characters and for words, and the part
    of the texts that is not right as a whole.
    """
    pairs = list(zip(references, hypotheses, strict=True))
    return {
        "character_error_rate": _rate([(list(one), list(other)) for one, other in pairs]),
        "word_error_rate": _rate([(one.split(), other.split()) for one, other in pairs]),
        "text_error_rate": sum(one != other for one, other in pairs) / len(pairs),
    }


def _rate(pairs: list[tuple[list[str], list[str]]]) -> float:
    return sum(edits(one, other) for one, other in pairs) / max(1, sum(len(one) for one, _ in pairs))

"""Sentences of a translation, cut into symbols of a vocabulary.

A sentence is read as if a space stood before it, so that its first word is the symbol that it is elsewhere. This
file knows no model.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unrolled import vocabulary
from unrolled.vocabularies.words import WORD
from unrolled.vocabulary import Vocabulary, WordVocabulary

__all__ = ["END", "Symbols", "encode", "labels", "learn", "pieces"]

Symbols = NDArray[np.int64]

END = "(end)"
"""How the sign that ends a sentence is drawn."""


def learn(level: str, texts: Sequence[str], size: int | None) -> Vocabulary:
    """The vocabulary of these sentences, each of which begins with a space, as words within one do."""
    return vocabulary.learn(level, (f" {text}\n" for text in texts), size)


def encode(known: Vocabulary, text: str) -> Symbols:
    """The symbols of a sentence [T + 1], the last of which ends it."""
    return np.append(known.encode(f" {text.strip()}"), known.size)


def pieces(known: Vocabulary, text: str) -> list[str]:
    """The text of each symbol of a sentence [T], a word with the space before it; unknown words as they are."""
    spaced = f" {text.strip()}"
    if isinstance(known, WordVocabulary):
        return WORD.findall(spaced)
    return known.texts(known.encode(spaced).tolist())


def labels(written: Sequence[str]) -> list[str]:
    """Pieces as they are drawn: one that goes on within a word begins with a middle dot, an empty one is blank."""
    starts = (piece.startswith(" ") or piece == END for piece in written)
    return [
        (piece.strip() or "␣") if start else piece and f"·{piece}"
        for piece, start in zip(written, starts, strict=True)
    ]

"""Sentences of a translation: which are trained on, and how each is cut into symbols of a vocabulary.

A sentence is read as if a space stood before it, so that its first word is the symbol that it is elsewhere. This
file knows no model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled import vocabulary, whereabouts
from unrolled.examples import ExampleOptions, Refused, divide
from unrolled.tasks.translate import numberwords, parallel
from unrolled.tasks.translate.parallel import Pairs
from unrolled.vocabularies.words import WORD
from unrolled.vocabulary import Vocabulary, WordVocabulary

__all__ = ["END", "Data", "Symbols", "encode", "labels", "learn", "pieces", "read"]

Symbols = NDArray[np.int64]

SMALL_TIMES = 10
"""How often a pass reads each of the smallest built-in numbers, a few of which stand in no other (null)."""

END = "(end)"
"""How the sign that ends a sentence is drawn."""


class Data(NamedTuple):
    """Pairs to train on, pairs held out, what they are called, and SHA-256 of all of them."""

    train: Pairs
    held_out: Pairs
    names: list[str]
    fingerprint: str


def read(options: ExampleOptions, paths: Sequence[str | Path], seed: int, refused: Refused) -> Data:
    """The pairs of `paths` (without: numbers in words) to train on, and those held out of them or named so.

    Pairs that cannot be used go to `refused`; raises `InputError` for files that cannot.
    """
    always: Pairs = []
    pairs: Pairs
    if paths:
        pairs, names = parallel.read(paths, refused), [str(path) for path in paths]
    else:
        every, names = numberwords.pairs(), [numberwords.BUILTIN]
        always, pairs = every[: numberwords.ALWAYS_KNOWN] * SMALL_TIMES, every[numberwords.ALWAYS_KNOWN :]
    if options.held_out is not None:
        train: Pairs = [*always, *pairs]
        held_out: Pairs = parallel.read(whereabouts.named(options.held_out), refused)
    else:
        first, second = divide(len(pairs), options.split, seed)
        train, held_out = [*always, *(pairs[n] for n in first)], [pairs[n] for n in second]
    return Data(train, held_out, names, parallel.fingerprint([*train, *held_out]))


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

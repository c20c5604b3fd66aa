"""Symbols that are words and marks, the most frequent of a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import InputError
from unrolled.vocabularies.base import Ids, Vocabulary, malformed

__all__ = ["WORD", "WORD_VOCABULARY", "WordVocabulary"]

UNKNOWN_WORD = "<unk>"  # never a piece of a text: WORD cuts it into three
WORD = re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s")
"""One piece of a text."""
WORD_VOCABULARY = 20_000


class WordVocabulary(Vocabulary):
    """The most frequent words and marks, each with the space before it, and `<unk>` (id 0) for all others.

    A piece is, by the expression `WORD`: a word with its apostrophes ("don't"), or one mark that is neither
    word nor space, each with one space before it if there is one; or else a single white-space character.
    Every character of a text belongs to exactly one piece, so joined pieces are the text again.
    """

    level = "word"

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__([piece.encode("utf-8") for piece in (UNKNOWN_WORD, *words)])
        self._words = words
        self._ids = {word: number for number, word in enumerate(words, start=1)}

    def byte_count(self, ids: npt.NDArray[np.integer]) -> int | None:
        """The bytes of UTF-8 that the symbols [T] stand for; None where one is `<unk>`."""
        return None if (ids == 0).any() else super().byte_count(ids)

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int = WORD_VOCABULARY) -> WordVocabulary:
        """The `vocab_size` - 1 most frequent pieces of `texts`; of equally frequent ones the first seen.

        Raises InputError for a size below 2.
        """
        if vocab_size < 2:
            raise InputError(f"a word vocabulary needs a size of at least 2, not {vocab_size}")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(WORD.findall(text))
        return cls([word for word, _ in counts.most_common(vocab_size - 1)])

    def _encode(self, text: str) -> Ids:
        """One id a piece of the text, 0 for a piece that is not held."""
        return np.array([self._ids.get(word, 0) for word in WORD.findall(text)], np.int64)

    def _content(self) -> dict[str, Any]:
        return {"words": list(self._words)}

    @classmethod
    def _from_json(cls, document: dict[str, Any]) -> WordVocabulary:
        words = document.get("words")
        if not isinstance(words, list) or not words:
            raise malformed("its words are not a list with at least one word")
        for word in words:
            if not isinstance(word, str) or not WORD.fullmatch(word):
                raise malformed(f"its words hold {word!r}, which is not one piece of a text")
        if len(set(words)) < len(words):
            raise malformed("its words hold one twice")
        return cls(words)

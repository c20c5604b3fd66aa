"""Symbols that are byte-pair pieces, which the `tokenizers` library learns and cuts a text into."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.errors import InputError
from unrolled.extras import extra
from unrolled.vocabularies.base import Ids, Vocabulary, malformed, utf8

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BPE_VOCABULARY", "BpeVocabulary"]

LINE = re.compile(r"[^\n]*\n|[^\n]+")
BPE_VOCABULARY = 4_096


class BpeVocabulary(Vocabulary):
    """Byte-level byte pairs (Sennrich et al. 2016, GPT-2's bytes), learnt by the `tokenizers` library.

    All 256 bytes are symbols, so every text can be said. No piece crosses a newline. The model file holds the
    library's own document, which its `Tokenizer.from_str` reads.
    """

    level = "bpe"

    def __init__(self, document: dict[str, Any], pieces: Sequence[bytes]) -> None:
        super().__init__(pieces)
        self._document = document
        self._tokenizer: Tokenizer | None = None  # built when something is first encoded

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int = BPE_VOCABULARY) -> BpeVocabulary:
        """At most `vocab_size` symbols learnt from `texts`; fewer where no pair is left to join.

        Raises InputError for a size below 256, and where `tokenizers` is not installed.
        """
        if vocab_size < 256:
            raise InputError(f"a bpe vocabulary needs a size of at least 256, one a byte, not {vocab_size}")
        library = _tokenizers()
        byte_level = library.pre_tokenizers.ByteLevel
        lines = library.pre_tokenizers.Split("\n", "merged_with_previous")
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([lines, byte_level(add_prefix_space=False)])
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=byte_level.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls._from_json({"tokenizer": json.loads(tokenizer.to_str())})

    def _encode(self, text: str) -> Ids:
        """The byte-pair ids of the text; raises InputError where `tokenizers` is not installed."""
        if self._tokenizer is None:
            self._tokenizer = self._build_tokenizer()
        utf8(text)  # the library's own refusal would not say what is wrong
        lines = self._tokenizer.encode_batch_fast(LINE.findall(text), add_special_tokens=False)
        return np.array([symbol_id for line in lines for symbol_id in line.ids], np.int64)

    def _content(self) -> dict[str, Any]:
        return {"tokenizer": self._document}

    @classmethod
    def _from_json(cls, document: dict[str, Any]) -> BpeVocabulary:
        tokenizer = document.get("tokenizer")
        model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
        vocab = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(tokenizer, dict) or not isinstance(vocab, dict):
            raise malformed("its tokenizer has no model.vocab")
        byte_of = {letter: byte for byte, letter in enumerate(_byte_letters())}
        if not byte_of.keys() <= vocab.keys():
            raise malformed("its tokenizer lacks some of the 256 bytes")
        piece_of = {number: piece for piece, number in vocab.items() if isinstance(number, int)}
        if piece_of.keys() != set(range(len(vocab))):
            raise malformed(f"its tokenizer's {len(vocab)} pieces are not numbered from 0 without a gap")
        try:
            pieces = [bytes(byte_of[letter] for letter in piece_of[number]) for number in range(len(vocab))]
        except KeyError as error:
            raise malformed(f"its tokenizer's pieces hold {error}, which stands for no byte") from error
        return cls(tokenizer, pieces)

    def _build_tokenizer(self) -> Tokenizer:
        library = _tokenizers()
        try:
            tokenizer: Tokenizer = library.Tokenizer.from_str(json.dumps(self._document))
        except Exception as error:  # the library raises nothing more precise
            raise malformed(f"its tokenizer is refused by the tokenizers library ({error})") from error
        return tokenizer


def _byte_letters() -> list[str]:
    """The letter for each byte in byte-level BPE: Latin-1's if that prints, else one above U+00FF."""
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printed else next(others)) for byte in range(256)]


def _tokenizers() -> ModuleType:
    with extra("train", "level 'bpe' needs the tokenizers library"):
        import tokenizers
    return tokenizers

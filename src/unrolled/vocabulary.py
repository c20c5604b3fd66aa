"""The symbols of a text model: characters, bytes, words or byte-pair pieces, and the way to and from text.

A vocabulary turns text into symbol ids and back, and into a JSON document that a model file carries. It knows
nothing about files, models or training; it needs NumPy alone, and the `tokenizers` library only to learn a
byte-pair vocabulary or to encode with one (decoding does without).
"""

import difflib
import json
from collections.abc import Iterable

from unrolled.errors import InputError
from unrolled.vocabularies.base import Decoder, Vocabulary, malformed
from unrolled.vocabularies.bpe import BPE_VOCABULARY, BpeVocabulary
from unrolled.vocabularies.characters import ByteVocabulary, CharVocabulary, Place, UnknownCharacter
from unrolled.vocabularies.words import WORD_VOCABULARY, WordVocabulary

__all__ = [
    "BPE_VOCABULARY",
    "LEVELS",
    "WORD_VOCABULARY",
    "BpeVocabulary",
    "ByteVocabulary",
    "CharVocabulary",
    "Decoder",
    "Place",
    "UnknownCharacter",
    "Vocabulary",
    "WordVocabulary",
    "check_level",
    "from_json",
    "learn",
]

LEVELS = ("char", "byte", "word", "bpe")


def learn(level: str, texts: Iterable[str], vocab_size: int | None = None) -> Vocabulary:
    """The vocabulary of `level` learnt from `texts`, a text given in parts.

    `vocab_size` is the largest V (default 20,000 for "word", 4,096 for "bpe"); "char" and "byte" take none.
    The parts should end where no piece is cut, such as after a newline. Raises InputError for another level, and
    for a size that the level does not take.
    """
    check_level(level)
    if vocab_size is not None and level in ("char", "byte"):
        raise InputError(f"a vocabulary size of {vocab_size} was given, but level {level!r} takes none")
    if level == "char":
        return CharVocabulary.learn(texts)
    if level == "byte":
        return ByteVocabulary()
    if level == "word":
        return WordVocabulary.learn(texts, WORD_VOCABULARY if vocab_size is None else vocab_size)
    return BpeVocabulary.learn(texts, BPE_VOCABULARY if vocab_size is None else vocab_size)


def from_json(document: object) -> Vocabulary:
    """The vocabulary that `to_json` described; raises InputError for any other document."""
    if not isinstance(document, dict):
        raise malformed("it is not a JSON object")
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise malformed(f"it is not JSON in UTF-8 ({error})") from error
    level = document.get("level")
    for kind in (CharVocabulary, ByteVocabulary, WordVocabulary, BpeVocabulary):
        if kind.level == level:
            return kind._from_json(document)
    raise malformed(f"its level is {level!r}, not one of {', '.join(LEVELS)}")


def check_level(level: str) -> None:
    """Raise InputError, naming the nearest level, unless `level` is one of LEVELS."""
    if level not in LEVELS:
        nearest = difflib.get_close_matches(level, LEVELS, n=1, cutoff=0.0)[0]
        raise InputError(f"level {level!r} is not one of {', '.join(LEVELS)}; the nearest is {nearest!r}")

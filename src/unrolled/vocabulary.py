"""The symbols of a text model: characters, bytes, words or byte-pair pieces, and the way to and from text.

A vocabulary turns text into symbol ids and back, and into a JSON document that a model file carries. It knows
nothing about files, models or training; it needs NumPy alone, and the `tokenizers` library only to learn a
byte-pair vocabulary or to encode with one (decoding does without).
"""

from __future__ import annotations

import codecs
import difflib
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "LEVELS",
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

Ids = npt.NDArray[np.int64]

LEVELS = ("char", "byte", "word", "bpe")
UNKNOWN_WORD = "<unk>"  # never a piece of a text: WORD cuts it into three
WORD = re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s")
LINE = re.compile(r"[^\n]*\n|[^\n]+")
WORD_VOCABULARY = 20_000
BPE_VOCABULARY = 4_096


@dataclass(frozen=True)
class Place:
    """Where a character stands in a text: line and column, both counted from 1."""

    line: int = 1
    column: int = 1

    def after(self, text: str) -> Place:
        """The place behind `text` when `text` begins here."""
        newlines = text.count("\n")
        if newlines:
            return Place(self.line + newlines, len(text) - text.rindex("\n"))
        return Place(self.line, self.column + len(text))


class UnknownCharacter(InputError):
    """A character that a char vocabulary does not hold; `index` is where it stands in the encoded text."""

    def __init__(self, character: str, index: int, known: int, name: str, place: Place) -> None:
        super().__init__(
            f"{name}, line {place.line}, column {place.column}: the character {character!r} "
            f"(U+{ord(character):04X}) is not one of the {known} characters that the model knows"
        )
        self.character = character
        self.index = index
        self.known = known


class Decoder:
    """Symbols back into text, one at a time: text comes out as soon as its UTF-8 characters are complete."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, symbol_id: int) -> str:
        """The text that this symbol completes, "" while a character is still missing bytes."""
        return self._utf8.decode(self._pieces[symbol_id])

    @property
    def whole(self) -> bool:
        """Whether no character is missing bytes: what comes next may be read by a fresh decoder."""
        return not self._utf8.getstate()[0]

    def finish(self) -> str:
        """U+FFFD for a character that was cut short, else ""."""
        return self._utf8.decode(b"", final=True)


class Vocabulary(ABC):
    """V symbols with ids 0 to V - 1, each a piece of UTF-8 text."""

    level: ClassVar[str]

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    @property
    def size(self) -> int:
        """V, the number of symbols."""
        return len(self._pieces)

    def encode(self, text: str) -> Ids:
        """The symbol ids [T] of a text; raises InputError where the text cannot be said in these symbols."""
        if not isinstance(text, str):
            raise InputError(f"text is a {type(text).__name__}, expected a text")
        return self._encode(text)

    @abstractmethod
    def _encode(self, text: str) -> Ids: ...

    @abstractmethod
    def _content(self) -> dict[str, Any]: ...

    def to_json(self) -> dict[str, Any]:
        """A document that JSON can hold, for `from_json`."""
        return {"level": self.level, **self._content()}

    def decoder(self) -> Decoder:
        """A fresh decoder for a stream of symbols."""
        return Decoder(self._pieces)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of all these symbols; bytes that are not UTF-8 become U+FFFD."""
        return b"".join([self._pieces[symbol_id] for symbol_id in ids]).decode("utf-8", "replace")

    def texts(self, ids: Iterable[int]) -> list[str]:
        """The text that each of these symbols completes; of a character of several, "" but for the last."""
        decoder = self.decoder()
        return [decoder.feed(symbol_id) for symbol_id in ids]

    def byte_count(self, ids: npt.NDArray[np.integer]) -> int | None:
        """The bytes of UTF-8 that the symbols [T] stand for; None where one stands for any word."""
        lengths = np.fromiter(map(len, self._pieces), np.int64, self.size)
        return int(lengths[ids].sum())

    def symbol(self, symbol_id: int) -> str:
        """A printable name: the text in quotes, or in hexadecimal the bytes that are no whole character."""
        piece = self._pieces[symbol_id]
        try:
            return repr(piece.decode("utf-8"))
        except UnicodeDecodeError:
            return " ".join(f"0x{byte:02X}" for byte in piece)


class CharVocabulary(Vocabulary):
    """The characters of a text in the order of their code points."""

    level = "char"

    def __init__(self, characters: str) -> None:
        super().__init__([character.encode("utf-8") for character in characters])
        self._characters = characters
        codes = _code_points(characters)
        # [code point], -1 where there is no such symbol; the last entry serves all code points beyond it
        self._ids = np.full(int(codes.max()) + 2, -1)
        self._ids[codes] = np.arange(len(codes))

    @classmethod
    def learn(cls, texts: Iterable[str]) -> CharVocabulary:
        """All characters that occur in `texts`, which must hold at least one."""
        seen = np.zeros(0x110000, bool)
        for text in texts:
            seen[_code_points(text)] = True
        return cls("".join(map(chr, np.flatnonzero(seen))))

    def _encode(self, text: str) -> Ids:
        """One id a character; raises UnknownCharacter, an InputError, at the first that is not held."""
        ids = self._ids[np.minimum(_code_points(text), len(self._ids) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if len(unknown):
            index = int(unknown[0])
            raise UnknownCharacter(text[index], index, self.size, "the text", Place().after(text[:index]))
        return ids

    def _content(self) -> dict[str, Any]:
        return {"characters": self._characters}

    @classmethod
    def _from_json(cls, document: dict[str, Any]) -> CharVocabulary:
        characters = document.get("characters")
        if not isinstance(characters, str) or not characters:
            raise _malformed("its characters are not a string with at least one character")
        if any(left >= right for left, right in itertools.pairwise(characters)):
            raise _malformed("its characters are not in ascending order")
        return cls(characters)


class ByteVocabulary(Vocabulary):
    """The 256 bytes; nothing to learn, and every file can be said."""

    level = "byte"

    def __init__(self) -> None:
        super().__init__([bytes([byte]) for byte in range(256)])

    def _encode(self, text: str) -> Ids:
        """One id a byte of the text's UTF-8; a byte that Python escaped in an argument is that byte again."""
        return np.frombuffer(_utf8(text, "surrogateescape"), np.uint8).astype(np.int64)

    def _content(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _from_json(cls, document: dict[str, Any]) -> ByteVocabulary:
        return cls()


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
        """The `vocab_size` - 1 most frequent pieces of `texts`; of equally frequent ones the first seen."""
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
            raise _malformed("its words are not a list with at least one word")
        for word in words:
            if not isinstance(word, str) or not WORD.fullmatch(word):
                raise _malformed(f"its words hold {word!r}, which is not one piece of a text")
        if len(set(words)) < len(words):
            raise _malformed("its words hold one twice")
        return cls(words)


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
        """At most `vocab_size` symbols learnt from `texts`; fewer where no pair is left to join."""
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
        _utf8(text)  # the library's own refusal would not say what is wrong
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
            raise _malformed("its tokenizer has no model.vocab")
        byte_of = {letter: byte for byte, letter in enumerate(_byte_letters())}
        if not byte_of.keys() <= vocab.keys():
            raise _malformed("its tokenizer lacks some of the 256 bytes")
        piece_of = {number: piece for piece, number in vocab.items() if isinstance(number, int)}
        if piece_of.keys() != set(range(len(vocab))):
            raise _malformed(f"its tokenizer's {len(vocab)} pieces are not numbered from 0 without a gap")
        try:
            pieces = [bytes(byte_of[letter] for letter in piece_of[number]) for number in range(len(vocab))]
        except KeyError as error:
            raise _malformed(f"its tokenizer's pieces hold {error}, which stands for no byte") from error
        return cls(tokenizer, pieces)

    def _build_tokenizer(self) -> Tokenizer:
        library = _tokenizers()
        try:
            tokenizer: Tokenizer = library.Tokenizer.from_str(json.dumps(self._document))
        except Exception as error:  # the library raises nothing more precise
            raise _malformed(f"its tokenizer is refused by the tokenizers library ({error})") from error
        return tokenizer


def learn(level: str, texts: Iterable[str], vocab_size: int | None = None) -> Vocabulary:
    """The vocabulary of `level` learnt from `texts`, a text given in parts.

    `vocab_size` is the largest V (default 20,000 for "word", 4,096 for "bpe"); "char" and "byte" take none.
    The parts should end where no piece is cut, such as after a newline.
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
        raise _malformed("it is not a JSON object")
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise _malformed(f"it is not JSON in UTF-8 ({error})") from error
    level = document.get("level")
    for kind in (CharVocabulary, ByteVocabulary, WordVocabulary, BpeVocabulary):
        if kind.level == level:
            return kind._from_json(document)
    raise _malformed(f"its level is {level!r}, not one of {', '.join(LEVELS)}")


def check_level(level: str) -> None:
    """Raise InputError, naming the nearest level, unless `level` is one of LEVELS."""
    if level not in LEVELS:
        nearest = difflib.get_close_matches(level, LEVELS, n=1, cutoff=0.0)[0]
        raise InputError(f"level {level!r} is not one of {', '.join(LEVELS)}; the nearest is {nearest!r}")


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _utf8(text: str, errors: str = "strict") -> bytes:
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InputError(f"the text holds U+{code:04X}, half a surrogate pair and no character") from error


def _byte_letters() -> list[str]:
    """The letter for each byte in byte-level BPE: Latin-1's if that prints, else one above U+00FF."""
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printed else next(others)) for byte in range(256)]


def _tokenizers() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise InputError("level 'bpe' needs the tokenizers library: pip install 'unrolled[train]'") from error
    return tokenizers


def _malformed(problem: str) -> InputError:
    return InputError(f"the vocabulary document is malformed: {problem}")

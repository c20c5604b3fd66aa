"""Symbols that need no learning but which occur: characters, and bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import InputError
from unrolled.vocabularies.base import Ids, Vocabulary, malformed, utf8

__all__ = ["ByteVocabulary", "CharVocabulary", "Place", "UnknownCharacter"]


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
    """A character that a char vocabulary does not hold; `index` is where it stands in the encoded text.

    `fault` is the sentence without the place.
    """

    def __init__(self, character: str, index: int, known: int, name: str, place: Place) -> None:
        code = f"U+{ord(character):04X}"
        self.fault = (
            f"the character {character!r} ({code}) is not one of the {known} characters that the model knows"
        )
        super().__init__(f"{name}, line {place.line}, column {place.column}: {self.fault}")
        self.character = character
        self.index = index
        self.known = known


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
            raise malformed("its characters are not a string with at least one character")
        if any(left >= right for left, right in itertools.pairwise(characters)):
            raise malformed("its characters are not in ascending order")
        return cls(characters)


class ByteVocabulary(Vocabulary):
    """The 256 bytes; nothing to learn, and every file can be said."""

    level = "byte"

    def __init__(self) -> None:
        super().__init__([bytes([byte]) for byte in range(256)])

    def _encode(self, text: str) -> Ids:
        """One id a byte of the text's UTF-8; a byte that Python escaped in an argument is that byte again."""
        return np.frombuffer(utf8(text, "surrogateescape"), np.uint8).astype(np.int64)

    def _content(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _from_json(cls, document: dict[str, Any]) -> ByteVocabulary:
        return cls()


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")

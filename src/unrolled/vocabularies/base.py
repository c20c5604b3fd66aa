"""What every vocabulary is: symbols with a piece of UTF-8 text each, and the way back from them to text."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import InputError

__all__ = ["Decoder", "Ids", "Vocabulary", "malformed", "utf8"]

Ids = npt.NDArray[np.int64]


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

    def pieces(self) -> list[str | None]:
        """The text of each symbol; None for bytes that are no whole character, which `parts` has."""
        return [_whole(piece) for piece in self._pieces]

    def parts(self) -> dict[int, list[int]]:
        """The bytes of each symbol that is no whole character."""
        return {n: list(piece) for n, piece in enumerate(self._pieces) if _whole(piece) is None}

    def symbol(self, symbol_id: int) -> str:
        """A printable name: the text in quotes, or in hexadecimal the bytes that are no whole character."""
        piece = self._pieces[symbol_id]
        text = _whole(piece)
        return " ".join(f"0x{byte:02X}" for byte in piece) if text is None else repr(text)


def _whole(piece: bytes) -> str | None:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def utf8(text: str, errors: str = "strict") -> bytes:
    """A text in UTF-8; raises `InputError` for half a surrogate pair, unless `errors` says what becomes of it."""
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InputError(f"the text holds U+{code:04X}, half a surrogate pair and no character") from error


def malformed(problem: str) -> InputError:
    """What is wrong with a document that is to describe a vocabulary."""
    return InputError(f"the vocabulary document is malformed: {problem}")

"""Files of text become symbol ids on disk, split into a training and a held-out part.

Files are read in blocks, and their symbols go to an unnamed temporary file that is mapped back into memory,
so a text may be far larger than memory. This file knows what a vocabulary offers, and nothing about models.

What is read does not depend on the size of a block: a block ends where a piece of text ends in any
vocabulary, after a newline or between a visible ASCII character and a space or newline. Only where such a
place is missing for `LONGEST_PIECE` bytes is the text cut between any two characters. Several files are read
one after the other; no word or byte pair reaches from one into the next.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from unrolled.errors import InputError
from unrolled.texts import GZIP, wide
from unrolled.vocabulary import Place, UnknownCharacter, Vocabulary, check_level, learn

__all__ = ["Corpus", "Symbols", "builtin_text", "encode_files", "files", "fingerprint", "read"]

Symbols = npt.NDArray[np.unsignedinteger]

BUILTIN = "python-reference"
BLOCK = 1 << 20  # bytes
LONGEST_PIECE = 1 << 22  # bytes
UP_TO_LAST_BORDER = re.compile(rb".*(?:\n|[!-~](?=[ \n]))", re.DOTALL)


@dataclass(frozen=True)
class Corpus:
    """A text as symbol ids: `train` [N] and `held_out` [M] in the smallest unsigned type that holds V ids."""

    vocabulary: Vocabulary
    train: Symbols
    held_out: Symbols
    fingerprint: str  # SHA-256 of the level and of all bytes of the files named in `names`
    held_out_fingerprint: str | None  # the same of texts that were named to be held out
    names: tuple[str, ...]  # of the files


def read(
    paths: Sequence[str | Path],
    level: str = "char",
    vocab_size: int | None = None,
    split: float = 0.9,
    vocabulary: Vocabulary | None = None,
    held_out: Sequence[str | Path] = (),
) -> Corpus:
    """The text of `paths`, joined in that order, or the built-in text if there are none.

    Of a folder, its .txt files are read in the order of their names. Where `held_out` names texts, they are held
    out, all of `paths` is for training and there is no split.

    char, byte: of n symbols the first int(`split` * n) are for training, the others are held out. word, bpe:
    a vocabulary must be learnt from the training part alone, before symbols can be counted, so the text is
    split at `split` of its bytes, or at the nearest end of a word before. A char vocabulary holds all the
    characters of the text, held-out ones too: one that it lacked could not be scored at all.

    `vocabulary`, where given, is used and nothing is learnt. `vocab_size` is that of `vocabulary.learn`.
    Raises InputError for a file that is missing, empty, not a regular file or (except for byte) not UTF-8,
    for a character that is not in `vocabulary`, and where one of the two parts would be empty.
    """
    check_level(level)
    if not 0.0 < split < 1.0:
        raise InputError(f"the split is {split}; expected a fraction between 0 and 1")
    if vocabulary is not None and vocabulary.level != level:
        raise InputError(f"the vocabulary is of level {vocabulary.level!r}; expected level {level!r}")
    whole = _open(paths, level)
    apart = _open(held_out, level) if held_out else []
    by_symbols = level in ("char", "byte")
    first, second = (whole, apart) if apart or by_symbols else _divide(whole, split)
    if vocabulary is None:
        vocabulary = learn(level, _texts([*first, *second] if by_symbols else first, level), vocab_size)
    train, left = _encode(first, vocabulary), _encode(second, vocabulary)
    if by_symbols and not apart:
        count = int(split * len(train))
        train, left = train[:count], train[count:]
    names = tuple(span.name for span in whole)
    for part, use in ((train, "train on"), (left, "hold out")):
        if not len(part):
            raise InputError(f"{', '.join(names)}: too short, a split of {split} leaves nothing to {use}")
    apart_fingerprint = _fingerprint(apart, level) if apart else None
    return Corpus(vocabulary, train, left, _fingerprint(whole, level), apart_fingerprint, names)


def fingerprint(paths: Sequence[str | Path], level: str) -> str:
    """SHA-256 of the level and of all bytes of `paths`; raises InputError for the files that `read` refuses."""
    return _fingerprint(_open(paths, level), level)


def encode_files(paths: Sequence[str | Path], vocabulary: Vocabulary) -> Symbols:
    """The symbol ids [T] of the text of `paths`, or of the built-in text if there are none.

    Raises InputError for the files and characters that `read` refuses.
    """
    return _encode(_open(paths, vocabulary.level), vocabulary)


def builtin_text() -> str:
    """The language reference that every Python carries, its sections in alphabetical order.

    It is what `help("topics")` shows, and differs a little from one Python version to the next. Raises InputError
    where Python came without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("this Python has no pydoc_data.topics, the built-in text; expected a FILE") from error
    return "\n".join(topics[name] for name in sorted(topics))


@dataclass(frozen=True)
class _Span:
    """The bytes from `start` to `stop` of a file, or of the built-in text where `path` is None."""

    name: str
    path: Path | None
    start: int
    stop: int

    def open(self) -> BinaryIO:
        file = io.BytesIO(builtin_text().encode()) if self.path is None else self.path.open("rb")
        file.seek(self.start)
        return file

    def blocks(self, level: str) -> Iterator[bytes]:
        """All bytes in blocks that end where the text may be cut at this level."""
        with self.open() as file:
            held = b""
            left = self.stop - self.start
            while data := file.read(min(BLOCK, left)):
                left -= len(data)
                held += data
                cut = _last_border(held, level)
                if not cut and len(held) >= LONGEST_PIECE:
                    cut = _last_border(held, "char")
                if cut:
                    yield held[:cut]
                    held = held[cut:]
            if held:
                yield held


def _open(paths: Sequence[str | Path], level: str) -> list[_Span]:
    if not paths:
        return [_Span(BUILTIN, None, 0, len(builtin_text().encode()))]
    if "" in paths:  # which `Path` would take for the folder that one is in
        raise InputError("the name of a text is empty; expected that of a file or a folder")
    return [_whole_file(file, level) for path in paths for file in files(Path(path))]


def files(path: Path) -> list[Path]:
    """The file `path`, or those of the folder `path` that are called .txt, by name; not those of folders in it.

    Raises InputError for a folder that cannot be read, or has none.
    """
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".txt" and not file.is_dir())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a folder of text") from error
    found = [file for file in found if not file.name.startswith(".")]
    if not found:
        raise InputError(f"{path} is a folder without any .txt file; expected at least one in it")
    return found


def _whole_file(path: Path, level: str) -> _Span:
    """All of a file but, where its bytes are to be text, a byte order mark."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file; expected one, because it is read more than once")
    try:
        with path.open("rb") as file:
            beginning = b"" if level == "byte" else file.read(len(BOM_UTF8))
            start = len(BOM_UTF8) if beginning == BOM_UTF8 else 0
            size = file.seek(0, io.SEEK_END)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a file of text") from error
    if size == start:
        raise InputError(f"{path} is empty; expected a file of text")
    if beginning.startswith(GZIP):
        raise InputError(f"{path} is gzipped; expected a file of text: gunzip makes one of it")
    return _Span(str(path), path, start, size)


def _divide(whole: Sequence[_Span], split: float) -> tuple[list[_Span], list[_Span]]:
    """What lies before and after the last end of a word in the first `split` of all bytes."""
    target = int(split * sum(span.stop for span in whole))
    number = 0
    while target >= whole[number].stop:
        target -= whole[number].stop
        number += 1
    span = whole[number]
    target = max(target, span.start)
    near = replace(span, start=max(span.start, target - LONGEST_PIECE), stop=target)
    with near.open() as file:
        data = file.read(near.stop - near.start)
    cut = near.start + (_last_border(data, "word") or _last_border(data, "char"))
    before = [*whole[:number], replace(span, stop=cut)]
    after = [replace(span, start=cut), *whole[number + 1 :]]
    return before, after


def _last_border(data: bytes, level: str) -> int:
    """The last place in `data` where it may be cut in two and read as before; 0 if there is none."""
    if level == "byte":
        return len(data)
    if level == "char":  # before the last character, which may not be whole; it has at most four bytes
        for place in reversed(range(max(0, len(data) - 4), len(data))):
            if data[place] & 0xC0 != 0x80:
                return place
        return len(data)
    found = UP_TO_LAST_BORDER.match(data)
    return found.end() if found else 0


def _texts(spans: Sequence[_Span], level: str) -> Iterator[str]:
    for span in spans:
        offset = span.start
        for data in span.blocks(level):
            yield _decode(data, span.name, offset, level)
            offset += len(data)


def _decode(data: bytes, name: str, offset: int, level: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if not offset and (wrong := wide(data)):
            raise InputError(f"{name}: {wrong}") from error
        raise InputError(
            f"{name}: byte 0x{data[error.start]:02X} at offset {offset + error.start} is not UTF-8, "
            f"which level {level!r} expects; level 'byte' reads any file"
        ) from error


def _encode(spans: Sequence[_Span], vocabulary: Vocabulary) -> Symbols:
    """The symbol ids of `spans` in a file that vanishes with the array."""
    kind = np.min_scalar_type(vocabulary.size - 1)
    with tempfile.TemporaryFile() as file:
        for span in spans:
            for ids in _ids(span, vocabulary):
                file.write(ids.astype(kind).data)
        if not file.tell():
            return np.empty(0, kind)
        file.flush()
        return np.asarray(np.memmap(file, kind, "r"))


def _ids(span: _Span, vocabulary: Vocabulary) -> Iterator[npt.NDArray[np.integer]]:
    if vocabulary.level == "byte":  # any bytes, so not by way of a text
        for data in span.blocks("byte"):
            yield np.frombuffer(data, np.uint8)
        return
    place = Place()
    for text in _texts([span], vocabulary.level):
        try:
            yield vocabulary.encode(text)
        except UnknownCharacter as error:
            found = place.after(text[: error.index])
            raise UnknownCharacter(error.character, error.index, error.known, span.name, found) from error
        place = place.after(text)


def _fingerprint(whole: Sequence[_Span], level: str) -> str:
    digest = hashlib.sha256(level.encode() + b"\0")
    for span in whole:
        for data in span.blocks("byte"):
            digest.update(data)
    return digest.hexdigest()

"""Parallel text: sentences and their translations, from two aligned files or one of tab-separated columns.

Gzip is read as it is, whatever the file is called. This file knows no vocabulary and no model.
"""

import hashlib
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unrolled.errors import InputError, counted
from unrolled.examples import Refused
from unrolled.tasks.translate.headings import is_heading
from unrolled.texts import unpacked, wide

__all__ = ["Pair", "Pairs", "fingerprint", "read"]


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation, without white space around them; `place` names file and line."""

    source: str
    target: str
    place: str


Pairs = Sequence[Pair]


def read(paths: Sequence[str | Path], refused: Refused) -> list[Pair]:
    """The pairs of `paths`: two aligned files, a sentence a line, or one TSV with source and target on each line.

    A pair that lacks one side, or is not UTF-8, goes to `refused`, and so does a heading. Raises `InputError` for
    files that cannot be read, that have no line, or that are not of one length, and for two that are both TSVs.
    """
    if len(paths) == 1:
        pairs = _read_columns(Path(paths[0]), refused)
    elif len(paths) == 2:
        pairs = _read_aligned(Path(paths[0]), Path(paths[1]), refused)
    else:
        raise InputError(f"{len(paths)} files were given, expected two aligned ones (SOURCE TARGET) or one TSV.")
    if not pairs:
        raise InputError(
            f"{', '.join(map(str, paths))}: there is no pair of sentences that can be used{refused.first}"
        )
    return pairs


def fingerprint(pairs: Pairs) -> str:
    """SHA-256 of the sentences."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.source}\t{pair.target}\n".encode())
    return digest.hexdigest()


def _read_aligned(source: Path, target: Path, refused: Refused) -> list[Pair]:
    lines, translations = _lines(source), _lines(target)
    if source.suffix.lower() == target.suffix.lower() == ".tsv" or (
        _are_columns(lines) and _are_columns(translations)
    ):
        raise InputError(
            f"{source} and {target} are two TSVs, expected one TSV, or two aligned files without tabs."
        )
    if len(lines) != len(translations):
        raise InputError(
            f"{source} has {counted(len(lines), 'line')} but {target} has {len(translations):,}; expected as "
            "many, line by line a sentence and its translation."
        )
    pairs = []
    for number, both in enumerate(zip(lines, translations, strict=True), 1):
        texts = []
        for path, line in zip((source, target), both, strict=True):
            text = _text(line, f"{path}, line {number}", refused)
            if text == "":
                refused(f"{path}, line {number} is empty, expected a sentence")
            texts.append(text)
        if texts[0] and texts[1]:
            pairs.append(Pair(texts[0], texts[1], f"{source}, line {number}"))
    return pairs


def _are_columns(lines: Sequence[bytes]) -> bool:
    """Whether every line that is not blank has one tab."""
    said = [line for line in lines if line.strip()]
    return bool(said) and all(line.count(b"\t") == 1 for line in said)


def _read_columns(path: Path, refused: Refused) -> list[Pair]:
    pairs = []
    for number, line in enumerate(_lines(path), 1):
        place = f"{path}, line {number}"
        text = _text(line, place, refused)
        if text is None:
            continue
        columns = [column.strip() for column in text.split("\t")]
        if text == "":
            refused(f"{place} is empty, expected a sentence, a tab and its translation")
        elif len(columns) != 2:
            further = "; `cut -f1,2` keeps the first two" if len(columns) > 2 else ""
            found = counted(len(columns), "column")
            refused(f"{place} has {found}, expected 2: a sentence, a tab and its translation{further}")
        elif not all(columns):
            refused(f"{place} has nothing {'after' if columns[0] else 'before'} its tab, expected a sentence")
        elif number == 1 and is_heading(*columns):
            refused(
                f"{place} is {columns[0]!r} and {columns[1]!r}, which looks like a heading, expected a sentence, "
                "a tab and its translation; take the line away, or, if it is a pair, put it on another line"
            )
        else:
            pairs.append(Pair(columns[0], columns[1], place))
    return pairs


def _lines(path: Path) -> list[bytes]:
    """The lines of a file, unpacked if it is gzip; a byte order mark is left out."""
    try:
        content = unpacked(path)
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, expected a file of sentences.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if wrong := wide(content):
        raise InputError(f"{path}: {wrong}")
    return content.removeprefix(BOM_UTF8).removesuffix(b"\n").split(b"\n") if content else []


def _text(line: bytes, place: str, refused: Refused) -> str | None:
    """A line's text without white space around it; None where it is refused."""
    try:
        return line.decode("utf-8").strip(" \r\n\v\f")
    except UnicodeDecodeError as error:
        refused(f"{place}, byte {error.start + 1}: 0x{line[error.start]:02X} is not UTF-8, expected text in UTF-8")
        return None

"""Sentences of CoNLL-U files (universaldependencies.org/format): words and their universal parts of speech."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from unrolled.errors import InputError, counted
from unrolled.examples import Refused
from unrolled.texts import decoded, numbered

__all__ = ["read"]

COLUMNS = 10
FORM, UPOS = 1, 3


def read(path: Path, labelled: bool, refused: Refused) -> Iterator[tuple[str, list[str], list[str] | None]]:
    """The name, the words and the tags of each sentence; a name ending in .gz is unpacked.

    Tokens of several words and empty nodes are passed over, as the words of a sentence are those with whole
    numbers. Raises `InputError` for a file that cannot be read; `refused` hears of a sentence with a line that
    has not ten columns or, where `labelled`, no tag.
    """
    for first, lines in _blocks(path):
        words, tags, wrong = [], [], ""
        for number, line in enumerate(lines, first):
            if line.startswith("#"):
                continue
            columns = line.split("\t")
            if len(columns) != COLUMNS:
                found = counted(len(columns), "column")
                wrong = f"{path}, line {number}: {found}, expected {COLUMNS} with tabs between"
                break
            if not columns[0].isdigit():
                continue
            words.append(columns[FORM])
            tags.append(columns[UPOS])
            if labelled and columns[UPOS] in ("_", ""):
                wrong = f"{path}, line {number}: the word {columns[FORM]!r} has no UPOS tag, expected one"
                break
        if wrong:
            refused(wrong)
        elif words:
            yield f"{path}, line {first}", words, None if "_" in tags else tags


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines between empty ones, with the number of the first."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            block: list[str] = []
            number = 0
            for number, line in numbered(cast(BinaryIO, file)):
                text = decoded(line).rstrip("\r\n")
                if text.strip():
                    block.append(text)
                elif block:
                    yield number - len(block), block
                    block = []
            if block:
                yield number - len(block) + 1, block
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason.rstrip('.')}.") from error
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error}") from error

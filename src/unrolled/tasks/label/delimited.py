"""Tables that are text, gzipped or not: their separator, the lines of their rows, and what is wrong with one.

PyArrow reads the values; this file knows what PyArrow does not tell, and looks only when it is asked.
"""

import csv
import gzip
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["SUFFIXES", "fault", "heading", "is_gzipped", "line_of", "separator"]

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SEPARATORS = (",", ";", "\t")


def is_gzipped(path: Path) -> bool:
    """Whether a file is unpacked as it is read, by its name."""
    return path.suffix.lower() == ".gz"


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else path.open("rb")


def separator(path: Path) -> str:
    """What parts the heading into the most names: a comma, a semicolon or a tab."""
    return max(SEPARATORS, key=lambda one: len(heading(path, one)))


def heading(path: Path, separator: str) -> list[str]:
    """The names of the columns as they stand in the file; none where there are no lines."""
    try:
        return next((cells for _, cells in _rows(path, separator)), [])
    except csv.Error:
        return []


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line where each row begins, from 1, and its cells; the heading is the first, blank lines are none."""
    with _opened(path) as binary, TextIOWrapper(binary, "utf-8-sig", "replace", newline="") as file:
        reader, before = csv.reader(file, delimiter=separator), 0
        for cells in reader:
            if cells:
                yield before + 1, cells
            before = reader.line_num


def line_of(path: Path, separator: str, row: int) -> int:
    """The line where a row begins, row 0 the first after the heading; raises `csv.Error` for one too many."""
    for number, (line, _) in enumerate(_rows(path, separator), -1):
        if number == row:
            return line
    raise csv.Error(f"there is no row {row}")


def fault(path: Path, separator: str) -> str:
    """What is wrong with a file that PyArrow did not read as a table of text; nothing where that is not known."""
    if wrong := _undecoded(path):
        return wrong
    width = 0
    for line, cells in _rows(path, separator):
        width = width or len(cells)
        if len(cells) != width:
            found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            return f"{path}, line {line}: {found}, expected {width} as in the heading"
    return "" if width else f"{path} has no rows, expected at least one"


def _undecoded(path: Path) -> str:
    """Where a file is not UTF-8; nothing if it is."""
    offset = 0
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"byte 0x{line[error.start]:02X} at offset {offset + error.start}"
                return f"{path}, line {number}: {place} is not UTF-8, expected text in UTF-8"
            offset += len(line)
    return ""

"""Tables that are text, gzipped or not: their separator, the lines of their rows, and what is wrong with one.

PyArrow reads the values; this file knows what PyArrow does not tell, and looks only when it is asked.
"""

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from unrolled.errors import counted
from unrolled.texts import wide

__all__ = [
    "SEPARATORS",
    "SUFFIXES",
    "Text",
    "fault",
    "heading",
    "of_bytes",
    "of_file",
    "pointed",
    "row_of",
    "separator",
]

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SEPARATORS = (";", ",", "\t")  # where a semicolon makes as many cells as a comma, that is a decimal comma


@dataclass(frozen=True)
class Text:
    """A table's text: what it is called, and a way to read its bytes as often as one likes."""

    name: str
    opened: Callable[[], BinaryIO]


def of_file(path: Path) -> Text:
    """The text of a file, unpacked where it is gzipped, by its name."""
    if path.suffix.lower() == ".gz":
        return Text(str(path), lambda: cast(BinaryIO, gzip.open(path, "rb")))
    return Text(str(path), lambda: path.open("rb"))


def of_bytes(name: str, content: bytes) -> Text:
    """The text `content`, of no file."""
    return Text(name, lambda: BytesIO(content))


def separator(text: Text) -> str:
    """What parts the heading into the most names: a comma, a semicolon or a tab."""
    return max(SEPARATORS, key=lambda one: len(heading(text, one)))


def pointed(number: str, separator: str) -> str:
    """A number with a decimal point; a comma is one where semicolons part the cells, as spreadsheets write it."""
    return number.replace(",", ".") if separator == ";" else number


def heading(text: Text, separator: str) -> list[str]:
    """The names of the columns as they stand in the text; none where there are no lines."""
    try:
        return next((cells for _, cells in _rows(text, separator)), [])
    except csv.Error:
        return []


def _rows(text: Text, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line where each row begins, from 1, and its cells; the heading is the first, blank lines are none."""
    with text.opened() as binary, TextIOWrapper(binary, "utf-8-sig", "replace", newline="") as file:
        reader, before = csv.reader(file, delimiter=separator), 0
        for cells in reader:
            if cells:
                yield before + 1, cells
            before = reader.line_num


def row_of(text: Text, separator: str, row: int) -> tuple[int, list[str]]:
    """The line where a row begins, and its cells; 0 is the first after the heading, `csv.Error` one too many."""
    for number, found in enumerate(_rows(text, separator), -1):
        if number == row:
            return found
    raise csv.Error(f"there is no row {row}")


def fault(text: Text, separator: str) -> str:
    """What is wrong with a text that PyArrow did not read as a table; nothing where that is not known."""
    if wrong := _undecoded(text):
        return wrong
    width = 0
    for line, cells in _rows(text, separator):
        width = width or len(cells)
        if len(cells) != width:
            found = counted(len(cells), "column")
            return f"{text.name}, line {line}: {found}, expected {width} as in the heading"
    return "" if width else f"{text.name} has no rows, expected at least one"


def _undecoded(text: Text) -> str:
    """Where a text is not UTF-8; nothing if it is."""
    offset = 0
    with text.opened() as file:
        if wrong := wide(file.read(4)):
            return f"{text.name}: {wrong}, and spreadsheets save it as CSV UTF-8"
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"byte 0x{line[error.start]:02X} at offset {offset + error.start}"
                return f"{text.name}, line {number}: {place} is not UTF-8, expected text in UTF-8"
            offset += len(line)
    return ""

"""Standard input as a label model reads it: of a row of numbers its event, of a line of words the event of each.

A line of words is a sentence, which starts from nothing: positions count within it. So does what follows a blank
line among rows of numbers, about which nothing is said. Numbers have commas, semicolons or tabs between them; the
first line may be the heading of the training table, or of a table of more columns, where the model's are found by
name.
"""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

from unrolled.errors import InputError
from unrolled.piping import decoded, each, numbered
from unrolled.results import Output
from unrolled.softmax import softmax
from unrolled.stream import Stream
from unrolled.tasks.label.delimited import SEPARATORS, pointed
from unrolled.tasks.label.names import by_name, listed
from unrolled.tasks.label.tables import is_gap

__all__ = ["of_rows", "of_sentences"]

COLUMNS = 50  # that a sentence about a heading lists
TRUTHS = {"true": 1.0, "false": 0.0}


def of_sentences(
    classes: Sequence[str], stream: Stream, source: BinaryIO, refused: Callable[[str], None]
) -> Iterator[Output]:
    """The events, of `classes`, of each line's words; see `unrolled.piping.PipedModel`."""
    return each(numbered(source), partial(_sentence, stream, classes), refused)


def of_rows(
    columns: list[str],
    width: int,
    classes: Sequence[str],
    stream: Stream,
    source: BinaryIO,
    refused: Callable[[str], None],
) -> Iterator[Output]:
    """The event, of `classes`, of each row of `width` numbers; see `unrolled.piping.PipedModel`.

    `columns` are those of the training table, if that had names; in a table of more they are found by name.
    Another heading goes to `refused`; raises `InputError` for that of a table of as many columns, whose rows could
    not be told from the model's own where a state goes on and no heading comes.
    """
    rows = _Rows(columns, width)
    return each(rows.without_heading(numbered(source), refused), partial(_row, stream, rows, classes), refused)


def _sentence(stream: Stream, classes: Sequence[str], line: bytes) -> Output:
    """A sentence has nothing to do with the one before, as in training."""
    words = decoded(line).split()
    stream.reset()
    logits, events = stream.advance(words)
    said = " ".join(f"{word}/{event}" for word, event in zip(words, events, strict=True))
    likely = [by_name(classes, one) for one in softmax(logits)]
    record = {"position": stream.position, "words": words, "events": events, "probabilities": likely}
    return Output(said, record)


class _Rows:
    """Which cells of a row the model reads: all of them or, after the heading of a table of more, some."""

    def __init__(self, columns: list[str], width: int) -> None:
        self._columns = [name.strip() for name in columns]
        self.places, self.width = list(range(width)), width

    def without_heading(
        self, lines: Iterator[tuple[int, bytes]], refused: Callable[[str], None]
    ) -> Iterator[tuple[int, bytes]]:
        """The lines but the first where that is a heading, which is heeded as `of_rows` says."""
        for number, line in lines:
            if number > 1 or not self._is_heading(line, refused):
                yield number, line

    def _is_heading(self, line: bytes, refused: Callable[[str], None]) -> bool:
        """Whether a first line has names and no numbers; that of another table goes to `refused`, or raises."""
        expected, text = self._columns, line.decode("utf-8", "replace").rstrip("\r\n")
        wider = [cells for one in SEPARATORS if (cells := _separated(text, one)) and len(cells) > len(expected)]
        named = [[name.strip() for name in cells] for cells in wider]
        for names in [] if any(map(_is_number, expected)) else named:
            if expected and all(names.count(name) == 1 for name in expected):
                self.places, self.width = [names.index(name) for name in expected], len(names)
                return True
        try:
            separator, cells = _cells(text.strip(), len(expected))
        except ValueError:
            return False
        names = [name.strip() for name in cells]
        numbers = any(_is_number(pointed(name, separator)) for name in names)
        if not expected or numbers or all(map(is_gap, names)):
            return False
        if names != expected:
            found, wanted = listed(names, COLUMNS), listed(expected, COLUMNS)
            wrong = f"standard input, line 1: the columns are {found}, expected {wanted} in this order, or numbers"
            if len(names) == len(expected):
                raise InputError(wrong)
            refused(wrong)
        return True


def _row(stream: Stream, rows: _Rows, classes: Sequence[str], line: bytes) -> Output:
    bare = decoded(line).rstrip("\r\n")
    if not bare.strip():  # the end of a sequence
        stream.reset()
        return Output("", {"position": stream.position})
    try:
        separator, cells = _cells(bare, rows.width)
        fits = len(cells) == rows.width
        read = [cells[place] for place in rows.places] if fits else cells
        row = [None if is_gap(cell) else _number(pointed(cell, separator)) for cell in read]
    except ValueError as error:
        raise InputError(
            f"{bare[:80]!r} is no row of numbers with commas, semicolons or tabs between them"
        ) from error
    if any(number is not None and math.isinf(number) for number in row):
        raise InputError(f"{bare[:80]!r} has an infinite number, expected finite ones")
    if not fits:
        wanted = rows.width if rows.width == len(rows.places) else f"{rows.width} cells as in the heading"
        raise InputError(f"{bare[:80]!r} has {len(row)} numbers, expected {wanted}")
    logits, (event,) = stream.advance([row])
    likely = by_name(classes, softmax(logits)[0])
    return Output(event, {"position": stream.position, "event": event, "probabilities": likely})


def _cells(row: str, width: int) -> tuple[str, list[str]]:
    """The separator that makes `width` cells of a row, or else the most, and the cells, quoted or not.

    Raises `ValueError` for a line that is more than one row.
    """
    found = [(one, cells) for one in SEPARATORS if (cells := _separated(row, one)) is not None]
    if not found:
        raise ValueError("it is more than one row")
    return next((one for one in found if len(one[1]) == width), max(found, key=lambda one: len(one[1])))


def _separated(row: str, separator: str) -> list[str] | None:
    """None where Python's reader has no such row: by another separator, a long one is a cell too long for it."""
    try:
        return next(csv.reader([row], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return None


def _number(cell: str) -> float:
    """What a cell is to a model of tables, of which true and false are 1 and 0; raises `ValueError` for none."""
    if "_" in cell:  # which Python takes, and no table
        raise ValueError(f"{cell!r} is no number")
    return float(TRUTHS.get(cell.strip().lower(), cell))


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True

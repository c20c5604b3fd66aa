"""Standard input as rows of a table, a step each.

What follows a blank line is another sequence, which starts from nothing. Numbers have commas, semicolons or tabs
between them; the first line may be the heading of the training table, or of a table of more columns, where the
model's are found by name, and with them the one that tells sequences apart: then each has a stream of its own, and
a blank line ends none. A heading that comes again, as at the beginning of the next file, is one too.
"""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

from unrolled.errors import InputError, counted
from unrolled.floats import Floats
from unrolled.piping import Streams, each
from unrolled.results import Output
from unrolled.sequences.delimited import SEPARATORS, pointed
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import cell, is_gap, listed
from unrolled.texts import decoded, numbered

__all__ = ["Rows", "of_rows"]

COLUMNS = 50  # that a sentence about a heading lists
TRUTHS = {"true": 1.0, "false": 0.0}

Told = Callable[[Floats, str], tuple[Sequence[str], dict[str, Any]]]
"""The cells that are told of a row, and the record, by the outputs of its step and what they say."""


def of_rows(
    rows: "Rows", told: Told, streams: Streams, source: BinaryIO, refused: Callable[[str], None]
) -> Iterator[Output]:
    """What is `told` of each of `rows` when its stream has just read it; see `unrolled.piping.PipedModel`.

    A first line that is another heading goes to `refused`; raises `InputError` for that of a table of as many
    columns, whose rows could not be told from the model's own where a state goes on and no heading comes.
    """
    return each(rows.without_headings(numbered(source), refused), partial(_row, streams, rows, told), refused)


class Rows:
    """Which cells of a row a model of tables of this `layout`, or of `width` numbers without names, reads.

    They are all of them or, after the heading of a table of more, some, found by name. `key` is then the place of
    the one that tells sequences apart, if it is there.
    """

    def __init__(self, layout: Layout, width: int) -> None:
        self._columns = [name.strip() for name in layout.features]
        self._sequence = layout.sequence
        self._names = [layout.categories.get(column) for column in layout.features] or [None] * width
        self.places, self.width = list(range(len(self._names))), len(self._names)
        self.key: int | None = None

    @property
    def expected(self) -> str:
        """How many cells a row is to have."""
        if self.width > len(self.places):
            return f"{self.width} cells as in the heading"
        return f"{self.width}, or first a heading that names them" if self._columns else str(self.width)

    def read(self, cells: Sequence[str], separator: str) -> list[Any]:
        """What stands in the cells that the model reads; raises `ValueError` for one that is no number."""
        return [
            None if is_gap(one) else one.strip() if names else _number(pointed(one, separator))
            for one, names in zip(cells, self._names, strict=False)
        ]

    def without_headings(
        self, lines: Iterator[tuple[int, bytes]], refused: Callable[[str], None]
    ) -> Iterator[tuple[int, bytes]]:
        """The lines but the headings, heeded as `of_rows` says; the first may follow blank lines."""
        first = True
        for number, line in lines:
            is_heading = self._is_heading(number, line, refused) if first else self._has_all(line)
            first = first and not line.strip()
            if not is_heading:
                yield number, line

    def _has_all(self, line: bytes) -> bool:
        """Whether a line names all the columns of the model, which are where it says from then on."""
        expected, text = self._columns, line.decode("utf-8", "replace").rstrip("\r\n")
        if not expected or expected[0] not in text.replace('""', '"') or any(map(_is_number, expected)):
            return False
        cut = [cells for one in SEPARATORS if (cells := _separated(text, one))]
        for names in ([name.strip() for name in cells] for cells in cut):
            keys = [place for place, name in enumerate(names) if name == self._sequence]
            alike = names == expected or (
                len(names) > len(expected) and all(names.count(n) == 1 for n in expected)
            )
            if alike and len(keys) < 2:
                self.places, self.width = [names.index(name) for name in expected], len(names)
                self.key = keys[0] if keys else None
                return True
        return False

    def _is_heading(self, number: int, line: bytes, refused: Callable[[str], None]) -> bool:
        """Whether a first line has names of columns alone; that of another table goes to `refused`, or raises."""
        if self._has_all(line):
            return True
        expected, text = self._columns, line.decode("utf-8", "replace").rstrip("\r\n")
        try:
            separator, cells = _cells(text.strip(), len(expected))
        except ValueError:
            return False
        names = [name.strip() for name in cells]
        numbers = any(_is_number(pointed(name, separator)) for name in names)
        known = any(name in (of_column or ()) for name, of_column in zip(names, self._names, strict=False))
        if not expected or numbers or known or all(map(is_gap, names)):
            return False
        if names != expected:
            found, wanted = listed(names, COLUMNS), listed(expected, COLUMNS)
            place = f"standard input, line {number}"
            wrong = f"{place}: the columns are {found}, expected {wanted} in this order, or numbers"
            if len(names) == len(expected):
                raise InputError(wrong)
            refused(wrong)
        return True


def _row(streams: Streams, rows: Rows, told: Told, line: bytes) -> Output:
    bare = decoded(line).rstrip("\r\n")
    if not bare.strip():  # the end of a sequence, if it has no name
        if rows.key is None:
            streams.end()
        return Output("", {})
    fits = True
    try:
        separator, cells = _cells(bare, rows.width)
        fits = len(cells) == rows.width
        row = rows.read([cells[place] for place in rows.places] if fits else cells, separator)
    except ValueError as error:
        wanted = "" if fits else f", expected {rows.expected}"
        raise InputError(
            f"{bare[:80]!r} is no row of numbers with commas, semicolons or tabs between them{wanted}"
        ) from error
    if any(isinstance(number, float) and math.isinf(number) for number in row):
        raise InputError(f"{bare[:80]!r} has an infinite number, expected finite ones")
    if not fits:
        raise InputError(f"{bare[:80]!r} has {counted(len(cells), 'number')}, expected {rows.expected}")
    name = None if rows.key is None else cells[rows.key].strip()
    if name == "":
        raise InputError(f"{bare[:80]!r} does not name its sequence, expected a name in each row")
    stream = streams.one if name is None else streams.named(name)
    outputs, (text,) = stream.advance([row])
    said, further = told(outputs[0], text)
    record = {"position": stream.position, **further}
    if name is not None:
        said, record = [name, *said], {"sequence": name, **record}
    return Output(said[0] if len(said) == 1 else ",".join(map(cell, said)), record)


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

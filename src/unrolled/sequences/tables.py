"""Sequences of numbers from tables: CSV, TSV and Parquet.

PyArrow reads the files; this file says what is wrong with one, and where.
"""

import csv
import shlex
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.extras import extra
from unrolled.floats import Floats
from unrolled.sequences import delimited
from unrolled.sequences.categories import encoded, expected
from unrolled.sequences.delimited import Text
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import HELD, cell, is_gap, listed, written

__all__ = ["Table", "names_in", "read", "series"]

MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Table:
    """A table's `columns`, each with its values in the order of the rows; `separator` is that of a `text`."""

    name: str
    columns: dict[str, list[Any]]
    text: Text | None = None
    separator: str = ""

    def where(self, row: int) -> str:
        """The place of a row, for people: its line in a text, which is looked for only here."""
        written = self._written(row)
        return f"{self.name}, line {written[0]}" if written else f"{self.name}, row {row + 1}"

    def said(self, row: int, column: str) -> str:
        """A cell for people, as it is written in a text: PyArrow may have made a time in another zone of it."""
        value = self.columns[column][row]
        if value is None:
            return "nothing"
        _, cells = self._written(row) or (0, [])
        return repr(dict(zip(self.columns, cells, strict=False)).get(column, str(value)))

    def _written(self, row: int) -> tuple[int, list[str]] | None:
        """The line where a row of a text begins, and its cells."""
        try:
            return delimited.row_of(self.text, self.separator, row) if self.text else None
        except (OSError, csv.Error):  # a text that Python's reader does not read as PyArrow does
            return None


def read(source: Path | Text, texts: Sequence[str | None], refused: Refused) -> Table | None:
    """A CSV file, or the text of one, with a line of names, or a Parquet file; None where `refused` let it pass.

    The cells of the columns `texts` stay as they are written in a CSV file, whatever they look like.
    """
    with extra("data", "reading tables needs PyArrow"):
        import pyarrow
        from pyarrow import parquet
    if isinstance(source, Path) and source.name.lower().endswith(delimited.SUFFIXES):
        source = delimited.of_file(source)
    text = source if isinstance(source, Text) else None
    title, separator = text.name if text else str(source), ""
    try:
        if text:
            separator = delimited.separator(text)
            found = _of_text(text, separator, texts)
        else:
            with parquet.ParquetFile(source) as file:
                found = file.read()
        names = found.column_names
        twice = [name for name, count in Counter(names).items() if count > 1]
        if text and _are_a_row(names):
            refused(f"{title} begins with a row of numbers, expected a heading with the names of the columns")
        elif not found.num_rows:
            refused(f"{title} has no rows, expected at least one")
        elif twice:
            refused(f"{title} has {names.count(twice[0])} columns {twice[0]!r}, expected each name once")
        else:
            return Table(title, found.to_pydict(), text, separator)
    except (pyarrow.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        refused(_fault(text, separator) or f"{title} is not a table that can be read: {_first_line(error)}")
    return None


def _of_text(text: Text, separator: str, texts: Sequence[str | None]) -> Any:
    """A table of text as PyArrow has it; raises `ArrowException` and others where it is none, or not UTF-8."""
    import pyarrow
    from pyarrow import csv as reader

    as_text = {name: pyarrow.string() for name in delimited.heading(text, separator) if name.strip() in texts}
    # A thread of PyArrow's may drop its input as late as when Python is shutting down, and dropping a Python file
    # aborts the program then. So it is given memory of its own.
    with text.opened() as file, pyarrow.BufferOutputStream() as memory:
        shutil.copyfileobj(file, memory)
        found = reader.read_csv(
            pyarrow.BufferReader(memory.getvalue()),
            parse_options=reader.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=reader.ConvertOptions(column_types=as_text),
        )
    if any(map(pyarrow.types.is_binary, found.schema.types)):  # what PyArrow makes of other bytes
        raise pyarrow.ArrowInvalid("a column is not UTF-8")
    names, width = [name.strip() for name in found.column_names], found.num_columns
    while width and not names[width - 1] and found.column(width - 1).null_count == found.num_rows:
        width -= 1  # after a separator that ends every line, as spreadsheets leave it
    return found.select(range(width)).rename_columns(names[:width])


def _are_a_row(names: Sequence[str]) -> bool:
    """Whether a heading is a row of numbers, and not the numbers of the columns from 0 or 1 on."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    return numbers not in ([*range(len(names))], [*range(1, len(names) + 1)])


def _fault(text: Text | None, separator: str) -> str:
    try:
        return delimited.fault(text, separator) if text and separator else ""
    except (OSError, EOFError, zlib.error, csv.Error):  # then PyArrow's own words have to do
        return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def series(
    table: Table, layout: Layout, labelled: bool, refused: Refused
) -> Iterator[tuple[str, Floats, list[str | None] | None, tuple[str, ...], list[str] | None, list[int]]]:
    """The name, the numbers [T, D], the events, the columns, the times and the rows of each sequence.

    Where not `labelled`, the columns of events and of sequences may be missing. `refused` hears of any other that
    is, of a cell that is not what its column has, and of a column of times that has none; a time may be anything.
    """
    label, sequence = (
        name if labelled or name in table.columns else None for name in (layout.label, layout.sequence)
    )
    features, time, categories = layout.features, layout.time, layout.categories
    names = features or tuple(n for n in table.columns if n not in {label, sequence, time, *layout.ignore})
    wanted = [name for name in (label, sequence, time) if name is not None] + list(names)
    for name in wanted if features else (*wanted, *layout.ignore, *categories):
        if name not in table.columns:
            option = "; --label names the column of events" if name == label and not features else ""
            refused(
                f"{table.name} has no column {name!r}, expected it among {listed(list(table.columns))}{option}"
            )
            return
    if not names:
        refused(f"{table.name} has no column of numbers beside {listed(wanted)}, expected at least one")
        return
    moments = [] if time is None else [written(value) for value in table.columns[time]]
    said = [row for row, moment in enumerate(moments) if not is_gap(moment)]
    if said and not any(map(str.isdigit, "".join(moments))):
        row = said[0]
        refused(f"{table.where(row)}, column {time!r}: {moments[row]!r}, expected times, but no cell has a digit")
        return
    groups: dict[str, list[int]] = {}
    rows = len(next(iter(table.columns.values())))
    keys = [""] * rows if sequence is None else [written(value) for value in table.columns[sequence]]
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    if sequence is not None and "" in groups:
        first = groups.pop("")[0]
        refused(f"{table.where(first)}, column {sequence!r}: nothing, expected the sequence that the row is of")
    for key, places in groups.items():
        try:
            chosen = () if features else tuple(name for name in names if name not in categories)
            read = [
                _names(table, name, places, categories[name], layout.gaps)
                if name in categories
                else _numbers(table, name, places, chosen, sequence is None, layout.gaps)[:, None]
                for name in names
            ]
            numbers = np.concatenate(read, axis=1)
            labels = None if label is None else _labels(table, label, places)
            times = None if time is None else [moments[row] for row in places]
        except InputError as wrong:
            refused(str(wrong))
            continue
        yield f"{table.name}, {key}" if key else table.name, numbers, labels, names, times, places


def names_in(table: Table, column: str) -> set[str]:
    """The names that the cells of a column have."""
    return {text for value in table.columns[column] if not is_gap(text := written(value))}


def _names(table: Table, column: str, rows: list[int], names: Sequence[str], gaps: bool) -> Floats:
    """The numbers [T, names] of a column of names."""
    texts = [written(table.columns[column][row]) for row in rows]
    for row, text in zip(rows, texts, strict=True):
        if text not in names and not (gaps and is_gap(text)):
            nothing = f"{table.said(row, column) if text else 'nothing'}, expected a name{HELD}"
            wrong = nothing if is_gap(text) else expected(text, names)
            raise InputError(f"{table.where(row)}, column {column!r}: {wrong}")
    return encoded([text if text in names else None for text in texts], names)


def _numbers(
    table: Table, name: str, rows: list[int], chosen_here: Sequence[str], whole: bool, gaps: bool
) -> Floats:
    """The numbers of a column. Those `chosen_here` are columns of numbers for want of a better use.

    `whole` says that the table is one sequence.
    """
    values = [table.columns[name][row] for row in rows]
    try:
        found = np.fromiter(values, np.float64, len(values))  # None is NaN
    except (TypeError, ValueError):
        found = np.array([_number(value, table.separator) for value in values])
    found[np.abs(found) > MOST] = np.nan
    for place in np.flatnonzero(np.isnan(found)):
        nothing = is_gap(values[place])
        if not (gaps and nothing):
            hint = HELD if nothing else ""
            if chosen_here and not nothing:
                hint = f"; {_uses(table, name, chosen_here, whole)}"
            row = rows[place]
            said = table.said(row, name)
            raise InputError(f"{table.where(row)}, column {name!r}: {said}, expected a finite number{hint}")
    narrow = found.astype(np.float32)
    changes = np.diff(found) != 0
    lost = np.flatnonzero(changes & (np.diff(narrow) == 0))
    if chosen_here and 2 * len(lost) > changes.sum():  # as of seconds since 1970
        second = lost[0] + 1
        raise InputError(
            f"{table.where(rows[second])}, column {name!r}: {found[second]:.15g} is too near to the one before it "
            f"to be told from it in float32; {_without(name)}"
        )
    return narrow


def _uses(table: Table, name: str, names: Sequence[str], whole: bool) -> str:
    """What to do with the column `name`, which is no number, and with those of `names` that have none either."""
    useless = [
        one
        for one in names
        if one == name or not any(abs(_number(value, table.separator)) <= MOST for value in table.columns[one])
    ]
    keys = [one for one in useless if whole and _tells_apart(table.columns[one])]
    if len(useless) == 1:
        other = f", and --sequence {shlex.quote(name)} tells sequences apart by it" if keys else ""
        named = f", --category {shlex.quote(cell(name))} takes it for names" if _repeats(table, name) else ""
        return _without(name) + named + other
    ignored = [one for one in useless if one not in keys[:1]]
    left = f"--ignore {shlex.quote(','.join(map(cell, ignored)))} leaves out what has no numbers"
    return left + "".join(f", and --sequence {shlex.quote(key)} tells sequences apart" for key in keys[:1])


def _number(value: Any, separator: str) -> float:
    """What a cell of a table with this separator is as a number; NaN for none."""
    try:
        return float(delimited.pointed(value, separator) if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return np.nan


def _without(name: str) -> str:
    return f"--ignore {shlex.quote(cell(name))} leaves out the column"


def _tells_apart(values: Sequence[Any]) -> bool:
    """Whether a column seems to name the sequence of each row: its values come in blocks, each of them in one."""
    names = [written(value) for value in values]
    blocks = 1 + sum(one != other for one, other in pairwise(names))
    return blocks == len(set(names)) and 2 <= blocks <= len(names) / 2


def _repeats(table: Table, column: str) -> bool:
    """Whether a column seems to have names: each of them in four rows or more, by the mean."""
    return 4 * len(names_in(table, column)) <= len(table.columns[column])


def _labels(table: Table, name: str, rows: list[int]) -> list[str | None]:
    """The event of each row; of an empty cell none is known."""
    return [written(table.columns[name][row]) or None for row in rows]

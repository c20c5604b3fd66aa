"""Columns whose cells are names, as of modes or places: each name is a number of its own, 1 where a cell has it.

A step has the numbers of its columns in their order: of a column of numbers one, of such a column as many as it
has names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unrolled.errors import InputError, counted
from unrolled.floats import Floats
from unrolled.sequences.names import is_gap, listed, written

__all__ = ["Categories", "encoded", "expected", "numbers_of", "spread"]

Categories = Mapping[str, Sequence[str]]
"""The names that each such column has."""


def spread(columns: Sequence[str], categories: Categories) -> list[str]:
    """The column of each number of a step."""
    return [column for column in columns for _ in categories.get(column, " ")]


def encoded(texts: Sequence[str | None], names: Sequence[str]) -> Floats:
    """The numbers [T, names] of the cells of a column, of which each is one of its `names`; NaN for None."""
    places: dict[str | None, int] = {name: number for number, name in enumerate(names)} | {None: len(names)}
    rows = np.concatenate([np.eye(len(names), dtype=np.float32), np.full((1, len(names)), np.nan, np.float32)])
    return rows[[places[text] for text in texts]]


def expected(text: str, names: Sequence[str]) -> str:
    """What is wrong with a name that a column has not."""
    return f"{text!r} is not known, expected one of {listed(names)}"


def numbers_of(given: Any, columns: Sequence[str], categories: Categories) -> list[list[Any]]:
    """The numbers of rows that have a cell for each column; a name is missing where that of a table would be.

    Raises `InputError` for what has no rows, a row of another length and a name that is not among a column's.
    """
    try:
        rows = [list(row) for row in given]
    except TypeError as error:
        raise InputError(f"inputs: expected rows of {len(columns)} cells: {listed(columns)}") from error
    numbers: list[list[Any]] = []
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            cells = counted(len(row), "cell")
            raise InputError(f"inputs[{number}] has {cells}, expected {len(columns)}: {listed(columns)}")
        found: list[Any] = []
        for column, cell in zip(columns, row, strict=True):
            names, text = categories.get(column), written(cell)
            if names is None:
                found.append(cell)
            elif is_gap(text):
                found += [None] * len(names)
            elif text not in names:
                raise InputError(f"inputs[{number}], {column}: {expected(text, names)}")
            else:
                found += [float(name == text) for name in names]
        numbers.append(found)
    return numbers

"""Sequences of numbers from tables (CSV, Parquet) and arrays (NumPy, MATLAB).

PyArrow, NumPy and SciPy read the files; this file says what is wrong with one, and where.
"""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.examples import Refused

__all__ = ["Table", "arrays", "is_gap", "read", "series"]

Floats = NDArray[np.float32]
Events = Sequence[str | None]
Found = tuple[str, Floats, Events | None]
GAPS = ("", "na", "n/a", "nan", "null")  # cells that say that there is no number, in lower case
MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Table:
    """A table's `columns`, each with its values in the order of the rows; `first` is the first row's number."""

    path: Path
    columns: dict[str, list[Any]]
    first: int

    def where(self, row: int) -> str:
        """The place of a row, for people."""
        return f"{self.path}, {'line' if self.path.suffix.lower() == '.csv' else 'row'} {self.first + row}"


class _Wrong(Exception):
    """What is wrong with a sequence."""


def read(path: Path, refused: Refused) -> Table | None:
    """A CSV file with a line of names, or a Parquet file; None where `refused` let it pass."""
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError as error:
        raise InputError("reading tables needs PyArrow: pip install 'unrolled[data]'.") from error
    try:
        if path.suffix.lower() == ".csv":
            found, first = csv.read_csv(path), 2
        else:
            found, first = parquet.read_table(path), 1
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        refused(f"{path} is not a table that can be read: {str(error).splitlines()[0].rstrip('.')}")
        return None
    return Table(path, found.to_pydict(), first)


def series(
    table: Table,
    label: str | None,
    sequence: str | None,
    ignore: Sequence[str],
    features: Sequence[str],
    refused: Refused,
    gaps: bool = False,
) -> Iterator[tuple[str, Floats, list[str] | None, tuple[str, ...]]]:
    """The name, the numbers [T, D], the events and the names of the numbers of each sequence.

    `label` and `sequence` name columns, or are None; `features` names those of the numbers (empty: all others
    but those of `ignore`). `refused` hears of a missing column and of a cell that is not a number; with `gaps`, an
    empty one is NaN.
    """
    names = tuple(features) or tuple(n for n in table.columns if n not in {label, sequence, *ignore})
    wanted = [name for name in (label, sequence) if name is not None] + list(names)
    for name in wanted if features else (*wanted, *ignore):
        if name not in table.columns:
            refused(f"{table.path} has no column {name!r}, expected it among {', '.join(table.columns)}")
            return
    if not names:
        refused(f"{table.path} has no column of numbers beside {', '.join(wanted)}, expected at least one")
        return
    groups: dict[Any, list[int]] = {}
    rows = len(next(iter(table.columns.values())))
    keys = table.columns[sequence] if sequence is not None else [None] * rows
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    for key, places in groups.items():
        try:
            numbers = np.stack([_numbers(table, name, places, not features, gaps) for name in names], axis=1)
            labels = None if label is None else _labels(table, label, places)
        except _Wrong as wrong:
            refused(str(wrong))
            continue
        yield str(table.path) if key is None else f"{table.path}, {key}", numbers, labels, names


def _numbers(table: Table, name: str, rows: list[int], chosen_here: bool, gaps: bool) -> Floats:
    values = table.columns[name]
    found = np.empty(len(rows), np.float32)
    for place, row in enumerate(rows):
        value = values[row]
        nothing = is_gap(value)
        try:
            number = np.nan if nothing else float(value)
        except (TypeError, ValueError):
            number = np.nan
        found[place] = number if abs(number) <= MOST else np.nan
        if not np.isfinite(found[place]) and not (gaps and nothing):
            said = "nothing" if value is None else repr(str(value))
            hint = f"; --ignore {name} leaves out the column" if chosen_here and not nothing else ""
            hint = "; training with --missing hold takes the one before it" if nothing else hint
            raise _Wrong(f"{table.where(row)}, column {name!r}: {said}, expected a finite number{hint}")
    return found


def is_gap(value: Any) -> bool:
    """Whether a cell, or a number, says that there is none."""
    if isinstance(value, str):
        return value.strip().lower() in GAPS
    return value is None or (isinstance(value, float) and value != value)


def _labels(table: Table, name: str, rows: list[int]) -> list[str]:
    values = table.columns[name]
    for row in rows:
        if values[row] is None or values[row] == "":
            raise _Wrong(f"{table.where(row)}, column {name!r}: nothing, expected an event")
    return [str(values[row]) for row in rows]


def arrays(path: Path, labelled: bool, refused: Refused, gaps: bool = False) -> Iterator[Found]:
    """The name, the numbers [T, D] and the events of each sequence of an array file.

    NAME.npz has arrays `inputs` [T, D] and `labels` [T]; NAME.npy has inputs, and NAME.labels.npy their labels; a
    .mat file has cells `S` of [T, D] and `Y` of [T], an entry a sequence. Labels are texts or whole numbers. The
    inputs of many sequences of one length may be [N, T, D]; their labels are [N, T] or, where each has one event
    that is to be said at its end, [N]. With `gaps`, a number may be NaN.
    """
    for name, inputs, labels in _one_by_one(_MAKERS[path.suffix.lower()](path, labelled, refused), refused):
        try:
            yield (
                name,
                _checked(name, inputs, gaps),
                None if labels is None else _events(name, labels, len(inputs)),
            )
        except _Wrong as wrong:
            refused(str(wrong))


def _one_by_one(found: Iterable[tuple[str, Any, Any]], refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    """Many sequences in one array become one at a time."""
    for name, inputs, labels in found:
        if inputs.ndim != 3:
            yield name, inputs, labels
        elif labels is not None and len(labels) != len(inputs):
            refused(f"{name} has {len(inputs)} sequences and labels for {len(labels)}, expected as many")
        else:
            for number, one in enumerate(inputs):
                yield f"{name}, sequence {number + 1}", one, None if labels is None else np.asarray(labels[number])


def _load(path: Path, refused: Refused) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        refused(f"{path} is not a NumPy file that can be read: {str(error).rstrip('.')}")
        return None


def _npz(path: Path, labelled: bool, refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    loaded = _load(path, refused)
    if loaded is None:
        return
    with loaded:
        for name in ("inputs", "labels") if labelled else ("inputs",):
            if name not in loaded:
                refused(f"{path} has no array {name!r}, expected it among {', '.join(loaded) or 'none'}")
                return
        try:
            yield str(path), loaded["inputs"], loaded.get("labels")
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            refused(f"{path} is not a NumPy file that can be read: {str(error).rstrip('.')}")


def _npy(path: Path, labelled: bool, refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    beside = path.with_suffix(".labels.npy")
    if labelled and not beside.exists():
        refused(f"{path} has no labels: expected them in {beside}")
        return
    inputs = _load(path, refused)
    labels = _load(beside, refused) if beside.exists() else None
    if inputs is not None and (labels is not None or not beside.exists()):
        yield str(path), inputs, labels


def _mat(path: Path, labelled: bool, refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise InputError("reading MATLAB files needs SciPy: pip install 'unrolled[data]'.") from error
    try:
        found = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        refused(f"{path} is not a MATLAB file that can be read: {str(error).rstrip('.')}")
        return
    for name in ("S", "Y") if labelled else ("S",):
        if name not in found or found[name].dtype != object:
            refused(f"{path} has no cell array {name!r}, expected one entry a sequence")
            return
    inputs, labels = found["S"].ravel(), found["Y"].ravel() if "Y" in found else None
    if labels is not None and len(labels) != len(inputs):
        refused(f"{path} has {len(inputs)} sequences in 'S' and {len(labels)} in 'Y', expected as many")
        return
    for number, one in enumerate(inputs):
        yield f"{path}, sequence {number + 1}", one, None if labels is None else labels[number].ravel()


_MAKERS = {".npz": _npz, ".npy": _npy, ".mat": _mat}


def _checked(name: str, inputs: NDArray[Any], gaps: bool) -> Floats:
    if inputs.ndim != 2 or inputs.dtype.kind not in "fiub" or not inputs.shape[1]:
        raise _Wrong(f"{name}: inputs are {inputs.dtype} {list(inputs.shape)}, expected numbers [steps, features]")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused with the rest
        numbers = inputs.astype(np.float32)
    wrong = ~np.isfinite(numbers) & ~(np.isnan(numbers) & gaps)
    if wrong.any():
        step, feature = np.argwhere(wrong)[0]
        found = inputs[step, feature]
        hint = "; training with --missing hold takes the one before it" if np.isnan(found) else ""
        raise _Wrong(f"{name}, step {step}, feature {feature}: {found}, expected a finite number{hint}")
    return numbers


@lru_cache
def _at_the_end(event: str | None, steps: int) -> Events:
    """The same object for all sequences alike, of which there may be many."""
    return (None,) * (steps - 1) + (event,)


def _events(name: str, labels: NDArray[Any], steps: int) -> Events:
    """The event of each step; one for all the steps is that of the last."""
    if labels.ndim == 0:
        return _at_the_end(_events(name, labels[None], 1)[0], steps)
    if labels.shape != (steps,):
        raise _Wrong(f"{name}: labels are {list(labels.shape)}, expected one for each of the {steps} steps")
    if labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise _Wrong(f"{name}: labels are {labels.dtype}, expected texts or whole numbers")
    return [str(label) for label in labels]

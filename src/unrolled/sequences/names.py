"""Names of columns and events: as cells have them, several in one line, a number for each."""

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HELD", "are_measures", "by_name", "cell", "is_gap", "listed", "order", "parted", "written"]

GAPS = ("", "na", "n/a", "nan", "null")  # cells that say that there is nothing, in lower case
HELD = "; training with --missing hold takes the one before it"  # the end of a sentence about a gap
MOST = 10  # names that a sentence lists


def cell(name: str) -> str:
    """A name as a cell of a CSV row."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def written(value: Any) -> str:
    """A cell as a person writes it, with no white space around; nothing for none."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    return str(value).strip()


def is_gap(value: Any) -> bool:
    """Whether a cell, or a number, says that there is none."""
    if isinstance(value, str):
        return value.strip().lower() in GAPS
    return value is None or (isinstance(value, float) and value != value)


def listed(names: Sequence[str], most: int = MOST) -> str:
    """Names with commas between, each quoted where it has one itself; beyond `most` how many more there are."""
    shown = ", ".join(cell(name) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def parted(text: str) -> tuple[str, ...]:
    """The names in a text with commas between; what stands in double quotes may have commas itself."""
    rows = csv.reader([text], skipinitialspace=True)
    return tuple(name.strip() for row in rows for name in row if name.strip())


def order(name: str) -> tuple[float, str]:
    """A key to sort events by: whole numbers first, by size, then the others."""
    return (float(name) if name.isdecimal() else float("inf"), name)


def are_measures(names: Sequence[str]) -> bool:
    """Whether all names are numbers, not all of them whole: measured, that is, rather than chosen."""
    try:
        return not all([float(name).is_integer() for name in names])
    except ValueError:
        return False


def by_name(names: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """How likely each is, for programs to read: to a millionth."""
    return {name: round(float(one), 6) for name, one in zip(names, probabilities, strict=True)}

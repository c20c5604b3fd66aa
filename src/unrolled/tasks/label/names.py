"""Names of columns and events: several written in one line, and read from one."""

import csv
from collections.abc import Sequence

__all__ = ["cell", "listed", "parted"]

MOST = 10  # names that a sentence lists


def cell(name: str) -> str:
    """A name as a cell of a CSV row."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def listed(names: Sequence[str], most: int = MOST) -> str:
    """Names with commas between, each quoted where it has one itself; beyond `most` how many more there are."""
    shown = ", ".join(cell(name) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def parted(text: str) -> tuple[str, ...]:
    """The names in a text with commas between; what stands in double quotes may have commas itself."""
    rows = csv.reader([text], skipinitialspace=True)
    return tuple(name.strip() for row in rows for name in row if name.strip())

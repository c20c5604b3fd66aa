"""What models and tasks give back: figures and tables of a measurement, and what a model made of an input.

Each is for people and for programs at once; the command line prints one or the other. This file knows no task.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Evaluation", "Output", "Table"]


@dataclass(frozen=True)
class Table:
    """A table for people: a heading and rows of texts. A `dense` one, of many short cells, has no frames."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    dense: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A measurement: figures, as JSON can hold them, and the tables that show them.

    `shown` is some of what the model does, as a person would want to see it.
    """

    figures: dict[str, Any]
    tables: Sequence[Table] = field(default_factory=list)
    shown: str = ""


@dataclass(frozen=True)
class Output:
    """One piece of what a model makes of an input: a line for people, and the same as a record for programs."""

    line: str
    record: dict[str, Any]

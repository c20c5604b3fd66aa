"""What a forecast model reads and what it forecasts, as a model keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import listed

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Which numbers of a step are read, and which are forecast, `ahead` steps before they come.

    `layout.features` are the columns that are read, where they have names. The `targets` are among `columns`, the
    names of all numbers of a step of the data that it learns from; arrays have places for names. With `ahead` 0
    they are not read.
    """

    layout: Layout
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    ahead: int

    @classmethod
    def of(cls, layout: Layout, columns: Sequence[str], wanted: Sequence[str], ahead: int, where: str) -> Self:
        """The plan for data with a number of each of `columns`; without any `wanted`, all of numbers are targets.

        Raises `InputError` for a target that is no such column, and where nothing is left to read.
        """
        numbers = [column for column in columns if column not in layout.categories]
        for name in wanted:
            if name not in numbers:
                why = "has names, not numbers" if name in layout.categories else "is not there"
                raise InputError(
                    f"{where}: the column {name!r} of --target {why}, expected some of {listed(numbers)}."
                )
        targets = tuple(dict.fromkeys(wanted or numbers))
        if not ahead and not set(columns) - set(targets):
            raise InputError(
                f"{where}: with --ahead 0 what is forecast is not read, and nothing else is there to read; "
                f"expected a --target beside {listed(targets)}, or --ahead 1 or more."
            )
        read = tuple(name for name in layout.features if ahead or name not in targets)
        return cls(replace(layout, features=read), tuple(columns), targets, ahead)

    @property
    def of_names(self) -> bool:
        """Whether columns have names, as those of tables do."""
        return bool(self.layout.features)

    @property
    def places(self) -> list[int]:
        """For each target its place among the numbers that are read; -1 for one that is not."""
        read = [self.columns[place] for place in self.read]
        return [read.index(target) if target in read else -1 for target in self.targets]

    @property
    def read(self) -> NDArray[np.int64]:
        """The places of the numbers that are read, among those of `columns`."""
        return np.array([n for n, name in enumerate(self.columns) if self.ahead or name not in self.targets])

    @property
    def whole(self) -> Layout:
        """How files are to be read that have the targets too."""
        return replace(self.layout, features=tuple(dict.fromkeys(self.columns)) if self.of_names else ())

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """What `to_json` made, after JSON; raises `ValueError` and others for what it did not make."""
        lists = {name: tuple(document[name]) for name in ("columns", "targets")}
        if unknown := [name for name in lists["targets"] if name not in lists["columns"]]:
            raise ValueError(f"the target {unknown[0]!r} is not among its columns")
        if type(ahead := document["ahead"]) is not int or ahead < 0:
            raise ValueError(f"ahead is {ahead!r}, expected a number of steps")
        return cls(Layout.from_json(document["layout"]), ahead=ahead, **lists)

    def to_json(self) -> dict[str, Any]:
        """It as JSON can hold it; the layout apart, as the front end reads it."""
        return {
            "layout": self.layout.to_json(),
            "columns": list(self.columns),
            "targets": list(self.targets),
            "ahead": self.ahead,
        }

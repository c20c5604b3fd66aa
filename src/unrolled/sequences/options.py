"""How a person says which sequences there are in files, and how what is found over their steps is to be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unrolled import sequences
from unrolled.errors import InputError
from unrolled.examples import ExampleOptions
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import parted
from unrolled.settings import setting

__all__ = ["SequenceOptions", "TellOptions"]


@dataclass(frozen=True)
class SequenceOptions(ExampleOptions):
    """How files of sequences are read."""

    sequence: str | None = setting(
        None, "The column that tells sequences apart; without it, each file is one.", heading="Data"
    )
    ignore: str | None = setting(
        None, "Columns to leave out, separated by commas; a name with a comma goes in double quotes.", several=True
    )
    category: str | None = setting(
        None,
        "Columns whose cells are names, as of modes or places, instead of numbers; written as for --ignore.",
        several=True,
    )
    missing: str = setting(
        "refuse",
        "What to do where a number is missing: refuse it, or hold the one before (at the start the mean).",
        choices=("refuse", "hold"),
    )

    def layout_of(self, paths: Sequence[str | Path], label: str | None = None) -> Layout:
        """How the files `paths` are to be read, with the names in their columns of categories.

        Raises `InputError` for a column of categories that is also something else, and as `sequences.categories`.
        """
        columns, ignored = parted(self.category or ""), parted(self.ignore or "")
        uses = {"label": (label,), "sequence": (self.sequence,), "ignore": ignored}
        for column in columns:
            for use, names in uses.items():
                if column in names:
                    raise InputError(
                        f"--category names {column!r}, as does --{use}; expected one of them to do so."
                    )
        categories = sequences.categories(paths, columns) if paths else {}
        return Layout(label, self.sequence, ignored, missing=self.missing, categories=categories)


@dataclass(frozen=True)
class TellOptions:
    """How what is found over the steps of sequences is told."""

    time: str | None = setting(
        None,
        "A table's column of times, to be told too: of each row or, of events, where each starts and ends (at the "
        "end, the last row's).",
    )
    plot: str | None = setting(None, "Draw what it says, and what is true where known, to .png, .svg or .pdf.")

"""Sequences with an event at every step, from the files that people have them in.

Tables (CSV, TSV, Parquet), NumPy arrays, MATLAB files of per-step scores, CoNLL-U sentences and films. This file
knows how a file says which event a step has, and nothing about models.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.architecture import NO_EVENT
from unrolled.errors import InputError, counted
from unrolled.examples import Refused
from unrolled.sequences import arrays, conllu, delimited, events, films, tables
from unrolled.sequences.delimited import Text
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import listed, order

__all__ = ["Series", "Source", "categories", "encode_labels", "fingerprint", "of_bytes", "read", "sources"]

MOST_NAMES = 1000  # of a column: each is a number at every step


@dataclass(frozen=True)
class Series:
    """One sequence: `inputs` [T, ...] (numbers, words or frames) and, where known, the event of each step.

    A step whose event is None counts neither in training nor in a score.
    `features` has the columns that they come from, where these have names, and `times` what a table says of the
    time of each step, where that was asked for. `place` says where the event of a step stands, if not in the step
    alone. `targets` is how many of the numbers, the last of a step, are not to be read but to be said.
    """

    name: str
    inputs: Any
    labels: Sequence[str | None] | None
    features: tuple[str, ...] = ()
    times: Sequence[str] | None = None
    place: Callable[[int], str] | None = field(default=None, compare=False)
    targets: int = 0


@dataclass(frozen=True)
class Source:
    """A file to read sequences from; `kind` is numbers, words or films."""

    path: Path
    kind: str


Reader = Callable[[Path, Layout, bool, Refused], Iterator[Series]]


def _table(source: Path | Text, layout: Layout, labelled: bool, refused: Refused) -> Iterator[Series]:
    texts = (layout.label, layout.sequence, layout.time, *layout.categories)
    table = tables.read(source, texts, refused)
    if table is None:
        return
    found = tables.series(table, layout, labelled, refused)
    lines = replace(table, columns={})  # which are not to stay in memory

    def place(rows: NDArray[np.int64], step: int) -> str:
        return f"{lines.where(int(rows[step]))}, column {layout.label!r}"

    for name, inputs, labels, features, times, rows in found:
        yield Series(name, inputs, labels, features, times, partial(place, np.array(rows)))


def _arrays(path: Path, layout: Layout, labelled: bool, refused: Refused) -> Iterator[Series]:
    if layout.label is None:
        for name, inputs, targets in arrays.read_targets(path, refused, layout.gaps):
            together = inputs if targets is None else np.concatenate([inputs, targets], axis=1)
            yield Series(name, together, None, targets=together.shape[1] - inputs.shape[1])
        return
    for name, inputs, labels in arrays.read(path, labelled, refused, layout.gaps):
        yield Series(name, inputs, labels)


def _sentences(path: Path, layout: Layout, labelled: bool, refused: Refused) -> Iterator[Series]:
    for name, words, tags in conllu.read(path, labelled, refused):
        yield Series(name, words, tags)


def _film(path: Path, layout: Layout, labelled: bool, refused: Refused) -> Iterator[Series]:
    beside = path.with_suffix(".csv")
    try:
        shown = events.read_events(beside) if labelled or beside.exists() else None
        frames = np.stack(list(films.decode(path, layout.fps, layout.side)))
        fps, background = layout.fps, layout.background
        labels = None if shown is None else events.label_steps(shown, beside, len(frames), fps, background)
    except InputError as error:
        refused(str(error))
        return
    yield Series(str(path), frames, labels)


READERS: dict[str, tuple[str, Reader]] = {
    **dict.fromkeys((*delimited.SUFFIXES, ".parquet"), ("numbers", _table)),
    **dict.fromkeys((".npy", ".npz", ".mat"), ("numbers", _arrays)),
    **dict.fromkeys((".conllu", ".conllu.gz"), ("words", _sentences)),
    **dict.fromkeys(films.SUFFIXES, ("films", _film)),
}


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _in_folder(folder: Path) -> list[Path]:
    """The files of a folder that hold sequences; beside films, a CSV holds their events."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and _suffix(path) in READERS]
    found = [path for path in found if not path.name.endswith((".labels.npy", ".targets.npy"))]
    shown = [path for path in found if READERS[_suffix(path)][0] == "films"]
    if not found:
        raise InputError(f"{folder} has no file of sequences; expected files ending in {', '.join(READERS)}.")
    return shown or found


def sources(paths: Iterable[str | Path]) -> list[Source]:
    """The files to read, those of folders by name; raises `InputError` for one that is not there, no file or not
    known.
    """
    found: list[Source] = []
    names = list(paths)
    if "" in names:  # which `Path` would take for the folder that one is in
        raise InputError("the name of a file is empty, expected that of a file or a folder of sequences.")
    for given in map(Path, names):
        if not given.exists():
            raise InputError(f"{given} does not exist; expected a file or a folder of sequences.")
        if not given.is_dir() and not given.is_file():
            raise InputError(f"{given} is not a regular file; expected one, because it is read more than once.")
        for path in _in_folder(given) if given.is_dir() else [given]:
            if _suffix(path) not in READERS:
                raise InputError(f"{path} is of an unknown kind; expected a name ending in {', '.join(READERS)}.")
            found.append(Source(path, READERS[_suffix(path)][0]))
    kinds = {source.kind: source.path for source in found}
    if len(kinds) > 1:
        (one, other), (first, second) = list(kinds)[:2], list(kinds.values())[:2]
        raise InputError(f"{first} has {one} and {second} has {other}; expected sequences of one kind.")
    return found


def read(
    paths: Iterable[str | Path], layout: Layout, refused: Refused, labelled: bool = True
) -> tuple[str, list[Series]]:
    """The kind of the sequences in `paths`, and the sequences.

    Raises `InputError` for a file that cannot be read; what `refused` lets pass is left out. Where not
    `labelled`, events may be missing.
    """
    found: list[Series] = []
    files = sources(paths)
    for source in files:
        for series in READERS[_suffix(source.path)][1](source.path, layout, labelled, refused):
            if not len(series.inputs):
                refused(f"{series.name} has no steps, expected at least one")
                continue
            if source.kind == "numbers" and found and series.inputs.shape[1] != found[0].inputs.shape[1]:
                refused(
                    f"{series.name} has {counted(series.inputs.shape[1], 'number')} a step, expected "
                    f"{found[0].inputs.shape[1]} as {found[0].name} has"
                )
                continue
            if series.features and not layout.features:
                layout = replace(layout, features=series.features)
            found.append(_ahead(series, layout.ahead))
    if not found:
        names = ", ".join(str(source.path) for source in files)
        raise InputError(f"{names}: no sequence that can be used, expected at least one{refused.first}")
    return files[0].kind, found


def categories(paths: Iterable[str | Path], columns: Sequence[str]) -> dict[str, list[str]]:
    """The names in these columns of the tables in `paths`, in order.

    Raises `InputError` for what is no table and for a column of more than `MOST_NAMES`.
    """
    found: dict[str, set[str]] = {column: set() for column in columns}
    for source in sources(paths) if columns else ():
        if READERS[_suffix(source.path)][1] is not _table:
            raise InputError(f"{source.path} has no columns with names, expected a table for --category.")
        if table := tables.read(source.path, columns, Refused(skip=True)):
            for column in set(columns) & set(table.columns):  # who reads all of it says what is wrong or missing
                found[column] |= tables.names_in(table, column)
    for column, names in found.items():
        if len(names) > MOST_NAMES:
            raise InputError(
                f"{', '.join(map(str, paths))}: column {column!r} has {len(names):,} different names, "
                f"expected at most {MOST_NAMES:,} for --category."
            )
    return {column: sorted(names, key=order) for column, names in found.items()}


def of_bytes(content: bytes, layout: Layout, refused: Refused) -> list[Series]:
    """The sequences of a CSV or TSV table that came by standard input; its events may be missing."""
    found = _table(delimited.of_bytes("standard input", content), layout, False, refused)
    return [_ahead(series, layout.ahead) for series in found]


def _ahead(series: Series, ahead: int) -> Series:
    """The series with the event of each step that comes `ahead` steps later; the last steps have none."""
    if not ahead or series.labels is None:
        return series
    labels = [*series.labels[ahead:], *[None] * min(ahead, len(series.labels))]
    place = series.place
    return replace(series, labels=labels, place=place and (lambda step: place(step + ahead)))


def fingerprint(series: Sequence[Series]) -> str:
    """SHA-256 over inputs and events of all sequences."""
    digest = hashlib.sha256()
    for one in series:
        content: NDArray[Any] | None = one.inputs if isinstance(one.inputs, np.ndarray) else None
        digest.update("\n".join(one.inputs).encode() if content is None else content.tobytes())
        digest.update(
            ("\0" + "\n".join(label or "" for label in one.labels or ()) + f"\0{len(one.inputs)}\0").encode()
        )
    return digest.hexdigest()


def encode_labels(series: Series, classes: Sequence[str]) -> NDArray[np.int64]:
    """The class of each step, -1 for none; raises `InputError` for an event that is not among `classes`."""
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)} | {None: NO_EVENT}
    for step, label in enumerate(series.labels or ()):
        if label not in numbers:
            place = series.place(step) if series.place else f"{series.name}, step {step}"
            raise InputError(f"{place}: the event {label!r} is not known, expected one of {listed(classes)}")
    return np.array([numbers[label] for label in series.labels or ()], np.int64)

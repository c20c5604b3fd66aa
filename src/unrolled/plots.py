"""Pictures of results; matplotlib draws them, and is wanted only here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.atomic import replacing
from unrolled.errors import InputError
from unrolled.tasks.label import films

__all__ = ["alignment", "ribbons"]


def ribbons(path: Path, rows: Mapping[str, Sequence[films.Event]], names: Sequence[str], unit: str) -> None:
    """Draw a ribbon of events for each of `rows`, one below the other, into `path` (.png, .svg or .pdf).

    `names` are all the events, which give the colours; `unit` says what their times are in.
    """
    figure_of = _library(path)
    from matplotlib.patches import Patch

    colours = {name: "#{:02x}{:02x}{:02x}".format(*films.colour(number)) for number, name in enumerate(names)}
    figure = figure_of(figsize=(10, 1.4 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, events in enumerate(rows.values()):
        for event in events:
            width = event.end - event.start
            axes.barh(place, width, left=event.start, height=0.8, color=colours[event.name])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_xlim(left=0)
    shown = [name for name in names if any(event.name == name for events in rows.values() for event in events)]
    handles = [Patch(color=colours[name], label=name) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    _save(figure, path)


def alignment(path: Path, attention: NDArray[np.floating], source: Sequence[str], target: Sequence[str]) -> None:
    """Draw where each word of `target` [T] looked in `source` [S], attention [T, S], into `path`.

    A row a target word, a column a source word, the darker the more; `path` ends in .png, .svg or .pdf. The
    picture grows with the words' number and length, so that none is cut off or lies over another.
    """
    figure_of = _library(path)
    cell, letter = 0.32, 0.1  # inches
    beside, above = (0.4 + letter * max(map(len, words)) for words in (target, source))
    width, height = cell * len(source), cell * len(target)
    figure = figure_of(figsize=(beside + width + 0.2, above + height + 0.2), dpi=150)
    size = figure.get_size_inches()
    axes = figure.add_axes((beside / size[0], 0.2 / size[1], width / size[0], height / size[1]))
    axes.imshow(attention, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    # A dollar sign would begin a formula.
    axes.set_xticks(range(len(source)), [word.replace("$", r"\$") for word in source], rotation=90)
    axes.set_yticks(range(len(target)), [word.replace("$", r"\$") for word in target])
    axes.tick_params(length=0)
    _save(figure, path)


def _library(path: Path) -> Any:
    """matplotlib's Figure; raises `InputError` where it is missing, or where `path` is no kind of picture."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'unrolled[plots]'.") from error
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{path} is of an unknown kind of picture; expected a name ending in .png, .svg or .pdf.")
    return Figure


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])

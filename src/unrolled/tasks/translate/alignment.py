"""What a translation attended to, drawn word by word."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unrolled import plots

__all__ = ["draw"]


def draw(path: Path, attention: NDArray[np.floating], source: Sequence[str], target: Sequence[str]) -> None:
    """Draw where each word of `target` [T] looked in `source` [S], attention [T, S], into `path`.

    A row a target word, a column a source word, the darker the more; `path` ends in .png, .svg or .pdf. The
    picture grows with the words' number and length, so that none is cut off or lies over another.
    """
    figure_of = plots.figure_class(path)
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
    plots.save(figure, path)

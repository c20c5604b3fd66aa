"""Where in a picture a caption's words come from, drawn as a panel a word."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unrolled import plots

__all__ = ["draw"]

PANELS_A_ROW = 5


def draw(path: Path, picture: NDArray[np.uint8], words: Sequence[str], attention: NDArray[np.float32]) -> None:
    """Draw `picture` [S, S, C] once for itself and once a word, bright where the word's attention lies.

    `attention` [words, rows, columns] covers the whole picture. `path` ends in .png, .svg or .pdf; raises
    `InputError` for another ending, a file that cannot be written, and where matplotlib is missing.
    """
    figure_of = plots.figure_class(path)
    shown = picture.repeat(3, 2) if picture.shape[2] == 1 else picture
    extent = (0, shown.shape[1], shown.shape[0], 0)
    columns = min(PANELS_A_ROW, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    figure = figure_of(figsize=(2 * columns, 2.2 * rows), layout="constrained")
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if number <= len(words):
            axes.imshow(shown, extent=extent)
        if 0 < number <= len(words):
            axes.set_title(words[number - 1])
            axes.imshow(attention[number - 1], extent=extent, cmap="inferno", alpha=0.6, interpolation="bicubic")
    plots.save(figure, path)

"""Files that matplotlib draws into; it is wanted only where something is drawn."""

import warnings
from pathlib import Path
from typing import Any

from unrolled.atomic import replacing
from unrolled.errors import InputError
from unrolled.extras import extra

__all__ = ["check_name", "figure_class", "save"]


def figure_class(path: Path) -> Any:
    """matplotlib's Figure, for a drawing into `path`.

    Raises `InputError` where matplotlib is missing, and for a path that does not end in .png, .svg or .pdf or
    whose folder is not there.
    """
    with extra("plots", "plots need matplotlib"):
        from matplotlib.figure import Figure
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{path} is of an unknown kind of picture; expected a name ending in .png, .svg or .pdf.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} for the picture.")
    return Figure


def check_name(path: Path) -> None:
    """Raise `InputError` for a path that `figure_class` would refuse, before there is work done."""
    figure_class(path)


def save(figure: Any, path: Path) -> None:
    """Write the drawing as the kind of picture that `path` ends in; what no font has is a box in it."""
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(temporary, format=path.suffix[1:])

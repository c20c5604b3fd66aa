"""The files of a training run: the model, and what is beside it; where a run may write.

Nothing here needs torch.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from unrolled.atomic import temporary_path
from unrolled.errors import InputError
from unrolled.modelfile import is_model

__all__ = ["check_out", "checkpoint_path", "digest", "log_path", "previous_path"]


def checkpoint_path(out: Path) -> Path:
    """Where the run that writes the model `out` keeps its checkpoint until it is done."""
    return out.with_name(out.name + ".checkpoint")


def log_path(out: Path) -> Path:
    """Where the run that writes the model `out` keeps its losses: one JSON object a line, a line a step."""
    return out.with_name(out.name + ".log.jsonl")


def previous_path(out: Path) -> Path:
    """Where a model that was there before a run goes, once the run writes its own."""
    return out.with_name(out.name + ".previous")


def check_out(out: Path, paths: Sequence[str | Path] = ()) -> None:
    """Raise `InputError` where a run may not write its model to `out`, on the data `paths`.

    Its folder must be there; a file that is there must be a model, and none that the run writes may be data.
    """
    if os.path.isdir(out):
        raise InputError(f"{out} is a folder, expected the name of a file for the model.")
    for folder in (out.parent, Path(os.path.realpath(out)).parent):  # and that of the file a link leads to
        if not os.path.isdir(folder):
            raise InputError(f"{out} cannot be written: there is no folder {folder}.")
    longest, most = temporary_path(checkpoint_path(out)), os.pathconf(out.parent, "PC_NAME_MAX")
    if (over := len(os.fsencode(longest.name)) - most) > 0:
        raise InputError(f"{out} cannot be written: its name is {over} bytes too long for the files beside it.")
    for written in (out, log_path(out), checkpoint_path(out), previous_path(out)):
        if any(_are_one(written, path) for path in paths):
            raise InputError(f"{written} is DATA, and the run would write over it; expected another --out.")
    if os.path.exists(out) and not is_model(out):
        raise InputError(
            f"{out} is there already and is not a model written by `unrolled train`; expected another --out, or "
            "that the file is moved away."
        )


def _are_one(one: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there
        return False


def digest(path: Path) -> str | None:
    """SHA-256 of the file `path`; None where there is none."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

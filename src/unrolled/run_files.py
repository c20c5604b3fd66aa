"""The files of a training run: the model, and what is beside it; where a run may write.

Nothing here needs torch.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from unrolled.atomic import temporary_path
from unrolled.errors import InputError
from unrolled.modelfile import is_model

__all__ = [
    "check_apart",
    "check_once",
    "check_out",
    "checkpoint_path",
    "data_paths",
    "digest",
    "log_path",
    "previous_path",
]


def data_paths(names: Iterable[str | Path]) -> list[Path]:
    """The files and folders that DATA names.

    Raises `InputError` for an empty name, which would be the folder one is in.
    """
    found = list(names)
    if "" in found:
        raise InputError("DATA is empty, expected the name of a file or a folder.")
    return [Path(name) for name in found]


def checkpoint_path(out: Path) -> Path:
    """Where the run that writes the model `out` keeps its checkpoint until it is done."""
    return out.with_name(out.name + ".checkpoint")


def log_path(out: Path) -> Path:
    """Where the run that writes the model `out` keeps its losses: one JSON object a line, a line a step.

    Of a run that starts from a model, the first is of step 0.
    """
    return out.with_name(out.name + ".log.jsonl")


def previous_path(out: Path) -> Path:
    """Where a model that was there before a run goes, once the run writes its own."""
    return out.with_name(out.name + ".previous")


def check_out(out: Path, paths: Sequence[str | Path] = (), start: str | Path | None = None) -> None:
    """Raise `InputError` where a run on the data `paths`, from the model `start`, may not write to `out`.

    Its folder must be there; a file that is there must be a model, and none that the run writes may be data. The
    run may start from the model that is at `out`, but not from the one before it, whose place that will take.
    """
    if os.path.isdir(out):
        raise InputError(f"{out} is a folder, expected the name of a file for the model.")
    folder = Path(os.path.realpath(out)).parent  # of the file that a link leads to, where it is one
    if not os.path.isdir(folder):
        raise InputError(f"{out} cannot be written: there is no folder {folder}.")
    longest, most = temporary_path(checkpoint_path(out)), os.pathconf(out.parent, "PC_NAME_MAX")
    if (over := len(os.fsencode(longest.name)) - most) > 0:
        found = len(os.fsencode(out.name))
        raise InputError(
            f"{out} cannot be written: its name has {found} bytes, expected at most {found - over}, because the "
            "files beside it have longer ones."
        )
    data = _identities(paths)
    for written in (out, log_path(out), checkpoint_path(out), previous_path(out)):
        if _identity(written) in data:
            raise InputError(f"{written} is DATA, and the run would write over it; expected another --out.")
    if start is not None and _identity(previous_path(out)) in _identities([start]):
        raise InputError(
            f"{start} is the model to start from, and the run would write over it; expected another --out."
        )
    if os.path.exists(out) and not is_model(out):
        raise InputError(
            f"{out} is there already and is not a model written by `unrolled train`; expected another --out, or "
            "that the file is moved away."
        )


def check_apart(files: Sequence[str | Path], held_out: Sequence[str | Path]) -> None:
    """Raise `InputError` where one of the files of what is held out is trained on, too."""
    trained_on = _identities(files)
    for file in held_out:
        if _identity(file) in trained_on:
            raise InputError(
                f"--held-out is {str(file)!r}, which is DATA, too; expected what is not trained on, because the "
                "weights that are kept are the best on it."
            )


def check_once(files: Sequence[str | Path]) -> None:
    """Raise `InputError` where one of the files, of which a part is held out, is there twice."""
    known: set[tuple[int, int] | None] = set()
    for file in files:
        if (identity := _identity(file)) in known:
            raise InputError(
                f"DATA has {str(file)!r} twice, and what is held out of one would be trained on in the other; "
                "expected each file once, or --held-out."
            )
        known |= {identity} - {None}


def _identities(files: Sequence[str | Path]) -> set[tuple[int, int] | None]:
    """Those of the files that are there."""
    return {_identity(file) for file in files} - {None}


def _identity(file: str | Path) -> tuple[int, int] | None:
    """What a file is, however it is spelled or linked to; None where it is not there."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def digest(path: Path) -> str | None:
    """SHA-256 of the file `path`; None where there is none."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Where the data that a model was trained with is now.

Names stay as a person gave them, with the folder that they were given in: data and model may move together.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from unrolled.errors import InputError
from unrolled.modelfile import ModelFile

__all__ = ["base", "data", "found", "here", "kept", "named", "path"]


def kept(names: Sequence[str]) -> dict[str, Any]:
    """What a model file says of the data `names`: they themselves, and the folder that relative ones are of."""
    return {"names": list(names), "folder": here()}


def data(model: ModelFile, builtin: str) -> list[str]:
    """The paths of what a model was trained on, none where that was the `builtin` data; raises as `base` does."""
    names = model.training["names"]
    return [] if names == [builtin] else found(model, names)


def found(model: ModelFile, names: Sequence[str]) -> list[str]:
    """The paths of data by `names` in a model's training; raises as `base` does."""
    folder = base(model.training, names, model.folder)
    return [os.path.join(folder, name) for name in names]


def path(model: ModelFile, name: str) -> str:
    """The path of one file by `name` in a model's training, in the folder that was kept, whether it is there."""
    folder, now = model.training.get("folder") or here(), here()
    return name if folder == now else os.path.join(folder, name)


def named(data: str, folder: str = "") -> list[str]:
    """The paths, of `folder`, in a setting that names a file, or two with a comma between them.

    Where there are more commas, the files that are there tell which of them it is.
    """
    pairs = [[data[:place], data[place + 1 :]] for place, letter in enumerate(data) if letter == ","]
    there = [pair for pair in pairs if _are_there(pair, folder)]
    if _are_there([data], folder) or (len(pairs) != 1 and not there):
        return [data]
    return (there or pairs)[0]


def _are_there(names: Sequence[str], folder: str) -> bool:
    return all(os.path.exists(os.path.join(folder, name)) for name in names)


def base(
    training: Mapping[str, Any],
    names: Sequence[str],
    beside: str = "",
    whose: str = "the model's training",
    instead: str = "name DATA to measure on",
) -> str:
    """The folder that has all `names` of a `training`: the one that was kept, `beside`, or the one that one is in.

    A name may be that of two files, as `named` has it. `beside` is the folder of the file that names them. The
    folder that one is in is an empty text, so that names stay as they are. A folder that is gone has not even
    names that are whole paths. Raises `InputError`, which says `whose` the names are and what to do `instead`,
    where none of the three has them.
    """
    now = here()
    folders = dict.fromkeys([training.get("folder") or now, beside or now, now])  # earlier versions kept none
    missing = ""
    for folder in folders:
        lacking = [name for name in names if not _are_there(named(name, folder), folder)]
        if lacking:
            missing = missing or lacking[0]
        elif folder == now or os.path.isdir(folder):
            return "" if folder == now else folder
    if os.path.isabs(missing):
        raise InputError(f"{missing}, of {whose}, is not there any more; {instead}.")
    raise InputError(
        f"{missing}, of {whose}, is not in {' or in '.join(folders)}; go to the folder that has it, or {instead}."
    )


def here() -> str:
    """The folder that one is in; nothing where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""

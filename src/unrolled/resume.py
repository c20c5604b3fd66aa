"""An interrupted run, as it is to go on: the settings it had, its data, and the folder that their names are of.

What a checkpoint holds besides is for the training loop alone. Needs torch, which reads checkpoints.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled import checkpoint, recipe, whereabouts
from unrolled.errors import InputError
from unrolled.run_files import checkpoint_path
from unrolled.start import Start

__all__ = ["Interrupted", "check_same", "check_task", "interrupted"]

SHA_256 = re.compile(r"\b[0-9a-f]{64}\b")
DATA = {"data", "held_out_data"}  # settings that are the SHA-256 of what was read
FILES = ("held_out", "backbone_weights")  # settings that name files; what was read of them is compared


@dataclass(frozen=True)
class Interrupted:
    """What an interrupted run is to go on with: all settings, the paths of its data, the folder of both, and the
    model that it started from.

    The folder is a text, empty where it is the one that one is in.
    """

    settings: dict[str, Any]
    data: list[Path]
    folder: str
    start: Start | None


def interrupted(
    out: Path, task: str, chosen: Mapping[str, Any], data: Sequence[Path], start: Path | None = None
) -> Interrupted:
    """The run for a `task` that wrote the checkpoint beside `out`.

    Settings that are `chosen` win over its own, and so do `data` where there are some, and a `start` that is not
    the file it was. Raises `InputError` where there is no such run, and where files of it are not found, unless
    others are named in their place.
    """
    saved = checkpoint.read(checkpoint_path(out))
    run = saved.run
    check_task(checkpoint_path(out), run, task)
    was, paths = run["settings"], run.get("paths", [])
    further = [was[name] for name in FILES if was.get(name) and name not in chosen]
    names, beside = [*([] if data else paths), *further], os.path.realpath(out.parent)
    folder = whereabouts.base(run, names, beside, "the interrupted run", "name it again, where it is now")
    named = {name: _as_it_was(chosen[name], was.get(name), folder) for name in FILES if name in chosen}
    files = _as_they_were(data, paths, folder) if data else paths
    begun = Start.of(saved, checkpoint_path(out))
    if start and not (begun and begun.is_in(start, folder)):  # whose weights may have been written over since
        begun = Start.read(start, task)
    return Interrupted(recipe.over(was, {**chosen, **named}), [Path(path) for path in files], folder, begun)


def _as_it_was(given: str, was: str | None, folder: str) -> str:
    """A setting that names a file, or two with a comma between, as `_as_they_were` has files."""
    before = whereabouts.named(was, folder) if was else []
    return ",".join(map(str, _as_they_were(whereabouts.named(given), before, folder)))


def _as_they_were(given: Sequence[str | Path], was: Sequence[str], folder: str) -> Sequence[str | Path]:
    """Files named again, as a run in `folder` names them: as it did before, where they are the same files."""
    whole = [os.path.abspath(path) for path in given]
    if list(map(os.path.realpath, whole)) == [os.path.realpath(os.path.join(folder, path)) for path in was]:
        return was
    return whole if folder else given


def check_task(path: Path, run: Mapping[str, Any], task: str) -> None:
    """Raise `InputError` where the `run` of the checkpoint `path` is of another task; earlier ones do not say."""
    if (was := run.get("task", task)) != task:
        raise InputError(
            f"{path} was written by `unrolled train {was}`, but this is `unrolled train {task}`; expected the "
            "same task, or another --out."
        )


def check_same(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `InputError` where the run of the checkpoint `path` would go on with other settings than it had."""
    if others := [name for name, value in now.items() if _differ(name, was.get(name), value)]:
        here, then = (
            ", ".join(f"{name} {_shortened(values.get(name))!r}" for name in others) for values in (now, was)
        )
        why = ": other data, or a file that has changed since" if DATA.intersection(others) else ""
        raise InputError(
            f"{path} was written with {then}, but this run has {here}{why}; expected the same, or that the "
            "file is removed to start anew."
        )


def _differ(name: str, was: Any, now: Any) -> bool:
    """Whether a setting is another than that of the interrupted run; of two files, the names do not matter."""
    return bool(was != now and not (name in FILES and was and now))


def _shortened(value: Any) -> Any:
    """A setting as a sentence has it: of a SHA-256, the first 12 characters."""
    return SHA_256.sub(lambda found: found[0][:12], value) if isinstance(value, str) else value

"""A training run, of a task, data and settings: as a function, and made ready for the command line."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled import recipe
from unrolled.errors import InputError
from unrolled.extras import extra
from unrolled.recipe import TrainOptions
from unrolled.run_files import check_apart, check_once, check_out, data_paths
from unrolled.settings import fill, known
from unrolled.tasks import TASKS, Task, load

if TYPE_CHECKING:
    from unrolled.loop import Report

__all__ = ["Run", "prepared", "train"]


def train(
    task: str,
    *data: str | Path,
    out: str | Path,
    start: str | Path | None = None,
    resume: bool = False,
    on_step: "Callable[[Report], object] | None" = None,
    **settings: Any,
) -> Any:
    """Train a model for a task: what `unrolled train TASK DATA… --out OUT` does, in a program.

    `data` are files and folders of the kind that the task reads; without any it is the task's built-in data.
    `settings` are that command's options, with `_` for `-` (`hidden=256, minutes=3`); those that take several
    names take a list of them too. The model that does best on what is held out is written to `out`, and is
    returned as `unrolled.load` opens it. `start` is a trained model to start from.

    `on_step` is called after every step with an `unrolled.loop.Report`: `step`, `progress` (0 to 1), `loss` (of
    the step, in nats but for forecasts), `held_out` (where it was just measured, else None), `best` and `seconds`.
    An exception in it ends the run with a checkpoint. One at any other time, such as KeyboardInterrupt, leaves the
    last checkpoint, at most `checkpoint_minutes` old. From either, `resume=True` goes on, and needs neither data
    nor settings; the working directory is the one that the run began in until it is done.

    Raises `InputError` for data, settings and files that cannot be used and where torch or accelerate is missing,
    and `unrolled.loop.Diverged`, a RuntimeError, where training breaks down.
    """
    if task not in TASKS:
        raise InputError(f"unrolled.train: task is {task!r}, expected one of {', '.join(TASKS)}.")
    with extra("train", "unrolled.train needs torch and accelerate"):
        import_module("unrolled.loop")
    kind, where = TASKS[task], "unrolled.train"
    chosen = {name: _plain(value) for name, value in settings.items() if value is not None}
    fill([kind.Options, TrainOptions], chosen, where)
    recipe.check_one_of_two(chosen, where)
    begun_by = None if start is None else Path(start)
    with prepared(kind, data_paths(data), Path(out), chosen, begun_by, resume) as run:
        with closing(run.reports()) as reports:
            for report in reports:
                if on_step:
                    on_step(report)
        return load(run.out)


def _plain(value: Any) -> Any:
    """A setting as the command line would give it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return ",".join(str(_plain(one)) for one in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@dataclass(frozen=True)
class Run:
    """A run that may begin, or go on."""

    task: Task
    options: TrainOptions
    out: Path
    resume: bool = False
    paths: Sequence[Path] = ()

    def reports(self) -> "Generator[Report]":
        """The run itself: see `unrolled.loop.train`."""
        from unrolled import loop

        return loop.train(self.task, self.options, self.out, self.resume, self.paths)


@contextmanager
def prepared(
    kind: type[Task],
    data: list[Path],
    out: Path,
    chosen: Mapping[str, Any],
    start: Path | None = None,
    resume: bool = False,
) -> Iterator[Run]:
    """A run for a task, in the folder that its paths are of.

    `chosen` settings win over those of the model `start`, or of the run to `resume`, and these over the defaults.
    Raises `InputError` for what cannot be used.
    """
    if not out.name:
        raise InputError(f"--out is {str(out)!r}, expected the name of a file.")
    check_out(out, data, start)
    kinds, folder, begun = [kind.Options, TrainOptions], "", None
    if resume:
        from unrolled.resume import interrupted

        before = interrupted(out, kind.name, chosen, data, start)
        chosen, data, folder = known(kinds, before.settings), before.data, before.folder
        begun = before.start
    elif start:
        from unrolled.start import Start

        begun = Start.read(start, kind.name)
        chosen = begun.over(kind, chosen)
    options, train_options = fill(kinds, recipe.over(kind.defaults, chosen))
    out = out.parent.resolve() / out.name if folder else out
    with chdir(folder) if folder else nullcontext():
        _check_held_out(kind, data, options.held_out)
        yield Run(kind(options, data, train_options.seed, begun), train_options, out, resume, data)


def _check_held_out(kind: type[Task], data: list[Path], held_out: str | None) -> None:
    """Raise `InputError` where what is to be measured on would be trained on, too."""
    files = [file for path in data for file in kind.files(path)]
    if held_out:
        check_apart(files, kind.files(held_out))
    elif kind is not TASKS["translate"]:  # whose SOURCE and TARGET may be one file
        check_once(files)

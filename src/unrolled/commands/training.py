"""Commands that learn: `train` a task, and `gap`, the experiment that trains every cell."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import unrolled
from unrolled import plots, recipe, settings
from unrolled.commands.frame import (
    Data,
    Json,
    app,
    console,
    fail,
    needs_torch,
    paths,
    print_json,
    print_tables,
    with_settings,
)
from unrolled.errors import InputError
from unrolled.memory import curves
from unrolled.memory.gap import QUICK, QUICK_PROBLEM, Experiment, GapOptions
from unrolled.memory.problems import PROBLEMS
from unrolled.recipe import TrainOptions
from unrolled.tasks import TASKS, Task

train_app = typer.Typer(
    no_args_is_help=True,
    help="Train a model for a task.",
    epilog="Example: unrolled train text book.txt --minutes 3 --out book.safetensors",
)
app.add_typer(train_app, name="train")


def _add_train_command(kind: type[Task]) -> None:
    """`unrolled train NAME` for one task."""

    @train_app.command(
        kind.name,
        help=f"{kind.__doc__}\n\nThe model that does best on what is held out is written to MODEL. Ctrl-C keeps "
        "a checkpoint beside it, MODEL.checkpoint, from which --resume goes on: with --steps to the same losses, "
        "bit for bit. SIGTERM does the same; a run that is killed leaves its last checkpoint, the first of "
        "which is written as it begins.",
        epilog=f"Example: unrolled train {kind.name} {kind.example} --out {kind.name}.safetensors",
    )
    @with_settings(kind.Options, TrainOptions, defaults=kind.defaults)
    def train(
        out: Annotated[Path, typer.Option(metavar="MODEL", help="Where the best model goes.")],
        data: Data = None,
        config: Annotated[
            Path | None,
            typer.Option(metavar="TOML", help="A file with the same settings; the command line wins."),
        ] = None,
        resume: Annotated[
            bool,
            typer.Option(
                "--resume",
                help="Go on with the interrupted run for MODEL; its settings and DATA need not be repeated.",
            ),
        ] = False,
        as_json: Json = False,
        **given: Any,
    ) -> None:
        needs_torch()
        if not out.name:
            raise InputError(f"--out is {str(out)!r}, expected the name of a file.")
        kinds = [kind.Options, TrainOptions]
        chosen = {name: value for name, value in given.items() if value is not None}
        settings.fill(kinds, chosen, "command line")
        recipe.check_length(chosen, "command line")
        if config:
            in_file = settings.read_toml(config)
            settings.fill(kinds, in_file, str(config))
            recipe.check_length(in_file, str(config))
            chosen = recipe.over(in_file, chosen)
        from unrolled.train import check_out, interrupted

        files = paths(data)
        check_out(out, files)
        if resume:
            before = interrupted(out)
            chosen = recipe.over(settings.known(kinds, before.settings), chosen)
            files = files or _still_there(before.data)
        options, train_options = settings.fill(kinds, recipe.over(kind.defaults, chosen))
        _check_apart(files, options.held_out)
        task = kind(options, files, train_options.seed)
        _train(task, train_options, out, resume, files, as_json)


def _check_apart(data: list[Path], held_out: str | None) -> None:
    """Raise `InputError` where what is to be measured on is DATA, too."""
    names = [] if held_out is None else [held_out] if os.path.exists(held_out) else held_out.split(",")
    for name in filter(os.path.exists, names):
        if any(os.path.samefile(name, path) for path in filter(os.path.exists, data)):
            raise InputError(
                f"--held-out is {name!r}, which is DATA, too; expected what is not trained on, because the "
                "weights that are kept are the best on it."
            )


def _still_there(data: list[Path]) -> list[Path]:
    """The data of an interrupted run; raises `InputError` for what is not there, seen from where one is."""
    for path in data:
        if not path.exists():
            looked = (
                "" if path.is_absolute() else f" in {Path.cwd()}, expected the folder where the run was started"
            )
            raise InputError(f"{path}, of the interrupted run, is not there{looked}; name DATA to go on with.")
    return data


def _train(
    task: Task, options: TrainOptions, out: Path, resume: bool, data: Sequence[Path], as_json: bool
) -> None:
    from unrolled.progress import train_with_progress
    from unrolled.train import Diverged

    try:
        finished = train_with_progress(task, options, out, resume, Console(stderr=True, highlight=False), data)
    except Diverged as error:
        fail(f"{error}.", 1)
    if not finished:
        sys.exit(130)
    model = unrolled.load(out)
    report = task.report(model)
    if as_json:
        print_json({"model": str(out), **report.figures})
        return
    print_tables(report)
    if left_out := report.figures.get("left_out"):
        console.print(f"Left out: {left_out:,} of the examples, which could not be used.")
    if report.shown:
        console.print("What it does:\n", style="bold")
        print(report.shown)
    console.print(f"\nThe model is {out}. Try next:", style="bold")
    for command in model.next_commands(shlex.quote(str(out))):
        console.print(f"  {command}")


for task in TASKS.values():
    _add_train_command(task)


@app.command(epilog="Example: unrolled gap adding copy --gaps 50,100,200 --out gaps.json --plot gaps.png")
@with_settings(GapOptions)
def gap(
    problems: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROBLEM", help=f"Of {', '.join(PROBLEMS)}.", show_default="recall"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS",
            help="The result file; if it is there, the experiment goes on from it.",
            show_default="gap.json, or gap-quick.json",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw how far each cell gets.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Where an RNN stops and an LSTM does not, in a minute or two.")
    ] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Let every cell learn to remember over growing gaps: where does the standard RNN stop, where the LSTM?"""
    needs_torch()
    chosen = {name: value for name, value in given.items() if value is not None}
    (options,) = settings.fill([GapOptions], (QUICK if quick else {}) | chosen, "command line")
    beside = Console(stderr=True, highlight=False)
    if out is None:
        out = Path("gap-quick.json" if quick else "gap.json")
        beside.print(f"The results are in {out}; without it the experiment begins anew.")
    if plot:
        plots.library(plot)
    experiment = Experiment(problems or [QUICK_PROBLEM if quick else "recall"], options, out)
    from unrolled.progress import trials_with_progress

    finished = trials_with_progress(experiment, beside)
    evaluation = experiment.results.evaluation()
    if as_json:
        print_json(evaluation.figures)
    else:
        print_tables(evaluation)
    if plot and experiment.results.rows:
        curves.draw(plot, experiment.results)
    if not finished:
        sys.exit(130)

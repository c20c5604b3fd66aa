"""Commands that learn: `train` a task, and `gap`, the experiment that trains every cell."""

import re
import shlex
import sys
from contextlib import suppress
from dataclasses import fields
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
    file_name,
    needs_torch,
    print_json,
    print_tables,
    with_settings,
)
from unrolled.errors import InputError
from unrolled.memory import curves
from unrolled.memory.gap import QUICK, QUICK_PROBLEM, Experiment, GapOptions
from unrolled.memory.problems import PROBLEMS
from unrolled.recipe import TrainOptions
from unrolled.results import Evaluation
from unrolled.run_files import data_paths
from unrolled.tasks import TASKS, Model, Task
from unrolled.training import Run, prepared

HEADINGS = ("Data", "Model", "Regularisation", "Training")
NO_MEMORY = re.compile("can't allocate memory|out of memory")  # of torch's errors, which on a CPU have no kind

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
        help=f"{kind.__doc__}\n\nThe model that does best on what is held out is written to MODEL. Ctrl-C, "
        "SIGTERM and closing the terminal leave a checkpoint, MODEL.checkpoint, from which --resume goes on; "
        "with --steps, to the same losses bit for bit. A run that is killed goes on from its last checkpoint; "
        "the first is written as it begins.",
        epilog=f"Example: unrolled train {kind.name} {kind.example} --out {kind.name}.safetensors",
    )
    @with_settings(kind.Options, TrainOptions, defaults=kind.defaults, panels=_panels(kind))
    def train(
        out: Annotated[
            Path, typer.Option(metavar="MODEL", parser=file_name, help="The file to write the best model to.")
        ],
        data: Data = None,
        config: Annotated[
            Path | None,
            typer.Option(
                metavar="TOML",
                parser=file_name,
                help="A file of settings (such as batch = 8); the command line wins.",
            ),
        ] = None,
        start: Annotated[
            Path | None,
            typer.Option(
                metavar="OLD",
                parser=file_name,
                help="A trained model to start from, in place of random weights. Its sizes stay, and how it reads "
                "DATA (vocabulary, events, scales).",
            ),
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
        chosen = _chosen([kind.Options, TrainOptions], given, config)
        with prepared(kind, data_paths(data or ()), out, chosen, start, resume) as run:
            model, report = _trained(run)
        _tell(model, report, run.out, as_json)


def _panels(kind: type[Task]) -> dict[str, str]:
    """For each setting of a task's training the heading that it stands under, in the order of `HEADINGS`."""
    found = {}
    for options in (TrainOptions, kind.Options):
        heading = HEADINGS[0]
        for field in fields(options):
            found[field.name] = heading = field.metadata["heading"] or heading
    return dict(sorted(found.items(), key=lambda one: HEADINGS.index(one[1])))


def _chosen(kinds: list[type[Any]], given: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """The settings that are given on the command line and, where not there, in a file; all checked."""
    chosen = settings.known(kinds, given)
    settings.fill(kinds, chosen, "command line")
    recipe.check_one_of_two(chosen, "command line")
    if config is None:
        return chosen
    in_file = settings.read_toml(config)
    settings.fill(kinds, in_file, str(config))
    recipe.check_one_of_two(in_file, str(config))
    return recipe.over(in_file, chosen)


def _trained(run: Run) -> tuple[Model, Evaluation]:
    """The finished model and how good it is; ends the program where training ends before it should."""
    from unrolled.loop import Diverged
    from unrolled.progress import train_with_progress

    beside = Console(stderr=True, highlight=False)
    try:
        finished = train_with_progress(run, beside)
    except Diverged as error:
        fail(f"{error}.", 1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
            raise
        fail("there is not enough memory for this run; a smaller network or batch needs less.", 1)
    if not finished:
        sys.exit(130)
    beside.print("Measuring on what was held out.")
    model: Model = unrolled.load(run.out)
    return model, run.task.report(model)


def _tell(model: Model, report: Evaluation, out: Path, as_json: bool) -> None:
    """Print what came of training, and what to try next in the folder that one is in."""
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
    named = f"./{out}" if str(out).startswith("-") else str(out)  # else it would be an option
    path = shlex.quote(named)
    for command in model.next_commands(path):
        console.print(f"  {command}")
    with suppress(InputError):  # of a model that reads no stream
        _ = model.causal
        console.print(f"  unrolled serve {path}  # and open http://127.0.0.1:8000/")


for task in TASKS.values():
    _add_train_command(task)


@app.command(epilog="Example: unrolled gap adding copy --gaps 50,100,200 --out gaps.json --plot gaps.png")
@with_settings(GapOptions)
def gap(
    problems: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROBLEM",
            help=f"Any of {', '.join(PROBLEMS)}. [dim]default recall, or {QUICK_PROBLEM} with --quick[/dim]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS",
            parser=file_name,
            help="The result file; if it exists, the experiment goes on from it. "
            "[dim]default gap.json, or gap-quick.json with --quick[/dim]",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", parser=file_name, help="Draw how far each cell gets into this file."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Where an RNN stops and an LSTM does not, in about a minute.")
    ] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Train each kind of cell to remember over growing gaps: where does a standard RNN stop, where an LSTM?"""
    needs_torch()
    chosen = settings.known([GapOptions], given)
    (options,) = settings.fill([GapOptions], (QUICK if quick else {}) | chosen, "command line")
    beside = Console(stderr=True, highlight=False)
    if plot:
        plots.check_name(plot)
    results = out or Path("gap-quick.json" if quick else "gap.json")
    experiment = Experiment(problems or [QUICK_PROBLEM if quick else "recall"], options, results)
    if out is None:
        beside.print(f"The results are in {results}; without it the experiment begins anew.")
    from unrolled.progress import trials_with_progress

    finished = trials_with_progress(experiment, beside)
    evaluation = experiment.results.evaluation()
    if as_json:
        print_json(evaluation.figures)
    else:
        print_tables(evaluation)
        if evaluation.shown:
            print(evaluation.shown)
    if plot and experiment.results.rows:
        curves.draw(plot, experiment.results)
    if not finished:
        sys.exit(130)

"""The commands, thin: each reads its arguments, calls one part of the library and prints what came.

Exit status: 0 done, 1 the run failed, 2 the input cannot be used, 130 stopped by Ctrl-C (training saves first).
"""

import inspect
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from rich.console import Console
from rich.table import Table

import unrolled
from unrolled import _engine, piping, plots, settings
from unrolled.errors import InputError
from unrolled.memory import ENDURANCE, curves
from unrolled.memory.gap import QUICK, QUICK_PROBLEM, Experiment, GapOptions
from unrolled.memory.problems import PROBLEMS
from unrolled.recipe import TrainOptions
from unrolled.results import Evaluation
from unrolled.server import access
from unrolled.server.settings import ServeSettings
from unrolled.tasks import TASKS, Task
from unrolled.tasks.text import TextModel

__all__ = ["run"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Recurrent networks that remember: train one on your own sequences, let it run, measure it.\n\n"
    "Begin with: [bold]unrolled train text --minutes 1 --out model.safetensors[/bold]",
    epilog="Exit status: 0 done, 1 the run failed, 2 the input cannot be used, 130 stopped by Ctrl-C.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a model for a task.")
app.add_typer(train_app, name="train")

console = Console(highlight=False, soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A file written by `unrolled train`.")]
Data = Annotated[list[Path] | None, typer.Argument(metavar="DATA", help="Files or folders, as the task has it.")]


def run() -> None:
    """Run the command line; what goes wrong becomes a sentence on standard error and an exit status."""
    try:
        app(prog_name="unrolled")
    except InputError as error:
        _fail(str(error), 2)


def _fail(message: str, status: int) -> NoReturn:
    print(f"unrolled: {message}", file=sys.stderr)
    sys.exit(status)


def with_settings(
    *kinds: type[Any], defaults: Mapping[str, Any] = MappingProxyType({}), panels: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of these dataclasses; those given arrive as keyword arguments.

    `defaults` stand in the help in place of the fields' own; `panels` has the heading that an option stands under.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for kind in kinds:
            hints = get_type_hints(kind)
            for field in (f for f in fields(kind) if f.name not in {p.name for p in parameters}):
                option = typer.Option(
                    help=settings.help_text(field.name, kind, defaults),
                    show_default=False,
                    rich_help_panel=panels[field.name] if panels else None,
                )
                annotation: Any = Annotated[hints[field.name] | None, option]
                parameters.append(
                    inspect.Parameter(
                        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                    )
                )
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


def _run_panels() -> dict[str, str]:
    """For each setting of `run`, a heading that names the tasks whose models take it."""
    takers: dict[str, list[str]] = {}
    for task in TASKS.values():
        for field in fields(task.Model.RunOptions):
            takers.setdefault(field.name, []).append(task.name)
    return {name: f"For {' and '.join(tasks)} models" for name, tasks in takers.items()}


def _add_train_command(kind: type[Task]) -> None:
    """`unrolled train NAME` for one task."""

    @train_app.command(
        kind.name,
        help=f"{kind.__doc__}\n\nThe model that does best on what is held out is written to MODEL. Ctrl-C keeps "
        "a checkpoint beside it, MODEL.checkpoint, from which --resume goes on: with --steps to the same losses, "
        "bit for bit.",
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
        resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that wrote MODEL.")] = False,
        as_json: Json = False,
        **given: Any,
    ) -> None:
        _needs_torch()
        if not out.name:
            raise InputError(f"--out is {str(out)!r}, expected the name of a file.")
        kinds = [kind.Options, TrainOptions]
        chosen = {name: value for name, value in given.items() if value is not None}
        settings.fill(kinds, chosen, "command line")
        if config:
            in_file = settings.read_toml(config)
            settings.fill(kinds, in_file, str(config))
            chosen = in_file | chosen
        options, train_options = settings.fill(kinds, kind.defaults | chosen)
        _train(kind(options, data or [], train_options.seed), train_options, out, resume, as_json)


def _needs_torch() -> None:
    if find_spec("torch") is None or find_spec("accelerate") is None:
        raise InputError("training needs torch and accelerate: pip install 'unrolled[train]'.")


def _train(task: Task, options: TrainOptions, out: Path, resume: bool, as_json: bool) -> None:
    from unrolled.progress import train_with_progress
    from unrolled.train import Diverged

    try:
        finished = train_with_progress(task, options, out, resume, Console(stderr=True, highlight=False))
    except Diverged as error:
        _fail(f"{error}.", 1)
    if not finished:
        sys.exit(130)
    model = unrolled.load(out)
    report = task.report(model)
    if as_json:
        _print_json({"model": str(out), **report.figures})
        return
    _print_tables(report)
    if report.shown:
        console.print("What it does:\n", style="bold")
        print(report.shown)
    console.print(f"\nThe model is {out}. Try next:", style="bold")
    for command in model.next_commands(str(out)):
        console.print(f"  {command}")


for task in TASKS.values():
    _add_train_command(task)


def _print_tables(evaluation: Evaluation) -> None:
    for shown in evaluation.tables:
        table = Table(*shown.columns)
        if shown.dense:
            table = Table(*shown.columns, box=None, padding=(0, 1, 0, 0))
        for row in shown.rows:
            table.add_row(*row)
        console.print(table)


def _print_json(figures: dict[str, Any]) -> None:
    print(json.dumps(figures, ensure_ascii=False))


@app.command(epilog="Example: unrolled sample model.safetensors --prompt 'The ' --length 200 --seed 1")
def sample(
    model: ModelPath,
    prompt: Annotated[str, typer.Option(help="The text to go on from; '-' reads it from standard input.")] = "",
    length: Annotated[int, typer.Option(help="Symbols to write.")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 likelier, above 1 wilder; 0 always the likeliest.")
    ] = 0.8,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest symbols of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.")] = 0,
) -> None:
    """Let a text model write, one step a symbol, printed as it is written."""
    if prompt == "-":
        prompt = sys.stdin.read()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when the reader has had enough, as cat does
    loaded = unrolled.load(model)
    if not isinstance(loaded, TextModel):
        raise InputError(f"{model} was trained for the task {loaded.file.task!r}; only text models write samples.")
    text = loaded.sample(prompt, length, temperature=temperature, top_p=top_p, seed=seed)
    sys.stdout.write(prompt)
    for piece in text:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command("eval", epilog="Example: unrolled eval model.safetensors other.txt --json")
def evaluate(model: ModelPath, data: Data = None, as_json: Json = False) -> None:
    """Measure a model on DATA (without: on what was held out of its training)."""
    evaluation = unrolled.load(model).evaluate(data or [])
    if as_json:
        _print_json(evaluation.figures)
    else:
        _print_tables(evaluation)


@app.command("run", epilog="Example: unrolled run model.safetensors 'Once upon a time' --length 50 --json")
@with_settings(*(task.Model.RunOptions for task in TASKS.values()), panels=_run_panels())
def run_model(
    model: ModelPath,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Texts or files, as the task has it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    **given: Any,
) -> None:
    """Let a model do what it was trained for, with each INPUT: a text, a file, or - for sound that comes in."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when the reader has had enough, as cat does
    loaded = unrolled.load(model)
    chosen = {name: value for name, value in given.items() if value is not None}
    (options,) = settings.fill([loaded.RunOptions], chosen, f"{model}, a {loaded.file.task} model")
    for output in loaded.run(inputs, options):
        print(json.dumps(output.record, ensure_ascii=False) if as_json else output.line, flush=True)


@app.command(epilog="Example: unrolled gap adding copy --gaps 50,100,200 --out gaps.json --plot gaps.png")
@with_settings(GapOptions)
def gap(
    problems: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROBLEM", help=f"Of {', '.join(PROBLEMS)}.", show_default="recall"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS", help="The result file; if it is there, the experiment goes on from it."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw how far each cell gets.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="What the essay says, in a minute or two.")] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Let every cell learn to remember over growing gaps: where does the standard RNN stop, where the LSTM?"""
    _needs_torch()
    chosen = {name: value for name, value in given.items() if value is not None}
    (options,) = settings.fill([GapOptions], (QUICK if quick else {}) | chosen, "command line")
    out = out or Path("gap-quick.json" if quick else "gap.json")
    if plot:
        plots.library(plot)
    experiment = Experiment(problems or [QUICK_PROBLEM if quick else "recall"], options, out)
    from unrolled.progress import trials_with_progress

    finished = trials_with_progress(experiment, Console(stderr=True, highlight=False))
    evaluation = experiment.results.evaluation()
    if as_json:
        _print_json(evaluation.figures)
    else:
        _print_tables(evaluation)
    if plot and experiment.results.rows:
        curves.draw(plot, experiment.results)
    if not finished:
        sys.exit(130)


@app.command(epilog="Example: unrolled remember model.safetensors --plot memory.png --page passage.html")
def remember(
    model: ModelPath,
    data: Data = None,
    plot: Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw what was found.")] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="Of a text model: a passage with each symbol shaded by its influence."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which steps are looked at.")] = 0,
    steps: Annotated[
        int, typer.Option(min=2, help="Steps without a reset, to see what becomes of it.")
    ] = ENDURANCE,
    as_json: Json = False,
) -> None:
    """Measure how far back a model remembers, on DATA (without: on what was held out of its training)."""
    _needs_torch()
    if plot:
        plots.library(plot)
    loaded = unrolled.load(model)
    from unrolled.memory import portrait, shading
    from unrolled.memory.remember import remember as look

    if page:
        shading.check(loaded, page)
    found = look(loaded, data or [], seed, steps)
    evaluation = found.evaluation()
    if as_json:
        _print_json(evaluation.figures)
    else:
        _print_tables(evaluation)
        console.print(evaluation.shown)
    if plot:
        portrait.draw(plot, found)
    if page:
        shading.write(page, loaded, data or [], seed)


@app.command(epilog="Example: unrolled info model.safetensors")
def info(model: ModelPath, as_json: Json = False) -> None:
    """Show what a model file holds and how it was trained."""
    file = unrolled.load(model).file
    figures = {
        "task": file.task,
        "parameters": file.architecture.parameters,
        "weights_sha256": file.fingerprint(),
        "architecture": asdict(file.architecture),
        "training": file.training,
    }
    if as_json:
        _print_json(figures)
        return
    table = Table("", "", show_header=False)
    for name, value in figures.items():
        for key, entry in value.items() if isinstance(value, dict) else [("", value)]:
            shown = ", ".join(entry) if isinstance(entry, list | dict) else str(entry)
            table.add_row(f"{name} {key}".strip(), shown)
    console.print(table)


@app.command(epilog="Example: tail -f log.txt | unrolled stream model.safetensors --state log.state")
def stream(
    model: ModelPath,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the state is kept: another run goes on from there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Run a model over standard input for ever: of each line, what it says (text: how surprising, in nats)."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when the reader has had enough, as cat does
    loaded = unrolled.load(model)
    running = piping.opened(loaded, state)
    if running.position:
        print(f"going on from position {running.position}", file=sys.stderr)
    for output in piping.piped(loaded, running, sys.stdin.buffer, state):
        print(json.dumps(output.record, ensure_ascii=False) if as_json else output.line, flush=True)


@app.command(epilog="Example: unrolled serve model.safetensors --port 8000")
@with_settings(ServeSettings)
def serve(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL", help="Files written by `unrolled train`; their names are the models'."),
    ],
    **given: Any,
) -> None:
    """Serve streams of models over HTTP and WebSocket, with states that outlast the process."""
    chosen = {name: value for name, value in given.items() if value is not None}
    (settings_,) = settings.fill([ServeSettings], chosen, "command line")
    try:
        from unrolled.server.run import serve as run_server
    except ModuleNotFoundError as error:
        raise InputError(f"serving needs {error.name}: pip install 'unrolled[serve]'") from error
    loaded: dict[str, Any] = {}
    for path in models:
        name = path.stem
        if name in loaded:
            raise InputError(f"{path}: there is another model of this name, expected different file names")
        loaded[name] = unrolled.load(path)
    run_server(loaded, settings_)


@app.command(epilog="Example: unrolled token alice --tokens tokens.txt")
def token(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose streams the token opens.")],
    tokens: Annotated[Path, typer.Option(metavar="FILE", help="The file that `unrolled serve` reads.")],
) -> None:
    """Make a token for `unrolled serve --tokens`: it is printed once, and the file keeps its hash."""
    print(access.add_token(tokens, tenant))


@app.command(epilog="Example: unrolled kernels --json")
def kernels(as_json: Json = False) -> None:
    """Show which kernel serves each op on this machine, with the instruction set."""
    if find_spec("torch") is None:
        rows = [{"op": "streams", "device": "cpu", "dtype": "float32", "kernel": "engine", "isa": _engine.isa()}]
    else:
        from unrolled import dispatch

        rows = [asdict(row) for row in dispatch.kernels()]
    if as_json:
        _print_json({"isa": _engine.isa(), "available": _engine.isas(), "kernels": rows})
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    console.print(
        f"Instruction sets here: {', '.join(_engine.isas())}; UNROLLED_ISA chooses another than the first."
    )

"""Commands with a trained model: `sample`, `eval`, `run`, `remember`, `info` and `stream`."""

import json
import signal
import sys
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

import unrolled
from unrolled import piping, plots, settings, texts
from unrolled.commands.frame import (
    Data,
    Json,
    ModelPath,
    OutputError,
    app,
    console,
    file_name,
    needs_torch,
    print_json,
    print_tables,
    with_settings,
)
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.memory import RememberOptions
from unrolled.results import Output
from unrolled.run_files import data_paths
from unrolled.sequences.names import listed
from unrolled.tasks import TASKS
from unrolled.tasks.text import SampleOptions, TextModel

RUN_OPTIONS = [task.Model.RunOptions for task in TASKS.values()]
WRITTEN = {"attention", "plot", "video"}  # settings of `run` that name a file, which is written at the end
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


def _end_with_reader() -> None:
    """End quietly when whoever reads what is printed has had enough, as cat does."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _say(output: Output, as_json: bool) -> None:
    """Print at once what came of an input."""
    print(json.dumps(output.record, ensure_ascii=False) if as_json else output.line, flush=True)


def _run_panels() -> dict[str, str]:
    """For each setting of `run`, a heading that names the tasks whose models take it."""
    takers: dict[str, list[str]] = {}
    for task in TASKS.values():
        for field in fields(task.Model.RunOptions):
            takers.setdefault(field.name, []).append(task.name)
    return {name: f"For {_and(tasks)} models" for name, tasks in takers.items()}


def _check_not_read(name: str, written: Path, inputs: list[str]) -> None:
    """Raise `InputError` where the file that the setting `name` writes would take the place of an input."""
    if written.is_file() and any(Path(given).is_file() and written.samefile(given) for given in inputs):
        raise InputError(f"--{name} {written} is the INPUT itself, expected another file to write.")


def _and(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


@app.command(epilog="Example: unrolled sample model.safetensors --prompt 'The ' --length 200 --seed 1")
@with_settings(SampleOptions)
def sample(
    model: ModelPath,
    prompt: Annotated[str, typer.Option(help="The text to continue; '-' reads it from standard input.")] = "",
    **given: Any,
) -> None:
    """Let a text model write; each symbol is printed as it comes."""
    (options,) = settings.fill([SampleOptions], settings.known([SampleOptions], given), "command line")
    if prompt == "-":
        prompt = texts.whole(prompt)
    _end_with_reader()
    loaded = unrolled.load(model)
    if not isinstance(loaded, TextModel):
        raise InputError(f"{model} was trained for the task {loaded.file.task!r}; only text models write samples.")
    text = loaded.sample(prompt, **asdict(options))
    sys.stdout.write(prompt)
    for piece in text:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command("eval", epilog="Example: unrolled eval model.safetensors other.txt --json")
def evaluate(model: ModelPath, data: Data = None, as_json: Json = False) -> None:
    """Measure a model on DATA or, without DATA, on what was held out of its training."""
    evaluation = unrolled.load(model).evaluate(data_paths(data or ()))
    if as_json:
        print_json(evaluation.figures)
    else:
        print_tables(evaluation)


@app.command("run", epilog="Example: unrolled run model.safetensors 'Once upon a time' --length 50 --json")
@with_settings(*RUN_OPTIONS, panels=_run_panels())
def run_model(
    model: ModelPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Files or texts, of the kind that the task reads.")
    ],
    as_json: JsonLines = False,
    **given: Any,
) -> None:
    """Apply a model to each INPUT: a file, - for standard input, or the text itself.

    In a file of sentences each line is one. A table on standard input is CSV or TSV with a heading. Sound on
    standard input is a sound file, or raw PCM that is transcribed as it arrives: 16 bits, little-endian, one
    channel, at the model's rate.
    """
    chosen = settings.known(RUN_OPTIONS, given)
    if WRITTEN.isdisjoint(chosen):
        _end_with_reader()
    for name in sorted(WRITTEN & chosen.keys()):
        _check_not_read(name, Path(chosen[name]), inputs)
    loaded = unrolled.load(model)
    (options,) = settings.fill([loaded.RunOptions], chosen, f"{model}, a {loaded.file.task} model")
    heard = True
    for output in loaded.run(inputs, options):
        try:
            if heard:
                _say(output, as_json)
        except OutputError as error:
            if not error.broken_pipe:
                raise
            heard = False  # and what is written is so nevertheless


@app.command(epilog="Example: unrolled remember model.safetensors --plot memory.png --page passage.html")
@with_settings(RememberOptions)
def remember(
    model: ModelPath,
    data: Data = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PICTURE", parser=file_name, help="Draw the results into this file.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="HTML",
            parser=file_name,
            help="For a text model: a web page with a passage, each symbol shaded by its influence.",
        ),
    ] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Measure how far back a model remembers, on DATA or on what was held out of its training."""
    needs_torch()
    chosen = settings.known([RememberOptions], given)
    (options,) = settings.fill([RememberOptions], chosen, "command line")
    looked_at = data_paths(data or ())
    if plot:
        plots.check_name(plot)
    loaded = unrolled.load(model)
    from unrolled.memory import portrait, shading
    from unrolled.memory.remember import remember as look

    if page:
        shading.check(loaded, page)
    found = look(loaded, looked_at, options.seed, options.steps)
    evaluation = found.evaluation()
    if as_json:
        print_json(evaluation.figures)
    else:
        print_tables(evaluation)
        console.print(evaluation.shown)
    if plot:
        portrait.draw(plot, found)
    if page:
        shading.write(page, loaded, looked_at, options.seed)


@app.command(epilog="Example: unrolled info model.safetensors")
def info(model: ModelPath, as_json: Json = False) -> None:
    """Show what a model file holds and how it was trained."""
    loaded = unrolled.load(model)
    file = loaded.file
    figures: dict[str, Any] = {
        "task": file.task,
        "parameters": file.architecture.parameters,
        "weights_sha256": file.fingerprint(),
        "architecture": asdict(file.architecture),
        "training": file.training,
    }
    if reads := loaded.reads():
        figures["reads"] = reads
    if as_json:
        print_json(figures)
        return
    idle = loaded.idle()
    table = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False)
    for name, value in figures.items():
        for key, entry in value.items() if isinstance(value, dict) else [("", value)]:
            if name == "reads" and key in ("symbols", "bytes"):
                continue  # of which there may be thousands, and line breaks
            if entry not in (None, "") and (name == "reads" or key not in idle):
                table.add_row(f"{name} {key}".strip(), _shown(entry))
    console.print(table)


def _shown(entry: Any) -> str:
    if isinstance(entry, list | dict):
        return listed(list(entry), len(entry))
    return f"{entry:.6g}" if isinstance(entry, float) else str(entry)


@app.command(epilog="Example: tail -f log.txt | unrolled stream model.safetensors --state log.state")
def stream(
    model: ModelPath,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file_name,
            help="A file that keeps the state (of several sequences a folder): the next run goes on from it.",
        ),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out lines that cannot be used, instead of ending at the first."),
    ] = False,
    as_json: JsonLines = False,
) -> None:
    """Run a model over standard input for ever; of each line, print what it says (text: the surprise in nats).

    A line is text; or a sentence, which starts from a fresh state; or the numbers of one step, with commas,
    semicolons or tabs between them, in the order of the training table's columns, where a blank line ends a
    sequence. The heading of that table may be the first line, or that of a table of more columns, where the
    model's are found by name; if one of them told sequences apart in training, each has a state of its own. Sound
    is raw PCM at the model's rate: 16 bits, little-endian, one channel.
    """
    _end_with_reader()
    loaded = unrolled.load(model)
    refused = partial(print, "unrolled:", file=sys.stderr) if skip_bad else Refused(skip_bad)
    with piping.opened(loaded, state) as streams:
        if streams.before:
            print(f"going on from {streams.before}", file=sys.stderr)
        for output in piping.piped(loaded, streams, sys.stdin.buffer, state is not None, refused):
            _say(output, as_json)
